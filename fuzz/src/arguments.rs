//! Arguments of commands: the first byte chooses the command. What is accepted must survive being written and read
//! again, as it does on its way to the worker.

use remuda::qapi::qmp::{COMMANDS, Call, MonitorCall, WorkerCall};
use remuda::qapi::visit::Policy;

/// One command.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&choice, json)) = bytes.split_first() else {
        return;
    };
    let Ok(arguments) = serde_json::from_slice(json) else {
        return;
    };
    let id = COMMANDS[usize::from(choice) % COMMANDS.len()].id;
    let mut written = Vec::new();
    match Call::decode(id, arguments, Policy::ACCEPT_ALL) {
        Ok(Call::Worker(call)) => {
            call.encode_arguments(&mut written);
            let again = serde_json::from_slice(&written).unwrap_or_default();
            assert_eq!(WorkerCall::decode(id, again, Policy::ACCEPT_ALL), Ok(call));
        }
        Ok(Call::Monitor(call)) => {
            call.encode_arguments(&mut written);
            let again = serde_json::from_slice(&written).unwrap_or_default();
            assert_eq!(MonitorCall::decode(id, again, Policy::ACCEPT_ALL), Ok(call));
        }
        Err(error) => assert!(!error.desc.is_empty()),
    }
}
