//! Loops with a thread, and without.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn next<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(LONG).expect("nothing comes")
}

#[test]
fn a_thread_has_its_name_and_ends_with_its_loop() {
    let (started, thread_id) = EventLoop::start(Some("IO test".into())).unwrap();
    let comm = format!("/proc/self/task/{thread_id}/comm");
    assert_eq!(std::fs::read_to_string(&comm).unwrap(), "IO test\n");
    drop(started);
    // Who joins is woken a moment before the kernel forgets the thread.
    let is_there = || std::fs::read_to_string(&comm).is_ok_and(|name| name == "IO test\n");
    let patience = std::time::Instant::now();
    while is_there() {
        assert!(patience.elapsed() < LONG, "the thread goes on");
        std::thread::yield_now();
    }
}

#[test]
fn descriptors_come_and_go() {
    let served = EventLoop::new(None).unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (other, other_writer) = nix::unistd::pipe().unwrap();
    let (sender, came) = channel();
    let watch = |name: &'static str, source: std::os::fd::OwnedFd| {
        let sender = sender.clone();
        let source = Arc::new(source);
        let read = Arc::clone(&source);
        let on_ready = move |ready: Ready| {
            let mut byte = [0];
            let count = nix::unistd::read(&read, &mut byte).unwrap();
            sender.send((name, count, ready.contains(Ready::EPOLLIN))).unwrap();
        };
        served.handle().watch(source, Ready::EPOLLIN, on_ready).unwrap()
    };
    let first = watch("first", reader);
    let mut second = watch("second", other);
    nix::unistd::write(&writer, b"a").unwrap();
    assert_eq!(next(&came), ("first", 1, true));
    nix::unistd::write(&other_writer, b"b").unwrap();
    assert_eq!(next(&came), ("second", 1, true));
    second.set_interest(Ready::empty()).unwrap();
    nix::unistd::write(&other_writer, b"c").unwrap();
    drop(first);
    served.handle().call(|| ()).unwrap();
    assert!(came.try_recv().is_err(), "nobody asked for it");
    second.set_interest(Ready::EPOLLIN).unwrap();
    assert_eq!(next(&came), ("second", 1, true));
}

#[test]
fn a_callback_may_end_what_it_is_called_for() {
    let served = EventLoop::new(None).unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (sender, came) = channel();
    let slot: Arc<Mutex<Option<Watch>>> = Arc::default();
    let own = Arc::clone(&slot);
    let on_ready = move |_| {
        drop(own.lock().unwrap().take());
        sender.send(()).unwrap();
    };
    nix::unistd::write(&writer, b"a").unwrap();
    let mut kept = slot.lock().unwrap();
    *kept = Some(
        served
            .handle()
            .watch(Arc::new(reader), Ready::EPOLLIN, on_ready)
            .unwrap(),
    );
    drop(kept);
    next(&came);
    served.handle().call(|| ()).unwrap();
    assert!(came.try_recv().is_err(), "it was called again");
}

#[test]
fn timers_expire_once_each_time_in_their_order() {
    let served = EventLoop::new(None).unwrap();
    let (sender, came) = channel();
    let timer = |name: &'static str| {
        let sender = sender.clone();
        served.handle().timer(Time::Host, move || sender.send(name).unwrap())
    };
    let (late, early, never) = (timer("late"), timer("early"), timer("never"));
    late.arm_in(Duration::from_millis(20));
    never.arm_in(Duration::from_millis(1));
    never.cancel();
    early.arm_in(Duration::from_micros(100));
    assert_eq!((next(&came), next(&came)), ("early", "late"));
    assert_eq!((early.deadline(), never.deadline()), (None, None));
    early.arm_in(LONG);
    early.arm_in(Duration::ZERO);
    assert_eq!(next(&came), "early");
    drop(early);
    served.handle().call(|| ()).unwrap();
    assert!(came.try_recv().is_err());
}

#[test]
fn a_timer_that_arms_itself_keeps_no_loop_from_its_end() {
    for _ in 0..100 {
        let served = EventLoop::new(None).unwrap();
        let (sender, came) = channel();
        let slot: Arc<Mutex<Option<Timer>>> = Arc::default();
        let own = Arc::clone(&slot);
        let expire = move || {
            own.lock()
                .unwrap()
                .iter()
                .for_each(|timer| timer.arm_in(Duration::ZERO));
            let _ = sender.send(());
        };
        let timer = served.handle().timer(Time::Host, expire);
        timer.arm_in(Duration::ZERO);
        *slot.lock().unwrap() = Some(timer);
        next(&came);
        drop(served);
        slot.lock().unwrap().take();
    }
}

#[test]
fn a_guests_timer_waits_while_its_time_stands_still() {
    let served = EventLoop::new(None).unwrap();
    let clock = Arc::new(GuestClock::default());
    let (sender, came) = channel();
    let now = Arc::clone(&clock);
    let timer = served.handle().timer(Time::Guest(Arc::clone(&clock)), move || {
        sender.send(now.nanoseconds()).unwrap();
    });
    timer.arm(3_000_000);
    assert!(
        came.recv_timeout(Duration::from_millis(10)).is_err(),
        "time stands still"
    );
    assert_eq!(timer.deadline(), Some(3_000_000));
    clock.start();
    assert!(next(&came) >= 3_000_000);
    // The alarm of a clock that is stopped before it rings finds nothing due.
    timer.arm(clock.nanoseconds() + 5_000_000);
    clock.stop();
    assert!(
        came.recv_timeout(Duration::from_millis(20)).is_err(),
        "time stands still"
    );
    clock.start();
    next(&came);
}

#[test]
fn what_was_asked_for_before_the_end_is_done() {
    let served = EventLoop::new(None).unwrap();
    let (sender, came) = channel();
    for number in 0..100 {
        let sender = sender.clone();
        served.handle().run(move || sender.send(number).unwrap()).unwrap();
    }
    drop(served);
    assert_eq!(came.try_iter().collect::<Vec<i32>>(), (0..100).collect::<Vec<i32>>());
}

#[test]
fn a_loop_without_a_thread_is_turned_by_whoever_has_it() {
    let turned = EventLoop::of_caller().unwrap();
    let here = std::thread::current().id();
    let (sender, came) = channel();
    let expire = move || sender.send(std::thread::current().id()).unwrap();
    let timer = turned.handle().timer(Time::Host, expire);
    turned.turn(Some(Duration::ZERO)).unwrap();
    timer.arm_in(Duration::from_micros(100));
    turned.turn(Some(LONG)).unwrap();
    assert_eq!(came.try_recv(), Ok(here));
    let handle = turned.handle().clone();
    let mut polled = [nix::poll::PollFd::new(handle.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO), Ok(0));
    handle.wake();
    assert_eq!(nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO), Ok(1));
    turned.turn(None).unwrap();
}

#[test]
fn a_future_wakes_by_a_descriptor_until_it_is_dropped() {
    let served = EventLoop::new(None).unwrap();
    let event = Arc::new(vmm_sys_util::eventfd::EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap());
    let (sender, came) = channel();
    let (on, watched) = (served.handle().clone(), Arc::clone(&event));
    let task = served.handle().spawn(async move {
        let watched = on.counter(&watched).unwrap();
        while let Ok(count) = watched.take().await {
            on.sleep(Duration::from_micros(50)).await;
            sender.send(count).unwrap();
        }
    });
    event.write(3).unwrap();
    assert_eq!(next(&came), 3);
    event.write(1).unwrap();
    assert_eq!(next(&came), 1);
    drop(task);
    let gone = came.recv_timeout(LONG);
    assert_eq!(
        gone,
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
        "the future is gone"
    );
}

#[test]
fn a_loop_ends_with_what_waits_forever_on_it() {
    let served = EventLoop::new(None).unwrap();
    let task = served.handle().spawn(std::future::pending());
    drop(served);
    drop(task);
}
