//! Every message between a server and its zygote, declared once. The two are one program, forked: no version is told.

use std::os::fd::OwnedFd;

use crate::host::process::{Fate, Process};

use super::field::{Field, Malformed, Sink, Source, unknown};
use super::message::messages;

messages! {
    /// What a server says.
    pub enum ToZygote {
        /// Fork a worker. Answered by [`FromZygote::Spawned`] or [`FromZygote::NotSpawned`] with the same id.
        Spawn {
            /// Chosen by the server; the worker's from then on.
            id: u64,
            /// What the worker is called by those who list processes.
            name: String,
            /// The worker's end of its link.
            socket: OwnedFd,
            /// Where what it prints goes.
            messages: OwnedFd,
        },
    }

    /// What a zygote says.
    pub enum FromZygote {
        /// The worker runs.
        Spawned {
            /// The worker.
            id: u64,
            /// Its process.
            process: Process,
        },
        /// There is no worker.
        NotSpawned {
            /// The worker that is none.
            id: u64,
            /// Why.
            reason: String,
        },
        /// A worker ended.
        Ended {
            /// The worker.
            id: u64,
            /// How.
            fate: Fate,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::message::tests::through_a_frame;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    #[test]
    fn every_message_survives_its_frame() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (sent, came) = through_a_frame(vec![ToZygote::Spawn {
            id: 4,
            name: "vm ü".into(),
            socket: null(),
            messages: null(),
        }]);
        assert_eq!(sent, came);
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let (sent, came) = through_a_frame(vec![
            FromZygote::Spawned {
                id: 4,
                process: Process::from_parts(getpid().as_raw_nonzero().get(), pidfd),
            },
            FromZygote::NotSpawned {
                id: 5,
                reason: "no memory".into(),
            },
            FromZygote::Ended {
                id: 4,
                fate: Fate::Exited(3),
            },
            FromZygote::Ended {
                id: 6,
                fate: Fate::Signaled(9),
            },
        ]);
        assert_eq!(sent, came);
    }

    #[test]
    fn what_stands_for_nothing_is_an_error() {
        let take = |bytes: &[u8]| FromZygote::take(&mut Source::new(bytes, Vec::new())).map(|_| ());
        let missing = [&[0][..], &[4, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0]].concat();
        assert!(matches!(take(&missing), Err(Malformed::Short("its descriptors"))));
        let odd = [&[2][..], &[4, 0, 0, 0, 0, 0, 0, 0], &[7, 0, 0, 0, 0]].concat();
        assert!(matches!(
            take(&odd),
            Err(Malformed::Unknown {
                what: "end of a process",
                ..
            })
        ));
    }
}
