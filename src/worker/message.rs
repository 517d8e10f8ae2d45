//! The messages between a monitor and its worker, and how each lies in a [`Frame`].
//!
//! Calls, return values and events keep the encoding of the schema; the rest is text.

use serde_json::{Map, Value};

use crate::qapi::qmp::{Event, RunState, ShutdownCause, WorkerCall, find_command};
use crate::qapi::visit::WireEvent;
use crate::qapi::{Error, ErrorClass};
use crate::target::Target;

use super::frame::Frame;

const CALL: u16 = 1;
const CHARDEV: u16 = 2;
const NO_CHARDEV: u16 = 3;
const CHARDEV_OPEN: u16 = 4;
const CHARDEV_CLOSED: u16 = 5;
const PROCEED: u16 = 6;
const TERMINATE: u16 = 7;
const DESCRIBE_HOST: u16 = 8;
const START: u16 = 9;
const ABORT: u16 = 10;
const CHARDEV_BREAK: u16 = 11;

const REPLY: u16 = 65;
const REPLY_ERROR: u16 = 66;
const NEED_CHARDEV: u16 = 67;
const READY: u16 = 68;
const EVENT: u16 = 69;
const RUN_STATE: u16 = 70;
const FAILED: u16 = 71;
const ENDING: u16 = 72;

/// What a monitor says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// A command; answered by [`FromWorker::Reply`] with its return value.
    Call(WorkerCall),
    /// Answers [`FromWorker::NeedChardev`]; the byte stream comes along as a descriptor.
    Chardev,
    /// Answers [`FromWorker::NeedChardev`]: there will be no byte stream, for this reason.
    NoChardev(Error),
    /// Somebody opened or closed the far side of a character device.
    ChardevState {
        /// The character device.
        label: String,
        /// Whether somebody is there.
        open: bool,
    },
    /// The line of a character device carries a break condition.
    ChardevBreak {
        /// The character device.
        label: String,
    },
    /// All monitors listen: let the parent of a daemon go, and start the guest unless it is to wait for `cont`.
    Proceed,
    /// End the guest for this reason and exit.
    Terminate(ShutdownCause),
    /// Tell what the host's accelerator offers; answered by [`FromWorker::Reply`] with a host description.
    DescribeHost,
    /// For a worker without a guest: this command line.
    Start(Vec<String>),
    /// The monitor failed and has said why: end without a word.
    Abort,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// Answers a call.
    Reply {
        /// The id of the call.
        id: u64,
        /// The encoded return value.
        result: Result<Vec<u8>, Error>,
    },
    /// A device needs the byte stream of this character device.
    NeedChardev {
        /// The id the answer carries.
        id: u64,
        /// The character device.
        label: String,
    },
    /// The guest exists and can be asked.
    Ready,
    /// Something for the clients.
    Event(Event),
    /// The run state changed; comes before the event or reply that tells of it.
    RunState(RunState),
    /// The guest could not be created. The process ends.
    Failed(String),
    /// The process ends on purpose, with this exit status.
    Ending(u8),
}

impl ToWorker {
    /// The frame of this message.
    #[must_use]
    pub fn into_frame(self, id: u64, fds: usize) -> Frame {
        let (kind, body) = match self {
            Self::Call(call) => (CALL, call_body(&call)),
            Self::Chardev => (CHARDEV, Vec::new()),
            Self::NoChardev(error) => (NO_CHARDEV, error_body(&error)),
            Self::ChardevState { label, open: true } => (CHARDEV_OPEN, label.into_bytes()),
            Self::ChardevState { label, open: false } => (CHARDEV_CLOSED, label.into_bytes()),
            Self::ChardevBreak { label } => (CHARDEV_BREAK, label.into_bytes()),
            Self::Proceed => (PROCEED, Vec::new()),
            Self::Terminate(cause) => (TERMINATE, cause.as_str().into()),
            Self::DescribeHost => (DESCRIBE_HOST, Vec::new()),
            Self::Start(arguments) => (START, arguments.join("\0").into_bytes()),
            Self::Abort => (ABORT, Vec::new()),
        };
        // The caller passes a handful at most.
        Frame {
            kind,
            fds: u16::try_from(fds).unwrap_or(u16::MAX),
            id,
            body,
        }
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// Says what is wrong with the frame; the two processes then do not speak the same language.
    pub fn from_frame(frame: Frame) -> Result<Self, String> {
        Ok(match frame.kind {
            CALL => Self::Call(call_from(&frame.body)?),
            CHARDEV => Self::Chardev,
            NO_CHARDEV => Self::NoChardev(error_from(frame.body)?),
            CHARDEV_OPEN => Self::ChardevState {
                label: text(frame.body)?,
                open: true,
            },
            CHARDEV_CLOSED => Self::ChardevState {
                label: text(frame.body)?,
                open: false,
            },
            CHARDEV_BREAK => Self::ChardevBreak {
                label: text(frame.body)?,
            },
            PROCEED => Self::Proceed,
            TERMINATE => {
                let name = text(frame.body)?;
                Self::Terminate(ShutdownCause::from_wire(&name).ok_or_else(|| format!("unknown cause '{name}'"))?)
            }
            DESCRIBE_HOST => Self::DescribeHost,
            START => Self::Start(text(frame.body)?.split('\0').map(str::to_owned).collect()),
            ABORT => Self::Abort,
            kind => return Err(format!("unknown message kind {kind}")),
        })
    }
}

impl FromWorker {
    /// The frame of this message.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        let (kind, id, body) = match self {
            Self::Reply { id, result: Ok(value) } => (REPLY, id, value),
            Self::Reply { id, result: Err(error) } => (REPLY_ERROR, id, error_body(&error)),
            Self::NeedChardev { id, label } => (NEED_CHARDEV, id, label.into_bytes()),
            Self::Ready => (READY, 0, Vec::new()),
            Self::Event(event) => (EVENT, 0, event_body(&event)),
            Self::RunState(state) => (RUN_STATE, 0, state.as_str().into()),
            Self::Failed(reason) => (FAILED, 0, reason.into_bytes()),
            Self::Ending(status) => (ENDING, 0, vec![status]),
        };
        Frame { kind, fds: 0, id, body }
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// Says what is wrong with the frame.
    pub fn from_frame(frame: Frame) -> Result<Self, String> {
        let id = frame.id;
        Ok(match frame.kind {
            REPLY => Self::Reply {
                id,
                result: Ok(frame.body),
            },
            REPLY_ERROR => Self::Reply {
                id,
                result: Err(error_from(frame.body)?),
            },
            NEED_CHARDEV => Self::NeedChardev {
                id,
                label: text(frame.body)?,
            },
            READY => Self::Ready,
            EVENT => Self::Event(event_from(&frame.body)?),
            RUN_STATE => {
                let name = text(frame.body)?;
                Self::RunState(RunState::from_wire(&name).ok_or_else(|| format!("unknown run state '{name}'"))?)
            }
            FAILED => Self::Failed(text(frame.body)?),
            ENDING => Self::Ending(*frame.body.first().ok_or("an ending without a status")?),
            kind => return Err(format!("unknown message kind {kind}")),
        })
    }
}

/// `NAME\0ARGUMENTS`.
fn call_body(call: &WorkerCall) -> Vec<u8> {
    let mut body = call.command().name().as_bytes().to_vec();
    body.push(0);
    call.encode_arguments(&mut body);
    body
}

fn call_from(body: &[u8]) -> Result<WorkerCall, String> {
    let (name, arguments) = named_object(body)?;
    let command = [Target::X86_64, Target::S390x]
        .into_iter()
        .find_map(|target| find_command(target, name));
    let command = command.ok_or_else(|| format!("unknown command '{name}'"))?;
    WorkerCall::decode(command.id, arguments).map_err(|error| error.desc)
}

/// `NAME\0DATA`; the data of an event without data is empty.
fn event_body(event: &Event) -> Vec<u8> {
    let mut body = event.name().as_bytes().to_vec();
    body.push(0);
    event.encode_data(&mut body);
    body
}

fn event_from(body: &[u8]) -> Result<Event, String> {
    let (name, data) = named_object(body)?;
    Event::decode(name, data).map_err(|error| error.desc)
}

fn named_object(body: &[u8]) -> Result<(&str, Map<String, Value>), String> {
    let at = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or("a message without a name")?;
    let name = std::str::from_utf8(&body[..at]).map_err(|_| "a name that is not UTF-8")?;
    let object = match &body[at + 1..] {
        [] => Map::new(),
        text => serde_json::from_slice(text).map_err(|error| format!("'{name}': {error}"))?,
    };
    Ok((name, object))
}

fn error_body(error: &Error) -> Vec<u8> {
    format!("{}\0{}", error.class.as_str(), error.desc).into_bytes()
}

fn error_from(body: Vec<u8>) -> Result<Error, String> {
    let body = text(body)?;
    let (class, desc) = body.split_once('\0').ok_or("an error without a class")?;
    let class = ErrorClass::from_wire(class).ok_or_else(|| format!("unknown error class '{class}'"))?;
    Ok(Error::new(class, desc))
}

fn text(body: Vec<u8>) -> Result<String, String> {
    String::from_utf8(body).map_err(|_| "a text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_frame() {
        let error = Error::device_not_found("Device 'x' not found");
        let to = [
            ToWorker::Call(WorkerCall::Stop),
            ToWorker::Chardev,
            ToWorker::NoChardev(error.clone()),
            ToWorker::ChardevState {
                label: "serial0".into(),
                open: true,
            },
            ToWorker::ChardevState {
                label: "serial0".into(),
                open: false,
            },
            ToWorker::ChardevBreak {
                label: "serial0".into(),
            },
            ToWorker::Proceed,
            ToWorker::Terminate(ShutdownCause::HostQmpQuit),
            ToWorker::DescribeHost,
            ToWorker::Start(vec!["-name".into(), "a b".into()]),
            ToWorker::Abort,
        ];
        for message in to {
            assert_eq!(ToWorker::from_frame(message.clone().into_frame(7, 0)), Ok(message));
        }
        let from = [
            FromWorker::Reply {
                id: 3,
                result: Ok(b"{}".to_vec()),
            },
            FromWorker::Reply {
                id: 3,
                result: Err(error),
            },
            FromWorker::NeedChardev {
                id: 4,
                label: "serial0".into(),
            },
            FromWorker::Ready,
            FromWorker::Event(Event::Stop),
            FromWorker::RunState(RunState::Paused),
            FromWorker::Failed("no memory".into()),
            FromWorker::Ending(1),
        ];
        for message in from {
            assert_eq!(FromWorker::from_frame(message.clone().into_frame()), Ok(message));
        }
    }

    #[test]
    fn a_frame_that_means_nothing_is_an_error() {
        let frame = |kind, body: &[u8]| Frame {
            kind,
            fds: 0,
            id: 0,
            body: body.to_vec(),
        };
        assert!(ToWorker::from_frame(frame(99, b"")).is_err());
        assert!(ToWorker::from_frame(frame(TERMINATE, b"boredom")).is_err());
        assert!(FromWorker::from_frame(frame(RUN_STATE, b"\xff")).is_err());
        assert!(FromWorker::from_frame(frame(ENDING, b"")).is_err());
    }
}
