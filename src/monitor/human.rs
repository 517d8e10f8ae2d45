//! The guest behind human monitors.

use std::rc::Rc;

use serde_json::{Map, Value};

use crate::chardev::FrontEnd;
use crate::qapi::Error;
use crate::qapi::qmp::{Call, find_command};

use super::guest::Guest;
use super::hmp::{self, HmpHost, MonitorState};
use super::session::CallContext;

impl HmpHost for Guest {
    async fn qmp(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        let spec = find_command(self.target(), command)
            .ok_or_else(|| Error::command_not_found(format!("The command {command} has not been found")))?;
        let call = Call::decode(spec.id, arguments)?;
        let context = CallContext::default();
        // `human-monitor-command` is a QMP command itself, so the future would contain itself if it were not boxed.
        let reply = Box::pin(self.run(&context, call)).await?;
        serde_json::from_slice(&reply).map_err(|error| Error::generic(format!("{command} answered no JSON: {error}")))
    }
}

/// Serves a human monitor on `front` until the character device goes.
pub(super) async fn serve(guest: Rc<Guest>, front: FrontEnd) {
    hmp::serve(&*guest, front).await;
}

/// Runs one line (`human-monitor-command`).
pub(super) async fn run(guest: &Guest, line: &str, cpu: Option<i64>) -> String {
    hmp::execute(guest, &mut MonitorState { cpu }, line).await
}
