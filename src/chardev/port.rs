//! The junction between a back end and whoever uses the character device.
//!
//! A back end holds the [`BackPort`], which lives as long as the character device. A front end claims the other side
//! with [`Port::attach`] and gives it back by dropping its [`FrontReader`]; what the outside sent meanwhile waits here,
//! up to [`INPUT_LIMIT`] bytes, and after that in the outside's own buffers.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::log::LogFile;

/// How much waits for the front end before the back end stops to read, in bytes.
const INPUT_LIMIT: usize = 64 * 1024;
/// What each chunk counts beside its bytes, so that many small ones are no more than a few large ones.
const CHUNK_COST: usize = 64;
/// How many writes of the front end wait for the back end.
const OUTPUT_WRITES: usize = 8;

/// Bytes from outside with the descriptors that came along.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The bytes, in order.
    pub bytes: Vec<u8>,
    /// Descriptors, in order. They belong to bytes of this chunk, or of the next one if this ends in mid-message.
    pub fds: Vec<OwnedFd>,
}

impl Chunk {
    /// What it counts where chunks wait.
    fn cost(&self) -> usize {
        self.bytes.len() + CHUNK_COST
    }
}

/// What a front end learns.
#[derive(Debug)]
pub enum FrontEvent {
    /// Somebody is there now: a client connected, the terminal was opened, the file is ready.
    Opened,
    /// Whoever was there went away. Answers to what they asked can still be sent before the next
    /// [`FrontReader::recv`].
    Closed,
    /// Bytes came.
    Data(Chunk),
    /// A break condition on the line.
    Break,
    /// A multiplexer gives this front end the input from now on.
    FocusIn,
    /// A multiplexer gives the input to another front end from now on.
    FocusOut,
}

/// The reading half of a front end. Dropping it gives the character device free again.
#[derive(Debug)]
pub struct FrontReader {
    port: Arc<Port>,
    /// The connection whose `Closed` was handed out and is not yet done with.
    closing: Option<u64>,
    /// `Opened` is to be told again, to a front end that came later.
    replay: bool,
    generation: Arc<AtomicU64>,
}

/// The writing half of a front end. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct FrontWriter {
    port: Arc<Port>,
    output: mpsc::Sender<Output>,
    /// The connection that is written to; none writes to whichever there is.
    generation: Option<Arc<AtomicU64>>,
}

/// A character device as a front end in this process uses it.
#[derive(Debug)]
pub struct FrontEnd {
    /// What comes from outside.
    pub reader: FrontReader,
    /// What goes to the outside.
    pub writer: FrontWriter,
}

/// What both sides of a character device share.
#[derive(Debug)]
pub(super) struct Port {
    queue: Mutex<Queue>,
    /// An item was queued, or the back end went away.
    ready: Notify,
    /// An item was taken.
    space: Notify,
    output: mpsc::Sender<Output>,
    /// Writes that were queued and not yet finished by the back end.
    unwritten: AtomicUsize,
    written: Notify,
    filename: Mutex<String>,
    /// The number of the latest connection.
    latest: AtomicU64,
    connected: watch::Sender<bool>,
    /// The latest connection that the front end is done with.
    finished: watch::Sender<u64>,
    attached: AtomicBool,
    /// The front end went away.
    left: Notify,
    frontend_open: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Input>,
    /// What the chunks in `items` count.
    cost: usize,
    /// The back end told that somebody is there.
    open: bool,
    /// The front end knows that somebody is there.
    told_open: bool,
    /// There is no back end any more.
    gone: bool,
}

#[derive(Debug)]
enum Input {
    Opened(u64),
    Closed(u64),
    Data(Chunk),
    Break,
    FocusIn,
    FocusOut,
}

#[derive(Debug)]
struct Output {
    generation: Option<u64>,
    bytes: Vec<u8>,
}

/// The back end's side of a character device.
#[derive(Debug)]
pub(super) struct BackPort {
    pub(super) input: InputSender,
    pub(super) output: OutputReceiver,
}

/// Where a back end puts what comes from outside.
#[derive(Debug)]
pub(super) struct InputSender {
    port: Arc<Port>,
}

/// Where a back end takes what goes to the outside.
#[derive(Debug)]
pub(super) struct OutputReceiver {
    port: Arc<Port>,
    writes: mpsc::Receiver<Output>,
    log: Option<LogFile>,
    /// A write that came and is not yet handed out.
    next: Option<Output>,
    /// A write was handed out and is finished when the next one is asked for.
    in_hand: bool,
}

impl Port {
    /// A new character device without a back end at work yet.
    pub(super) fn new(filename: impl Into<String>, log: Option<LogFile>) -> (Arc<Self>, BackPort) {
        let (output, writes) = mpsc::channel(OUTPUT_WRITES);
        let port = Arc::new(Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            space: Notify::new(),
            output,
            unwritten: AtomicUsize::new(0),
            written: Notify::new(),
            filename: Mutex::new(filename.into()),
            latest: AtomicU64::new(0),
            connected: watch::Sender::new(false),
            finished: watch::Sender::new(0),
            attached: AtomicBool::new(false),
            left: Notify::new(),
            frontend_open: AtomicBool::new(false),
        });
        let back = BackPort {
            input: InputSender { port: port.clone() },
            output: OutputReceiver {
                port: port.clone(),
                writes,
                log,
                next: None,
                in_hand: false,
            },
        };
        (port, back)
    }

    /// Claims the front end's side; none if somebody has it.
    pub(super) fn attach(self: &Arc<Self>) -> Option<FrontEnd> {
        if self.attached.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.set_frontend_open(true);
        let replay = self.lock().told_open;
        let generation = Arc::new(AtomicU64::new(self.latest.load(Ordering::Relaxed)));
        let writer = FrontWriter {
            port: self.clone(),
            output: self.output.clone(),
            generation: Some(generation.clone()),
        };
        Some(FrontEnd {
            reader: FrontReader {
                port: self.clone(),
                closing: None,
                replay,
                generation,
            },
            writer,
        })
    }

    /// What `query-chardev` shows as the file name.
    pub(super) fn filename(&self) -> String {
        self.filename.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// Whether the front end takes bytes, as `query-chardev` tells.
    pub(super) fn frontend_open(&self) -> bool {
        self.frontend_open.load(Ordering::Relaxed)
    }

    pub(super) fn set_frontend_open(&self, open: bool) {
        self.frontend_open.store(open, Ordering::Relaxed);
    }

    /// Waits until the front end is gone.
    pub(super) async fn abandoned(&self) {
        while self.is_attached() {
            self.left.notified().await;
        }
    }

    /// Follows whether somebody is there.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Waits until the back end has written all that the front end has sent.
    pub(super) async fn flushed(&self) {
        loop {
            let written = self.written.notified();
            if self.unwritten.load(Ordering::Relaxed) == 0 || self.output.is_closed() {
                return;
            }
            written.await;
        }
    }

    /// Sends the front end a break condition. A line that is broken already stays so.
    pub(super) fn send_break(&self) {
        let mut queue = self.lock();
        if !matches!(queue.items.back(), Some(Input::Break)) {
            queue.items.push_back(Input::Break);
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Tells the front end that there will never be anything more.
    fn close(&self) {
        self.lock().gone = true;
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, generation: u64) {
        self.finished.send_if_modified(|finished| {
            let later = generation > *finished;
            *finished = generation.max(*finished);
            later
        });
    }

    fn write_done(&self) {
        self.unwritten.fetch_sub(1, Ordering::Relaxed);
        self.written.notify_waiters();
    }
}

impl FrontReader {
    /// The next event; none once the character device is removed. Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<FrontEvent> {
        if let Some(generation) = self.closing.take() {
            self.port.finish(generation);
        }
        if std::mem::take(&mut self.replay) {
            return Some(FrontEvent::Opened);
        }
        loop {
            if let Some(event) = self.take()? {
                return Some(event);
            }
            self.port.ready.notified().await;
        }
    }

    /// The next event, if it is there already.
    pub fn try_recv(&mut self) -> Option<FrontEvent> {
        if let Some(generation) = self.closing.take() {
            self.port.finish(generation);
        }
        if std::mem::take(&mut self.replay) {
            return Some(FrontEvent::Opened);
        }
        self.take().flatten()
    }

    /// Waits until whoever was there has gone, though what they sent before is still to be received.
    pub async fn hangup(&mut self) {
        self.until(|queue| queue.items.iter().any(|item| matches!(item, Input::Closed(_))))
            .await;
    }

    /// Waits until there is something to be received.
    pub async fn waiting(&mut self) {
        self.until(|queue| !queue.items.is_empty()).await;
    }

    /// Waits until the queue is like that, or there is no back end any more.
    async fn until(&mut self, is_so: impl Fn(&Queue) -> bool) {
        loop {
            {
                let queue = self.port.lock();
                if queue.gone || is_so(&queue) {
                    return;
                }
            }
            self.port.ready.notified().await;
        }
    }

    /// An event that waits already. The outer none means that there will be no more.
    fn take(&mut self) -> Option<Option<FrontEvent>> {
        let mut queue = self.port.lock();
        let Some(item) = queue.items.pop_front() else {
            return if queue.gone { None } else { Some(None) };
        };
        let event = match item {
            Input::Opened(generation) => {
                queue.told_open = true;
                self.generation.store(generation, Ordering::Relaxed);
                FrontEvent::Opened
            }
            Input::Closed(generation) => {
                queue.told_open = false;
                self.closing = Some(generation);
                FrontEvent::Closed
            }
            Input::Data(chunk) => {
                queue.cost = queue.cost.saturating_sub(chunk.cost());
                FrontEvent::Data(chunk)
            }
            Input::Break => FrontEvent::Break,
            Input::FocusIn => FrontEvent::FocusIn,
            Input::FocusOut => FrontEvent::FocusOut,
        };
        drop(queue);
        self.port.space.notify_one();
        Some(Some(event))
    }
}

impl Drop for FrontReader {
    fn drop(&mut self) {
        if let Some(generation) = self.closing.take() {
            self.port.finish(generation);
        }
        self.port.set_frontend_open(false);
        self.port.attached.store(false, Ordering::Relaxed);
        self.port.left.notify_one();
    }
}

impl FrontWriter {
    /// Sends bytes to the outside, waiting while the outside does not take them. They are dropped if nobody is
    /// there, or if whoever the reader last knew has gone.
    pub async fn send(&self, bytes: impl Into<Vec<u8>>) {
        let output = Output {
            generation: self.generation(),
            bytes: bytes.into(),
        };
        // The permit is taken first so that a dropped future leaves no trace.
        if let Ok(permit) = self.output.reserve().await {
            self.port.unwritten.fetch_add(1, Ordering::Relaxed);
            permit.send(output);
        }
    }

    /// Sends bytes as [`Self::send`] does, if there is room for them now; leaves none behind then. Returns whether there
    /// was.
    pub fn try_send(&self, bytes: &mut Vec<u8>) -> bool {
        match self.output.try_reserve() {
            Ok(permit) => {
                self.port.unwritten.fetch_add(1, Ordering::Relaxed);
                permit.send(Output {
                    generation: self.generation(),
                    bytes: std::mem::take(bytes),
                });
                true
            }
            Err(mpsc::error::TrySendError::Closed(())) => {
                bytes.clear();
                true
            }
            Err(mpsc::error::TrySendError::Full(())) => false,
        }
    }

    /// Waits until there is room for more bytes.
    pub async fn room(&self) {
        // Where there is no back end any more there is room for everything.
        drop(self.output.reserve().await);
    }

    /// Says whether the front end takes bytes.
    pub(super) fn set_open(&self, open: bool) {
        self.port.set_frontend_open(open);
    }

    fn generation(&self) -> Option<u64> {
        let generation = self.generation.as_ref()?;
        Some(generation.load(Ordering::Relaxed))
    }

    /// The same writer, not bound to one connection: whoever is there gets the bytes.
    #[must_use]
    pub(super) fn unbound(mut self) -> Self {
        self.generation = None;
        self
    }
}

impl InputSender {
    /// Somebody is there, under that file name.
    pub(super) fn opened(&mut self, filename: impl Into<String>) {
        self.closed_quietly();
        self.rename(filename);
        let generation = self.port.latest.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = self.port.lock();
        queue.open = true;
        queue.items.push_back(Input::Opened(generation));
        drop(queue);
        self.port.connected.send_replace(true);
        self.port.ready.notify_one();
    }

    /// Whoever was there is gone; the character device has that file name now. Returns their number, to wait for
    /// with [`Self::finished`].
    pub(super) fn closed(&mut self, filename: impl Into<String>) -> u64 {
        self.rename(filename);
        self.closed_quietly()
    }

    fn closed_quietly(&mut self) -> u64 {
        let generation = self.port.latest.load(Ordering::Relaxed);
        let mut queue = self.port.lock();
        if !std::mem::take(&mut queue.open) {
            return generation;
        }
        if matches!(queue.items.back(), Some(Input::Opened(_))) {
            // The front end need not hear of somebody who came and went without a word. This also bounds the queue.
            queue.items.pop_back();
            drop(queue);
            self.port.finish(generation);
        } else {
            queue.items.push_back(Input::Closed(generation));
            drop(queue);
        }
        self.port.connected.send_replace(false);
        self.port.ready.notify_one();
        generation
    }

    /// Waits until the front end has done with connection `generation`.
    pub(super) async fn finished(&self, generation: u64) {
        // The sender lives in the port, which this holds: the wait cannot fail.
        let _ = self
            .port
            .finished
            .subscribe()
            .wait_for(|finished| *finished >= generation)
            .await;
    }

    /// Passes on what came, waiting while the front end does not take it.
    pub(super) async fn data(&mut self, chunk: Chunk) {
        loop {
            {
                let mut queue = self.port.lock();
                if queue.cost < INPUT_LIMIT {
                    queue.cost += chunk.cost();
                    queue.items.push_back(Input::Data(chunk));
                    break;
                }
            }
            self.port.space.notified().await;
        }
        self.port.ready.notify_one();
    }

    /// A break condition came.
    pub(super) fn broke(&mut self) {
        self.port.send_break();
    }

    /// Whether there is a front end.
    pub(super) fn has_reader(&self) -> bool {
        self.port.is_attached()
    }

    /// Gives the front end the input, or takes it away. One that has not heard of the last change need not hear of either.
    pub(super) fn focus(&mut self, on: bool) {
        let mut queue = self.port.lock();
        match (queue.items.back(), on) {
            (Some(Input::FocusOut), true) | (Some(Input::FocusIn), false) => drop(queue.items.pop_back()),
            (_, true) => queue.items.push_back(Input::FocusIn),
            (_, false) => queue.items.push_back(Input::FocusOut),
        }
        drop(queue);
        self.port.ready.notify_one();
    }

    /// Sets what `query-chardev` shows as the file name.
    pub(super) fn rename(&mut self, filename: impl Into<String>) {
        *self.port.filename.lock().unwrap_or_else(PoisonError::into_inner) = filename.into();
    }
}

impl OutputReceiver {
    /// The next bytes for the outside, those for a connection that is over left out. Pends for ever once no front end
    /// can come any more.
    pub(super) async fn recv(&mut self) -> Vec<u8> {
        loop {
            self.waiting().await;
            if let Some(bytes) = self.try_recv().await {
                return bytes;
            }
        }
    }

    /// Waits until there are bytes, or were some that a connection now over would have got.
    pub(super) async fn waiting(&mut self) {
        self.done();
        if self.next.is_some() {
            return;
        }
        match self.writes.recv().await {
            Some(output) => self.next = Some(output),
            None => std::future::pending().await,
        }
    }

    /// Bytes that wait already.
    pub(super) async fn try_recv(&mut self) -> Option<Vec<u8>> {
        loop {
            self.done();
            let output = match self.next.take() {
                Some(output) => output,
                None => self.writes.try_recv().ok()?,
            };
            self.in_hand = true;
            if let Some(bytes) = self.accept(output).await {
                return Some(bytes);
            }
        }
    }

    /// Logs and drops everything, for as long as nobody is there.
    pub(super) async fn discard(&mut self) {
        loop {
            self.recv().await;
        }
    }

    /// Replaces the log.
    pub(super) fn set_log(&mut self, log: Option<LogFile>) {
        self.log = log;
    }

    async fn accept(&mut self, output: Output) -> Option<Vec<u8>> {
        if let Some(log) = &mut self.log {
            log.write(&output.bytes).await;
        }
        let latest = self.port.latest.load(Ordering::Relaxed);
        output
            .generation
            .is_none_or(|generation| generation == latest)
            .then_some(output.bytes)
    }

    fn done(&mut self) {
        if std::mem::take(&mut self.in_hand) {
            self.port.write_done();
        }
    }
}

impl Drop for InputSender {
    fn drop(&mut self) {
        self.port.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Chunk {
        Chunk {
            bytes: text.as_bytes().to_vec(),
            fds: Vec::new(),
        }
    }

    async fn text(front: &mut FrontEnd) -> String {
        match front.reader.recv().await {
            Some(FrontEvent::Data(chunk)) => String::from_utf8(chunk.bytes).unwrap(),
            other => panic!("not data: {other:?}"),
        }
    }

    #[tokio::test]
    async fn answers_never_reach_the_next_connection() {
        let (port, mut back) = Port::new("test", None);
        let mut front = port.attach().unwrap();
        back.input.opened("first");
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Opened)));
        back.input.closed("none");
        back.input.opened("second");
        front.writer.send("late answer").await;
        assert!(back.output.try_recv().await.is_none());
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Closed)));
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Opened)));
        front.writer.send("greeting").await;
        assert_eq!(back.output.recv().await, b"greeting");
    }

    #[tokio::test]
    async fn a_connection_is_finished_when_the_front_end_asks_for_more() {
        let (port, mut back) = Port::new("test", None);
        let mut front = port.attach().unwrap();
        back.input.opened("client");
        back.input.data(data("command")).await;
        let generation = back.input.closed("none");
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Opened)));
        assert_eq!(text(&mut front).await, "command");
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Closed)));
        front.writer.send("answer").await;
        tokio::select! {
            biased;
            () = back.input.finished(generation) => panic!("finished before it is"),
            () = std::future::ready(()) => {}
        }
        tokio::join!(back.input.finished(generation), async {
            tokio::select! {
                _ = front.reader.recv() => panic!("nothing more was sent"),
                () = back.input.finished(generation) => {}
            }
        });
        assert_eq!(back.output.try_recv().await.as_deref(), Some(&b"answer"[..]));
    }

    #[tokio::test]
    async fn a_later_front_end_learns_that_somebody_is_there() {
        let (port, mut back) = Port::new("test", None);
        let mut front = port.attach().unwrap();
        assert!(port.attach().is_none(), "one at a time");
        back.input.opened("client");
        front.reader.recv().await;
        drop(front);
        back.input.data(data("kept")).await;
        let mut front = port.attach().unwrap();
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Opened)));
        assert_eq!(text(&mut front).await, "kept");
        drop(back);
        assert!(front.reader.recv().await.is_none());
    }

    #[tokio::test]
    async fn the_back_end_waits_for_a_slow_front_end() {
        let (port, mut back) = Port::new("test", None);
        let mut front = port.attach().unwrap();
        back.input
            .data(Chunk {
                bytes: vec![0; INPUT_LIMIT],
                fds: Vec::new(),
            })
            .await;
        tokio::select! {
            biased;
            () = back.input.data(data("more")) => panic!("over the limit"),
            () = std::future::ready(()) => {}
        }
        front.reader.recv().await;
        back.input.data(data("more")).await;
        assert_eq!(text(&mut front).await, "more");
    }

    #[tokio::test]
    async fn breaks_and_small_chunks_do_not_pile_up() {
        let (port, mut back) = Port::new("test", None);
        let mut front = port.attach().unwrap();
        for _ in 0..100_000 {
            port.send_break();
            back.input.broke();
            back.input.focus(true);
            back.input.focus(false);
        }
        assert_eq!(port.lock().items.len(), 1);
        assert!(matches!(front.reader.recv().await, Some(FrontEvent::Break)));
        for sent in 0.. {
            back.input.broke();
            tokio::select! {
                biased;
                () = back.input.data(data("x")) => {}
                () = std::future::ready(()) => {
                    assert_eq!(sent, INPUT_LIMIT.div_ceil(1 + CHUNK_COST));
                    break;
                }
            }
        }
        for _ in 0..INPUT_LIMIT.div_ceil(1 + CHUNK_COST) {
            assert!(
                matches!(front.reader.recv().await, Some(FrontEvent::Break)),
                "each in its place"
            );
            assert_eq!(text(&mut front).await, "x");
        }
    }

    #[tokio::test]
    async fn flushing_waits_for_the_last_write() {
        let (port, mut back) = Port::new("test", None);
        let front = port.attach().unwrap();
        front.writer.send("last words").await;
        let writer = async {
            back.output.recv().await;
            back.output.recv().await;
        };
        tokio::select! {
            () = port.flushed() => {}
            () = writer => panic!("there is one write only"),
        }
    }
}
