//! A driver at the registers.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::super::queue::testing::{BUFFERS, PAGES, SplitDriver, memory};
use super::super::super::rng::{Allowance, EntropySource, Rng};
use super::super::super::status::{DRIVER_OK, FEATURES_OK, NEEDS_RESET};
use super::*;
use crate::devices::testing::{CountingLine, Messages, move_state, restore, saved};
use crate::io::EventLoop;
use crate::qom::tree::Simple;

const LONG: Duration = Duration::from_secs(20);
const COMMON_BAR: usize = 4;

struct Bench {
    function: VirtioPci,
    line: Arc<CountingLine>,
    messages: Arc<Messages>,
    driver: SplitDriver,
    _served: EventLoop,
}

/// Behind a port of a 10.2 machine, as nobody asks for anything else.
const MODERN: VirtioPciConfig = VirtioPciConfig {
    type_name: "virtio-rng-pci",
    express: true,
    legacy: false,
    modern: true,
    vectors: 2,
    multifunction: false,
    page_per_queue: false,
    ioeventfd: true,
    function_level_reset: true,
    no_soft_reset: false,
    extended_tag: true,
    features: Features::NONE
        .with(Features::INDIRECT_DESC, true)
        .with(Features::EVENT_IDX, true)
        .with(Features::RING_RESET, true)
        .with(Features::ANY_LAYOUT, true)
        .with(Features::NOTIFY_ON_EMPTY, true),
};
/// On the root bus.
const TRANSITIONAL: VirtioPciConfig = VirtioPciConfig {
    express: false,
    legacy: true,
    ..MODERN
};

impl Bench {
    fn new(config: VirtioPciConfig) -> Self {
        let (line, messages) = (Arc::new(CountingLine::default()), Arc::new(Messages::default()));
        let space = memory();
        let links = VirtioPciLinks {
            intx: Arc::clone(&line) as _,
            msi: Arc::clone(&messages) as _,
            memory: Arc::clone(&space),
        };
        let allowance = Allowance {
            max_bytes: u64::MAX,
            period: Duration::from_secs(1),
        };
        let served = EventLoop::new(None).unwrap();
        let device = Rng::new(EntropySource::Builtin, allowance, served.handle().clone());
        let mut function = VirtioPci::new(config, links, Arc::new(device), Arc::new(Simple::new("backend"))).unwrap();
        function.resume();
        Self {
            function,
            line,
            messages,
            driver: SplitDriver::new(&space, 8),
            _served: served,
        }
    }

    fn read(&mut self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        self.function.bar_read(COMMON_BAR, offset, &mut data[..len]);
        u64::from_le_bytes(data)
    }

    fn write(&mut self, offset: u64, value: u64, len: usize) {
        self.function.bar_write(COMMON_BAR, offset, &value.to_le_bytes()[..len]);
    }

    fn config_write(&mut self, at: u16, data: &[u8]) {
        self.function.config_mut().write(at, data);
        self.function.config_written(at, data.len());
    }

    fn config_u8(&mut self, at: u16) -> u8 {
        let mut data = [0];
        self.function.config_read(at, &mut data);
        data[0]
    }

    /// Lets the function start transfers, and uses MSI-X with two vectors.
    fn use_messages(&mut self) {
        self.config_write(4, &[6, 0]);
        self.config_write(0xde, &[0, 0x80]);
        for vector in 0..2_u64 {
            let entry = 16 * vector;
            self.function.bar_write(1, entry, &0xfee0_0000_u64.to_le_bytes());
            self.function.bar_write(1, entry + 8, &(0x40 + vector).to_le_bytes());
        }
    }

    fn negotiate(&mut self, words: [u64; 2]) {
        self.write(0x14, 3, 1);
        for (word, bits) in (0..).zip(words) {
            self.write(0x08, word, 4);
            self.write(0x0c, bits, 4);
        }
        self.write(0x14, 3 | u64::from(FEATURES_OK), 1);
    }

    fn set_up_queue(&mut self, vector: u64) {
        self.write(0x16, 0, 2);
        self.write(0x18, self.driver.layout.size.into(), 2);
        self.write(0x1a, vector, 2);
        let layout = self.driver.layout;
        self.write(0x20, layout.descriptors, 8);
        self.write(0x28, layout.driver & 0xffff_ffff, 4);
        self.write(0x2c, layout.driver >> 32, 4);
        self.write(0x30, layout.device, 8);
        self.write(0x1c, 1, 2);
    }

    fn ready(&mut self) {
        let status = self.read(0x14, 1) | u64::from(DRIVER_OK);
        self.write(0x14, status, 1);
    }

    /// A driver that has got as far as it wants.
    fn driven() -> Self {
        let mut bench = Self::new(MODERN);
        bench.use_messages();
        bench.write(0x10, 0, 2);
        bench.negotiate([0, 1]);
        bench.set_up_queue(1);
        bench.ready();
        bench
    }

    fn wait_for<T: std::fmt::Debug>(&mut self, what: impl Fn(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            if let Some(found) = what(self) {
                return found;
            }
            assert!(Instant::now() < end, "nothing happens");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn status(&mut self) -> u8 {
        u8::try_from(self.read(0x14, 1)).unwrap()
    }
}

#[test]
fn a_driver_gets_random_bytes_and_an_interrupt() {
    let mut bench = Bench::driven();
    for round in 0..20 {
        bench.driver.offer(&[(BUFFERS, 64, 2)]);
        bench.write(0x3000, 0, 2);
        let used = bench.wait_for(|bench| Some(bench.driver.used()).filter(|used| !used.is_empty()));
        assert_eq!(used.first().map(|used| used.1), Some(64), "round {round}");
        let sent = bench.wait_for(|bench| Some(bench.messages.taken()).filter(|sent| !sent.is_empty()));
        assert_eq!(sent, [(0xfee0_0000, 0x41)]);
    }
    let mut bytes = [0; 64];
    bench.driver.space.read_memory(BUFFERS, &mut bytes).unwrap();
    assert_ne!(bytes, [0; 64]);
    assert!(!bench.line.is_high());
}

#[test]
fn without_msix_the_pin_and_the_isr_register_say_why() {
    let mut bench = Bench::new(MODERN);
    bench.config_write(4, &[6, 0]);
    bench.negotiate([0, 1]);
    bench.set_up_queue(0xffff);
    bench.ready();
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| bench.line.is_high().then_some(()));
    assert_eq!(bench.config_u8(6) & 8, 8);
    assert_eq!(bench.read(0x1000, 1), 1);
    assert!(!bench.line.is_high());
    assert_eq!((bench.read(0x1000, 1), bench.config_u8(6) & 8), (0, 0));
}

#[test]
fn features_that_are_not_on_offer_or_without_version_1_are_refused() {
    for (words, agreed) in [([0, 1], true), ([1 << 29, 1], true), ([1, 1], false), ([0, 0], false)] {
        let mut bench = Bench::new(MODERN);
        bench.negotiate(words);
        let sticks = bench.status() & FEATURES_OK != 0;
        assert_eq!(sticks, agreed, "{words:?}");
    }
    let mut bench = Bench::new(MODERN);
    let words: Vec<u64> = (0..5)
        .map(|word| {
            bench.write(0, word, 4);
            bench.read(4, 4)
        })
        .collect();
    assert_eq!(words, [0x3000_0000, 0x101, 0, 0, 0]);
}

#[test]
fn buffers_from_before_the_driver_is_ready_are_filled_when_it_is() {
    let mut bench = Bench::new(MODERN);
    bench.use_messages();
    bench.negotiate([0, 1]);
    bench.set_up_queue(1);
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(bench.driver.used(), []);
    bench.ready();
    bench.wait_for(|bench| bench.driver.used().pop());
}

#[test]
fn a_broken_ring_needs_a_reset_and_works_again_after_it() {
    let mut bench = Bench::driven();
    bench.driver.offer(&[(u64::MAX - 100, 64, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| (bench.status() & NEEDS_RESET != 0).then_some(()));
    let sent = bench.wait_for(|bench| Some(bench.messages.taken()).filter(|sent| !sent.is_empty()));
    assert_eq!(sent, [(0xfee0_0000, 0x40)], "the configuration interrupt tells");
    bench.write(0x14, 0, 1);
    assert_eq!(bench.status(), 0);
    assert_eq!(
        (bench.read(0x10, 2), bench.read(0x1a, 2), bench.read(0x1c, 2)),
        (0xffff, 0xffff, 0)
    );
    bench.driver = SplitDriver::new(&bench.driver.space, 8);
    bench.driver.write(0x2000, &[0; 4]);
    bench.driver.write(0x3000, &[0; 4]);
    bench.negotiate([0, 1]);
    bench.set_up_queue(1);
    bench.ready();
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| bench.driver.used().pop());
}

#[test]
fn a_function_goes_on_elsewhere_where_it_was() {
    let mut bench = Bench::driven();
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| bench.driver.used().pop());
    assert!(bench.function.pause().is_none());
    bench.messages.taken();
    // Offered to the paused device.
    bench.driver.offer(&[(BUFFERS, 32, 2)]);
    bench.write(0x3000, 0, 2);
    let mut other = Bench::new(MODERN);
    assert!(other.function.pause().is_none());
    let mut ram = vec![0; usize::try_from(PAGES * 4096).unwrap()];
    bench.driver.space.read_memory(0, &mut ram).unwrap();
    other.driver.space.write_memory(0, &ram).unwrap();
    move_state(&mut bench.function, &mut other.function);
    assert_eq!(other.status(), 3 | FEATURES_OK | DRIVER_OK);
    bench.driver.space = Arc::clone(&other.driver.space);
    other.driver = bench.driver;
    other.function.resume();
    let used = other.wait_for(|bench| bench.driver.used().pop());
    assert_eq!(used.1, 32);
    let sent = other.wait_for(|bench| Some(bench.messages.taken()).filter(|sent| !sent.is_empty()));
    assert_eq!(sent, [(0xfee0_0000, 0x41)]);
    other.driver.offer(&[(BUFFERS, 8, 2)]);
    other.write(0x3000, 0, 2);
    assert_eq!(other.wait_for(|bench| bench.driver.used().pop()).1, 8);
}

#[test]
fn a_state_that_this_function_cannot_have_is_refused() {
    let mut bench = Bench::driven();
    bench.function.pause();
    let state = saved(&mut bench.function);
    let mut other = Bench::new(VirtioPciConfig {
        features: Features::NONE,
        ..MODERN
    });
    other.function.pause();
    restore(&mut other.function, &state).unwrap();
    let mut plain = Bench::new(MODERN);
    plain.use_messages();
    plain.negotiate([1 << 29, 1]);
    plain.function.pause();
    let state = saved(&mut plain.function);
    let error = restore(&mut other.function, &state).unwrap_err().to_string();
    assert!(
        error.contains("Features 0x120000000 unsupported. Allowed features: 0x100000000"),
        "{error}"
    );
}

#[test]
fn a_paused_guest_finds_nothing_changed_and_everything_when_it_goes_on() {
    let mut bench = Bench::driven();
    assert!(bench.function.pause().is_none());
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((bench.driver.used(), bench.messages.taken()), (vec![], vec![]));
    bench.function.resume();
    bench.wait_for(|bench| bench.driver.used().pop());
}

#[test]
fn a_masked_vector_waits() {
    let mut bench = Bench::driven();
    bench.function.bar_write(1, 28, &1_u32.to_le_bytes());
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| bench.driver.used().pop());
    assert_eq!(bench.messages.taken(), []);
}

#[test]
fn one_queue_can_be_reset_and_set_up_anew() {
    let mut bench = Bench::driven();
    assert_eq!(bench.read(0x1c, 2), 1);
    bench.write(0x3a, 1, 2);
    assert_eq!(
        (bench.read(0x3a, 2), bench.read(0x1c, 2), bench.read(0x18, 2)),
        (0, 0, 8)
    );
    bench.driver = SplitDriver::new(&bench.driver.space, 4);
    bench.set_up_queue(1);
    assert_eq!((bench.read(0x1c, 2), bench.read(0x18, 2)), (1, 4));
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    bench.wait_for(|bench| bench.driver.used().pop());
}

#[test]
fn queues_that_are_not_there_have_no_size_and_wrong_vectors_are_none() {
    let mut bench = Bench::new(MODERN);
    bench.write(0x16, 1, 2);
    assert_eq!(bench.read(0x18, 2), 0);
    bench.write(0x16, 0, 2);
    for (vector, kept) in [(1, 1), (2, 0xffff), (0xffff, 0xffff)] {
        bench.write(0x1a, vector, 2);
        bench.write(0x10, vector, 2);
        assert_eq!((bench.read(0x1a, 2), bench.read(0x10, 2)), (kept, kept));
    }
    for (size, kept) in [(4, 4), (3, 4), (16, 4), (0, 4)] {
        bench.write(0x18, size, 2);
        assert_eq!(bench.read(0x18, 2), kept, "{size}");
    }
}

#[test]
fn the_window_in_configuration_space_reaches_the_registers() {
    let mut bench = Bench::new(MODERN);
    // Selects feature word 1, then reads it.
    for (offset, write) in [(0_u32, Some(1_u32)), (4, None)] {
        bench.config_write(0xcc, &[4]);
        bench.config_write(0xd0, &offset.to_le_bytes());
        bench.config_write(0xd4, &4_u32.to_le_bytes());
        match write {
            Some(value) => bench.config_write(0xd8, &value.to_le_bytes()),
            None => {
                let mut data = [0; 4];
                bench.function.config_read(0xd8, &mut data);
                assert_eq!(u32::from_le_bytes(data), 0x101);
            }
        }
    }
}

#[test]
fn a_function_level_reset_and_a_wake_from_d3hot_forget_everything() {
    for ask in [[(0x48_u16, [0, 0x80])].as_slice(), &[(0x80, [3, 0]), (0x80, [0, 0])]] {
        let mut bench = Bench::driven();
        for (at, data) in ask {
            bench.config_write(*at, data);
        }
        assert_eq!((bench.status(), bench.read(0x1c, 2)), (0, 0));
    }
}

#[test]
fn without_bus_mastering_nothing_is_transferred() {
    let mut bench = Bench::driven();
    bench.config_write(4, &[2, 0]);
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    bench.write(0x3000, 0, 2);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((bench.driver.used(), bench.messages.taken()), (vec![], vec![]));
    assert_eq!(bench.status() & DRIVER_OK, 0);
}

#[test]
fn configuration_space_lies_as_qemus() {
    let expect = |config: VirtioPciConfig, runs: &[(usize, &str)], len: usize| {
        let bench = Bench::new(config);
        let mut expected = vec![0; len];
        for (at, hex) in runs {
            for (index, pair) in hex.as_bytes().chunks(2).enumerate() {
                expected[at + index] = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            }
        }
        let found = &bench.function.config().bytes()[..len];
        let differ: Vec<_> = (0..len).filter(|at| found[*at] != expected[*at]).collect();
        assert!(differ.is_empty(), "{differ:x?}");
    };
    let behind_a_port = [
        (0x00, "f41a4410000010000100ff"),
        (0x20, "0c"),
        (0x2c, "f41a0011"),
        (0x34, "dc"),
        (0x3d, "0100001000020020800010"),
        (0x4c, "1104"),
        (0x52, "11"),
        (0x66, "30"),
        (0x7c, "014003"),
        (0x84, "097c100104"),
        (0x91, "1000000984100304"),
        (0x9d, "100000001000000994100404"),
        (0xad, "2000000010000009a4140204"),
        (0xbd, "300000001000000400000009b41405"),
        (0xdc, "11c80100010000000108"),
    ];
    expect(MODERN, &behind_a_port, 4096);
    let earlier = VirtioPciConfig {
        extended_tag: false,
        ..MODERN
    };
    let mut changed = behind_a_port;
    changed[4] = (0x3d, "0100001000020000800010");
    expect(earlier, &changed, 4096);
    let on_the_root_bus = [
        (0x00, "f41a0510000010000000ff"),
        (0x10, "01"),
        (0x20, "0c"),
        (0x2c, "f41a0400"),
        (0x34, "98"),
        (0x3d, "01"),
        (0x40, "0900100104"),
        (0x4d, "10000009401003040000000010000000100000"),
        (0x60, "0950100404"),
        (0x69, "200000001000000960140204"),
        (0x79, "3000000010000004"),
        (0x84, "0970140500"),
        (0x98, "11840100010000000108"),
    ];
    expect(TRANSITIONAL, &on_the_root_bus, 256);
}

#[test]
fn what_the_guest_may_change_is_what_qemu_lets_it() {
    let mut bench = Bench::new(MODERN);
    let all = vec![0xff; 4096];
    bench.function.config_mut().write(0, &all);
    let before = Bench::new(MODERN);
    let changed: Vec<(usize, u8)> = (0..4096)
        .map(|at| (at, bench.function.config().u8(at) ^ before.function.config().u8(at)))
        .filter(|(_, bits)| *bits != 0)
        .collect();
    let expected = [
        (0x04, vec![0x07, 0x05]),
        (0x0c, vec![0xff]),
        (0x15, vec![0xf0, 0xff, 0xff]),
        (0x21, vec![0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (0x3c, vec![0xff]),
        (0x48, vec![0x0f, 0x80]),
        (0x50, vec![0xc0]),
        (0x69, vec![0x80]),
        (0x80, vec![0x03]),
        (0xcc, vec![0xff]),
        (0xd0, vec![0xff; 12]),
        (0xdf, vec![0xc0]),
        (0xe8, vec![0xff; 24]),
        (0x104, vec![0xff; 4096 - 0x104]),
    ];
    let expected: Vec<(usize, u8)> = expected
        .iter()
        .flat_map(|(at, bits)| (*at..).zip(bits.iter().copied()))
        .collect();
    assert_eq!(changed, expected);
}

#[test]
fn a_legacy_driver_uses_ports() {
    let mut bench = Bench::new(TRANSITIONAL);
    let write = |bench: &mut Bench, offset: u64, value: u32, len: usize| {
        bench.function.bar_write(0, offset, &value.to_le_bytes()[..len]);
    };
    let read = |bench: &mut Bench, offset: u64, len: usize| {
        let mut data = [0; 4];
        bench.function.bar_read(0, offset, &mut data[..len]);
        u32::from_le_bytes(data)
    };
    assert_eq!(read(&mut bench, 0, 4), 0x7900_0000);
    // It forgets to let the function start transfers.
    write(&mut bench, 0x12, 3, 1);
    assert_eq!(bench.function.config().u8(4) & 4, 4);
    write(&mut bench, 0x04, 0, 4);
    assert_eq!(read(&mut bench, 0x0c, 2), 8);
    write(&mut bench, 0x08, 1, 4);
    assert_eq!(read(&mut bench, 0x08, 4), 1);
    bench.driver.layout.driver = 0x1000 + 8 * 16;
    bench.driver.layout.device = 0x2000;
    write(&mut bench, 0x12, 7, 1);
    bench.driver.offer(&[(BUFFERS, 16, 2)]);
    write(&mut bench, 0x10, 0, 2);
    bench.wait_for(|bench| bench.driver.used().pop());
    bench.wait_for(|bench| bench.line.is_high().then_some(()));
    assert_eq!(read(&mut bench, 0x13, 1), 1);
    assert!(!bench.line.is_high());
    write(&mut bench, 0x08, 0, 4);
    assert_eq!(read(&mut bench, 0x12, 1), 0, "no page is a reset");
}

#[test]
fn many_vectors_have_room_for_their_table_and_their_pending_bits() {
    for (vectors, len, pending) in [
        (128, 4096, 0x800),
        (129, 4096, 0x810),
        (256, 8192, 0x1000),
        (2048, 65536, 0x8000),
    ] {
        let mut bench = Bench::new(VirtioPciConfig { vectors, ..MODERN });
        let bars: Vec<_> = bench.function.config().bars().map(|(bar, _, len)| (bar, len)).collect();
        assert_eq!(bars[0], (1, len), "{vectors}");
        assert_eq!(bench.function.config().u32(0xe4), pending | 1, "{vectors}");
        // The last vector's control, masked as after power-on, and the pending bits behind the table.
        for (at, expected) in [(u64::from(vectors) * 16 - 4, 1), (pending.into(), 0)] {
            let mut data = [0xff; 4];
            bench.function.bar_read(1, at, &mut data);
            assert_eq!(u32::from_le_bytes(data), expected, "{vectors} at {at:#x}");
        }
    }
}

#[test]
fn a_page_for_each_queue_makes_the_registers_larger() {
    let bench = Bench::new(VirtioPciConfig {
        page_per_queue: true,
        vectors: 0,
        ..MODERN
    });
    let bars: Vec<_> = bench.function.config().bars().map(|(bar, _, len)| (bar, len)).collect();
    assert_eq!(bars, [(4, 8 << 20)], "without vectors there is no table");
}

proptest! {
    #[test]
    fn no_access_does_harm(
        accesses in prop::collection::vec((0_u8..5, 0_u64..0x4000, any::<u64>(), 0_usize..4), 0..60),
    ) {
        for config in [MODERN, TRANSITIONAL] {
            let mut bench = Bench::new(config);
            bench.config_write(4, &[7, 0]);
            for (kind, offset, value, size) in &accesses {
                let len = 1 << size;
                let data = &value.to_le_bytes()[..len];
                // Most of the registers are in the first bytes of each page.
                let offset = if value & 1 == 0 { offset & 0x303f } else { *offset };
                match kind {
                    0 => bench.config_write(u16::try_from(offset & 0xff8).unwrap(), &data[..len.min(4)]),
                    1 => bench.function.bar_write(0, offset & 0x1f, data),
                    2 => bench.function.bar_write(1, offset & 0xfff, data),
                    3 => bench.function.bar_write(4, offset, data),
                    _ => bench.function.bar_read(usize::from(data[0] % 6), offset, &mut [0; 8][..len]),
                }
            }
            bench.function.reset();
            prop_assert_eq!(bench.status(), 0);
        }
    }
}
