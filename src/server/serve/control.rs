//! Clients of the control socket: QMP with the commands of the server.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::monitor;
use crate::qapi::Error;
use crate::qapi::remuda::{
    API, CommandId, GuestCreateArgs, GuestDestroyArgs, GuestInfo, MonitorCall, MonitorCommands, VersionInfo,
    VersionTriple, dispatch_monitor,
};
use crate::qapi::session::{Config, Output, Session, Ticket};
use crate::qapi::visit::encoded;

use super::registry::Registry;

impl MonitorCommands for Registry {
    type Context = ();

    async fn guest_create(&self, (): &(), args: GuestCreateArgs) -> Result<GuestInfo, Error> {
        self.create(args).await
    }

    async fn guest_destroy(&self, (): &(), args: GuestDestroyArgs) -> Result<(), Error> {
        self.destroy(&args.id)
    }

    async fn query_guests(&self, (): &()) -> Result<Vec<GuestInfo>, Error> {
        Ok(self.list())
    }

    async fn query_version(&self, (): &()) -> Result<VersionInfo, Error> {
        Ok(version())
    }

    async fn quit(&self, (): &()) -> Result<(), Error> {
        self.quit();
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
    let (done, mut finished) = mpsc::unbounded_channel();
    if stream.write_all(&session.greeting()).await.is_err() {
        return;
    }
    let mut bytes = vec![0; 4096];
    loop {
        let outputs = tokio::select! {
            biased;
            Some((ticket, result)) = finished.recv() => session.complete(ticket, result),
            event = events.recv() => {
                let Some(event) = event else { return };
                // A clock before 1970 is no reason to lose an event.
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                session.event(&*event, at).map(Output::Send).into_iter().collect()
            }
            count = stream.read(&mut bytes), if session.wants_input() => match count {
                Ok(count @ 1..) => session.feed(&bytes[..count]),
                Ok(0) | Err(_) => return,
            },
        };
        if act(&registry, &mut stream, outputs, &done).await.is_err() {
            return;
        }
    }
}

async fn act(
    registry: &Rc<Registry>,
    stream: &mut UnixStream,
    outputs: Vec<Output<CommandId>>,
    done: &mpsc::UnboundedSender<(Ticket, Result<Vec<u8>, Error>)>,
) -> std::io::Result<()> {
    for output in VecDeque::from(outputs) {
        match output {
            Output::Send(bytes) => stream.write_all(&bytes).await?,
            Output::Run(request) => {
                let (registry, done) = (Rc::clone(registry), done.clone());
                tokio::task::spawn_local(async move {
                    let result = match MonitorCall::decode(request.command.id, request.arguments) {
                        Ok(call) => dispatch_monitor(&*registry, &(), call).await,
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
