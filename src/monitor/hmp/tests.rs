//! Lines in, what a terminal shows out, against invented replies of QMP.

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use super::*;
use crate::monitor::pump::Conversation;
use crate::qapi::session::Output;

/// Answers from a list, and notes what was asked.
#[derive(Default)]
struct Fake {
    replies: Vec<(&'static str, Value)>,
    asked: RefCell<Vec<(String, Value)>>,
}

impl Fake {
    fn with(replies: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self {
            replies: replies.into_iter().collect(),
            asked: RefCell::default(),
        }
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.take()
    }
}

impl HmpHost for Fake {
    async fn qmp(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        self.asked.borrow_mut().push((command.to_owned(), arguments.into()));
        match self.replies.iter().find(|(name, _)| *name == command) {
            Some((_, Value::String(text))) if text.starts_with('!') => Err(Error::generic(&text[1..])),
            Some((_, reply)) => Ok(reply.clone()),
            None => Ok(json!({})),
        }
    }

    async fn inspect(&self, question: Inspect) -> Result<Value, Error> {
        Ok(match question {
            Inspect::RegisterValues { .. } => json!({"pc": 0xfff0}),
            Inspect::Physical { addr: 0x1000, len } | Inspect::Virtual { addr: 0x1000, len, .. } => {
                json!((0..len).map(|byte| byte + 1).collect::<Vec<u64>>())
            }
            Inspect::Translate { addr: 0x1000, .. } => json!(0x2000),
            Inspect::HostAddress { addr: 0x1000 } => json!({"block": "pc.ram", "address": 0x7f00_0000_1000_u64}),
            Inspect::HostAddress { addr } => {
                return Err(Error::generic(format!("No memory is mapped at address 0x{addr:x}")));
            }
            Inspect::Sum { addr, len, sum } => {
                assert!(len <= crate::worker::inspect::MAX_LEN, "{len} bytes at once");
                assert_eq!(sum > 0, addr > 0, "the sum of what comes before");
                json!(sum + 42)
            }
            Inspect::PortRead { port, .. } => json!(u32::from(port)),
            Inspect::Registers { cpu } => json!(format!("RAX={cpu}\n")),
            Inspect::NumaNodes => json!([{"node": 0, "size": 64 << 20}, {"node": 1, "size": 32 << 20}]),
            Inspect::SetBootOrder { order } if order == "acdn" => {
                return Err(Error::generic("Too many boot devices for PC"));
            }
            Inspect::Roms => json!([
                {"loaded": {"addr": 0xfffc_0000_u32, "size": 0x40000, "name": "bios-256k.bin"}},
                {"given": {"size": 0x1000, "name": "etc/table-loader"}},
            ]),
            Inspect::RamBlocks => json!([{"name": "pc.ram", "offset": 0, "size": 4096}]),
            question => {
                let name = "inspect".to_owned();
                self.asked.borrow_mut().push((name, json!(question)));
                Value::Null
            }
        })
    }

    async fn debugger(&self, device: &str) -> Result<Option<String>, Error> {
        match device {
            "nosuch" => Err(Error::generic("'nosuch' is not a valid char driver")),
            "pty" => Ok(Some("/dev/pts/7".into())),
            _ => Ok(None),
        }
    }

    async fn change_log(&self, change: LogChange) -> Result<(), Error> {
        let change = (format!("{change:?}"), Value::Null);
        self.asked.borrow_mut().push(change);
        Ok(())
    }

    async fn log_to(&self, path: &str) -> Result<(), Error> {
        if path == "/nonexistent" {
            return Err(Error::generic("Error opening logfile /nonexistent: no"));
        }
        self.asked.borrow_mut().push((path.to_owned(), Value::Null));
        Ok(())
    }

    fn devices_help(&self) -> String {
        "name \"pvpanic\"\n".to_owned()
    }
}

async fn line(host: &Fake, line: &str) -> String {
    execute(host, &mut MonitorState::default(), line).await
}

#[tokio::test]
async fn plain_commands_print_nothing() {
    let host = Fake::default();
    for (text, command) in [
        ("stop", "stop"),
        ("  c  ", "cont"),
        ("nmi", "inject-nmi"),
        ("q", "quit"),
    ] {
        assert_eq!(line(&host, text).await, "");
        assert_eq!(host.asked(), [(command.to_owned(), json!({}))]);
    }
    line(&host, "chardev-remove serial1").await;
    assert_eq!(host.asked(), [("chardev-remove".to_owned(), json!({"id": "serial1"}))]);
    line(&host, "pmemsave 0x1000 16*2 \"/tmp/a file\"").await;
    let arguments = json!({"val": 4096, "size": 32, "filename": "/tmp/a file"});
    assert_eq!(host.asked(), [("pmemsave".to_owned(), arguments)]);
}

#[tokio::test]
async fn complaints_are_those_people_know() {
    let host = Fake::with([("device_del", "!Device 'x' not found".into())]);
    for (text, shown) in [
        ("", ""),
        ("bogus arg", "unknown command: 'bogus'\r\n"),
        ("info bogus", "unknown command: 'info bogus'\r\n"),
        ("help nosuch", "unknown command: 'nosuch'\r\n"),
        (
            "c x",
            "cont|c: extraneous characters at the end of line\r\nTry \"help c\" for more information\r\n",
        ),
        (
            "info status x",
            "status: extraneous characters at the end of line\r\nTry \"help info status\" for more information\r\n",
        ),
        (
            "qom-get /machine",
            "qom-get: string expected\r\nTry \"help qom-get\" for more information\r\n",
        ),
        (
            "pmemsave 0 16 /tmp/x",
            "invalid char 't' in expression\r\nTry \"help pmemsave\" for more information\r\n",
        ),
        ("device_del x", "Error: Device 'x' not found\r\n"),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
}

#[tokio::test]
async fn help_names_every_command_once() {
    let host = Fake::default();
    let all = line(&host, "help").await;
    assert!(all.contains("stop|s  -- "), "{all}");
    assert_eq!(all.matches("\r\n").count(), table::COMMANDS.len());
    assert_eq!(line(&host, "info").await, line(&host, "help info").await);
    assert!(line(&host, "help info pci").await.starts_with("info pci  -- "));
}

#[tokio::test]
async fn topics_show_what_queries_tell() {
    let host = Fake::with([
        ("query-status", json!({"running": false, "status": "prelaunch"})),
        (
            "query-version",
            json!({"qemu": {"major": 10, "minor": 2, "micro": 0}, "package": "x"}),
        ),
        ("query-kvm", json!({"enabled": true, "present": true})),
        (
            "query-cpus-fast",
            json!([{"cpu-index": 0, "thread-id": 7}, {"cpu-index": 1, "thread-id": 8}]),
        ),
        (
            "query-chardev",
            json!([{"label": "mon", "filename": "unix:", "frontend-open": true}]),
        ),
        (
            "query-memory-size-summary",
            json!({"base-memory": 67_108_864_u64, "plugged-memory": 0}),
        ),
    ]);
    for (text, shown) in [
        ("info status", "VM status: paused (prelaunch)\r\n"),
        ("info version", "10.2.0x\r\n"),
        ("info kvm", "kvm support: enabled\r\n"),
        ("info cpus", "* CPU #0: thread_id=7\r\n  CPU #1: thread_id=8\r\n"),
        ("info chardev", "mon: filename=unix:\r\n"),
        (
            "info memory_size_summary",
            "base memory: 67108864\r\nplugged memory: 0\r\n",
        ),
        ("info name", ""),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
}

#[tokio::test]
async fn pci_devices_are_shown_with_what_is_behind_bridges() {
    let regions = json!([{"bar": 0, "type": "io", "address": 0xc000, "size": 64},
        {"bar": 4, "type": "memory", "address": 0xfe00_0000_u32, "size": 16384, "prefetch": true, "mem_type_64": true}]);
    let range = json!({"base": 0, "limit": 4095});
    let behind = json!({"bus": 1, "slot": 0, "function": 0, "class_info": {"class": 255},
        "id": {"vendor": 0x1af4, "device": 0x1044}, "qdev_id": "rng", "regions": regions, "irq": 11, "irq_pin": 1});
    let bridge = json!({"bus": 0, "slot": 2, "function": 0, "class_info": {"class": 1540, "desc": "PCI bridge"},
        "id": {"vendor": 0x1b36, "device": 0x0c}, "qdev_id": "rp", "regions": [],
        "pci_bridge": {"bus": {"number": 0, "secondary": 1, "subordinate": 1, "io_range": range,
            "memory_range": range, "prefetchable_range": range}, "devices": [behind]}});
    let host = Fake::with([("query-pci", json!([{"bus": 0, "devices": [bridge]}]))]);
    let expected = [
        "  Bus  0, device   2, function 0:",
        "    PCI bridge: PCI device 1b36:000c",
        "      BUS 0.",
        "      secondary bus 1.",
        "      subordinate bus 1.",
        "      IO range [0x0000, 0x0fff]",
        "      memory range [0x00000000, 0x00000fff]",
        "      prefetchable memory range [0x00000000, 0x00000fff]",
        "      id \"rp\"",
        "  Bus  1, device   0, function 0:",
        "    Class 0255: PCI device 1af4:1044",
        "      IRQ 11, pin A",
        "      BAR0: I/O at 0xc000 [0xc03f].",
        "      BAR4: 64 bit prefetchable memory at 0xfe000000 [0xfe003fff].",
        "      id \"rng\"",
        "",
    ];
    assert_eq!(line(&host, "info pci").await, expected.join("\r\n"));
}

#[tokio::test]
async fn objects_and_devices_are_written_as_on_the_command_line() {
    let host = Fake::default();
    assert_eq!(line(&host, "device_add virtio-rng-pci,id=rng0,bus=pcie.0").await, "");
    let arguments = json!({"driver": "virtio-rng-pci", "id": "rng0", "bus": "pcie.0"});
    assert_eq!(host.asked(), [("device_add".to_owned(), arguments)]);
    assert_eq!(line(&host, "object_add iothread,id=io1").await, "");
    let (command, arguments) = host.asked().remove(0);
    assert_eq!(
        (command.as_str(), &arguments["qom-type"], &arguments["id"]),
        ("object-add", &json!("iothread"), &json!("io1"))
    );
    assert_eq!(
        line(&host, "chardev-add socket,id=c1,path=/tmp/x,server=on,wait=off").await,
        ""
    );
    let (command, arguments) = host.asked().remove(0);
    assert_eq!((command.as_str(), &arguments["id"]), ("chardev-add", &json!("c1")));
    assert_eq!(
        arguments["backend"]["data"]["addr"],
        json!({"type": "unix", "data": {"path": "/tmp/x"}})
    );
    let error = line(&host, "chardev-add bogus,id=a").await;
    assert_eq!(error, "Error: 'bogus' is not a valid char driver name\r\n");
}

#[tokio::test]
async fn a_value_without_json_is_whatever_the_property_is() {
    let host = Fake::default();
    line(&host, "qom-set /objects/io1 poll-max-ns 5").await;
    assert_eq!(host.asked()[0].1["value"], json!(5));
    line(&host, "qom-set /machine hpet off").await;
    assert_eq!(host.asked()[0].1["value"], json!(false));
    line(&host, "qom-set -j /x y {\"a\": 1}").await;
    assert_eq!(host.asked()[0].1["value"], json!({"a": 1}));
    let host = Fake::with([("qom-set", "!Parameter 'x' expects int64".into())]);
    assert_eq!(
        line(&host, "qom-set /x x foo").await,
        "Error: Parameter 'x' expects int64\r\n"
    );
}

#[tokio::test]
async fn the_chosen_vcpu_is_remembered() {
    let host = Fake::with([("query-cpus-fast", json!([{"cpu-index": 0}, {"cpu-index": 1}]))]);
    let mut state = MonitorState::default();
    assert_eq!(execute(&host, &mut state, "cpu 7").await, "invalid CPU index\r\n");
    assert_eq!(execute(&host, &mut state, "cpu 1").await, "");
    host.asked();
    execute(&host, &mut state, "memsave 0 16 \"x\"").await;
    assert_eq!(host.asked()[0].1["cpu-index"], json!(1));
}

#[tokio::test]
async fn expressions_are_printed_in_many_ways() {
    let host = Fake::default();
    for (text, shown) in [
        ("print 10+5*2", "0x14\r\n"),
        ("p/d 0x10", "16\r\n"),
        ("print /o 8", "010\r\n"),
        ("p/c 65", "'A'\r\n"),
        ("p/u -1", "18446744073709551615\r\n"),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
}

/// What a person sees who types `keys`.
async fn seen(host: &Fake, person: &mut Person, keys: &str) -> String {
    person.feed(keys.as_bytes());
    let mut shown = Vec::new();
    while let Some(output) = person.next_output() {
        match output {
            Output::Send(bytes) => shown.extend(bytes),
            Output::Run(Line { text, mut state }) => {
                let text = execute(host, &mut state, &text).await;
                person.complete(Answer { text, state });
            }
        }
    }
    assert!(person.is_idle() && person.wants_input());
    String::from_utf8(shown).unwrap()
}

#[tokio::test]
async fn a_person_types_and_reads() {
    let cpus = json!([{"cpu-index": 0}, {"cpu-index": 1}]);
    let host = Fake::with([
        ("query-status", json!({"running": true, "status": "running"})),
        ("query-cpus-fast", cpus),
    ]);
    let history = History::default();
    let mut person = Person::new("10.2.0".into(), History::clone(&history));
    assert_eq!(
        seen(&host, &mut person, "").await,
        "",
        "the keyboard is somebody else's"
    );
    person.focus(true);
    let greeting = "QEMU 10.2.0 monitor - type 'help' for more information\r\n(qemu) ";
    assert_eq!(seen(&host, &mut person, "").await, greeting);
    let status = "info status \r\nVM status: running\r\n(qemu) ";
    assert_eq!(seen(&host, &mut person, "info statu\t\r").await, status);
    assert_eq!(
        seen(&host, &mut person, "cpu 1\rcpu 0\rcpu 1\r")
            .await
            .matches("(qemu) ")
            .count(),
        3
    );
    let cpus = seen(&host, &mut person, "info cpus\r").await;
    assert!(cpus.contains("* CPU #1"), "{cpus}");
    let names = "qom-\r\nqom-get  qom-list  qom-set\r\n(qemu) qom-";
    assert_eq!(seen(&host, &mut person, "qom-\t").await, names);
    person.focus(false);
    person.focus(true);
    assert_eq!(seen(&host, &mut person, "").await, "\r\n(qemu) qom-");
    let mut next = Person::new("10.2.0".into(), history);
    assert_eq!(
        seen(&host, &mut next, "\x1b[A").await,
        "\x1b[Kinfo cpus",
        "the history is the monitor's"
    );
}

#[test]
fn keys_wait_while_a_line_runs() {
    let mut person = Person::new("10.2.0".into(), History::default());
    person.feed(b"one\rtwo\r");
    let line = |person: &mut Person| {
        std::iter::from_fn(|| person.next_output()).find_map(|output| match output {
            Output::Run(line) => Some(line.text),
            Output::Send(_) => None,
        })
    };
    assert_eq!(line(&mut person).as_deref(), Some("one"));
    assert_eq!(line(&mut person), None);
    assert!(!person.wants_input() && !person.is_idle());
    let state = MonitorState::default();
    person.complete(Answer {
        text: String::new(),
        state,
    });
    assert_eq!(line(&mut person).as_deref(), Some("two"));
}

#[tokio::test]
async fn looking_into_a_guest() {
    let host = Fake::with([(
        "query-cpus-fast",
        json!([{"cpu-index": 0, "thread-id": 7, "qom-path": "/a"}, {"cpu-index": 1, "thread-id": 8, "qom-path": "/b"}]),
    )]);
    for (text, shown) in [
        ("p $pc+1", "0xfff1\r\n"),
        ("p /b 20", "0x14\r\n"),
        (
            "p $nosuch",
            "unknown register\r\nTry \"help p\" for more information\r\n",
        ),
        ("xp /2xh 0x1000", "0000000000001000: 0x0201 0x0403\r\n"),
        ("x/3xb 0x1000", "0000000000001000: 0x01 0x02 0x03\r\n"),
        ("x 0x9000", "0000000000009000: Cannot access memory\r\n"),
        ("x/i 0x1000", "disassembly is not supported\r\n"),
        ("xp/q 0", "invalid char in format: 'q'\r\n"),
        ("gva2gpa 0x1000", "gpa: 0x2000\r\n"),
        ("gva2gpa 0x9000", "Unmapped\r\n"),
        (
            "gpa2hva 0x1000",
            "Host virtual address for 0x1000 (pc.ram) is 0x7f0000001000\r\n",
        ),
        ("gpa2hva 0x9000", "No memory is mapped at address 0x9000\r\n"),
        ("sum 0 16", "00042\r\n"),
        ("sum 0 0xc0001", "00168\r\n"),
        ("i/b 0x71", "portb[0x0071] = 0x71\r\n"),
        ("i/h 0x71", "portw[0x0071] = 0x0071\r\n"),
        ("i/b 0x70.8", "portb[0x0071] = 0x71\r\n"),
        ("o/b 0x70 3", ""),
        ("info registers", "\r\nCPU#0\r\nRAX=0\r\n"),
        ("info registers 1", "\r\nCPU#1\r\nRAX=1\r\n"),
        ("info registers 2", "CPU#2 not available\r\n"),
        ("info registers -a", "\r\nCPU#0\r\nRAX=0\r\n\r\nCPU#1\r\nRAX=1\r\n"),
        ("info qdm", "name \"pvpanic\"\r\n"),
        ("info stats both", "invalid stats target both\r\n"),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
    let writes: Vec<Value> = host
        .asked()
        .into_iter()
        .filter(|(name, question)| name == "inspect" && question.get("PortWrite").is_some())
        .map(|(_, q)| q)
        .collect();
    assert_eq!(
        writes,
        [
            json!({"PortWrite": {"port": 0x70, "size": 1, "value": 8}}),
            json!({"PortWrite": {"port": 0x70, "size": 1, "value": 3}})
        ]
    );
}

#[tokio::test]
async fn nodes_and_boot_order() {
    let cpu = |index: u32, node: u32| json!({"cpu-index": index, "props": {"node-id": node}});
    let host = Fake::with([("query-cpus-fast", json!([cpu(0, 0), cpu(1, 1), cpu(2, 0)]))]);
    let expected = "2 nodes\nnode 0 cpus: 0 2\nnode 0 size: 64 MB\nnode 0 plugged: 0 MB\n\
        node 1 cpus: 1\nnode 1 size: 32 MB\nnode 1 plugged: 0 MB\n";
    assert_eq!(line(&host, "info numa").await, expected.replace('\n', "\r\n"));
    for (text, shown) in [
        ("boot_set dc", "boot device list now set to dc\r\n"),
        ("boot_set z", "Invalid boot device 'z'\r\n"),
        ("boot_set cc", "Boot device 'c' was given twice\r\n"),
        ("boot_set acdn", "Too many boot devices for PC\r\n"),
        (
            "boot_set",
            "boot_set: string expected\r\nTry \"help boot_set\" for more information\r\n",
        ),
        ("info lapic 3", "No CPU available\r\n"),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
}

#[tokio::test]
async fn gdb_is_let_in_and_kept_out() {
    let host = Fake::default();
    for (text, shown) in [
        ("gdbserver", "Waiting for gdb connection on device 'tcp::1234'\r\n"),
        (
            "gdbserver unix:/s,server=on",
            "Waiting for gdb connection on device 'unix:/s,server=on'\r\n",
        ),
        (
            "gdbserver pty",
            "char device redirected to /dev/pts/7 (label gdb)\r\nWaiting for gdb connection on device 'pty'\r\n",
        ),
        ("gdbserver none", "Disabled gdbserver\r\n"),
        (
            "gdbserver nosuch",
            "'nosuch' is not a valid char driver\r\nCould not open gdbserver on device 'nosuch'\r\n",
        ),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
    }
}

#[tokio::test]
async fn a_format_is_remembered() {
    let host = Fake::default();
    let mut state = MonitorState::default();
    assert_eq!(execute(&host, &mut state, "p/d 16").await, "16\r\n");
    assert_eq!(execute(&host, &mut state, "p 16").await, "16\r\n");
    assert_eq!(execute(&host, &mut state, "p/x 16").await, "0x10\r\n");
}

#[tokio::test]
async fn statistics_say_what_they_count() {
    let host = Fake::with([
        (
            "query-stats",
            json!([{"provider": "kvm", "stats": [{"name": "exits", "value": 5}, {"name": "halt_ns", "value": [1, 2]}]}]),
        ),
        (
            "query-stats-schemas",
            json!([{"provider": "kvm", "target": "vm", "stats": [{"name": "exits", "type": "cumulative", "exponent": 0},
                {"name": "halt_ns", "type": "log2-histogram", "unit": "seconds", "base": 10, "exponent": -9}]}]),
        ),
        ("query-migrate", json!({"blocked-reasons": ["a device"]})),
        ("query-memory-devices", json!([])),
    ]);
    assert_eq!(
        line(&host, "info stats vm exits,halt_ns").await,
        "provider: kvm\r\n    exits (cumulative): 5\r\n    halt_ns (log2-histogram, nanoseconds): [1,2]\r\n"
    );
    let asked = host.asked();
    assert_eq!(
        asked[0].1,
        json!({"target": "vm", "providers": [{"provider": "kvm", "names": ["exits", "halt_ns"]}]})
    );
    assert_eq!(
        line(&host, "info migrate").await,
        "Outgoing migration blocked:\r\n  a device\r\n"
    );
    assert_eq!(line(&host, "info memory-devices").await, "");
}

#[tokio::test]
async fn the_log_is_chosen_by_items_and_events() {
    let host = Fake::default();
    for (text, shown, asked) in [
        ("log none", "", "Items([])"),
        ("log unimp,guest_errors", "", "Items([\"unimp\", \"guest_errors\"])"),
        (
            "log trace:devices_*,trace:-devices_pm",
            "",
            "EnableEvents(\"devices_*\") DisableEvents(\"devices_pm\") Items([])",
        ),
        (
            "log trace:nosuch",
            "warning: trace event 'nosuch' does not exist\r\n",
            "EnableEvents(\"nosuch\") Items([])",
        ),
        (
            "log in_asm",
            "log item 'in_asm' is not supported\r\nTry \"help log\" for more information\r\n",
            "",
        ),
        (
            "log",
            "log: string expected\r\nTry \"help log\" for more information\r\n",
            "",
        ),
        ("logfile /tmp/log", "", "/tmp/log"),
        ("logfile /nonexistent", "Error opening logfile /nonexistent: no\r\n", ""),
        (
            "trace-event x maybe",
            "Expected 'on' or 'off'\r\nTry \"help trace-event\" for more information\r\n",
            "",
        ),
    ] {
        assert_eq!(line(&host, text).await, shown, "{text}");
        let changes: Vec<String> = host.asked().into_iter().map(|(what, _)| what).collect();
        assert_eq!(changes.join(" "), asked, "{text}");
    }
    assert!(line(&host, "log help").await.contains("guest_errors"));
    assert_eq!(line(&host, "help log").await, line(&host, "log help").await);
    assert!(line(&host, "log trace:help").await.contains("devices_i8042\r\n"));
    line(&host, "trace-event devices_* off").await;
    let arguments = json!({"name": "devices_*", "enable": false});
    assert_eq!(host.asked(), [("trace-event-set-state".to_owned(), arguments)]);
}

#[tokio::test]
async fn events_are_shown_with_their_state() {
    let host = Fake::with([
        (
            "trace-event-get-state",
            json!([{"name": "a", "state": "enabled"}, {"name": "b", "state": "disabled"}]),
        ),
        ("trace-event-set-state", "!unknown event \"x\"".into()),
    ]);
    assert_eq!(line(&host, "info trace-events").await, "a : state 1\r\nb : state 0\r\n");
    assert_eq!(host.asked()[0].1, json!({"name": "*"}));
    assert_eq!(line(&host, "trace-event x on").await, "unknown event \"x\"\r\n");
}

#[tokio::test]
async fn roms_are_files_and_what_firmware_is_given() {
    assert_eq!(
        line(&Fake::default(), "info roms").await,
        "addr=00000000fffc0000 size=0x040000 mem=rom name=\"bios-256k.bin\"\r\n\
         /rom@etc/table-loader size=0x001000 name=\"etc/table-loader\"\r\n"
    );
}

#[tokio::test]
async fn keys_are_sent_by_name_and_number() {
    let host = Fake::default();
    for (text, arguments) in [
        ("sendkey a", json!({"keys": [{"type": "qcode", "data": "a"}]})),
        (
            "sendkey ctrl-<-0x9C 5*10",
            json!({"keys": [
                {"type": "qcode", "data": "ctrl"},
                {"type": "qcode", "data": "less"},
                {"type": "number", "data": 0x9c},
            ], "hold-time": 50}),
        ),
    ] {
        assert_eq!(line(&host, text).await, "");
        assert_eq!(host.asked(), [("send-key".to_owned(), arguments)]);
    }
    for wrong in ["foo", "a-foo", "foo-a", "a--b", "0x", "0xfffffffff"] {
        let shown = line(&host, &format!("sendkey {wrong}")).await;
        assert!(shown.starts_with("invalid parameter: "), "{wrong}: {shown}");
        assert_eq!(host.asked(), []);
    }
}
