//! What comes out of the sources, and how fast.

use std::io::Write;
use std::time::Instant as Clock;

use nix::unistd::pipe;

use super::*;
use crate::io::EventLoop;

/// What a future on a loop gives.
fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(future: impl FnOnce(Handle) -> F) -> T {
    let on = EventLoop::new(None).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let future = future(on.handle().clone());
    let _task = on
        .handle()
        .spawn(async move { sender.send(future.await).unwrap() })
        .unwrap();
    receiver.recv().unwrap()
}

#[test]
fn the_builtin_source_and_the_hosts_device_differ_each_time() {
    let device = EntropySource::open("/dev/urandom".as_ref()).unwrap();
    for source in [EntropySource::Builtin, device] {
        let read = || {
            let source = source.clone();
            run(|on| async move { source.reader(&on).unwrap().read(32).await.unwrap() })
        };
        let (one, other) = (read(), read());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }
}

#[test]
fn a_pipe_that_nobody_writes_to_hangs_only_its_reader() {
    let (read_end, write_end) = pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read_end));
    let source = EntropySource::open(path.as_ref()).unwrap();
    let served = EventLoop::new(None).unwrap();
    let on = served.handle().clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (to, reads_on) = (sender.clone(), on.clone());
    let _waits = on.spawn(async move {
        let bytes = source.reader(&reads_on).unwrap().read(16).await.unwrap();
        to.send(bytes).unwrap();
    });
    // The loop has time for others.
    let _works = on.spawn(async move {
        sender.send(Vec::new()).unwrap();
    });
    assert_eq!(receiver.recv().unwrap(), [0; 0]);
    std::fs::File::from(write_end).write_all(b"entropy").unwrap();
    assert_eq!(receiver.recv().unwrap(), b"entropy");
}

#[test]
fn a_file_ends_and_goes_on_when_it_grows() {
    let path = std::env::temp_dir().join(format!("remuda-entropy-{}", std::process::id()));
    std::fs::write(&path, b"12345").unwrap();
    let source = EntropySource::open(&path).unwrap();
    let grows = path.clone();
    run(|on| async move {
        let mut reader = source.reader(&on).unwrap();
        assert_eq!(reader.read(3).await.unwrap(), b"123");
        assert_eq!(reader.read(3).await.unwrap(), b"45");
        std::fs::write(&grows, b"1234567").unwrap();
        assert_eq!(reader.read(3).await.unwrap(), b"67");
    });
    std::fs::remove_file(path).unwrap();
    assert!(EntropySource::open("/nonexistent".as_ref()).is_err());
}

#[test]
fn an_allowance_lasts_for_its_period() {
    let period = Duration::from_millis(300);
    let mut quota = Quota::new(Allowance { max_bytes: 10, period });
    let start = Clock::now();
    let taken = run(|on| async move {
        let mut taken = Vec::new();
        for wanted in [6, 6, 6] {
            taken.push(quota.take(&on, wanted).await);
        }
        taken
    });
    assert_eq!(taken, [6, 4, 6]);
    assert!(start.elapsed() >= period, "the third had to wait");
}
