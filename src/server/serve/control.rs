//! Clients of the control socket: QMP with the commands of the server.

use std::io;
use std::rc::Rc;

use tokio::net::UnixStream;

use crate::chardev::{self, FdTable};
use crate::monitor;
use crate::monitor::events::{EventReader, Happened};
use crate::monitor::pump::{self, CallContext, Service, Task};
use crate::monitor::session::Done;
use crate::qapi::Error;
use crate::qapi::remuda::{
    API, ClosefdArgs, CommandId, Event, GetfdArgs, GuestCreateArgs, GuestDestroyArgs, GuestInfo, MonitorCall,
    MonitorCommands, VersionInfo, VersionTriple, dispatch_monitor,
};
use crate::qapi::session::{Compat, Config, Request, Session};
use crate::qapi::visit::{Policy, encoded};

use super::registry::Registry;

/// One client of the control socket, and what it can do.
#[derive(Clone)]
struct ControlService {
    registry: Rc<Registry>,
    /// Its descriptors (`getfd`).
    kept: FdTable,
}

/// Serves one client until it goes, or there are no more events.
///
/// # Errors
/// Its socket cannot be watched.
pub(super) async fn serve(registry: Rc<Registry>, stream: UnixStream) -> io::Result<()> {
    let (front, carrier) = chardev::connection("control", stream.into_std()?.into())?;
    let service = ControlService {
        registry,
        kept: FdTable::default(),
    };
    pump::serve(Rc::new(service), front).await;
    // What the client is still to read goes out. A carrier that panicked has ended as well.
    let _ = carrier.await;
    Ok(())
}

impl Service for ControlService {
    type Talk = Session<CommandId>;
    type Event = Event;

    fn begin(&self) -> Session<CommandId> {
        Session::new(Config {
            api: API,
            target: self.registry.target(),
            version: encoded(&version()),
            oob: false,
            pretty: false,
            compat: Compat::default(),
        })
    }

    fn events(&self) -> EventReader<Event> {
        self.registry.subscribe()
    }

    fn tell(&self, talk: &Session<CommandId>, happened: &Happened<Event>) -> Option<Vec<u8>> {
        talk.event(&happened.event, happened.at)
    }

    fn start(&self, context: &CallContext, request: Request<CommandId>) -> Task<Done> {
        let (service, context, ticket) = (self.clone(), context.clone(), request.ticket);
        Box::pin(async move {
            let result = match MonitorCall::decode(request.command.id, request.arguments, Policy::ACCEPT_ALL) {
                Ok(call) => dispatch_monitor(&service, &context, call).await,
                Err(error) => Err(error),
            };
            Done { ticket, result }
        })
    }
}

impl MonitorCommands for ControlService {
    type Context = CallContext;

    async fn getfd(&self, context: &CallContext, args: GetfdArgs) -> Result<(), Error> {
        Ok(self.kept.getfd(&args.fdname, context.take_fd())?)
    }

    async fn closefd(&self, _: &CallContext, args: ClosefdArgs) -> Result<(), Error> {
        Ok(self.kept.closefd(&args.fdname)?)
    }

    async fn guest_create(&self, _: &CallContext, mut args: GuestCreateArgs) -> Result<GuestInfo, Error> {
        let fds = FdTable::of_one_among_many();
        for name in args.fds.take().unwrap_or_default() {
            fds.getfd(&name, Some(self.kept.take_named(&name)?))?;
        }
        self.registry.create(args, fds).await
    }

    async fn guest_destroy(&self, _: &CallContext, args: GuestDestroyArgs) -> Result<(), Error> {
        self.registry.destroy(&args.id).await
    }

    async fn query_guests(&self, _: &CallContext) -> Result<Vec<GuestInfo>, Error> {
        Ok(self.registry.list())
    }

    async fn query_version(&self, _: &CallContext) -> Result<VersionInfo, Error> {
        Ok(version())
    }

    async fn quit(&self, _: &CallContext) -> Result<(), Error> {
        self.registry.quit();
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
