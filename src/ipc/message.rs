//! Every message between a monitor and its worker, declared once.
//!
//! A message lies in its frame as the number of its variant (u8, in the order of the declaration) and its fields. New
//! variants come last; what changes the meaning of an old one changes [`VERSION`].

use std::io;
use std::os::fd::OwnedFd;

use crate::logging;
use crate::qapi::Error;
use crate::qapi::qmp::{Event, RunState, ShutdownCause, WorkerCall};

use super::field::{Field, Malformed, Sink, Source, unknown};

/// The version of the messages between a monitor and its worker.
pub const VERSION: u32 = 1;

/// Declares an enumeration and how its values lie in a frame.
macro_rules! messages {
    ($(
        $(#[$about:meta])*
        pub enum $name:ident {
            $(
                $(#[$doc:meta])*
                $variant:ident $( ( $content:ty ) )? $( { $( $(#[$field_doc:meta])* $field:ident : $kind:ty, )+ } )?,
            )+
        }
    )+) => {$(
        $(#[$about])*
        #[derive(Debug)]
        pub enum $name {
            $( $(#[$doc])* $variant $( ($content) )? $( { $( $(#[$field_doc])* $field: $kind, )+ } )?, )+
        }

        const _: () = {
            enum Number { $( $variant, )+ }

            impl Field for $name {
                fn put(self, to: &mut Sink<'_>) {
                    match self {
                        $(
                            Self::$variant { $( 0: messages!(@bind content; $content), )? $( $( $field, )+ )? } => {
                                (Number::$variant as u8).put(to);
                                $( <$content as Field>::put(content, to); )?
                                $( $( <$kind as Field>::put($field, to); )+ )?
                            }
                        )+
                    }
                }

                fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
                    let number = u8::take(from)?;
                    $(
                        if number == Number::$variant as u8 {
                            return Ok(Self::$variant {
                                $( 0: <$content as Field>::take(from)?, )?
                                $( $( $field: <$kind as Field>::take(from)?, )+ )?
                            });
                        }
                    )+
                    Err(unknown(stringify!($name), &number))
                }
            }
        };
    )+};
    (@bind $name:ident; $content:ty) => { $name };
}
pub(super) use messages;

messages! {
    /// What a monitor says.
    pub enum ToWorker {
        /// Always the first message.
        Hello(Hello),
        /// Answered by [`FromWorker::Answer`] with the same id.
        Ask {
            /// Chosen by the monitor.
            id: u64,
            /// What is asked.
            request: WorkerRequest,
        },
        /// Answers [`FromWorker::Ask`]; what a worker asks for is a descriptor.
        Answer {
            /// The id of the request.
            id: u64,
            /// What was asked for, or why it cannot be had.
            result: Result<OwnedFd, Error>,
        },
        /// For a worker without a guest: this command line.
        Start(Vec<String>),
        /// End the guest for this reason and exit.
        Terminate(ShutdownCause),
        /// The monitor failed and has said why: end without a word.
        Abort,
    }

    /// What a monitor may ask for.
    pub enum WorkerRequest {
        /// The encoded return value of a command.
        Call(WorkerCall),
        /// What the guest's accelerator offers, in the form of a host file.
        DescribeHost,
        /// What a person asks at a human monitor, question and answer in JSON.
        Inspect(String),
        /// All monitors listen: let the parent of a daemon go, and start the guest unless it is to wait for `cont`. The
        /// answer, which is empty, comes once that is done.
        Proceed,
        /// End the guest for this reason and exit. The answer, which is empty, comes once the clients were told.
        End(ShutdownCause),
        /// Let gdb debug the guest on this character device. The answer, which is empty, comes once it may connect.
        StartDebugger(String),
        /// Let nobody debug the guest. The answer, which is empty, comes once nothing that gdb has set is left.
        StopDebugger,
        /// Change what is logged, or where. The answer is empty.
        ChangeLog(LogChange),
    }

    /// How the log of a process changes.
    pub enum LogChange {
        /// What devices find strange is in it, by these items (`logging::items`); no others.
        Items(Vec<String>),
        /// Events are in it from now on.
        EnableEvents(String),
        /// Events are no longer in it.
        DisableEvents(String),
        /// It goes to this file.
        File(OwnedFd),
    }

    /// What a worker says.
    pub enum FromWorker {
        /// Always the first message.
        Hello(Hello),
        /// Answered by [`ToWorker::Answer`] with the same id.
        Ask {
            /// Chosen by the worker.
            id: u64,
            /// What is asked.
            request: MonitorRequest,
        },
        /// Answers [`ToWorker::Ask`].
        Answer {
            /// The id of the request.
            id: u64,
            /// The encoded answer.
            result: Result<Vec<u8>, Error>,
        },
        /// The guest exists and can be asked.
        Ready,
        /// Something for the clients.
        Event(Event),
        /// The run state; comes before the event or answer that tells of a change.
        RunState(RunState),
        /// The guest could not be created. The process ends.
        Failed(String),
        /// The process ends on purpose, with this exit status.
        Ending(u8),
    }

    /// What a worker may ask for.
    pub enum MonitorRequest {
        /// One end of a line (`chardev::line`) to this character device.
        OpenChardev(String),
        /// The same, for a device that its guest has not opened: `frontend-open` is what the worker says of it.
        OpenPort(String),
        /// The same as the first, for what is said to one client and means nothing to the next: what the worker sends after it was told
        /// of a client, and before it has said the same back, goes nowhere.
        OpenConversation(String),
        /// What a guest leaves through: a `MigrationAddress` in JSON.
        OpenMigration(String),
        /// What a guest arrives through, in the same form. Answered once the source can reach it, with a socket on which the
        /// descriptor comes when it does.
        ListenMigration(String),
        /// The descriptor that `getfd` gave this name, or that was handed down under this number. It is the worker's then.
        TakeDescriptor(String),
        /// A disk image.
        OpenImage {
            /// Its path; `/dev/fdset/N` stands for a descriptor of that set.
            path: String,
            /// It is written to.
            write: bool,
            /// If it cannot be written to, it is only read.
            or_read: bool,
            /// The host's cache is passed by.
            direct: bool,
        },
    }
}

impl LogChange {
    /// Changes the log of this process.
    pub fn apply(self) {
        match self {
            Self::Items(items) => logging::set_items(&items),
            Self::EnableEvents(pattern) => logging::set_events(&pattern, true),
            Self::DisableEvents(pattern) => logging::set_events(&pattern, false),
            Self::File(file) => logging::write_to(file.into()),
        }
    }

    /// The same for another process.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Items(items) => Self::Items(items.clone()),
            Self::EnableEvents(pattern) => Self::EnableEvents(pattern.clone()),
            Self::DisableEvents(pattern) => Self::DisableEvents(pattern.clone()),
            Self::File(file) => Self::File(file.try_clone()?),
        })
    }
}

/// How either side of a link introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the side that speaks.
    pub version: u32,
    /// By name, what it understands beyond that version.
    pub features: Vec<String>,
}

impl Hello {
    /// How this process introduces itself. No feature is needed beyond the version yet.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            version: VERSION,
            features: Vec::new(),
        }
    }

    /// Checks whether this process can talk to the one that said this.
    ///
    /// # Errors
    /// Names both versions.
    pub fn check(&self) -> Result<(), Malformed> {
        match self.version {
            VERSION => Ok(()),
            other => Err(Malformed::Version {
                theirs: other,
                ours: VERSION,
            }),
        }
    }
}

impl Field for Hello {
    fn put(self, to: &mut Sink<'_>) {
        self.version.put(to);
        self.features.put(to);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            version: u32::take(from)?,
            features: Vec::take(from)?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ipc::frame::Codec;
    use tokio_util::bytes::BytesMut;
    use tokio_util::codec::{Decoder, Encoder};

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn change_log(id: u64, change: LogChange) -> ToWorker {
        let request = WorkerRequest::ChangeLog(change);
        ToWorker::Ask { id, request }
    }

    /// Sends messages through a codec, and tells what comes out at the other end beside what went in.
    pub(in crate::ipc) fn through_a_frame<T: Field + std::fmt::Debug>(messages: Vec<T>) -> (Vec<String>, Vec<String>) {
        let (mut codec, mut wire) = (Codec::default(), BytesMut::new());
        let mut sent = Vec::new();
        for message in messages {
            sent.push(format!("{message:?}"));
            codec.encode(message, &mut wire).unwrap();
        }
        let mut came = Vec::new();
        while let Some(message) = codec.decode(&mut wire).unwrap() {
            let message: T = message;
            came.push(format!("{message:?}"));
        }
        assert!(codec.fds.is_empty() && wire.is_empty());
        (sent, came)
    }

    #[test]
    fn every_message_survives_its_frame() {
        let error = || Error::device_not_found("Device 'x' not found");
        let (sent, came) = through_a_frame(vec![
            ToWorker::Hello(Hello::of_this_process()),
            ToWorker::Ask {
                id: 7,
                request: WorkerRequest::Call(WorkerCall::Stop),
            },
            ToWorker::Ask {
                id: 8,
                request: WorkerRequest::DescribeHost,
            },
            ToWorker::Ask {
                id: 9,
                request: WorkerRequest::Proceed,
            },
            ToWorker::Ask {
                id: 10,
                request: WorkerRequest::End(ShutdownCause::HostQmpQuit),
            },
            ToWorker::Ask {
                id: 11,
                request: WorkerRequest::StartDebugger("gdb".into()),
            },
            ToWorker::Ask {
                id: 12,
                request: WorkerRequest::StopDebugger,
            },
            change_log(13, LogChange::Items(vec!["unimp".into()])),
            change_log(14, LogChange::EnableEvents("devices_*".into())),
            change_log(15, LogChange::DisableEvents("*".into())),
            change_log(16, LogChange::File(null())),
            ToWorker::Answer {
                id: 3,
                result: Ok(null()),
            },
            ToWorker::Answer {
                id: 4,
                result: Err(error()),
            },
            ToWorker::Start(vec!["-name".into(), "a\0b".into()]),
            ToWorker::Terminate(ShutdownCause::HostQmpQuit),
            ToWorker::Abort,
        ]);
        assert_eq!(sent, came);
        let (sent, came) = through_a_frame(vec![
            FromWorker::Hello(Hello {
                version: 9,
                features: vec!["one".into(), String::new()],
            }),
            FromWorker::Ask {
                id: 1,
                request: MonitorRequest::OpenChardev("serial0".into()),
            },
            FromWorker::Ask {
                id: 2,
                request: MonitorRequest::OpenConversation("gdb".into()),
            },
            FromWorker::Ask {
                id: 3,
                request: MonitorRequest::OpenMigration("{}".into()),
            },
            FromWorker::Ask {
                id: 4,
                request: MonitorRequest::ListenMigration("{}".into()),
            },
            FromWorker::Ask {
                id: 5,
                request: MonitorRequest::OpenImage {
                    path: "/dev/fdset/1".into(),
                    write: true,
                    or_read: false,
                    direct: true,
                },
            },
            FromWorker::Answer {
                id: 2,
                result: Ok(b"{}".to_vec()),
            },
            FromWorker::Answer {
                id: 2,
                result: Err(error()),
            },
            FromWorker::Ready,
            FromWorker::Event(Event::Stop),
            FromWorker::RunState(RunState::Paused),
            FromWorker::Failed("no memory".into()),
            FromWorker::Ending(1),
        ]);
        assert_eq!(sent, came);
    }

    #[test]
    fn what_stands_for_nothing_is_an_error() {
        let mut fds = Vec::new();
        let mut take = |bytes: &[u8]| ToWorker::take(&mut Source::new(bytes, std::mem::take(&mut fds))).map(|_| ());
        assert!(matches!(take(&[99]), Err(Malformed::Unknown { what: "ToWorker", .. })));
        assert!(matches!(take(&[]), Err(Malformed::Short(_))));
        let boredom = [&[4, 7, 0, 0, 0][..], b"boredom"].concat();
        assert!(matches!(
            take(&boredom),
            Err(Malformed::Unknown {
                what: "shutdown cause",
                ..
            })
        ));
        assert!(matches!(
            take(&[3, 1, 0, 0, 0, 0xff]),
            Err(Malformed::Unknown { .. } | Malformed::Short(_))
        ));
    }

    #[test]
    fn another_version_is_told_apart() {
        let hello = Hello {
            version: VERSION + 1,
            ..Hello::of_this_process()
        };
        assert_eq!(
            hello.check().unwrap_err().to_string(),
            "it speaks version 2 and this process version 1"
        );
    }
}
