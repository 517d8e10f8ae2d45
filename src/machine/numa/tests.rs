use serde_json::{Value, json};

use super::*;

/// Two sockets of two cores.
fn smp() -> SmpConfig {
    SmpConfig {
        cpus: 4,
        max_cpus: 4,
        drawers: 1,
        books: 1,
        sockets: 2,
        dies: 1,
        clusters: 1,
        modules: 1,
        cores: 2,
        threads: 1,
    }
}

/// The nodes of `-numa` arguments, with backends `a`, `b` and `c`.
fn numa(arguments: &[&str]) -> Result<Numa, String> {
    let entry = |argument: &&str| {
        let mut parameters = Map::new();
        for (index, pair) in argument.split(',').enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or(("type", pair));
            assert!(index > 0 || name == "type");
            match parameters.remove(name) {
                None => parameters.insert(name.to_owned(), json!(value)),
                Some(first) => parameters.insert(name.to_owned(), json!([first, value])),
            };
        }
        Entry {
            location: format!("-numa {argument}"),
            parameters,
        }
    };
    let entries: Vec<Entry> = arguments.iter().map(entry).collect();
    let object = |id: &str, kind: &str| match json!({"qom-type": kind, "id": id, "size": "64M"}) {
        Value::Object(object) => object,
        _ => unreachable!(),
    };
    let objects = [
        object("a", "memory-backend-ram"),
        object("b", "memory-backend-memfd"),
        object("c", "memory-backend-ram"),
        object("thread", "iothread"),
    ];
    Numa::from_entries(&entries, &objects, &smp()).map_err(|error| error.desc)
}

fn places(numa: &Numa) -> Vec<Option<u16>> {
    (0..4).map(|cpu| numa.node_of_cpu(cpu)).collect()
}

#[test]
fn nodes_take_the_cpus_and_backends_named() {
    let numa = numa(&[
        "node,nodeid=0,cpus=0-1,memdev=a",
        "node,nodeid=1,cpus=2,cpus=3,memdev=b",
        "dist,src=0,dst=1,val=21",
    ])
    .unwrap();
    assert_eq!(places(&numa), [Some(0), Some(0), Some(1), Some(1)]);
    assert_eq!(numa.nodes[&1].memdev.as_deref(), Some("b"));
    assert_eq!(
        [numa.distance(0, 0), numa.distance(0, 1), numa.distance(1, 0)],
        [10, 21, 21]
    );
    assert!(numa.warnings.is_empty());
}

#[test]
fn cpus_may_be_named_by_their_place() {
    let numa = numa(&[
        "node,nodeid=0",
        "node,nodeid=1",
        "cpu,node-id=1,socket-id=0",
        "cpu,node-id=0,socket-id=1,core-id=0",
        "cpu,node-id=1,socket-id=1,core-id=1,thread-id=0",
    ])
    .unwrap();
    assert_eq!(places(&numa), [Some(1), Some(1), Some(0), Some(1)]);
}

#[test]
fn cpus_that_no_node_names_belong_to_node_0_and_are_told_of() {
    let some = numa(&["node", "node,cpus=1", "node"]).unwrap();
    assert_eq!(places(&some), [Some(0), Some(1), Some(0), Some(0)]);
    assert_eq!(
        some.warnings[0],
        "CPU(s) not present in any NUMA nodes: CPU 0 [socket-id: 0, core-id: 0, thread-id: 0], \
         CPU 2 [socket-id: 1, core-id: 0, thread-id: 0], CPU 3 [socket-id: 1, core-id: 1, thread-id: 0]"
    );
    let none = numa(&["node", "node"]).unwrap();
    assert_eq!(places(&none), [Some(0), Some(0), Some(1), Some(1)]);
    assert!(none.warnings.is_empty());
}

#[test]
fn distances_are_complete_or_refused() {
    let three = |distances: &[&str]| {
        let nodes = ["node", "node", "node"];
        numa(&[&nodes[..], distances].concat())
    };
    let one_way = three(&[
        "dist,src=0,dst=1,val=20",
        "dist,src=2,dst=0,val=30",
        "dist,src=1,dst=2,val=40",
    ])
    .unwrap();
    assert_eq!(
        [one_way.distance(1, 0), one_way.distance(0, 2), one_way.distance(2, 1)],
        [20, 30, 40]
    );
    for distances in [&["dist,src=0,dst=1,val=20"][..], &["dist,src=0,dst=0,val=10"]] {
        let error = three(distances).unwrap_err();
        assert!(error.starts_with("The distance between node 0 and "), "{error}");
        assert!(error.contains(" is missing"), "{error}");
    }
    let mixed = three(&[
        "dist,src=0,dst=1,val=20",
        "dist,src=1,dst=0,val=21",
        "dist,src=0,dst=2,val=30",
        "dist,src=1,dst=2,val=30",
    ]);
    assert!(
        mixed
            .unwrap_err()
            .starts_with("At least one asymmetrical pair of distances")
    );
}

#[test]
fn what_is_wrong_begins_with_the_option() {
    let hmat = "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on before \
                using any of hmat specific options";
    let invalid = "NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID";
    let invalid = format!("Invalid node-id=7, {invalid}");
    let mixing = "numa configuration should use either mem= or memdev=,mixing both is not allowed";
    let no_mem = "Parameter -numa node,mem is not supported by this machine type\nUse -numa node,memdev instead";
    let no_source = "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.";
    for (wrong, complaint) in [
        ("node,nodeid=0", "Duplicate NUMA nodeid: 0"),
        ("node,nodeid=128", "Max number of NUMA nodes reached: 128"),
        ("node,nodeid=70000", "Parameter 'nodeid' expects uint16_t"),
        ("node,nodeid=x", "Parameter 'nodeid' expects a uint64 value"),
        ("node,cpus=7", "CPU index (7) should be smaller than maxcpus (4)"),
        ("node,cpus=2-1", "Parameter 'cpus' expects a uint64 value or range"),
        ("node,cpus=0", "CPU is already assigned to node-id: 0"),
        ("node,mem=64M", mixing),
        ("node,memdev=nosuch", "memdev=nosuch is ambiguous"),
        ("node,memdev=thread", "memdev=thread is ambiguous"),
        ("node,initiator=0", hmat),
        ("hmat-cache,node-id=0", hmat),
        ("node,foo=1", "Invalid parameter 'foo'"),
        ("dist,src=0,dst=5,val=20", no_source),
        ("dist,src=0,dst=1", "Parameter 'val' is missing"),
        (
            "dist,src=200,dst=0,val=10",
            "Parameter 'src' expects an integer between 0 and 127",
        ),
        (
            "dist,src=0,dst=0,val=9",
            "NUMA distance (9) is invalid, it shouldn't be less than 10.",
        ),
        ("dist,src=0,dst=0,val=20", "Local distance of node 0 should be 10."),
        ("dist,src=0,dst=0,val=300", "Parameter 'val' expects uint8_t"),
        ("cpu,socket-id=0", "Missing mandatory node-id property"),
        ("cpu,node-id=7,socket-id=0", invalid.as_str()),
        ("cpu,node-id=0,cluster-id=1", "cluster-id is not supported"),
        ("cpu,node-id=0,die-id=0", "die-id is not supported"),
        ("cpu,node-id=0,socket-id=9", "no match found"),
        ("cpu,node-id=0,core-id=x", "Parameter 'core-id' expects an int64 value"),
    ] {
        let error = numa(&["node,cpus=0,memdev=a", wrong]).unwrap_err();
        assert_eq!(error, format!("-numa {wrong}: {complaint}"));
    }
    assert_eq!(
        numa(&["node,mem=64M"]).unwrap_err(),
        format!("-numa node,mem=64M: {no_mem}")
    );
    assert_eq!(
        numa(&["node", "node,nodeid=2"]).unwrap_err(),
        "numa: Node ID missing: 1"
    );
}
