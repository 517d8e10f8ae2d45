//! What a QMP client may send: the first byte says how the rest is split. Commands succeed as soon as they are handed
//! out. Whatever was sent, the session must come back and answer.

use remuda::qapi::qmp::{self, Call, CommandId};
use remuda::qapi::session::{Compat, Config, Output, Session};
use remuda::qapi::visit::Policy;
use remuda::target::Target;

/// One client.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&size, input)) = bytes.split_first() else {
        return;
    };
    let mut session = Session::new(Config {
        api: qmp::API,
        target: Target::X86_64,
        version: b"{}".to_vec(),
        oob: size % 2 == 0,
        pretty: false,
        compat: Compat::default(),
    });
    converse(&mut session, b"{'execute': 'qmp_capabilities'}");
    for chunk in input.chunks(usize::from(size).max(1)) {
        converse(&mut session, chunk);
    }
    let answers = converse(&mut session, b"\x01\n{'execute': 'stop', 'id': 'back'}");
    assert!(answers.ends_with(b"{\"return\": {}, \"id\": \"back\"}\r\n"));
    assert!(session.is_idle());
}

/// Feeds the session and completes what it hands out; what it sent, each message whole.
fn converse(session: &mut Session<CommandId>, bytes: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    session.feed(bytes);
    while let Some(output) = session.next_output() {
        match output {
            Output::Send(message) => {
                assert!(message.ends_with(b"\r\n"));
                assert!(serde_json::from_slice::<serde_json::Value>(&message).is_ok());
                sent.extend(message);
            }
            Output::Run(request) => {
                let result =
                    Call::decode(request.command.id, request.arguments, Policy::ACCEPT_ALL).map(|_| b"{}".to_vec());
                session.complete(request.ticket, result);
            }
        }
    }
    sent
}
