//! What decoding accepts and says, and what encoding writes, as seen through the generated types.

use serde_json::{Map, Value, json};

use super::{At, Decode, Feature, Mode, Policy, Reaction, WireEvent, decode_arguments, decode_keyval, encoded};
use crate::qapi::qmp::{self, Call, CommandId, Event, MonitorCall, WorkerCall};
use crate::qapi::{Error, ErrorClass};

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

/// What is said about the arguments of a command.
fn complaint(id: CommandId, arguments: Value) -> String {
    match Call::decode(id, object(arguments), Policy::ACCEPT_ALL) {
        Ok(call) => format!("{call:?} is accepted"),
        Err(error) => error.desc,
    }
}

/// Texts as QEMU gives them for the same arguments.
#[test]
fn wrong_arguments_are_named_with_their_path() {
    use CommandId::{
        ChardevAdd, Memsave, MigrateSetCapabilities, ObjectAdd, QomList, QueryCpuModelExpansion, QueryStats,
        QueryVersion, Stop,
    };
    for (id, arguments, expected) in [
        (Stop, json!({"a": 3}), "Parameter 'a' is unexpected"),
        (QueryVersion, json!({"a": 3}), "Parameter 'a' is unexpected"),
        (QomList, json!({}), "Parameter 'path' is missing"),
        (
            QomList,
            json!({"path": 3}),
            "Invalid parameter type for 'path', expected: string",
        ),
        (
            QueryCpuModelExpansion,
            json!({"type": "bogus", "model": {"name": "a"}}),
            "Parameter 'type' does not accept value 'bogus'",
        ),
        (
            QueryCpuModelExpansion,
            json!({"type": "static", "model": {"props": {}}}),
            "Parameter 'model.name' is missing",
        ),
        (
            QueryCpuModelExpansion,
            json!({"type": "static", "model": {"name": "a", "foo": 1}}),
            "Parameter 'model.foo' is unexpected",
        ),
        (
            QueryCpuModelExpansion,
            json!({"type": "static", "model": 5}),
            "Invalid parameter type for 'model', expected: object",
        ),
        (
            Memsave,
            json!({"val": 2.5, "size": 3, "filename": "x"}),
            "Invalid parameter type for 'val', expected: integer",
        ),
        (
            MigrateSetCapabilities,
            json!({"capabilities": [{"capability": "foo", "state": true}]}),
            "Parameter 'capability' does not accept value 'foo'",
        ),
        (
            MigrateSetCapabilities,
            json!({"capabilities": [{"capability": "events", "state": 3}]}),
            "Invalid parameter type for 'capabilities[0].state', expected: boolean",
        ),
        (
            MigrateSetCapabilities,
            json!({"capabilities": {}}),
            "Invalid parameter type for 'capabilities', expected: array",
        ),
        (
            MigrateSetCapabilities,
            json!({"capabilities": [1]}),
            "Invalid parameter type for 'capabilities[0]', expected: object",
        ),
        (ObjectAdd, json!({"id": "foo"}), "Parameter 'qom-type' is missing"),
        (ObjectAdd, json!({"qom-type": "secret"}), "Parameter 'id' is missing"),
        (
            ObjectAdd,
            json!({"qom-type": "foo"}),
            "Parameter 'qom-type' does not accept value 'foo'",
        ),
        (
            ObjectAdd,
            json!({"qom-type": "secret", "id": "x", "foo": 1}),
            "Parameter 'foo' is unexpected",
        ),
        (
            ObjectAdd,
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": 1, "host-nodes": [0, 65536]}),
            "Parameter 'null' expects uint16_t",
        ),
        (
            ObjectAdd,
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": 1, "prealloc-threads": -1}),
            "Parameter 'prealloc-threads' expects uint32_t",
        ),
        (
            ChardevAdd,
            json!({"id": "x", "backend": {"type": "file"}}),
            "Parameter 'backend.data' is missing",
        ),
        (
            ChardevAdd,
            json!({"id": "x", "backend": {"type": "null", "data": {"z": 1}}}),
            "Parameter 'backend.data.z' is unexpected",
        ),
        (
            QueryStats,
            json!({"target": "vm", "vcpus": ["a"]}),
            "Parameter 'vcpus' is unexpected",
        ),
    ] {
        assert_eq!(complaint(id, arguments), expected);
    }
}

#[test]
fn a_call_survives_the_way_to_the_worker() {
    let arguments = object(json!({
        "qom-type": "memory-backend-file", "id": "pc.ram", "size": 1_073_741_824u64, "mem-path": "/dev/shm/a\"b",
        "share": true, "policy": "bind", "host-nodes": [0, 1], "offset": 4096,
    }));
    let call = WorkerCall::decode(CommandId::ObjectAdd, arguments, Policy::ACCEPT_ALL).unwrap();
    assert_eq!(call.command(), CommandId::ObjectAdd);
    let mut bytes = Vec::new();
    call.encode_arguments(&mut bytes);
    let again = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        WorkerCall::decode(CommandId::ObjectAdd, again, Policy::ACCEPT_ALL),
        Ok(call)
    );
}

#[test]
fn calls_are_told_apart_by_where_they_run() {
    let empty = Map::new();
    assert_eq!(
        Call::decode(CommandId::QueryKvm, empty.clone(), Policy::ACCEPT_ALL),
        Ok(Call::Monitor(MonitorCall::QueryKvm))
    );
    assert_eq!(
        Call::decode(CommandId::Stop, empty.clone(), Policy::ACCEPT_ALL),
        Ok(Call::Worker(WorkerCall::Stop))
    );
    assert_eq!(
        WorkerCall::decode(CommandId::QueryKvm, empty, Policy::ACCEPT_ALL),
        Err(Error::new(
            ErrorClass::CommandNotFound,
            "The command query-kvm has not been found"
        ))
    );
}

#[test]
fn arguments_of_device_add_pass_as_they_are() {
    let arguments = object(json!({"driver": "virtio-blk-pci", "addr": "0x2.0x1", "bootindex": 1}));
    assert_eq!(
        WorkerCall::decode(CommandId::DeviceAdd, arguments.clone(), Policy::ACCEPT_ALL),
        Ok(WorkerCall::DeviceAdd(arguments))
    );
}

#[test]
fn the_command_line_may_write_values_as_text() {
    let options: qmp::ObjectOptions = decode_keyval(object(json!({
        "qom-type": "memory-backend-ram", "id": "m0", "size": "1G", "share": "on", "prealloc-threads": "4",
        "host-nodes": ["0", 1], "dump": false,
    })))
    .unwrap();
    let qmp::ObjectOptionsVariant::MemoryBackendRam(memory) = options.variant else {
        panic!("it is a memory-backend-ram");
    };
    assert_eq!(memory.size, 1 << 30);
    assert_eq!(memory.share, Some(true));
    assert_eq!(memory.prealloc_threads, Some(4));
    assert_eq!(memory.host_nodes, Some(vec![0, 1]));
    assert_eq!(memory.dump, Some(false));
}

#[test]
fn text_that_cannot_be_read_is_named() {
    for (key, value, expected) in [
        ("size", json!("1X"), "Parameter 'size' expects size"),
        ("share", json!("maybe"), "Parameter 'share' expects 'on' or 'off'"),
        (
            "prealloc-threads",
            json!("x"),
            "Parameter 'prealloc-threads' expects integer",
        ),
        (
            "prealloc-threads",
            json!("4294967296"),
            "Parameter 'prealloc-threads' expects uint32_t",
        ),
        (
            "size",
            json!([]),
            "Invalid parameter type for 'size', expected: integer",
        ),
    ] {
        let mut members = object(json!({"qom-type": "memory-backend-ram", "id": "m0", "size": 1}));
        members.insert(key.to_owned(), value);
        let result: Result<qmp::ObjectOptions, _> = decode_keyval(members);
        assert_eq!(result, Err(Error::generic(expected)));
    }
}

#[test]
fn text_is_no_number_in_json() {
    let members = object(json!({"qom-type": "memory-backend-ram", "id": "m0", "size": "1G"}));
    let result: Result<qmp::ObjectOptions, _> = decode_arguments(members, Policy::ACCEPT_ALL);
    assert_eq!(
        result,
        Err(Error::generic("Invalid parameter type for 'size', expected: integer"))
    );
}

#[test]
fn large_unsigned_numbers_may_come_as_negative_ones() {
    let at = At::root(Mode::Json);
    assert_eq!(u64::decode(json!(-1), &at), Ok(u64::MAX));
    assert_eq!(u64::decode(json!(u64::MAX), &at), Ok(u64::MAX));
    assert!(i64::decode(json!(u64::MAX), &at).is_err());
    assert!(u64::decode(json!(1.0), &at).is_err());
}

#[test]
fn an_alternate_is_known_by_its_json_type() {
    let at = At::root(Mode::Json);
    let decode = |value| qmp::StatsValue::decode(value, &at);
    assert_eq!(decode(json!(3)), Ok(qmp::StatsValue::Scalar(3)));
    assert_eq!(decode(json!([1, 2])), Ok(qmp::StatsValue::List(vec![1, 2])));
    assert_eq!(
        qmp::StatsValue::decode(json!("x"), &at.member("value")),
        Err(Error::generic(
            "Invalid parameter type for 'value', expected: StatsValue"
        ))
    );
}

#[test]
fn replies_are_written_in_the_order_of_the_schema() {
    let cpu = qmp::CpuInfoFast {
        cpu_index: 0,
        qom_type: "qemu-s390x-cpu".to_owned(),
        qom_path: "/machine/unattached/device[0]".to_owned(),
        thread_id: 7,
        props: Some(qmp::CpuInstanceProperties {
            core_id: Some(0),
            ..Default::default()
        }),
        variant: qmp::CpuInfoFastVariant::S390x(qmp::CpuInfoS390 {
            cpu_state: qmp::S390CpuState::Operating,
        }),
    };
    assert_eq!(
        String::from_utf8(encoded(&vec![cpu])).unwrap(),
        "[{\"cpu-index\": 0, \"qom-type\": \"qemu-s390x-cpu\", \"qom-path\": \"/machine/unattached/device[0]\", \
         \"thread-id\": 7, \"props\": {\"core-id\": 0}, \"target\": \"s390x\", \"cpu-state\": \"operating\"}]"
    );
}

#[test]
fn text_is_written_in_ascii() {
    assert_eq!(
        String::from_utf8(encoded("\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{e9}\u{1f600}")).unwrap(),
        r#""\"\\/\b\f\n\r\t\u0001\u007F\u00E9\uD83D\uDE00""#
    );
    assert_eq!(encoded(&f64::INFINITY), b"null");
}

#[test]
fn an_event_survives_the_way_to_the_monitor() {
    let event = Event::GuestPanicked(qmp::GuestPanickedEvent {
        action: qmp::GuestPanicAction::Pause,
        info: Some(qmp::GuestPanicInformation::S390(qmp::GuestPanicInformationS390 {
            core: 0,
            psw_mask: u64::MAX,
            psw_addr: 0,
            reason: qmp::S390CrashReason::DisabledWait,
        })),
    });
    let mut data = Vec::new();
    event.encode_data(&mut data);
    let members = serde_json::from_slice(&data).unwrap();
    assert_eq!(Event::decode(event.name(), members), Ok(event));
    assert_eq!(Event::decode("STOP", Map::new()), Ok(Event::Stop));
    assert!(Event::decode("NOPE", Map::new()).is_err());
}

#[test]
fn only_events_that_may_flood_are_throttled() {
    let change = |offset| {
        Event::RtcChange(qmp::RtcChangeEvent {
            offset,
            qom_path: "/machine/rtc".to_owned(),
        })
    };
    assert_eq!(change(1).throttle_key(), change(2).throttle_key());
    assert!(change(1).throttle_key().is_some());
    assert_eq!(Event::Stop.throttle_key(), None);
}

#[test]
fn every_name_of_a_command_finds_it_where_it_exists() {
    use crate::target::Target;
    for command in &qmp::COMMANDS {
        assert_eq!(command.id.info(), command);
        for target in [Target::X86_64, Target::S390x] {
            let found = qmp::find_command(target, command.name).map(|found| found.id);
            assert_eq!(found, command.targets.contains(&target).then_some(command.id));
        }
    }
}

#[test]
fn what_a_client_is_to_do_without_is_refused_by_name() {
    let with = |deprecated, unstable| Policy { deprecated, unstable };
    let strict = with(Reaction::Reject, Reaction::Accept);
    let add = |backend| object(json!({"id": "c", "backend": backend}));
    let decode = |backend, policy| Call::decode(CommandId::ChardevAdd, add(backend), policy);
    let old_value = json!({"type": "memory", "data": {}});
    let address = json!({"type": "unix", "data": {"path": "/a"}});
    let old_member = json!({"type": "socket", "data": {"addr": address, "reconnect": 1}});
    let new = json!({"type": "socket", "data": {"addr": address}});

    let error = |backend, policy| decode(backend, policy).unwrap_err().desc;
    assert_eq!(
        error(old_value.clone(), strict),
        "Deprecated value memory disabled by policy"
    );
    assert_eq!(
        error(old_member.clone(), strict),
        "Deprecated parameter reconnect disabled by policy"
    );
    for policy in [Policy::ACCEPT_ALL, with(Reaction::Accept, Reaction::Reject)] {
        assert!(decode(old_value.clone(), policy).is_ok());
        assert!(decode(old_member.clone(), policy).is_ok());
    }
    assert!(decode(new, strict).is_ok());

    let arguments = || {
        object(
            json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096, "x-use-canonical-path-for-ramblock-id": true}),
        )
    };
    let add = |policy| Call::decode(CommandId::ObjectAdd, arguments(), policy);
    assert!(add(strict).is_ok());
    assert_eq!(
        add(with(Reaction::Accept, Reaction::Reject)).unwrap_err().desc,
        "Unstable parameter x-use-canonical-path-for-ramblock-id disabled by policy"
    );

    let command = strict.check(Feature::Deprecated, "command", "old").unwrap_err();
    assert_eq!(
        command,
        Error::command_not_found("Deprecated command old disabled by policy")
    );
}
