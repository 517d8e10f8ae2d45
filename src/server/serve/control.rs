//! Clients of the control socket: QMP with the commands of the server.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::chardev::FdTable;
use crate::ipc::socket;
use crate::monitor;
use crate::qapi::Error;
use crate::qapi::remuda::{
    API, ClosefdArgs, CommandId, GetfdArgs, GuestCreateArgs, GuestDestroyArgs, GuestInfo, MonitorCall, MonitorCommands,
    VersionInfo, VersionTriple, dispatch_monitor,
};
use crate::qapi::session::{Config, Output, Request, Session, Ticket};
use crate::qapi::visit::encoded;
use crate::report;

use super::registry::Registry;

/// The descriptors of one client.
#[derive(Clone, Default)]
pub(super) struct Descriptors {
    /// Those that came with the client's latest bytes and that no command has taken.
    sent: Rc<RefCell<VecDeque<OwnedFd>>>,
    /// `getfd`.
    kept: FdTable,
}

impl Descriptors {
    fn take(&self) -> Option<OwnedFd> {
        self.sent.borrow_mut().pop_front()
    }

    /// More came, and those that nobody took are closed.
    fn replace(&self, sent: VecDeque<OwnedFd>) {
        if !sent.is_empty() {
            self.sent.replace(sent);
        }
    }
}

impl MonitorCommands for Rc<Registry> {
    type Context = Descriptors;

    async fn getfd(&self, descriptors: &Descriptors, args: GetfdArgs) -> Result<(), Error> {
        descriptors.kept.getfd(&args.fdname, descriptors.take())
    }

    async fn closefd(&self, descriptors: &Descriptors, args: ClosefdArgs) -> Result<(), Error> {
        descriptors.kept.closefd(&args.fdname)
    }

    async fn guest_create(&self, descriptors: &Descriptors, mut args: GuestCreateArgs) -> Result<GuestInfo, Error> {
        let fds = FdTable::of_one_among_many();
        for name in args.fds.take().unwrap_or_default() {
            fds.getfd(&name, Some(descriptors.kept.take_named(&name)?))?;
        }
        self.create(args, fds).await
    }

    async fn guest_destroy(&self, _: &Descriptors, args: GuestDestroyArgs) -> Result<(), Error> {
        self.destroy(&args.id).await
    }

    async fn query_guests(&self, _: &Descriptors) -> Result<Vec<GuestInfo>, Error> {
        Ok(self.list())
    }

    async fn query_version(&self, _: &Descriptors) -> Result<VersionInfo, Error> {
        Ok(version())
    }

    async fn quit(&self, _: &Descriptors) -> Result<(), Error> {
        Registry::quit(self);
        Ok(())
    }
}

fn version() -> VersionInfo {
    let version = monitor::version();
    let monitor::VersionTriple { major, minor, micro } = version.qemu;
    VersionInfo {
        qemu: VersionTriple { major, minor, micro },
        package: version.package,
    }
}

/// Serves one client until it goes.
pub(super) async fn serve(registry: Rc<Registry>, mut stream: UnixStream) {
    let config = Config {
        api: API,
        target: registry.target(),
        version: encoded(&version()),
        oob: false,
        pretty: false,
    };
    let mut session: Session<CommandId> = Session::new(config);
    let mut events = registry.subscribe();
    let descriptors = Descriptors::default();
    let (done, mut finished) = mpsc::unbounded_channel();
    loop {
        let outputs: Vec<_> = std::iter::from_fn(|| session.next_output()).collect();
        if act(&registry, &descriptors, &mut stream, outputs, &done).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            Some((ticket, result)) = finished.recv() => session.complete(ticket, result),
            happened = events.next() => {
                let Some(happened) = happened else { return };
                if let Some(bytes) = session.event(&happened.event, happened.at) {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
            received = receive(&stream), if session.wants_input() => {
                let Ok((bytes, fds)) = received else { return };
                if bytes.is_empty() {
                    return;
                }
                descriptors.replace(fds);
                session.feed(&bytes)
            },
        }
    }
}

/// What the client sent; nothing at its end.
async fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, VecDeque<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut fds = VecDeque::new();
    let received = stream
        .async_io(Interest::READABLE, || socket::receive(stream, &mut bytes, &mut fds))
        .await?;
    if received.lost_fds {
        report::warning("serve: a client sent more descriptors than this process has room for");
    }
    bytes.truncate(received.bytes);
    Ok((bytes, fds))
}

async fn act(
    registry: &Rc<Registry>,
    descriptors: &Descriptors,
    stream: &mut UnixStream,
    outputs: Vec<Output<Request<CommandId>>>,
    done: &mpsc::UnboundedSender<(Ticket, Result<Vec<u8>, Error>)>,
) -> io::Result<()> {
    for output in outputs {
        match output {
            Output::Send(bytes) => stream.write_all(&bytes).await?,
            Output::Run(request) => {
                let (registry, descriptors, done) = (Rc::clone(registry), descriptors.clone(), done.clone());
                tokio::task::spawn_local(async move {
                    let result = match MonitorCall::decode(request.command.id, request.arguments) {
                        Ok(call) => dispatch_monitor(&registry, &descriptors, call).await,
                        Err(error) => Err(error),
                    };
                    // A client that has gone does not wait for its answer.
                    let _ = done.send((request.ticket, result));
                });
            }
        }
    }
    Ok(())
}
