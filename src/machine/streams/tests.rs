//! Lines against a back end that is quick, slow or gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::*;
use crate::chardev::line::{self, Packet};
use crate::devices::characters::Sink as _;
use crate::io::EventLoop;

/// Takes `room` bytes and no more.
#[derive(Clone, Default)]
struct Sink {
    taken: Arc<Mutex<Vec<u8>>>,
    room: Arc<AtomicUsize>,
    breaks: Arc<AtomicUsize>,
    ready: Arc<AtomicUsize>,
    /// Where among the characters clients came and went.
    clients: Arc<Mutex<Vec<(usize, bool)>>>,
}

impl Sink {
    fn client(&self, is_there: bool) {
        lock(&self.clients).push((lock(&self.taken).len(), is_there));
    }
}

impl Input for Sink {
    fn room(&mut self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.room.fetch_sub(bytes.len(), Ordering::Relaxed);
        lock(&self.taken).extend(bytes);
    }

    fn broke(&mut self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
    }

    fn ready(&mut self) {
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    fn hears_of_clients(&mut self) -> bool {
        true
    }

    fn opened(&mut self) {
        self.client(true);
    }

    fn closed(&mut self) {
        self.client(false);
    }
}

struct Bench {
    outlet: Outlet,
    peer: OwnedFd,
    sink: Sink,
    streams: Streams,
    connection: Connection,
    _served: EventLoop,
}

fn bench() -> Bench {
    let (ours, peer) = line::line().unwrap();
    let served = EventLoop::new(None).unwrap();
    let streams = Streams::new(served.handle());
    let (connection, outlet) = streams.add(Some(ours)).unwrap();
    let sink = Sink::default();
    connection.set_input(Box::new(sink.clone()));
    Bench {
        outlet: outlet.unwrap(),
        peer,
        sink,
        streams,
        connection,
        _served: served,
    }
}

fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("timed out");
}

fn receive(peer: &OwnedFd) -> Vec<u8> {
    let mut fds = [PollFd::new(peer.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(10_000u16)), Ok(1), "nothing comes");
    match line::receive_packet(peer).unwrap() {
        Some(Packet::Data(bytes)) => bytes,
        other => panic!("not data: {other:?}"),
    }
}

fn receive_all(peer: &OwnedFd, count: usize) -> (Vec<u8>, usize) {
    let (mut bytes, mut packets) = (Vec::new(), 0);
    while bytes.len() < count {
        bytes.extend(receive(peer));
        packets += 1;
    }
    (bytes, packets)
}

#[test]
fn bytes_come_in_only_while_there_is_room_and_breaks_in_their_place() {
    let Bench {
        outlet,
        peer,
        sink,
        streams,
        ..
    } = &bench();
    for packet in [Packet::Opened, Packet::Data(b"hello".to_vec()), Packet::Break] {
        line::send_packet(peer, &packet).unwrap();
    }
    sink.room.store(3, Ordering::Relaxed);
    outlet.attend();
    std::thread::sleep(Duration::from_millis(5));
    assert!(
        lock(&sink.taken).is_empty(),
        "the device is not ready before the guest first runs"
    );
    streams.resume();
    wait_for(|| lock(&sink.taken).len() == 3);
    assert_eq!(
        (lock(&sink.taken).as_slice(), sink.breaks.load(Ordering::Relaxed)),
        (&b"hel"[..], 0)
    );
    sink.room.store(10, Ordering::Relaxed);
    outlet.attend();
    wait_for(|| sink.breaks.load(Ordering::Relaxed) == 1);
    assert_eq!(*lock(&sink.taken), b"hello");
}

#[test]
fn a_single_byte_leaves_at_once_and_those_that_follow_together() {
    let Bench { outlet, peer, .. } = &bench();
    let text: Vec<u8> = (0..346).map(|number| b'a' + (number % 26) as u8).collect();
    assert_eq!(outlet.send(&text[..1]), 1);
    assert_eq!(
        line::receive_packet(peer).unwrap(),
        Some(Packet::Data(b"a".to_vec())),
        "at once"
    );
    let start = Instant::now();
    for byte in &text[1..] {
        assert_eq!(outlet.send(std::slice::from_ref(byte)), 1);
    }
    let longest = start.elapsed().as_millis() as usize;
    let (bytes, packets) = receive_all(peer, text.len() - 1);
    assert_eq!(bytes, &text[1..]);
    assert!(packets <= 4 + 2 * longest, "{packets} packets in {longest} ms");
}

#[test]
fn a_slow_peer_loses_nothing_and_the_device_is_told_when_it_may_go_on() {
    let Bench { outlet, peer, sink, .. } = &bench();
    let mut sent = 0u64;
    let mut next = || (b'A' + (sent % 26) as u8, sent += 1).0;
    let mut refused = next();
    // The queue and the kernel's buffer are full when the thread has got rid of nothing for a while.
    let mut stuck = Instant::now();
    while stuck.elapsed() < Duration::from_millis(50) {
        while outlet.send(&[refused]) == 1 {
            refused = next();
            stuck = Instant::now();
        }
        std::thread::yield_now();
    }
    let total = usize::try_from(sent - 1).unwrap();
    let before = sink.ready.load(Ordering::Relaxed);
    let (bytes, _) = receive_all(peer, total);
    assert!(
        bytes
            .iter()
            .zip(0..)
            .all(|(byte, number)| *byte == b'A' + (number % 26) as u8)
    );
    wait_for(|| sink.ready.load(Ordering::Relaxed) > before);
    assert_eq!(outlet.send(&[refused]), 1);
    assert_eq!(receive(peer), [refused]);
}

#[test]
fn a_device_without_flow_control_waits_until_the_guest_is_paused_and_loses_nothing() {
    let Bench {
        outlet, peer, streams, ..
    } = &bench();
    streams.resume();
    let written = &AtomicUsize::new(0);
    let total = 100_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                outlet.send_all(&[(number % 251) as u8; 64]);
                written.store(number + 1, Ordering::Relaxed);
            }
        });
        let mut seen = usize::MAX;
        wait_for(|| {
            let now = written.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
            now == written.load(Ordering::Relaxed) && now > 0
        });
        assert!(written.load(Ordering::Relaxed) < total, "it waits");
        for number in 0..2 {
            seen = written.load(Ordering::Relaxed).min(seen);
            streams.release();
            wait_for(|| written.load(Ordering::Relaxed) > seen + number);
            streams.resume();
        }
        let (bytes, _) = receive_all(peer, total * 64);
        assert!(
            bytes
                .chunks(64)
                .zip(0..)
                .all(|(part, number)| part == [(number % 251) as u8; 64])
        );
    });
}

#[test]
fn a_peer_that_goes_away_is_no_error_and_keeps_nobody() {
    let Bench {
        outlet,
        peer,
        streams,
        sink: _sink,
        connection: _connection,
        _served,
    } = bench();
    streams.resume();
    drop(peer);
    for _ in 0..1000 {
        outlet.send_all(&[b'x'; 1000]);
        assert_eq!(outlet.send(&[b'x'; 1000]), 1000);
    }
}

#[test]
fn last_words_get_out() {
    let Bench {
        outlet,
        peer,
        streams,
        sink: _sink,
        connection,
        _served,
    } = bench();
    assert_eq!(outlet.send(b"l"), 1);
    assert_eq!(outlet.send(b"ast words"), 9);
    drop(streams);
    assert_eq!(receive_all(&peer, 10).0, b"last words");
    drop((outlet, connection));
    let end = line::receive_packet(&peer);
    assert!(end.is_ok_and(|packet| packet.is_none()), "the line ends");
}

#[test]
fn a_device_without_a_line_is_served_in_time() {
    struct Timer(Arc<AtomicUsize>);
    impl Input for Timer {
        fn room(&mut self) -> usize {
            0
        }
        fn receive(&mut self, _: &[u8]) {}
        fn time_left(&mut self) -> Option<Duration> {
            Some(Duration::from_micros(300))
        }
        fn expire(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(AtomicUsize::new(0));
    let served = EventLoop::new(None).unwrap();
    let streams = Streams::new(served.handle());
    let (connection, outlet) = streams.add(None).unwrap();
    assert!(outlet.is_none());
    connection.set_input(Box::new(Timer(Arc::clone(&count))));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(count.load(Ordering::Relaxed), 0, "the guest's time stands still");
    streams.resume();
    wait_for(|| count.load(Ordering::Relaxed) > 3);
}

#[test]
fn clients_come_and_go_in_their_place_even_while_there_is_no_room() {
    let Bench {
        outlet,
        peer,
        sink,
        streams,
        connection: _connection,
        ..
    } = &bench();
    streams.resume();
    let said = |text: &[u8]| Packet::Data(text.to_vec());
    for packet in [
        Packet::Opened,
        said(b"one"),
        Packet::Closed,
        Packet::Opened,
        said(b"two"),
    ] {
        line::send_packet(peer, &packet).unwrap();
    }
    wait_for(|| *lock(&sink.clients) == [(0, true)]);
    sink.room.store(10, Ordering::Relaxed);
    outlet.attend();
    wait_for(|| lock(&sink.taken).len() == 6);
    assert_eq!(*lock(&sink.clients), [(0, true), (3, false), (3, true)]);
}

#[test]
fn the_back_end_hears_whether_the_guest_has_its_end_open_after_what_was_sent() {
    let Bench { outlet, peer, .. } = &bench();
    outlet.set_open(true);
    assert_eq!(outlet.send(b"a"), 1);
    outlet.set_open(false);
    let mut packets = Vec::new();
    wait_for_packets(peer, 3, &mut packets);
    assert_eq!(packets, [Packet::Opened, Packet::Data(b"a".to_vec()), Packet::Closed]);
}

fn wait_for_packets(peer: &OwnedFd, count: usize, packets: &mut Vec<Packet>) {
    while packets.len() < count {
        let mut fds = [PollFd::new(peer.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(10_000u16)), Ok(1), "nothing comes");
        packets.push(line::receive_packet(peer).unwrap().unwrap());
    }
}

#[test]
fn a_device_that_goes_ends_its_line_and_no_other() {
    let Bench {
        peer,
        sink,
        streams,
        connection,
        outlet,
        _served,
    } = bench();
    streams.resume();
    let (ours, other_peer) = line::line().unwrap();
    let (other_connection, other_outlet) = streams.add(Some(ours)).unwrap();
    let other = Sink::default();
    other.room.store(10, Ordering::Relaxed);
    other_connection.set_input(Box::new(other.clone()));
    assert_eq!(outlet.send(b"last"), 4);
    drop(connection);
    assert_eq!(receive(&peer), b"last");
    assert!(line::receive_packet(&peer).unwrap().is_none(), "its line ends");
    assert_eq!(outlet.send(b"x"), 1, "what comes too late goes nowhere");
    line::send_packet(&other_peer, &Packet::Data(b"hello".to_vec())).unwrap();
    wait_for(|| *lock(&other.taken) == b"hello");
    assert_eq!(other_outlet.unwrap().send(b"world"), 5);
    assert_eq!(receive(&other_peer), b"world");
    assert!(lock(&sink.taken).is_empty());
}
