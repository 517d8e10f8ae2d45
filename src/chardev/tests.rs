//! Whole character devices against real sockets, terminals, pipes and files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Map, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::host_file::HostFile;
use super::*;

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
async fn guest(registry: &ChardevRegistry, id: &str) -> UnixStream {
    UnixStream::from_std(registry.connect_guest(id).await.unwrap().into()).unwrap()
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

/// Waits until the file name is what `wanted` says.
async fn until_filename(registry: &ChardevRegistry, id: &str, wanted: impl Fn(&str) -> bool) {
    while !wanted(&filename(registry, id)) {
        tokio::task::yield_now().await;
    }
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
    let number = theirs.into_raw_fd();
    let (registry, _events) = ChardevRegistry::new(FdTable::with_inherited([number]));
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
    let number = StdUnixListener::bind(&path).unwrap().into_raw_fd();
    let (registry, _events) = ChardevRegistry::new(FdTable::with_inherited([number]));
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
    assert_eq!(added.to_reply(), json!({"pty": path}));
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
    let mut guest = guest(&registry, "serial0").await;
    let terminal = open_terminal(&path);
    guest.write_all(b"at once").await.unwrap();
    assert_eq!(read_file(&terminal, 7).await, "at once");
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
