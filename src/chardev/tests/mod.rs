//! Whole character devices against real sockets, terminals, pipes and files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Map, json};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::host_file::HostFile;
use super::line::Packet;
use super::*;

mod opening;

/// A folder of one test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("remuda-chardev-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn registry() -> ChardevRegistry {
    ChardevRegistry::new(FdTable::default()).0
}

fn options(text: &str) -> ChardevOptions {
    let mut map = Map::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or(("backend", part));
        map.insert(key.into(), value.into());
    }
    ChardevOptions::from_command_line(&map).unwrap()
}

async fn add(registry: &ChardevRegistry, text: &str) -> Added {
    registry.add(options(text)).await.unwrap()
}

fn filename(registry: &ChardevRegistry, id: &str) -> String {
    registry
        .query()
        .into_iter()
        .find(|info| info.label == id)
        .unwrap()
        .filename
}

/// The worker's end of a character device.
struct GuestEnd(AsyncFd<OwnedFd>);

impl GuestEnd {
    async fn send(&self, text: &str) {
        let sent = self
            .0
            .async_io(Interest::WRITABLE, |fd| line::send_data(fd, text.as_bytes()));
        assert_eq!(sent.await.unwrap(), text.len());
    }

    async fn next(&self) -> Option<Packet> {
        self.0.async_io(Interest::READABLE, line::receive_packet).await.unwrap()
    }

    /// The next characters, `length` of them; that somebody comes or goes is passed over.
    async fn text(&self, length: usize) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            match self.next().await {
                Some(Packet::Data(more)) => bytes.extend(more),
                Some(Packet::Opened | Packet::Closed) => {}
                other => panic!("not data: {other:?}"),
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}

async fn guest(registry: &ChardevRegistry, id: &str) -> GuestEnd {
    GuestEnd(raw_fd::watch_or_close(registry.connect_guest(id).await.unwrap()).unwrap())
}

/// The next event, which is to be data.
async fn data(front: &mut FrontEnd) -> Chunk {
    match front.reader.recv().await {
        Some(FrontEvent::Data(chunk)) => chunk,
        other => panic!("not data: {other:?}"),
    }
}

async fn opened(front: &mut FrontEnd) {
    let event = front.reader.recv().await;
    assert!(matches!(event, Some(FrontEvent::Opened)), "{event:?}");
}

async fn closed(front: &mut FrontEnd) {
    let event = front.reader.recv().await;
    assert!(matches!(event, Some(FrontEvent::Closed)), "{event:?}");
}

async fn read_text(stream: &mut (impl AsyncReadExt + Unpin), length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_server_takes_one_client_after_the_other() {
    let folder = Folder::new("server");
    let path = folder.path("socket");
    let registry = registry();
    add(&registry, &format!("socket,id=mon,path={path},server=on,wait=off")).await;
    assert_eq!(
        filename(&registry, "mon"),
        format!("disconnected:unix:{path},server=on")
    );
    let mut front = registry.connect("mon").await.unwrap();
    let mut first = UnixStream::connect(&path).await.unwrap();
    let mut second = UnixStream::connect(&path).await.unwrap();
    second.write_all(b"second").await.unwrap();
    opened(&mut front).await;
    assert_eq!(filename(&registry, "mon"), format!("unix:{path},server=on"));
    front.writer.send("greeting").await;
    assert_eq!(read_text(&mut first, 8).await, "greeting");
    first.write_all(b"first").await.unwrap();
    assert_eq!(data(&mut front).await.bytes, b"first");
    drop(first);
    closed(&mut front).await;
    opened(&mut front).await;
    assert_eq!(data(&mut front).await.bytes, b"second");
    front.writer.send("again").await;
    assert_eq!(read_text(&mut second, 5).await, "again");
    registry.shutdown().await;
    assert!(!std::path::Path::new(&path).exists(), "the socket goes with its server");
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let folder = Folder::new("half");
    let path = folder.path("socket");
    let registry = registry();
    add(&registry, &format!("socket,id=mon,path={path},server=on,wait=off")).await;
    let mut front = registry.connect("mon").await.unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"command").await.unwrap();
    client.shutdown().await.unwrap();
    opened(&mut front).await;
    assert_eq!(data(&mut front).await.bytes, b"command");
    front.writer.send("answer").await;
    closed(&mut front).await;
    front.writer.send(" and more").await;
    let session = tokio::spawn(async move { front.reader.recv().await.is_none() });
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer and more");
    session.abort();
}

#[tokio::test]
async fn descriptors_come_with_their_bytes() {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    let number = theirs.as_raw_fd();
    let inherited = [theirs.into()].into_iter().collect();
    let (registry, _events) = ChardevRegistry::new(FdTable::with_inherited(inherited));
    add(&registry, &format!("socket,id=mon,fd={number}")).await;
    assert_eq!(
        filename(&registry, "mon"),
        "disconnected:fd:".to_owned() + &number.to_string()
    );
    let mut front = registry.connect("mon").await.unwrap();
    opened(&mut front).await;
    assert_eq!(filename(&registry, "mon"), "unix:");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let fds = [writer.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let bytes = [std::io::IoSlice::new(b"getfd")];
    sendmsg::<()>(ours.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
    drop(writer);
    let mut chunk = data(&mut front).await;
    assert_eq!((chunk.bytes.as_slice(), chunk.fds.len()), (&b"getfd"[..], 1));
    let flags = nix::fcntl::fcntl(&chunk.fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags & nix::fcntl::FdFlag::FD_CLOEXEC.bits(), 1);
    File::from(chunk.fds.remove(0)).write_all(b"through").unwrap();
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[tokio::test]
async fn an_inherited_socket_listens() {
    let folder = Folder::new("inherited");
    let path = folder.path("socket");
    let listener = StdUnixListener::bind(&path).unwrap();
    let number = listener.as_raw_fd();
    let inherited = [listener.into()].into_iter().collect();
    let (registry, _events) = ChardevRegistry::new(FdTable::with_inherited(inherited));
    add(
        &registry,
        &format!("socket,id=charmonitor,fd={number},server=on,wait=off"),
    )
    .await;
    assert_eq!(
        filename(&registry, "charmonitor"),
        format!("disconnected:unix:{path},server=on")
    );
    let mut front = registry.connect("charmonitor").await.unwrap();
    for round in ["one", "two"] {
        let mut client = UnixStream::connect(&path).await.unwrap();
        opened(&mut front).await;
        front.writer.send(round).await;
        assert_eq!(read_text(&mut client, 3).await, round);
        drop(client);
        closed(&mut front).await;
    }
}

#[tokio::test]
async fn a_terminal_carries_bytes_while_it_is_open() {
    let registry = registry();
    let folder = Folder::new("pty");
    let link = folder.path("link");
    let added = add(&registry, &format!("pty,id=serial0,path={link}")).await;
    let path = added.pty.clone().unwrap();
    assert_eq!(filename(&registry, "serial0"), format!("pty:{path}"));
    let mut front = registry.connect("serial0").await.unwrap();
    front.writer.send("nobody sees this").await;
    for _ in 0..2 {
        let terminal = open_terminal(&link);
        terminal.write_all(b"typed\r").await.unwrap();
        opened(&mut front).await;
        assert_eq!(data(&mut front).await.bytes, b"typed\r");
        front.writer.send("printed\n").await;
        assert_eq!(read_file(&terminal, 8).await, "printed\n");
        drop(terminal);
        closed(&mut front).await;
    }
    drop(front);
    registry.remove("serial0").await.unwrap();
    assert!(
        std::fs::symlink_metadata(&link).is_err(),
        "the link goes with the terminal"
    );
}

#[tokio::test]
async fn output_right_after_opening_a_terminal_is_not_lost() {
    let registry = registry();
    let path = add(&registry, "pty,id=serial0").await.pty.unwrap();
    let guest = guest(&registry, "serial0").await;
    let terminal = open_terminal(&path);
    guest.send("at once").await;
    assert_eq!(read_file(&terminal, 7).await, "at once");
}

#[tokio::test]
async fn a_guest_learns_who_is_there_and_gives_the_device_back() {
    let folder = Folder::new("guest");
    let path = folder.path("channel");
    let registry = registry();
    add(&registry, &format!("socket,id=channel0,path={path},server=on,wait=off")).await;
    let line = guest(&registry, "channel0").await;
    registry.set_frontend_open("channel0", false);
    assert!(!registry.query()[0].frontend_open);
    let mut client = UnixStream::connect(&path).await.unwrap();
    assert_eq!(line.next().await, Some(Packet::Opened));
    client.write_all(b"guest-ping").await.unwrap();
    assert_eq!(line.text(10).await, "guest-ping");
    line.send("return").await;
    assert_eq!(read_text(&mut client, 6).await, "return");
    let busy = registry.connect("channel0").await.unwrap_err();
    assert_eq!(busy.to_string(), "chardev 'channel0' is already in use");
    assert_eq!(
        registry.remove("channel0").await.unwrap_err().to_string(),
        "Chardev 'channel0' is busy"
    );
    registry.send_break("channel0").unwrap();
    assert_eq!(line.next().await, Some(Packet::Break));
    drop(line);
    let line = guest(&registry, "channel0").await;
    assert_eq!(
        line.next().await,
        Some(Packet::Opened),
        "a new device learns that somebody is there"
    );
    line.send("new").await;
    assert_eq!(read_text(&mut client, 3).await, "new");
    drop(client);
    assert_eq!(line.next().await, Some(Packet::Closed));
    drop(line);
    registry.remove("channel0").await.unwrap();
    assert_eq!(
        registry.remove("channel0").await.unwrap_err().to_string(),
        "Chardev 'channel0' not found"
    );
}

#[tokio::test]
async fn a_guests_last_words_get_out() {
    let folder = Folder::new("last");
    let (file, log) = (folder.path("file"), folder.path("log"));
    std::fs::write(&log, "before\n").unwrap();
    let registry = registry();
    add(
        &registry,
        &format!("file,id=serial0,path={file},logfile={log},logappend=on"),
    )
    .await;
    let line = guest(&registry, "serial0").await;
    line.send("reboot: Power down\n").await;
    drop(line);
    registry.shutdown().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "reboot: Power down\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\nreboot: Power down\n");
}

#[tokio::test]
async fn a_guests_last_words_stay_until_whoever_has_its_terminal_open_has_read_them() {
    let registry = registry();
    let path = add(&registry, "pty,id=serial0").await.pty.unwrap();
    let terminal = open_terminal(&path);
    let line = guest(&registry, "serial0").await;
    line.send("reboot: Power down\n").await;
    drop(line);
    let mut shutdown = std::pin::pin!(registry.shutdown());
    let words = tokio::select! {
        biased;
        () = &mut shutdown => panic!("the terminal is closed before it is read"),
        words = read_file(&terminal, 19) => words,
    };
    assert_eq!(words, "reboot: Power down\n");
    shutdown.await;
}

#[tokio::test]
async fn a_set_of_descriptors_is_a_file() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let registry = registry();
    registry.fds().add_fd(Some(2), None, Some(writer)).unwrap();
    let backend = json!({"type": "file", "data": {"out": "/dev/fdset/2", "append": true}});
    assert_eq!(
        registry.qmp_add("serial1", &backend).await.unwrap(),
        Added { pty: None }
    );
    registry.fds().remove_fd(2, None).unwrap();
    let front = registry.connect("serial1").await.unwrap();
    let reader = HostFile::new(reader).unwrap();
    front.writer.clone().unbound().send("to the log daemon").await;
    assert_eq!(read_file(&reader, 17).await, "to the log daemon");
    let missing = json!({"type": "file", "data": {"out": "/dev/fdset/9"}});
    let error = registry.qmp_add("x", &missing).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "Failed to add chardev 'x': Could not open '/dev/fdset/9': No such file or directory"
    );
    let error = registry.qmp_add("serial1", &backend).await.unwrap_err().to_string();
    assert_eq!(error, "Chardev with id 'serial1' already exists");
}

#[tokio::test]
async fn tcp_servers_and_clients_meet_and_meet_again() {
    let registry = registry();
    add(
        &registry,
        "socket,id=server,host=127.0.0.1,port=0,server=on,wait=off,nodelay=on",
    )
    .await;
    let idle = filename(&registry, "server");
    let port = idle
        .strip_prefix("disconnected:tcp:127.0.0.1:")
        .unwrap()
        .strip_suffix(",server=on")
        .unwrap();
    add(
        &registry,
        &format!("socket,id=client,host=127.0.0.1,port={port},reconnect-ms=1"),
    )
    .await;
    let mut server = registry.connect("server").await.unwrap();
    let mut client = registry.connect("client").await.unwrap();
    for text in ["one", "two"] {
        opened(&mut server).await;
        opened(&mut client).await;
        let name = filename(&registry, "server");
        assert!(
            name.starts_with(&format!("tcp:127.0.0.1:{port},server=on <-> 127.0.0.1:")),
            "{name}"
        );
        client.writer.send(text).await;
        assert_eq!(data(&mut server).await.bytes, text.as_bytes());
        // A new back end ends the connection; the client comes back by itself.
        drop(server);
        let again = format!("socket,id=server,host=127.0.0.1,port={port},server=on,wait=off");
        registry.remove("server").await.unwrap();
        closed(&mut client).await;
        add(&registry, &again).await;
        server = registry.connect("server").await.unwrap();
    }
    opened(&mut server).await;
    let error = registry
        .add(options("socket,id=c2,host=127.0.0.1,port=1"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Failed to connect to '127.0.0.1:1': Connection refused"
    );
}

#[tokio::test]
async fn a_client_waits_for_its_server() {
    let folder = Folder::new("reconnect");
    let path = folder.path("socket");
    let registry = registry();
    let error = registry
        .add(options(&format!("socket,id=c,path={path}")))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Failed to connect to '{path}': No such file or directory")
    );
    add(&registry, &format!("socket,id=c,path={path},reconnect-ms=1")).await;
    assert_eq!(filename(&registry, "c"), format!("disconnected:unix:{path}"));
    let mut front = registry.connect("c").await.unwrap();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    opened(&mut front).await;
    server.write_all(b"hello").await.unwrap();
    assert_eq!(data(&mut front).await.bytes, b"hello");
}

#[tokio::test]
async fn a_server_may_have_the_start_wait() {
    let folder = Folder::new("wait");
    let path = folder.path("socket");
    let registry = registry();
    add(&registry, &format!("socket,id=mon,path={path},server=on")).await;
    add(&registry, "null,id=other").await;
    registry.ready("other").await;
    assert_eq!(
        registry.waiting_for("mon"),
        Some(format!("disconnected:unix:{path},server=on"))
    );
    let (_, client) = tokio::join!(registry.ready("mon"), UnixStream::connect(&path));
    assert_eq!(registry.waiting_for("mon"), None);
    drop(client);
}

#[tokio::test]
async fn named_pipes_carry_both_ways() {
    let folder = Folder::new("pipe");
    let path = folder.path("p");
    for end in [".in", ".out"] {
        nix::unistd::mkfifo(format!("{path}{end}").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let registry = registry();
    add(&registry, &format!("pipe,id=p,path={path}")).await;
    let mut front = registry.connect("p").await.unwrap();
    opened(&mut front).await;
    open_terminal(&format!("{path}.in")).write_all(b"in").await.unwrap();
    assert_eq!(data(&mut front).await.bytes, b"in");
    front.writer.send("out").await;
    assert_eq!(read_file(&open_terminal(&format!("{path}.out")), 3).await, "out");
    let error = registry
        .add(options("pipe,id=q,path=/nonexistent/p"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Could not open '/nonexistent/p': No such file or directory"
    );
}

#[tokio::test]
async fn datagrams_keep_their_limits() {
    let registry = registry();
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = peer.local_addr().unwrap().port();
    add(&registry, &format!("udp,id=u,host=127.0.0.1,port={port}")).await;
    let mut front = registry.connect("u").await.unwrap();
    opened(&mut front).await;
    front.writer.send("one").await;
    front.writer.send("two").await;
    let mut bytes = [0; 16];
    let (length, from) = peer.recv_from(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..length], b"one");
    peer.send_to(b"back", from).await.unwrap();
    assert_eq!(data(&mut front).await.bytes, b"back");
}

#[tokio::test]
async fn ring_buffers_are_read_over_qmp() {
    let registry = registry();
    add(&registry, "ringbuf,id=rb,size=16").await;
    add(&registry, "null,id=n").await;
    registry
        .ringbuf_write("rb", "MDEyMzQ1Njc4OWFiY2RlZlhZWg==", DataFormat::Base64)
        .unwrap();
    assert_eq!(registry.ringbuf_read("rb", 5, DataFormat::Utf8).unwrap(), "34567");
    assert_eq!(
        registry.ringbuf_read("rb", 500, DataFormat::Base64).unwrap(),
        "ODlhYmNkZWZYWVo="
    );
    let complaint = |id, size| {
        registry
            .ringbuf_read(id, size, DataFormat::Utf8)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(complaint("nope", 1), "Device 'nope' not found");
    assert_eq!(complaint("n", 1), "n is not a ringbuf device");
    assert_eq!(complaint("rb", 0), "size must be greater than zero");
    assert_eq!(complaint("rb", -1), "size must be greater than zero");
    let error = registry.ringbuf_write("rb", "!!!", DataFormat::Base64).unwrap_err();
    assert_eq!(error.to_string(), "Base64 data contains invalid characters");
}

#[tokio::test]
async fn a_guest_does_not_notice_a_new_back_end() {
    let folder = Folder::new("change");
    let (first, second) = (folder.path("first"), folder.path("second"));
    let registry = registry();
    add(&registry, &format!("file,id=serial0,path={first}")).await;
    let line = guest(&registry, "serial0").await;
    line.send("one").await;
    while std::fs::metadata(&first).unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    registry
        .change(options(&format!("file,id=serial0,path={second}")))
        .await
        .unwrap();
    line.send("two").await;
    drop(line);
    registry.shutdown().await;
    assert_eq!(std::fs::read_to_string(&first).unwrap(), "one");
    assert_eq!(std::fs::read_to_string(&second).unwrap(), "two");
}

#[tokio::test]
async fn monitors_and_multiplexers_keep_their_back_end() {
    let registry = registry();
    add(&registry, "null,id=mon").await;
    add(&registry, "null,id=shared,mux=on").await;
    let _front = registry.connect("mon").await.unwrap();
    let complaint = async |id: &str| {
        registry
            .change(options(&format!("null,id={id}")))
            .await
            .unwrap_err()
            .to_string()
    };
    assert_eq!(complaint("nope").await, "Chardev 'nope' does not exist");
    assert_eq!(complaint("mon").await, "Chardev user does not support chardev hotswap");
    assert_eq!(complaint("shared").await, "Mux device hotswap not supported yet");
    for id in ["mon", "shared", "shared-base"] {
        assert_eq!(
            registry.remove(id).await.unwrap_err().to_string(),
            format!("Chardev '{id}' is busy")
        );
    }
    let mux = json!({"type": "mux", "data": {"chardev": "nope"}});
    let error = registry.qmp_add("m", &mux).await.unwrap_err().to_string();
    assert_eq!(error, "Failed to add chardev 'm': mux: base chardev nope not found");
}

#[tokio::test]
async fn a_multiplexer_is_switched_from_the_keyboard() {
    let folder = Folder::new("mux");
    let path = folder.path("socket");
    let (registry, mut events) = ChardevRegistry::new(FdTable::default());
    add(
        &registry,
        &format!("socket,id=shared,path={path},server=on,wait=off,mux=on"),
    )
    .await;
    let names: Vec<_> = registry
        .query()
        .into_iter()
        .map(|info| (info.label, info.filename))
        .collect();
    let idle = format!("disconnected:unix:{path},server=on");
    assert_eq!(
        names,
        [
            ("shared-base".to_owned(), idle),
            ("shared".to_owned(), "mux".to_owned())
        ]
    );
    let mut monitor = registry.connect("shared").await.unwrap();
    assert!(matches!(monitor.reader.recv().await, Some(FrontEvent::FocusIn)));
    let line = guest(&registry, "shared").await;
    assert!(matches!(monitor.reader.recv().await, Some(FrontEvent::FocusOut)));
    let mut client = UnixStream::connect(&path).await.unwrap();
    opened(&mut monitor).await;
    assert_eq!(line.next().await, Some(Packet::Opened));
    client.write_all(b"to guest \x01\x01").await.unwrap();
    assert_eq!(line.text(10).await, "to guest \x01");
    client.write_all(b"\x01b\x01").await.unwrap();
    assert_eq!(line.next().await, Some(Packet::Break));
    client.write_all(b"cto monitor").await.unwrap();
    assert!(matches!(monitor.reader.recv().await, Some(FrontEvent::FocusIn)));
    assert_eq!(data(&mut monitor).await.bytes, b"to monitor");
    monitor.writer.send("prompt").await;
    assert_eq!(read_text(&mut client, 6).await, "prompt");
    line.send("console").await;
    assert_eq!(read_text(&mut client, 7).await, "console");
    client.write_all(b"\x01x").await.unwrap();
    let terminate = ChardevEvent {
        id: "shared".into(),
        kind: ChardevEventKind::Terminate,
    };
    assert_eq!(events.recv().await, Some(terminate));
    assert_eq!(read_text(&mut client, 18).await, "QEMU: Terminated\r\n");
    for _ in 0..2 {
        std::mem::forget(registry.connect("shared").await.unwrap());
    }
    let error = registry.connect("shared").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "too many uses of multiplexed chardev 'shared' (maximum is 4)"
    );
}

#[tokio::test]
async fn a_multiplexer_stays_with_the_guest_when_a_monitor_comes() {
    let folder = Folder::new("focus");
    let path = folder.path("socket");
    let registry = registry();
    add(
        &registry,
        &format!("socket,id=shared,path={path},server=on,wait=off,mux=on"),
    )
    .await;
    let line = guest(&registry, "shared").await;
    let mut monitor = registry.connect("shared").await.unwrap();
    assert!(matches!(monitor.reader.recv().await, Some(FrontEvent::FocusOut)));
    let mut client = UnixStream::connect(&path).await.unwrap();
    opened(&mut monitor).await;
    client.write_all(b"to guest\x01cto monitor").await.unwrap();
    assert_eq!(line.text(8).await, "to guest");
    assert!(matches!(monitor.reader.recv().await, Some(FrontEvent::FocusIn)));
    assert_eq!(data(&mut monitor).await.bytes, b"to monitor");
    drop(line);
    drop(monitor);
    let mut heir = registry.connect("shared").await.unwrap();
    opened(&mut heir).await;
    assert!(matches!(heir.reader.recv().await, Some(FrontEvent::FocusIn)));
    client.write_all(b"to the next monitor").await.unwrap();
    assert_eq!(data(&mut heir).await.bytes, b"to the next monitor");
}

#[tokio::test]
async fn telnet_clients_are_understood() {
    let registry = registry();
    add(
        &registry,
        "socket,id=t,host=127.0.0.1,port=0,server=on,wait=off,telnet=on",
    )
    .await;
    let idle = filename(&registry, "t");
    let port = idle
        .strip_prefix("disconnected:telnet:127.0.0.1:")
        .unwrap()
        .strip_suffix(",server=on")
        .unwrap();
    let mut front = registry.connect("t").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let mut greeting = [0; 12];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0]);
    opened(&mut front).await;
    client.write_all(&[255, 253, 1, b'h', b'i', 255, 243]).await.unwrap();
    assert!(matches!(front.reader.recv().await, Some(FrontEvent::Break)));
    assert_eq!(data(&mut front).await.bytes, b"hi");
    front.writer.send(vec![255]).await;
    let mut doubled = [0; 2];
    client.read_exact(&mut doubled).await.unwrap();
    assert_eq!(doubled, [255, 255]);
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_named() {
    let folder = Folder::new("errors");
    let registry = registry();
    let complaint = async |text: &str| registry.add(options(text)).await.unwrap_err().to_string();
    assert_eq!(
        complaint("socket,id=a,path=/nonexistent/q,server=on,wait=off").await,
        "Failed to bind socket to /nonexistent/q: No such file or directory"
    );
    // Only what a predecessor left is replaced: a socket.
    let kept = folder.path("kept");
    std::fs::write(&kept, "kept").unwrap();
    assert_eq!(
        complaint(&format!("socket,id=a,path={kept},server=on,wait=off")).await,
        format!("Failed to bind socket to {kept}: Address already in use")
    );
    assert_eq!(std::fs::read(&kept).unwrap(), b"kept");
    let long = "x".repeat(108);
    assert_eq!(
        complaint(&format!("socket,id=a,path={long},server=on,wait=off")).await,
        format!("UNIX socket path '{long}' is too long\nPath must be less than 108 bytes")
    );
    assert_eq!(
        complaint("socket,id=a,fd=9999").await,
        "File descriptor '9999' is not a socket"
    );
    assert_eq!(
        complaint("socket,id=a,host=127.0.0.1,port=abc").await,
        "address resolution failed for 127.0.0.1:abc: Servname not supported for ai_socktype"
    );
    assert_eq!(
        complaint("null,id=a,logfile=/nonexistent/l").await,
        "Could not create '/nonexistent/l': No such file or directory"
    );
    assert_eq!(
        complaint("null,id=a,logfile=/dev/fdset/9,logappend=on").await,
        "Could not dup FD for /dev/fdset/9 flags 441: No such file or directory"
    );
    assert!(registry.query().is_empty());
    let path = folder.path("stale");
    drop(StdUnixListener::bind(&path).unwrap());
    add(&registry, &format!("socket,id=a,path={path},server=on,wait=off")).await;
}

/// Opens a terminal or pipe the way a user would.
fn open_terminal(path: &str) -> HostFile {
    HostFile::new(File::options().read(true).write(true).open(path).unwrap().into()).unwrap()
}

async fn read_file(file: &HostFile, length: usize) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend(file.read().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}
