//! What a client of an invented service sees: each byte it says is a request, answered by its capital letter.

use std::cell::Cell;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::*;
use crate::chardev;
use crate::monitor::events::EventBus;
use crate::qapi::qmp::Event;

/// How long a test waits for what should come at once.
const LIMIT: Duration = Duration::from_secs(60);
/// The size of the answer to `b`.
const BIG: usize = 1 << 20;

#[derive(Default)]
struct Letters {
    said: VecDeque<u8>,
    ready: VecDeque<Output<u8>>,
    running: bool,
}

impl Conversation for Letters {
    type Request = u8;
    type Done = u8;

    fn feed(&mut self, bytes: &[u8]) {
        self.said.extend(bytes);
    }

    fn next_output(&mut self) -> Option<Output<u8>> {
        if let Some(output) = self.ready.pop_front() {
            return Some(output);
        }
        if self.running {
            return None;
        }
        let letter = self.said.pop_front()?;
        self.running = true;
        Some(Output::Run(letter))
    }

    fn complete(&mut self, letter: u8) {
        self.running = false;
        let count = if letter == b'b' { BIG } else { 1 };
        self.ready
            .push_back(Output::Send(vec![letter.to_ascii_uppercase(); count]));
    }

    fn wants_input(&self) -> bool {
        self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.said.is_empty() && self.ready.is_empty() && !self.running
    }

    fn is_between_requests(&self) -> bool {
        true
    }

    fn focus(&mut self, _: bool) {}
}

/// `e` makes an event, `s` waits for the gate, and all are noted.
#[derive(Default)]
struct Post {
    bus: EventBus<Event>,
    gate: Notify,
    noted: RefCell<String>,
    flooding: Cell<bool>,
}

/// So that a task may own it.
struct Counter(Rc<Post>);

impl Service for Counter {
    type Talk = Letters;
    type Event = Event;

    fn begin(&self) -> Letters {
        Letters::default()
    }

    fn events(&self) -> EventReader<Event> {
        self.0.bus.subscribe()
    }

    fn tell(&self, _: &Letters, _: &Happened<Event>) -> Option<Vec<u8>> {
        Some(b"!".to_vec())
    }

    fn start(&self, _: &CallContext, letter: u8) -> Task<u8> {
        let post = Rc::clone(&self.0);
        Box::pin(async move {
            match letter {
                b'e' => post.bus.emit(Event::Stop),
                b's' => post.gate.notified().await,
                _ => {}
            }
            post.noted.borrow_mut().push(char::from(letter));
            letter
        })
    }
}

/// Runs `conversation` with a client of a pump, and waits until the pump has ended.
async fn with_client(conversation: impl AsyncFnOnce(Rc<Post>, UnixStream)) -> Rc<Post> {
    let post = Rc::new(Post::default());
    let (ours, theirs) = StdStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let client = UnixStream::from_std(ours).unwrap();
    let (front, _) = chardev::connection("test", theirs.into()).unwrap();
    let all = async {
        let pump = tokio::task::spawn_local(serve(Rc::new(Counter(Rc::clone(&post))), front));
        conversation(Rc::clone(&post), client).await;
        pump.await.unwrap();
    };
    tokio::time::timeout(LIMIT, LocalSet::new().run_until(all))
        .await
        .unwrap();
    post
}

async fn read(client: &mut UnixStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_event_comes_before_the_reply_to_what_caused_it() {
    with_client(async |_, mut client| {
        client.write_all(b"xexe").await.unwrap();
        assert_eq!(read(&mut client, 6).await, "X!EX!E");
    })
    .await;
}

#[tokio::test]
async fn who_has_said_all_still_gets_the_answers() {
    let post = with_client(async |post, mut client| {
        client.write_all(b"xsx").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut client, 1).await, "X");
        post.gate.notify_one();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "SX");
    })
    .await;
    assert_eq!(*post.noted.borrow(), "xsx");
}

#[tokio::test]
async fn what_was_said_before_hanging_up_is_done() {
    let post = with_client(async |post, mut client| {
        client.write_all(b"sxbxe").await.unwrap();
        drop(client);
        post.gate.notify_one();
    })
    .await;
    assert_eq!(*post.noted.borrow(), "sxbxe");
}

#[tokio::test]
async fn a_client_is_heard_among_events_without_end() {
    with_client(async |post, mut client| {
        post.flooding.set(true);
        let flood = Rc::clone(&post);
        let flood = tokio::task::spawn_local(async move {
            while flood.flooding.get() {
                (0..10).for_each(|_| flood.bus.emit(Event::Stop));
                tokio::task::yield_now().await;
            }
        });
        for _ in 0..100 {
            client.write_all(b"x").await.unwrap();
            while read(&mut client, 1).await != "X" {}
        }
        post.flooding.set(false);
        flood.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_is_made_for_who_does_not_read() {
    let post = with_client(async |post, mut client| {
        client.write_all(&b"b".repeat(100)).await.unwrap();
        // What it could be sent without reading is a few of the big answers.
        while post.noted.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            post.bus.emit(Event::Stop);
            tokio::task::yield_now().await;
        }
        assert!(post.noted.borrow().len() < 50);
        let seen = read(&mut client, 100 * BIG).await;
        assert!(seen.bytes().all(|byte| byte == b'B' || byte == b'!'));
    })
    .await;
    assert_eq!(post.noted.borrow().len(), 100);
}

#[tokio::test]
async fn the_last_events_and_replies_are_sent_when_the_guest_ends() {
    with_client(async |post, mut client| {
        client.write_all(b"xs").await.unwrap();
        assert_eq!(read(&mut client, 1).await, "X");
        post.bus.emit(Event::Stop);
        post.gate.notify_one();
        post.bus.close();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "!S");
    })
    .await;
}
