//! A driver and a host at the two ends of ports.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::control::{DEVICE_READY, News, PORT_OPEN, PORT_READY};
use super::*;
use crate::devices::characters::{Input, Sink};
use crate::devices::virtio::queue::testing::{PAGES, SplitDriver, memory};
use crate::devices::virtio::queue::{Ring, RingRules};
use crate::devices::virtio::status::DRIVER_OK;
use crate::devices::{Notice, Notifier};
use crate::mem::Doorbell;

/// Queues of tests, in which port 1 is the last.
const QUEUES: u64 = 6;
/// Where queue n has its ring, and its buffers.
const RINGS: u64 = 0x4000;
const BUFFERS: u64 = 0x2_0000;
const BUFFER: u64 = 0x2000;
/// A part of a buffer that the device writes.
const WRITE: u16 = 2;

/// The host's end of a port: takes `room` bytes.
#[derive(Clone, Default)]
struct Host {
    taken: Arc<Mutex<Vec<u8>>>,
    room: Arc<AtomicUsize>,
    opened: Arc<Mutex<Vec<bool>>>,
}

impl Sink for Host {
    fn send(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.room.fetch_sub(count, Ordering::Relaxed);
        self.taken.lock().unwrap().extend(&bytes[..count]);
        count
    }

    fn send_all(&self, _: &[u8]) {}

    fn set_open(&self, open: bool) {
        self.opened.lock().unwrap().push(open);
    }

    fn attend(&self) {}
}

struct Bench {
    bus: Arc<PortBus>,
    link: Arc<Link>,
    queues: Vec<Arc<Virtqueue>>,
    drivers: Vec<SplitDriver>,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Bench {
    /// A driver that is there, with features and rings.
    fn new() -> Self {
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let seen = Arc::clone(&notices);
        let notifier: Notifier = Arc::new(move |notice| seen.lock().unwrap().push(notice));
        let bus = PortBus::new(3, notifier);
        let space = memory();
        let link = Link::new("virtio-serial", &space);
        link.hold_paused(false);
        link.set_status(DRIVER_OK);
        let mut drivers = Vec::new();
        let mut queues = Vec::new();
        for index in 0..QUEUES {
            let mut driver = SplitDriver::new(&space, 8);
            driver.layout.descriptors = RINGS + index * 0x3000;
            driver.layout.driver = driver.layout.descriptors + 0x1000;
            driver.layout.device = driver.layout.descriptors + 0x2000;
            let number = u16::try_from(index).unwrap();
            let queue = Arc::new(Virtqueue::new(number, &link, Doorbell::new().unwrap()));
            queue.set_up(Ring::new(driver.layout, RingRules::default()));
            drivers.push(driver);
            queues.push(queue);
        }
        bus.connect(&queues);
        bus.driver_ready(MULTIPORT);
        Self {
            bus,
            link,
            queues,
            drivers,
            notices,
        }
    }

    fn plug(&self, number: u32, name: Option<&str>, is_console: bool) -> (Host, Box<dyn Input>) {
        let host = Host::default();
        let config = PortConfig {
            name: name.map(str::to_owned),
            is_console,
            id: Some(format!("port{number}")),
        };
        self.bus.plug(number, config, Box::new(host.clone()), true);
        (host, self.bus.input(number))
    }

    /// Offers an empty buffer of `len` bytes in a queue.
    fn offer(&mut self, queue: usize, len: u32) {
        let at = buffer(queue);
        self.drivers[queue].offer(&[(at, len, WRITE)]);
        self.bus.rung(queue);
    }

    /// Says something in a queue.
    fn say(&mut self, queue: usize, bytes: &[u8]) {
        let at = buffer(queue);
        self.drivers[queue].write(at, bytes);
        self.drivers[queue].offer(&[(at, u32::try_from(bytes.len()).unwrap(), 0)]);
        self.bus.rung(queue);
    }

    fn tell(&mut self, port: u32, event: u16, value: u16) {
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend(event.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        self.say(3, &bytes);
        assert_eq!(self.drivers[3].used().len(), 1, "what was said is taken");
    }

    /// What was written into the last buffer of a queue, if one was given back.
    fn taken(&mut self, queue: usize) -> Option<Vec<u8>> {
        let (_, len) = self.drivers[queue].used().pop()?;
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.drivers[queue]
            .space
            .read_memory(buffer(queue), &mut bytes)
            .unwrap();
        Some(bytes)
    }

    /// What the driver is told next, if there is something.
    fn news(&mut self) -> Option<Vec<u8>> {
        self.offer(2, 64);
        self.taken(2)
    }

    fn changes(&self) -> Vec<(String, bool)> {
        let notices = std::mem::take(&mut *self.notices.lock().unwrap());
        let change = |notice: Notice| match notice {
            Notice::PortChange(news) => {
                let (id, open) = news.look();
                (id.to_owned(), open)
            }
            other => panic!("{other:?}"),
        };
        notices.into_iter().map(change).collect()
    }
}

fn buffer(queue: usize) -> u64 {
    BUFFERS + u64::try_from(queue).unwrap() * BUFFER
}

#[test]
fn a_driver_learns_of_ports_and_what_they_are() {
    let mut bench = Bench::new();
    let (_, mut input) = bench.plug(1, Some("org.x"), false);
    let _console = bench.plug(0, None, true);
    assert_eq!(bench.news(), None, "nobody asked");
    let mut bench = Bench::new();
    let (_, mut other_input) = bench.plug(1, Some("org.x"), false);
    let _console = bench.plug(0, None, true);
    bench.tell(u32::MAX, DEVICE_READY, 1);
    assert_eq!(bench.news(), Some(News::Added.bytes(0)));
    assert_eq!(bench.news(), Some(News::Added.bytes(1)));
    other_input.opened();
    assert_eq!(bench.news(), Some(News::Open(true).bytes(1)));
    bench.tell(1, PORT_READY, 1);
    assert_eq!(bench.news(), Some(News::Name("org.x".into()).bytes(1)));
    assert_eq!(bench.news(), Some(News::Open(true).bytes(1)));
    bench.tell(0, PORT_READY, 1);
    assert_eq!(bench.news(), Some(News::Console.bytes(0)));
    assert_eq!(bench.news(), Some(News::Open(true).bytes(0)));
    bench.bus.unplug(1);
    assert_eq!(bench.news(), Some(News::Removed.bytes(1)));
    let _again = bench.plug(1, None, false);
    assert_eq!(bench.news(), Some(News::Added.bytes(1)));
    input.opened();
}

#[test]
fn of_a_host_that_comes_and_goes_the_driver_hears_the_last_alone() {
    let mut bench = Bench::new();
    let (_, mut input) = bench.plug(1, None, false);
    // No more than one buffer was offered, and none is left.
    bench.tell(0, DEVICE_READY, 1);
    for _ in 0..1000 {
        input.opened();
        input.closed();
    }
    input.opened();
    bench.offer(2, 64);
    assert_eq!(bench.taken(2), Some(News::Added.bytes(1)));
    bench.offer(2, 64);
    assert_eq!(bench.taken(2), Some(News::Open(true).bytes(1)));
    assert_eq!(bench.news(), None);
}

#[test]
fn what_the_host_says_waits_until_the_guest_is_there_and_has_room() {
    let mut bench = Bench::new();
    let (host, mut input) = bench.plug(1, None, false);
    input.opened();
    bench.offer(4, 5);
    bench.offer(4, 100);
    assert_eq!(input.room(), 0, "the guest has not opened it");
    bench.tell(1, PORT_OPEN, 1);
    assert_eq!(
        (bench.changes(), host.opened.lock().unwrap().clone()),
        (vec![("port1".into(), true)], vec![true])
    );
    assert_eq!(input.room(), 5);
    assert_eq!(input.room(), 5, "looking takes nothing");
    input.receive(b"hello");
    assert_eq!(bench.taken(4), Some(b"hello".to_vec()));
    assert_eq!(input.room(), 100);
    input.receive(b"world");
    assert_eq!((bench.taken(4), input.room()), (Some(b"world".to_vec()), 0));
    bench.tell(1, PORT_OPEN, 0);
    assert_eq!(bench.changes(), [("port1".to_owned(), false)]);
    bench.offer(4, 5);
    assert_eq!(input.room(), 0);
}

#[test]
fn a_slow_back_end_loses_nothing_and_a_guest_without_one_writes_to_nobody() {
    let mut bench = Bench::new();
    let (host, mut input) = bench.plug(1, None, false);
    bench.say(5, b"nobody");
    assert_eq!(bench.drivers[5].used().len(), 1, "what nobody listens to is taken");
    input.opened();
    host.room.store(4, Ordering::Relaxed);
    bench.say(5, b"hello");
    assert!(bench.drivers[5].used().is_empty(), "it is not all sent");
    bench.bus.rung(5);
    assert_eq!(*host.taken.lock().unwrap(), b"hell");
    host.room.store(10_000, Ordering::Relaxed);
    input.ready();
    assert_eq!(
        (host.taken.lock().unwrap().as_slice(), bench.drivers[5].used().len()),
        (&b"hello"[..], 1)
    );
    let long: Vec<u8> = (0..5000_u16).map(|number| (number % 251) as u8).collect();
    bench.say(5, &long);
    assert_eq!(host.taken.lock().unwrap()[5..], long);
    bench.drivers[5].used();
    host.room.store(1, Ordering::Relaxed);
    bench.say(5, b"gone");
    assert!(bench.drivers[5].used().is_empty());
    input.closed();
    assert_eq!(bench.drivers[5].used().len(), 1, "whoever listened is gone");
}

#[test]
fn a_pause_in_between_loses_nothing() {
    let mut bench = Bench::new();
    let (host, mut input) = bench.plug(1, None, false);
    input.opened();
    bench.tell(1, PORT_OPEN, 1);
    bench.offer(4, 3);
    assert_eq!(input.room(), 3);
    bench.link.hold_paused(true);
    input.receive(b"abc");
    assert_eq!((bench.taken(4), input.room()), (None, 0));
    bench.say(5, b"hello");
    bench.say(3, &[1, 0, 0, 0, 6, 0, 0, 0]);
    assert!(host.taken.lock().unwrap().is_empty());
    host.room.store(100, Ordering::Relaxed);
    bench.link.hold_paused(false);
    // What is said of the port, that the guest closes it, comes last here.
    [4, 5, 3].into_iter().for_each(|queue| bench.bus.rung(queue));
    assert_eq!(bench.taken(4), Some(b"abc".to_vec()));
    assert_eq!(*host.taken.lock().unwrap(), b"hello");
    assert_eq!(*host.opened.lock().unwrap(), [true, false]);
}

#[test]
fn ports_go_on_elsewhere_in_the_middle_of_a_buffer() {
    let mut bench = Bench::new();
    let (host, mut input) = bench.plug(1, None, false);
    input.opened();
    bench.tell(1, PORT_OPEN, 1);
    host.room.store(2, Ordering::Relaxed);
    bench.say(5, b"hello");
    bench.link.hold_paused(true);
    let state = bench.bus.state();
    let mut other = Bench::new();
    let (there, mut input) = other.plug(1, None, false);
    let mut ram = vec![0; usize::try_from(PAGES * 4096).unwrap()];
    bench.drivers[0].space.read_memory(0, &mut ram).unwrap();
    other.drivers[0].space.write_memory(0, &ram).unwrap();
    for (queue, from) in other.queues.iter().zip(&bench.queues) {
        let ring = (bench.drivers[usize::from(queue.index())].layout, RingRules::default());
        let position = (from.position().unwrap(), from.in_flight().into());
        queue.resume_ring(ring, position, false).unwrap();
    }
    let space = Arc::clone(&other.drivers[0].space);
    other.drivers = bench.drivers;
    other
        .drivers
        .iter_mut()
        .for_each(|driver| driver.space = Arc::clone(&space));
    other.bus.set_state(&state).unwrap();
    assert_eq!(other.changes(), [("port1".to_owned(), true)], "the guest has it open");
    assert_eq!(*there.opened.lock().unwrap(), [true]);
    // Somebody was there at the first host. What the guest wrote is for whoever comes here.
    assert_eq!(other.news(), Some(News::Open(false).bytes(1)));
    other.bus.rung(5);
    assert!(other.drivers[5].used().is_empty());
    there.room.store(100, Ordering::Relaxed);
    input.opened();
    input.ready();
    assert_eq!(*there.taken.lock().unwrap(), b"llo");
    assert_eq!(other.drivers[5].used().len(), 1);
    assert_eq!(other.news(), Some(News::Open(true).bytes(1)));
}

#[test]
fn a_driver_that_goes_has_closed_everything() {
    let mut bench = Bench::new();
    let (host, mut input) = bench.plug(1, None, false);
    input.opened();
    bench.tell(1, PORT_OPEN, 1);
    bench.changes();
    bench.say(5, b"stuck");
    bench.bus.driver_gone();
    assert_eq!(bench.changes(), [("port1".to_owned(), false)]);
    assert_eq!(*host.opened.lock().unwrap(), [true, false]);
    bench.bus.driver_gone();
    assert_eq!(bench.changes(), [], "once");
    host.room.store(10, Ordering::Relaxed);
    input.ready();
    assert!(host.taken.lock().unwrap().is_empty(), "what it wrote is gone with it");
}

#[test]
fn a_driver_that_knows_one_port_has_it_open() {
    let mut bench = Bench::new();
    let (_, mut input) = bench.plug(0, None, true);
    bench.bus.driver_gone();
    bench.bus.driver_ready(Features::NONE);
    bench.offer(0, 3);
    assert_eq!(input.room(), 3);
}

#[test]
fn numbers_and_names_are_taken_once() {
    let bench = Bench::new();
    let bus = &bench.bus;
    assert_eq!(bus.number(None, true), Ok(0));
    assert_eq!(bus.number(None, false), Ok(1));
    assert_eq!(bus.number(Some(0), false), Err(PortError::Reserved));
    assert_eq!(bus.number(Some(9), false), Err(PortError::Range(2)));
    let (_one, _two) = (bench.plug(1, Some("a"), false), bench.plug(2, None, false));
    assert_eq!(bus.number(Some(1), true), Err(PortError::Number(1)));
    assert_eq!(bus.number(None, false), Err(PortError::Full));
    assert!(bus.has_name("a") && !bus.has_name("b"));
    bus.unplug(1);
    assert_eq!((bus.number(None, false), bus.has_name("a")), (Ok(1), false));
}

#[test]
fn a_byte_can_be_said_without_a_queue() {
    let bench = Bench::new();
    let (host, _input) = bench.plug(0, None, true);
    host.room.store(10, Ordering::Relaxed);
    let on = crate::io::EventLoop::new(None).unwrap();
    static KIND: Kind = Kind {
        name: "virtio-serial",
        id: 3,
        transitional_id: None,
        class: [7, 0x80, 0],
    };
    let serial = Serial::new(&KIND, Arc::clone(&bench.bus), on.handle().clone());
    assert_eq!(serial.config(), [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(serial.queue_sizes(), [128, 128, 32, 32, 128, 128, 128, 128]);
    serial.write_config(8, &b"!\0\0\0"[..]);
    serial.write_config(8, &[0, 0]);
    serial.write_config(0, &[1, 2]);
    assert_eq!(*host.taken.lock().unwrap(), b"!");
}

proptest! {
    /// Whatever a driver says, in whatever order, the device holds no more than it has ports for, and goes on.
    #[test]
    fn no_driver_breaks_it(said in prop::collection::vec((0..6_usize, prop::collection::vec(any::<u8>(), 1..12)), 0..200)) {
        let mut bench = Bench::new();
        let (_host, mut input) = bench.plug(1, Some("name"), false);
        let _console = bench.plug(0, None, true);
        input.opened();
        for (queue, mut bytes) in said {
            // Small numbers mean something.
            bytes.iter_mut().for_each(|byte| *byte %= 8);
            if queue % 2 == 0 {
                bench.offer(queue, u32::try_from(bytes.len()).unwrap());
            } else {
                bench.say(queue, &bytes);
            }
            if input.room() > 0 {
                input.receive(b"x");
            }
        }
    }
}
