//! A multiplexer: several front ends on one character device, switched from the keyboard.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::guest::{ChardevEvent, ChardevEventKind, GuestLine};
use super::log::LogFile;
use super::port::{Chunk, FrontEnd, FrontEvent, FrontWriter, InputSender, OutputReceiver, Port};

/// Ctrl-A, which gives the next key its meaning.
const ESCAPE: u8 = 0x01;

/// What Ctrl-A h shows.
const HELP: &str = "\r\n\
    C-a h    print this help\r\n\
    C-a x    exit emulator\r\n\
    C-a b    send break\r\n\
    C-a c    switch between console and monitor\r\n\
    C-a C-a  send C-a\r\n";

/// The registry's side of a multiplexer. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Mux {
    orders: mpsc::UnboundedSender<Order>,
    users: Vec<Arc<Port>>,
    guests: Vec<GuestLine>,
}

#[derive(Debug)]
enum Order {
    Join(User, InputSender, OutputReceiver),
    Break,
}

/// Who uses a multiplexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Monitor,
    Guest,
}

impl Mux {
    /// The most front ends there can be.
    pub(super) const MAX_USERS: usize = 4;

    /// Multiplexes `base`.
    pub(super) fn start(
        id: &str,
        base: FrontEnd,
        log: Option<LogFile>,
        events: mpsc::UnboundedSender<ChardevEvent>,
    ) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let switch = Switch {
            id: id.to_owned(),
            events,
            users: Vec::new(),
            focus: 0,
            escaped: false,
            open: false,
        };
        tokio::spawn(switch.run(base, log, received));
        Self {
            orders,
            users: Vec::new(),
            guests: Vec::new(),
        }
    }

    /// Adds a front end; none if there are too many. It has the input from now on, but a monitor leaves it to the guest:
    /// who starts a guest on a terminal wants to see the guest.
    pub(super) fn connect(&mut self, user: User) -> Option<FrontEnd> {
        self.forget_the_gone();
        if self.users.len() >= Self::MAX_USERS {
            return None;
        }
        let (port, back) = Port::new("mux", None);
        let front = port.attach();
        self.users.push(port);
        self.orders.send(Order::Join(user, back.input, back.output)).ok()?;
        front
    }

    /// Keeps the line of a guest that [`Self::connect`] was called for.
    pub(super) fn keep(&mut self, line: GuestLine) {
        self.guests.push(line);
    }

    pub(super) fn is_used(&self) -> bool {
        self.users.iter().any(|user| user.frontend_open())
    }

    /// Sends a break condition to whoever has the input.
    pub(super) fn send_break(&self) {
        // The other end is only gone with the character device below.
        let _ = self.orders.send(Order::Break);
    }

    fn forget_the_gone(&mut self) {
        self.guests.retain(|guest| !guest.is_hung_up());
        self.users.retain(|user| user.is_attached());
    }
}

/// The task that hands out the input.
#[derive(Debug)]
struct Switch {
    id: String,
    events: mpsc::UnboundedSender<ChardevEvent>,
    users: Vec<(User, InputSender)>,
    /// The index of the one that has the input.
    focus: usize,
    /// Ctrl-A was the last key.
    escaped: bool,
    /// Somebody is at the keyboard.
    open: bool,
}

impl Switch {
    async fn run(mut self, base: FrontEnd, log: Option<LogFile>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let FrontEnd { mut reader, writer } = base;
        let writer = writer.unbound();
        let log = log.map(|log| Arc::new(Mutex::new(log)));
        let mut forwarders = JoinSet::new();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Join(user, input, output)) => {
                        forwarders.spawn(forward(output, writer.clone(), log.clone()));
                        self.join(user, input);
                    }
                    Some(Order::Break) => self.give_break(),
                    None => return,
                },
                event = reader.recv() => match event {
                    Some(event) => self.handle(event, &writer).await,
                    None => return,
                },
                // Forwarders of users that are gone are forgotten.
                Some(_) = forwarders.join_next() => {}
            }
        }
    }

    async fn handle(&mut self, event: FrontEvent, writer: &FrontWriter) {
        match event {
            FrontEvent::Opened => {
                self.open = true;
                self.users.iter_mut().for_each(|(_, input)| input.opened("mux"));
            }
            FrontEvent::Closed => {
                self.open = false;
                for (_, input) in &mut self.users {
                    input.closed("mux");
                }
            }
            FrontEvent::Data(chunk) => self.type_keys(&chunk.bytes, writer).await,
            FrontEvent::Break => self.give_break(),
            FrontEvent::FocusIn | FrontEvent::FocusOut => {}
        }
    }

    fn join(&mut self, user: User, mut input: InputSender) {
        let holder = self.forget_the_gone();
        let takes_focus = user == User::Guest || holder != Some(User::Guest);
        if !takes_focus {
            input.focus(false);
        }
        if self.open {
            input.opened("mux");
        }
        self.users.push((user, input));
        if takes_focus {
            self.set_focus(self.users.len() - 1);
        }
    }

    /// Drops those that have left; returns who has the input, if that one is still there.
    fn forget_the_gone(&mut self) -> Option<User> {
        let is_there = |(_, input): &&(User, InputSender)| input.has_reader();
        let holder = self.users.get(self.focus).filter(is_there).map(|(user, _)| *user);
        self.focus = self.users.iter().take(self.focus).filter(is_there).count();
        self.users.retain(|(_, input)| input.has_reader());
        holder
    }

    async fn type_keys(&mut self, keys: &[u8], writer: &FrontWriter) {
        let mut plain = Vec::with_capacity(keys.len());
        for &key in keys {
            match (std::mem::take(&mut self.escaped), key) {
                (false, ESCAPE) => self.escaped = true,
                (false, _) | (true, ESCAPE) => plain.push(key),
                (true, _) => {
                    self.give(std::mem::take(&mut plain)).await;
                    self.escape(key, writer).await;
                }
            }
        }
        self.give(plain).await;
    }

    /// A key after Ctrl-A.
    async fn escape(&mut self, key: u8, writer: &FrontWriter) {
        match key {
            b'h' | b'?' => writer.send(HELP).await,
            b'x' => {
                writer.send("QEMU: Terminated\r\n").await;
                let event = ChardevEvent {
                    id: self.id.clone(),
                    kind: ChardevEventKind::Terminate,
                };
                // Nobody listens while the monitor ends, which is what is wanted.
                let _ = self.events.send(event);
            }
            b'b' => self.give_break(),
            b'c' => self.switch(),
            _ => {}
        }
    }

    /// Gives the input to the next front end that is still there.
    fn switch(&mut self) {
        let count = self.users.len();
        let next = (1..=count)
            .map(|step| (self.focus + step) % count)
            .find(|index| self.users[*index].1.has_reader());
        if let Some(next) = next {
            self.set_focus(next);
        }
    }

    fn set_focus(&mut self, next: usize) {
        if let Some((_, input)) = self.users.get_mut(self.focus).filter(|_| self.focus != next) {
            input.focus(false);
        }
        self.focus = next;
        if let Some((_, input)) = self.users.get_mut(next) {
            input.focus(true);
        }
    }

    async fn give(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        // Nobody can wait for a front end that has left.
        if let Some((_, input)) = self.users.get_mut(self.focus).filter(|(_, input)| input.has_reader()) {
            input.data(Chunk { bytes, fds: Vec::new() }).await;
        }
    }

    fn give_break(&mut self) {
        if let Some((_, input)) = self.users.get_mut(self.focus) {
            input.broke();
        }
    }
}

/// Passes on what one front end sends.
async fn forward(mut output: OutputReceiver, writer: FrontWriter, log: Option<Arc<Mutex<LogFile>>>) {
    loop {
        let bytes = output.recv().await;
        if let Some(log) = &log {
            log.lock().await.write(&bytes).await;
        }
        writer.send(bytes).await;
    }
}
