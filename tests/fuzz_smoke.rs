//! A smoke run of every fuzz target, with inputs that are wrong in one place or a few. `cargo fuzz run TARGET` in `fuzz/`
//! looks for more with a nightly compiler; what a target does with its input is in `fuzz/src`, for both.

#[path = "../fuzz/src/arguments.rs"]
mod arguments;
#[path = "../fuzz/src/cmdline.rs"]
mod cmdline;
#[path = "../fuzz/src/config_space.rs"]
mod config_space;
#[path = "../fuzz/src/frames.rs"]
mod frames;
#[path = "../fuzz/src/migration.rs"]
mod migration;
#[path = "../fuzz/src/properties.rs"]
mod properties;
#[path = "../fuzz/src/qcow2.rs"]
mod qcow2;
#[path = "../fuzz/src/session.rs"]
mod session;
#[path = "../fuzz/src/virtqueue.rs"]
mod virtqueue;
#[path = "../fuzz/src/vmstate.rs"]
mod vmstate;

/// How many inputs a target gets.
const ROUNDS: usize = 2000;

/// SplitMix64: the same inputs every time, so that a failure can be looked at.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Changes, inserts or removes a byte, repeats a part or cuts the rest off.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let byte = self.next().to_le_bytes()[0];
        match self.below(6) {
            _ if bytes.is_empty() => bytes.push(byte),
            0 => bytes[at] = byte,
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes.insert(at, byte),
            3 => drop(bytes.remove(at)),
            4 => bytes.extend_from_within(at..),
            _ => bytes.truncate(at),
        }
        bytes.truncate(1 << 14);
    }
}

/// Runs a target with each seed as it is and with mistakes in it. A panic ends the test and shows the input before.
fn smoke(run: fn(&[u8]), seeds: &[&[u8]]) {
    let mut random = Random(0);
    for seed in seeds {
        run(seed);
    }
    for _ in 0..ROUNDS {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(6) {
            random.mutate(&mut bytes);
        }
        if std::panic::catch_unwind(|| run(&bytes)).is_err() {
            panic!("input {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn sessions() {
    smoke(
        session::run,
        &[
            b"",
            b"\x07{\"execute\": \"query-status\", \"id\": [1, {\"a\": null}]}\n{'exec-oob': 'stop', 'id': 2.5e3}",
            b"\x40{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/\\u00e9\\ud83d\\ude00\", \"property\": 'x'}}@\xff{}",
            b"\x02[[[[{'execute':'query-qmp-schema'}]]]]{'execute':'query-commands'}",
        ],
    );
}

#[test]
fn arguments() {
    let seeds: Vec<Vec<u8>> = (0..=255u8)
        .map(|choice| {
            [
                &[choice][..],
                b"{\"id\": \"x\", \"path\": \"/a\", \"size\": 4096, \"qom-type\": \"secret\"}",
            ]
            .concat()
        })
        .collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    smoke(arguments::run, &seeds);
}

#[test]
fn command_lines() {
    smoke(
        cmdline::run,
        &[
            b"-machine\nq35,accel=kvm,usb=off\n-cpu\nhost,+x2apic,-vmx,migratable=no\n-smp\n4,sockets=2,cores=2\n-m\nsize=1G",
            b"-object\n{'qom-type':'memory-backend-ram','id':'m','size':4096}\n-numa\nnode,nodeid=0,cpus=0-1,memdev=m",
            b"-chardev\nsocket,id=c,path=/a,,b,server=on,wait=off\n-mon\nchardev=c,mode=control,pretty=on\n-rtc\nbase=utc",
            b"-readconfig\nx\n\n[device \"d\"]\n  driver = \"pvpanic\"\n[machine]\n  type = \"q35\"\n",
            b"-device\npcie-root-port,id=r,bus=pcie.0,addr=0x2.0x1\n-global\nmc146818rtc.base=1\n-smbios\ntype=1,uuid=x",
        ],
    );
}

#[test]
fn properties() {
    smoke(
        properties::run,
        &[
            b"memory-backend-ram\n{\"size\": 4096, \"host-nodes\": [0, 1], \"policy\": \"bind\"}",
            b"secret\n{\"data\": \"YWJj\", \"format\": \"base64\"}",
            b"iothread\n{\"poll-max-ns\": 1}",
        ],
    );
}

#[test]
fn frames() {
    smoke(
        frames::run,
        &[
            b"",
            &[0; 64],
            &[0xff; 64],
            b"\x08\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0stop\0{}\0\x02\0\0\0\x03\0\0\0",
        ],
    );
}

#[test]
fn configuration_spaces() {
    let sweep: Vec<u8> = (0..64u8)
        .flat_map(|at| [0x82, at * 4, 0, 0xff, 0xff, 0xff, 0xff, 2, at * 4, 0])
        .collect();
    smoke(
        config_space::run,
        &[
            &sweep,
            b"\x82\x10\0\0\xf0\xff\xff\x80\x04\0\x07",
            b"\x81\x3c\x00\xff\xff",
        ],
    );
}

#[test]
fn virtqueues() {
    // A page with a chain of two, a table, and both kinds of rings that offer them.
    let mut page = vec![0_u8; 4096];
    let mut descriptor = |at: usize, addr: u64, len: u32, words: [u16; 2]| {
        page[at..at + 8].copy_from_slice(&addr.to_le_bytes());
        page[at + 8..at + 12].copy_from_slice(&len.to_le_bytes());
        page[at + 12..at + 14].copy_from_slice(&words[0].to_le_bytes());
        page[at + 14..at + 16].copy_from_slice(&words[1].to_le_bytes());
    };
    descriptor(0, 0x6000, 64, [1, 1]);
    descriptor(16, 0x6100, 64, [2, 0]);
    descriptor(32, 0x5f00, 32, [4, 0]);
    descriptor(0xf00, 0x6000, 8, [3, 1]);
    descriptor(0xf10, 0x6000, 8, [2, 0]);
    page[0x402] = 2;
    page[0x406] = 2;
    let split = [&[0, 3, 9][..], &page].concat();
    let with_indices = [&[2, 3, 9][..], &page].concat();
    page[14] = 0x81;
    page[30] = 0x82;
    let packed = [&[1, 3, 9][..], &page].concat();
    smoke(
        virtqueue::run,
        &[&split, &with_indices, &packed, &[5; 300], &[0x0f; 40]],
    );
}

#[test]
fn saved_states() {
    let seeds = vmstate::seeds();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    smoke(vmstate::run, &seeds);
}

#[test]
fn streams() {
    migration::run(&migration::seed());
    smoke(migration::run, &[&migration::seed()]);
}

#[test]
fn images() {
    let seeds = qcow2::seeds();
    assert_eq!(seeds.len(), 3);
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    smoke(qcow2::run, &seeds);
}
