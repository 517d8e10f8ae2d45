//! What a client sees.

use std::time::Duration;

use proptest::prelude::*;

use super::{Compat, Config, Output, Request, Session, Ticket};
use crate::qapi::Error;
use crate::qapi::command::{Api, CommandSpec, Run};
use crate::qapi::qmp::{self, CommandId};
use crate::qapi::visit;
use crate::target::Target;

/// A session with the commands of a guest's QMP, of which `query-status` may be run out of band.
fn session() -> Session<CommandId> {
    static OUT_OF_BAND: CommandSpec<CommandId> = CommandSpec {
        name: "query-status",
        id: CommandId::QueryStatus,
        run: Run::Monitor,
        allow_oob: true,
        allow_preconfig: true,
        success_response: true,
        features: &[],
        targets: &[Target::X86_64],
    };
    let find_command = |target: Target, name: &str| match name {
        "query-status" => Some(&OUT_OF_BAND),
        _ => qmp::find_command(target, name),
    };
    Session::new(Config {
        api: Api {
            find_command,
            ..qmp::API
        },
        target: Target::X86_64,
        version: visit::encoded(&qmp::VersionInfo {
            qemu: qmp::VersionTriple {
                major: 10,
                minor: 2,
                micro: 0,
            },
            package: String::new(),
        }),
        oob: true,
        pretty: false,
        compat: Compat::default(),
    })
}

/// A session in which the capabilities were negotiated.
fn ready(oob: bool) -> Session<CommandId> {
    let mut session = session();
    let enable: &[u8] = if oob {
        b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
    } else {
        b"{'execute':'qmp_capabilities'}"
    };
    outputs(&mut session);
    assert_eq!(sent(&fed(&mut session, enable)), ["{\"return\": {}}"]);
    session
}

/// The messages among `outputs`, line ends checked and removed.
fn sent(outputs: &[Output<Request<CommandId>>]) -> Vec<String> {
    let messages = outputs.iter().filter_map(|output| match output {
        Output::Send(bytes) => Some(String::from_utf8(bytes.clone()).unwrap()),
        Output::Run(_) => None,
    });
    messages
        .map(|message| message.strip_suffix("\r\n").unwrap().to_owned())
        .collect()
}

/// The commands to run among `outputs`.
fn run(outputs: &[Output<Request<CommandId>>]) -> Vec<&Request<CommandId>> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Run(request) => Some(request),
            Output::Send(_) => None,
        })
        .collect()
}

/// Everything that is to be done now.
fn outputs(session: &mut Session<CommandId>) -> Vec<Output<Request<CommandId>>> {
    std::iter::from_fn(|| session.next_output()).collect()
}

fn fed(session: &mut Session<CommandId>, bytes: &[u8]) -> Vec<Output<Request<CommandId>>> {
    session.feed(bytes);
    outputs(session)
}

fn completed(
    session: &mut Session<CommandId>,
    ticket: Ticket,
    result: Result<Vec<u8>, Error>,
) -> Vec<Output<Request<CommandId>>> {
    session.complete(ticket, result);
    outputs(session)
}

/// A session that has greeted.
fn greeted() -> Session<CommandId> {
    let mut session = session();
    outputs(&mut session);
    session
}

fn reply_to(input: &str) -> Vec<String> {
    sent(&fed(&mut ready(false), input.as_bytes()))
}

fn failure(desc: &str) -> String {
    format!(r#"{{"error": {{"class": "GenericError", "desc": "{desc}"}}}}"#)
}

#[test]
fn the_greeting_offers_what_can_be_negotiated() {
    assert_eq!(
        sent(&outputs(&mut session())),
        [
            "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 2, \"micro\": 0}, \"package\": \"\"}, \
         \"capabilities\": [\"oob\"]}}"
        ]
    );
    let mut config = session().config;
    config.oob = false;
    let mut session = Session::new(config);
    assert!(sent(&outputs(&mut session))[0].contains("\"capabilities\": []"));
    assert_eq!(
        sent(&fed(
            &mut session,
            b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
        )),
        [failure("Capability oob not available")]
    );
}

#[test]
fn nothing_works_before_the_negotiation_and_it_works_once() {
    let mut session = greeted();
    assert_eq!(
        sent(&fed(&mut session, b"{'execute':'stop','id':1}")),
        [
            r#"{"id": 1, "error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}}"#
        ]
    );
    assert!(session.event(&qmp::Event::Stop, Duration::ZERO).is_none());
    assert_eq!(
        sent(&fed(
            &mut session,
            b"{'execute':'qmp_capabilities','arguments':{'enable':['foo']}}"
        )),
        [failure("Parameter 'null' does not accept value 'foo'")]
    );
    assert_eq!(
        sent(&fed(&mut session, b"{'execute':'qmp_capabilities'}")),
        ["{\"return\": {}}"]
    );
    assert_eq!(
        sent(&fed(&mut session, b"{'execute':'qmp_capabilities'}")),
        [
            r#"{"error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete, command ignored"}}"#
        ]
    );
}

#[test]
fn a_command_is_handed_out_and_its_result_sent_with_the_id() {
    let mut session = ready(false);
    let outputs = fed(
        &mut session,
        b"{'execute':'qom-get','arguments':{'path':'/'},'id':{'b':1,'a':[null]}}\n",
    );
    let [request] = run(&outputs)[..] else {
        panic!("one command was sent");
    };
    assert_eq!(request.command.id, CommandId::QomGet);
    assert_eq!(request.arguments["path"], "/");
    assert!(!session.wants_input());
    assert_eq!(
        sent(&completed(&mut session, request.ticket, Ok(b"5".to_vec()))),
        [r#"{"return": 5, "id": {"b": 1, "a": [null]}}"#]
    );
    assert!(completed(&mut session, request.ticket, Ok(b"5".to_vec())).is_empty());
    assert!(session.wants_input());
}

#[test]
fn an_error_carries_its_class() {
    let mut session = ready(false);
    let outputs = fed(
        &mut session,
        b"{'execute':'device_del','arguments':{'id':'x'},'id':'libvirt-3'}\r\n",
    );
    let error = Error::device_not_found("Device 'x' not found");
    assert_eq!(
        sent(&completed(&mut session, run(&outputs)[0].ticket, Err(error))),
        [r#"{"id": "libvirt-3", "error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}}"#]
    );
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let mut session = ready(false);
    let outputs = fed(
        &mut session,
        b"{'execute':'stop','id':1}{'execute':'nope','id':2}{'execute':'cont','id':3}@\n",
    );
    assert_eq!(outputs.len(), 1);
    let outputs = completed(&mut session, run(&outputs)[0].ticket, Ok(b"{}".to_vec()));
    assert_eq!(
        sent(&outputs),
        [
            r#"{"return": {}, "id": 1}"#,
            r#"{"id": 2, "error": {"class": "CommandNotFound", "desc": "The command nope has not been found"}}"#
        ]
    );
    let outputs = completed(&mut session, run(&outputs)[0].ticket, Ok(b"{}".to_vec()));
    assert_eq!(
        sent(&outputs),
        [
            r#"{"return": {}, "id": 3}"#.to_owned(),
            failure("JSON parse error, stray '@'")
        ]
    );
}

#[test]
fn an_out_of_band_command_overtakes_those_that_wait() {
    let mut session = ready(true);
    let in_band = fed(&mut session, b"{'execute':'stop','id':1}{'execute':'cont','id':2}");
    assert!(session.wants_input());
    let oob = fed(&mut session, b"{'exec-oob':'query-status','id':3}");
    assert!(run(&oob)[0].oob);
    assert_eq!(
        sent(&completed(&mut session, run(&oob)[0].ticket, Ok(b"{}".to_vec()))),
        [r#"{"return": {}, "id": 3}"#]
    );
    assert_eq!(
        sent(&fed(&mut session, b"{'exec-oob':'stop','id':4}")),
        [r#"{"id": 4, "error": {"class": "GenericError", "desc": "The command stop does not support OOB"}}"#]
    );
    assert_eq!(
        sent(&fed(&mut session, b"{'exec-oob':'query-status'}")),
        [r#"{"error": {"class": "GenericError", "desc": "QMP input lacks member 'id'"}}"#]
    );
    let outputs = completed(&mut session, run(&in_band)[0].ticket, Ok(b"{}".to_vec()));
    assert_eq!(sent(&outputs), [r#"{"return": {}, "id": 1}"#]);
    assert_eq!(run(&outputs)[0].command.id, CommandId::Cont);
}

#[test]
fn the_client_is_to_wait_when_eight_commands_do() {
    let mut session = ready(true);
    fed(&mut session, b"{'execute':'stop'}");
    for _ in 0..7 {
        fed(&mut session, b"{'execute':'stop'}");
        assert!(session.wants_input());
    }
    fed(&mut session, b"{'execute':'stop'}");
    assert!(!session.wants_input());
}

#[test]
fn requests_of_the_wrong_form_are_refused() {
    for (input, expected) in [
        ("[1]", "QMP input must be a JSON object"),
        ("7\n", "QMP input must be a JSON object"),
        ("{}", "QMP input lacks member 'execute'"),
        ("{'execute':3}", "QMP input member 'execute' must be a string"),
        (
            "{'execute':'stop','arguments':3}",
            "QMP input member 'arguments' must be an object",
        ),
        ("{'execute':'stop','foo':1}", "QMP input member 'foo' is unexpected"),
        ("{'exec-oob':'stop'}", "QMP input member 'exec-oob' is unexpected"),
        ("blah\n", "JSON parse error, invalid keyword 'blah'"),
        (
            "{'execute':'query-commands','arguments':{'a':1}}",
            "Parameter 'a' is unexpected",
        ),
    ] {
        assert_eq!(reply_to(input), [failure(expected)], "{input}");
    }
    assert_eq!(
        sent(&fed(&mut ready(true), b"{'execute':'stop','exec-oob':'stop'}")),
        [failure("QMP input member 'exec-oob' clashes with 'execute'")]
    );
}

#[test]
fn the_session_itself_lists_commands_and_schema() {
    let commands = &reply_to("{'execute':'query-commands'}")[0];
    assert!(commands.contains(r#"{"name": "stop"}"#));
    let schema = &reply_to("{'execute':'query-qmp-schema'}")[0];
    assert!(schema.contains(r#"{"name": "stop", "meta-type": "command""#));
}

#[test]
fn events_carry_the_time() {
    let event = qmp::Event::Shutdown(qmp::ShutdownEvent {
        guest: true,
        reason: qmp::ShutdownCause::GuestShutdown,
    });
    let bytes = ready(false)
        .event(&event, Duration::new(1795431998, 752_390_999))
        .unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "{\"timestamp\": {\"seconds\": 1795431998, \"microseconds\": 752390}, \"event\": \"SHUTDOWN\", \
         \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n"
    );
    let bytes = ready(false).event(&qmp::Event::Stop, Duration::ZERO).unwrap();
    assert!(bytes.ends_with(b"\"event\": \"STOP\"}\r\n"));
}

#[test]
fn pretty_messages_are_indented() {
    let mut config = session().config;
    config.pretty = true;
    config.version = br#"{"a": [1, "x, {y\": "], "b": {}, "c": []}"#.to_vec();
    assert_eq!(
        sent(&outputs(&mut Session::new(config))).concat() + "\r\n",
        "{\n    \"QMP\": {\n        \"version\": {\n            \"a\": [\n                1,\n                \
         \"x, {y\\\": \"\n            ],\n            \"b\": {},\n            \"c\": []\n        },\n        \
         \"capabilities\": [\n            \"oob\"\n        ]\n    }\n}\r\n"
    );
}

/// Feeds a session in chunks and completes every command at once; all that was sent.
fn converse(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut session = ready(true);
    let mut all = Vec::new();
    for chunk in bytes.chunks(size) {
        session.feed(chunk);
        while let Some(output) = session.next_output() {
            match output {
                Output::Send(bytes) => all.extend(bytes),
                Output::Run(request) => session.complete(request.ticket, Ok(b"{}".to_vec())),
            }
        }
    }
    all
}

#[test]
fn nothing_is_worked_out_before_it_is_asked_for() {
    let mut session = ready(false);
    session.feed(&b"{'execute':'query-qmp-schema'}".repeat(1000));
    assert!(session.next_output().is_some());
    assert!(!session.wants_input() && !session.is_idle());
    assert!(session.ready.is_empty(), "one reply was made, not a thousand");
    assert_eq!(outputs(&mut session).len(), 999);
    assert!(session.wants_input() && session.is_idle());
}

#[test]
fn few_commands_run_out_of_band_at_once() {
    let mut session = ready(true);
    while session.wants_input() {
        fed(&mut session, b"{'exec-oob':'query-status','id':1}");
        assert!(session.running.len() <= super::MOST_RUNNING + 1);
    }
    let ticket = session.running[0].ticket;
    completed(&mut session, ticket, Ok(b"{}".to_vec()));
    assert!(session.wants_input());
}

proptest! {
    #[test]
    fn every_command_is_answered_however_the_bytes_are_split(
        ids in prop::collection::vec(any::<u32>(), 0..12),
        size in 1usize..40,
    ) {
        let input: String = ids.iter().map(|id| format!("{{\"execute\": \"stop\", \"id\": {id}}}\r\n")).collect();
        let expected: String = ids.iter().map(|id| format!("{{\"return\": {{}}, \"id\": {id}}}\r\n")).collect();
        prop_assert_eq!(converse(input.as_bytes(), size), expected.into_bytes());
    }

    #[test]
    fn after_any_bytes_a_session_can_be_brought_back(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        let input = [&bytes[..], b"\x01\n{\"execute\": \"stop\", \"id\": \"back\"}"].concat();
        let answers = converse(&input, 7);
        let last = b"{\"return\": {}, \"id\": \"back\"}\r\n";
        prop_assert!(answers.ends_with(last));
    }
}
