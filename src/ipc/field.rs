//! How the fields of messages lie in a frame: numbers little-endian, texts and lists after their length as u32,
//! descriptors beside the bytes, in order.

use std::os::fd::OwnedFd;

use serde_json::{Map, Value};
use tokio_util::bytes::{BufMut, BytesMut};

use crate::host::process::{Fate, Process};
use crate::qapi::qmp::{Event, RunState, ShutdownCause, WorkerCall, find_command};
use crate::qapi::visit::{Policy, WireEvent};
use crate::qapi::{Error, ErrorClass};
use crate::target::Target;

/// Why bytes are no message. The two processes then do not speak the same language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The frame ends in the middle of a field.
    #[error("a message ends in the middle of {0}")]
    Short(&'static str),
    /// Bytes or descriptors are left after the last field.
    #[error("a message has {bytes} bytes and {fds} descriptors too many")]
    Long {
        /// Bytes left over.
        bytes: usize,
        /// Descriptors left over.
        fds: usize,
    },
    /// A name or number that stands for nothing.
    #[error("there is no {what} '{found}'")]
    Unknown {
        /// What it should have named.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// The other side is of another version.
    #[error("it speaks version {theirs} and this process version {ours}")]
    Version {
        /// The other side's.
        theirs: u32,
        /// This side's.
        ours: u32,
    },
    /// Something other than a greeting came first.
    #[error("it did not introduce itself")]
    NoHello,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// Arguments or data that do not fit their command or event.
    #[error("'{name}': {reason}")]
    Content {
        /// The command or event.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where the fields of a message are written to.
#[derive(Debug)]
pub struct Sink<'a> {
    /// The body of the frame, behind what is there already.
    pub bytes: &'a mut BytesMut,
    /// The descriptors of the frame.
    pub fds: &'a mut Vec<OwnedFd>,
}

/// Where the fields of a message are read from.
#[derive(Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
    fds: std::vec::IntoIter<OwnedFd>,
}

/// Something a message is made of.
pub trait Field: Sized {
    /// Appends the value.
    fn put(self, to: &mut Sink<'_>);
    /// Takes the next value.
    ///
    /// # Errors
    /// What comes next is no such value.
    fn take(from: &mut Source<'_>) -> Result<Self, Malformed>;
}

impl<'a> Source<'a> {
    /// The content of a frame.
    #[must_use]
    pub fn new(bytes: &'a [u8], fds: Vec<OwnedFd>) -> Self {
        Self {
            bytes,
            fds: fds.into_iter(),
        }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn finish(self) -> Result<(), Malformed> {
        match (self.bytes.len(), self.fds.len()) {
            (0, 0) => Ok(()),
            (bytes, fds) => Err(Malformed::Long { bytes, fds }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(Malformed::Short(what))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn slice(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = u32::take(self)? as usize;
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(Malformed::Short(what))?;
        self.bytes = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.slice("a text")?).map_err(|_| Malformed::Text)
    }
}

impl Sink<'_> {
    /// Appends what `write` writes, after its length.
    fn measured(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut content = Vec::new();
        write(&mut content);
        self.slice(&content);
    }

    fn slice(&mut self, content: &[u8]) {
        // The length of a whole frame is checked before it is sent, and is far below 4 GiB.
        self.bytes.put_u32_le(u32::try_from(content.len()).unwrap_or(u32::MAX));
        self.bytes.put_slice(content);
    }
}

macro_rules! numbers {
    ($($number:ident $put:ident),*) => {$(
        impl Field for $number {
            fn put(self, to: &mut Sink<'_>) {
                to.bytes.$put(self);
            }

            fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
                from.array(stringify!($number)).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8 put_u8, i32 put_i32_le, u32 put_u32_le, u64 put_u64_le);

impl Field for bool {
    fn put(self, to: &mut Sink<'_>) {
        u8::from(self).put(to);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(unknown("truth value", &other)),
        }
    }
}

impl Field for String {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.as_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        from.text().map(str::to_owned)
    }
}

/// Text in the encoding of the schema.
impl Field for Vec<u8> {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(&self);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        from.slice("encoded text").map(<[u8]>::to_vec)
    }
}

impl Field for Vec<String> {
    fn put(self, to: &mut Sink<'_>) {
        // Bounded by the frame, as the length of a text is.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(to);
        self.into_iter().for_each(|text| text.put(to));
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let count = u32::take(from)?;
        (0..count).map(|_| String::take(from)).collect()
    }
}

impl Field for OwnedFd {
    fn put(self, to: &mut Sink<'_>) {
        to.fds.push(self);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        from.fds.next().ok_or(Malformed::Short("its descriptors"))
    }
}

/// The number that people know it by, and the descriptor that holds it.
impl Field for Process {
    fn put(self, to: &mut Sink<'_>) {
        let (number, fd) = self.into_parts();
        number.put(to);
        fd.put(to);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let number = i32::take(from)?;
        Ok(Self::from_parts(number, OwnedFd::take(from)?))
    }
}

impl Field for Fate {
    fn put(self, to: &mut Sink<'_>) {
        let (how, number) = match self {
            Self::Exited(status) => (0u8, status),
            Self::Signaled(signal) => (1, signal),
        };
        how.put(to);
        number.put(to);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        match u8::take(from)? {
            0 => i32::take(from).map(Self::Exited),
            1 => i32::take(from).map(Self::Signaled),
            other => Err(unknown("end of a process", &other)),
        }
    }
}

impl Field for Error {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.class.as_str().as_bytes());
        self.desc.put(to);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let class = from.text()?;
        let class = ErrorClass::from_wire(class).ok_or_else(|| unknown("error class", class))?;
        Ok(Self::new(class, String::take(from)?))
    }
}

impl<T: Field, E: Field> Field for Result<T, E> {
    fn put(self, to: &mut Sink<'_>) {
        self.is_ok().put(to);
        match self {
            Ok(value) => value.put(to),
            Err(error) => error.put(to),
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        match bool::take(from)? {
            true => T::take(from).map(Ok),
            false => E::take(from).map(Err),
        }
    }
}

impl Field for RunState {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.as_str().as_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let name = from.text()?;
        Self::from_wire(name).ok_or_else(|| unknown("run state", name))
    }
}

impl Field for ShutdownCause {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.as_str().as_bytes());
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let name = from.text()?;
        Self::from_wire(name).ok_or_else(|| unknown("shutdown cause", name))
    }
}

/// The command's name and its arguments in the encoding of the schema.
impl Field for WorkerCall {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.command().name().as_bytes());
        to.measured(|out| self.encode_arguments(out));
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let name = from.text()?;
        let arguments = object(name, from.slice("arguments")?)?;
        let mut targets = [Target::X86_64, Target::S390x].into_iter();
        let command = targets.find_map(|target| find_command(target, name));
        let command = command.ok_or_else(|| unknown("command", name))?;
        Self::decode(command.id, arguments, Policy::ACCEPT_ALL).map_err(|error| content(name, error.desc))
    }
}

/// The event's name and its data in the encoding of the schema; nothing where it has none.
impl Field for Event {
    fn put(self, to: &mut Sink<'_>) {
        to.slice(self.name().as_bytes());
        to.measured(|out| self.encode_data(out));
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        let name = from.text()?;
        let data = object(name, from.slice("event data")?)?;
        Self::decode(name, data).map_err(|error| content(name, error.desc))
    }
}

fn object(name: &str, text: &[u8]) -> Result<Map<String, Value>, Malformed> {
    match text {
        [] => Ok(Map::new()),
        text => serde_json::from_slice(text).map_err(|error| content(name, error.to_string())),
    }
}

fn content(name: &str, reason: String) -> Malformed {
    Malformed::Content {
        name: name.to_owned(),
        reason,
    }
}

/// A name or number that stands for nothing.
pub(super) fn unknown(what: &'static str, found: &(impl ToString + ?Sized)) -> Malformed {
    Malformed::Unknown {
        what,
        found: found.to_string(),
    }
}
