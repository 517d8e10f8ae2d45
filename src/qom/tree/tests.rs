use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use serde_json::Map;

use super::super::testing::registry;
use super::*;
use crate::qapi::ErrorClass;
use crate::qom::Values;

/// A machine with a port on a bus, a backend, and two objects of one name.
fn tree() -> Tree {
    let registry = registry();
    let mut tree = Tree::new();
    let machine = Simple::new("test-machine").with("memory-backend", "link<memory-backend>", json!("/objects/ram"));
    tree.set_machine(Arc::new(machine));
    let given = json!({"driver": "test-port", "id": "p1", "addr": "2.1"});
    let values = registry.values("test-port", given.as_object().unwrap(), []).unwrap();
    let port = Simple::device(
        &registry,
        "test-port",
        &values,
        Some("p1"),
        Some("/machine/pcie.0"),
        false,
    );
    tree.insert("/machine/peripheral", "p1", Arc::new(port)).unwrap();
    let values = registry
        .values("memory-backend-ram", json!({"size": 4096}).as_object().unwrap(), [])
        .unwrap();
    let ram = Simple::from_values(&registry, "memory-backend-ram", &values);
    tree.insert("/objects", "ram", Arc::new(ram)).unwrap();
    for parent in ["/objects", "/chardevs"] {
        tree.insert(parent, "twin", Arc::new(Simple::new("container"))).unwrap();
    }
    tree
}

fn fails<E: Into<Error>>(result: Result<impl Sized, E>) -> (ErrorClass, String) {
    let error: Error = result.err().unwrap().into();
    (error.class, error.desc)
}

#[test]
fn lists_properties_and_children() {
    let tree = tree();
    assert_eq!(
        tree.list("/").unwrap(),
        [
            json!({"name": "type", "type": "string"}),
            json!({"name": "chardevs", "type": "child<container>"}),
            json!({"name": "machine", "type": "child<test-machine>"}),
            json!({"name": "objects", "type": "child<container>"}),
        ]
    );
    let peripheral = tree.list("/machine/peripheral").unwrap();
    assert_eq!(peripheral[1], json!({"name": "p1", "type": "child<test-port>"}));
    let port = tree.list("p1").unwrap();
    assert!(port.contains(&json!({"name": "addr", "type": "str"})));
    assert!(port.contains(&json!({"name": "parent_bus", "type": "link<bus>"})));
}

#[test]
fn reads_values() {
    let tree = tree();
    assert_eq!(tree.get("/machine/peripheral/p1", "addr").unwrap(), 17);
    assert_eq!(tree.get("/machine/peripheral/p1", "realized").unwrap(), true);
    assert_eq!(tree.get("p1", "type").unwrap(), "test-port");
    assert_eq!(tree.get("/machine", "peripheral").unwrap(), "/machine/peripheral");
    assert_eq!(tree.get("/", "machine").unwrap(), "/machine");
    assert_eq!(
        fails(tree.get("p1", "nope")),
        (
            ErrorClass::GenericError,
            "Property 'test-port.nope' not found".to_owned()
        )
    );
}

#[test]
fn paths_absolute_and_partial() {
    let tree = tree();
    assert_eq!(tree.canonical_path("//objects//ram/").unwrap(), "/objects/ram");
    assert_eq!(tree.canonical_path("ram/").unwrap(), "/objects/ram");
    assert_eq!(tree.canonical_path("peripheral/p1").unwrap(), "/machine/peripheral/p1");
    assert_eq!(tree.canonical_path("/machine/memory-backend").unwrap(), "/objects/ram");
    assert_eq!(tree.canonical_path("/").unwrap(), "/");
    let no_device = |path: &str| (ErrorClass::DeviceNotFound, format!("Device '{path}' not found"));
    assert_eq!(fails(tree.list("/nope")), no_device("/nope"));
    assert_eq!(fails(tree.list("nope")), no_device("nope"));
    assert_eq!(
        fails(tree.list("twin")),
        (ErrorClass::GenericError, "Path 'twin' is ambiguous".to_owned())
    );
    assert_eq!(fails(tree.list("")).1, "Path '' is ambiguous");
}

#[test]
fn links_in_a_circle_lead_nowhere() {
    let mut tree = Tree::new();
    let looped = Simple::new("loop").with("next", "link<loop>", json!("/objects/a/next"));
    tree.insert("/objects", "a", Arc::new(looped)).unwrap();
    assert_eq!(fails(tree.list("/objects/a/next")).0, ErrorClass::DeviceNotFound);
}

#[test]
fn sets_what_can_be_set() {
    let mut tree = tree();
    let number = Arc::new(AtomicI64::new(1));
    let (get, set) = (Arc::clone(&number), Arc::clone(&number));
    let object = Simple::new("iothread").with_settable(
        "poll-max-ns",
        "int",
        move || json!(get.load(Ordering::Relaxed)),
        move |value| {
            set.store(value.as_i64().unwrap_or(0), Ordering::Relaxed);
            Ok(())
        },
    );
    tree.insert("/objects", "io0", Arc::new(object)).unwrap();
    tree.set("io0", "poll-max-ns", &json!(5)).unwrap();
    assert_eq!(tree.get("io0", "poll-max-ns").unwrap(), 5);
    assert_eq!(
        fails(tree.set("p1", "addr", &json!(1))).1,
        "Attempt to set property 'addr' on device 'p1' (type 'test-port') after it was realized"
    );
    assert_eq!(
        fails(tree.set("p1", "type", &json!("x"))).1,
        "Property 'test-port.type' is not writable"
    );
    assert_eq!(
        fails(tree.set("p1", "nope", &json!("x"))).1,
        "Property 'test-port.nope' not found"
    );
}

#[test]
fn list_get_gives_values_of_many() {
    let tree = tree();
    let reply = tree.list_get(["/objects/ram", "p1"]).unwrap();
    let ram = reply[0]["properties"].as_array().unwrap();
    assert!(ram.contains(&json!({"name": "size", "type": "int", "value": 4096})));
    assert_eq!(fails(tree.list_get(["p1", "/nope"])).0, ErrorClass::DeviceNotFound);
}

#[test]
fn objects_come_and_go() {
    let mut tree = tree();
    let anonymous = || {
        Arc::new(Simple::device(
            &registry(),
            "test-port",
            &Values::default(),
            None,
            None,
            true,
        ))
    };
    assert_eq!(
        tree.insert("/machine/peripheral-anon", "device[*]", anonymous())
            .unwrap(),
        "/machine/peripheral-anon/device[0]"
    );
    assert_eq!(
        tree.insert("/machine/peripheral-anon", "device[*]", anonymous())
            .unwrap(),
        "/machine/peripheral-anon/device[1]"
    );
    assert_eq!(
        fails(tree.insert("/objects", "ram", anonymous())).1,
        "attempt to add duplicate property 'ram' to object (type 'container')"
    );
    assert!(tree.remove("/objects", "ram").is_some());
    assert!(tree.remove("/objects", "ram").is_none());
    assert_eq!(
        fails(tree.object("/objects/ram").map(|object| object.type_name().to_owned())).0,
        ErrorClass::DeviceNotFound
    );
    let values = registry().values("test-port", &Map::new(), []).unwrap();
    assert!(!values.is_given("addr"));
}

proptest! {
    #[test]
    fn any_path_ends(path in "[/.a-z0-9]{0,40}", property in "[a-z-]{0,8}") {
        let tree = tree();
        if let Ok(canonical) = tree.canonical_path(&path) {
            let again = tree.canonical_path(&canonical).unwrap();
            prop_assert_eq!(again, canonical);
        }
        let _ = tree.get(&path, &property);
    }
}
