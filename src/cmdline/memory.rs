//! `-m`: memory at start, slots and the most there may ever be.

use serde_json::{Map, Value, json};

use super::builder::Builder;
use super::error::Error;
use super::opts::Opts;
use crate::machine::config::MemoryConfig;
use crate::qapi::text;
use crate::qom::objects::is_memory_backend;
use crate::target::Target;

/// What a guest gets when nothing was asked for.
const DEFAULT_SIZE: u64 = 128 << 20;
/// Sizes are rounded up to this.
const GRANULE: u64 = 8 << 10;

/// `-m`: kept with the machine properties, where `-machine memory.size=` puts the same.
pub(super) fn apply(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let mut memory = Map::new();
    if let Some(size) = opts.size("size", 1 << 20)? {
        memory.insert("size".to_owned(), json!(size.to_string()));
    }
    if let Some(size) = opts.size("maxmem", 1)? {
        memory.insert("max-size".to_owned(), json!(size.to_string()));
    }
    if let Some(slots) = opts.number("slots") {
        memory.insert("slots".to_owned(), json!(slots.to_string()));
    }
    super::machine::merge_section(builder, "memory", memory)
}

/// `-mem-path`.
pub(super) fn apply_path(builder: &mut Builder, path: &str) -> Result<(), Error> {
    builder.mem_path = Some(path.to_owned());
    Ok(())
}

/// `-mem-prealloc`.
pub(super) fn apply_prealloc(builder: &mut Builder) -> Result<(), Error> {
    builder.mem_prealloc = true;
    Ok(())
}

/// Bytes of the memory backend with this id, if there is one that says.
pub(super) fn backend_size(objects: &[Map<String, Value>], id: &str) -> Option<u64> {
    let backend = objects.iter().find(|object| is_memory_backend(object, id))?;
    match backend.get("size")? {
        Value::String(text) => text::parse_size(text, 1).ok(),
        size => size.as_u64(),
    }
}

/// Checks sizes against each other. `backend_size` is what the guest gets when no size is given and there is a backend
/// for it.
pub(super) fn complete(map: &Map<String, Value>, backend_size: Option<u64>) -> Result<MemoryConfig, Error> {
    let (mut size, mut slots, mut max_size) = (0, None, None);
    for (key, value) in map {
        let text = value.as_str().unwrap_or_default();
        let parsed = text::parse_size(text, 1).map_err(|_| Error::expects(&format!("memory.{key}"), "a size value"))?;
        match key.as_str() {
            "size" => size = parsed,
            "slots" => slots = Some(parsed),
            "max-size" => max_size = Some(parsed),
            _ => return Err(Error::new(format!("Parameter 'memory.{key}' is unexpected"))),
        }
    }
    if !map.contains_key("size") {
        size = backend_size.unwrap_or_default();
    }
    let size = if size == 0 { DEFAULT_SIZE } else { size };
    let size = size
        .checked_next_multiple_of(GRANULE)
        .ok_or_else(|| Error::new("ram size too large"))?;
    let Some(max_size) = max_size else {
        return match slots {
            Some(_) => Err(Error::new("slots specified but no max-size")),
            None => Ok(MemoryConfig {
                size,
                slots: 0,
                max_size: size,
            }),
        };
    };
    let slots = slots.unwrap_or(0);
    if max_size < size {
        return Err(Error::new(format!(
            "invalid value of maxmem: maximum memory size ({max_size:#x}) must be at least the initial memory size \
             ({size:#x})"
        )));
    }
    if slots != 0 && max_size == size {
        return Err(Error::new(format!(
            "invalid value of maxmem: memory slots were specified but maximum memory size ({max_size:#x}) is equal to \
             the initial memory size ({size:#x})"
        )));
    }
    Ok(MemoryConfig { size, slots, max_size })
}

/// Turns `-mem-path` and `-mem-prealloc` into the memory backend they stand for, where none is named. `-mem-prealloc` is
/// for those that are named as well. The machine `none` has memory only if `is_asked_for`, and no other object for it.
pub(super) fn add_backend(builder: &mut Builder, is_asked_for: bool) -> Result<(), Error> {
    let is_named = builder.machine.contains_key("memory-backend");
    if is_named && builder.mem_path.is_some() {
        return Err(Error::new(
            "'-mem-path' can't be used together with '-machine memory-backend'",
        ));
    }
    let machine = &mut builder.config.machine;
    machine.mem_prealloc = builder.mem_prealloc.then_some(machine.smp.cpus.into());
    let mut objects = std::mem::take(&mut machine.objects);
    objects.iter_mut().for_each(|object| machine.preallocate(object));
    machine.objects = objects;
    let nodes_have_their_own = machine.numa.iter().any(|node| node.parameters.contains_key("memdev"));
    let is_none = builder.machine.get("type").is_some_and(|kind| kind == "none");
    let is_wanted = match is_none {
        true => is_asked_for,
        false => builder.mem_path.is_some() || builder.mem_prealloc,
    };
    if is_named || nodes_have_their_own || !is_wanted {
        return Ok(());
    }
    let id = match builder.config.target {
        _ if is_none => "ram",
        Target::X86_64 => "pc.ram",
        Target::S390x => "s390.ram",
    };
    if is_none
        && machine
            .objects
            .iter()
            .any(|object| object.get("id").is_some_and(|taken| taken == id))
    {
        return Err(Error::new(format!(
            "object name '{id}' is reserved for the default RAM backend, it can't be used for any other purposes. Change \
             the object's 'id' to something else"
        )));
    }
    let mut backend = Map::new();
    let kind = match &builder.mem_path {
        Some(_) => "memory-backend-file",
        None => "memory-backend-ram",
    };
    backend.insert("qom-type".to_owned(), json!(kind));
    backend.insert("id".to_owned(), json!(id));
    backend.insert("size".to_owned(), json!(machine.memory.size));
    if let Some(path) = builder.mem_path.take() {
        backend.insert("mem-path".to_owned(), json!(path));
    }
    machine.preallocate(&mut backend);
    machine.objects.push(backend);
    builder.machine.insert("memory-backend".to_owned(), json!(id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cmdline::tests::{config, message};

    #[test]
    fn sizes_slots_and_rounding() {
        let memory = |args: &[&str]| {
            let memory = config(args).machine.memory;
            (memory.size, memory.slots, memory.max_size)
        };
        assert_eq!(memory(&[]), (128 << 20, 0, 128 << 20));
        assert_eq!(memory(&["-m", "0"]), (128 << 20, 0, 128 << 20));
        assert_eq!(memory(&["-m", "256"]), (256 << 20, 0, 256 << 20));
        assert_eq!(memory(&["-m", "size=262145k"]), (268_443_648, 0, 268_443_648));
        assert_eq!(memory(&["-m", "1G", "-m", "slots=2,maxmem=2G"]), (1 << 30, 2, 2 << 30));
        assert_eq!(memory(&["-machine", "none,memory.size=1.5G"]).0, 3 << 29);
    }

    #[test]
    fn sizes_that_do_not_fit() {
        assert_eq!(
            message(&["-m", "12Z"]),
            "-m 12Z: Parameter 'size' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        );
        assert_eq!(
            message(&["-m", "16E"]),
            "-m 16E: Value '16E' is out of range for parameter 'size'"
        );
        assert_eq!(
            message(&["-m", "18446744073709551615"]),
            "-m 18446744073709551615: Value '18446744073709551615' is out of range for parameter 'size'"
        );
        assert_eq!(message(&["-m", "18446744073709551615B"]), "ram size too large");
        assert_eq!(message(&["-m", "1G,slots=2"]), "slots specified but no max-size");
        assert_eq!(
            message(&["-m", "1G,maxmem=512M"]),
            "invalid value of maxmem: maximum memory size (0x20000000) must be at least the initial memory size \
             (0x40000000)"
        );
        assert_eq!(message(&["-m", "foo=1"]), "-m foo=1: Invalid parameter 'foo'");
    }

    #[test]
    fn a_backend_says_how_large_memory_is_and_is_fetched_in_advance() {
        let backend = [
            "-object",
            "memory-backend-ram,id=m,size=192M",
            "-machine",
            "memory-backend=m",
        ];
        let with = |more: &[&str]| config(&[&backend[..], more].concat()).machine;
        assert_eq!(with(&[]).memory.size, 192 << 20);
        assert_eq!(with(&["-m", "64"]).memory.size, 64 << 20);
        assert_eq!(with(&["-m", "slots=2,maxmem=1G"]).memory.size, 192 << 20);
        let objects = with(&["-mem-prealloc"]).objects;
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0]["prealloc"], true);
        let named = [&backend[..], &["-mem-path", "/hp"]].concat();
        assert!(message(&named).contains("can't be used together with"));
        let node = [
            "-object",
            "memory-backend-ram,id=m,size=1M,prealloc=off",
            "-numa",
            "node,memdev=m",
        ];
        let machine = config(&[&node[..], &["-mem-path", "/hp", "-mem-prealloc"]].concat()).machine;
        assert_eq!((machine.objects.len(), machine.machine_props.len()), (1, 0));
        assert_eq!(machine.objects[0]["prealloc"], "off");
    }

    #[test]
    fn a_machine_without_a_guest_has_the_memory_it_is_asked_for() {
        let machine = config(&["-machine", "none", "-m", "200"]).machine;
        assert_eq!(
            serde_json::Value::Object(machine.objects[0].clone()),
            serde_json::json!({"qom-type": "memory-backend-ram", "id": "ram", "size": 209_715_200})
        );
        for none in [
            &["-machine", "none"][..],
            &["-machine", "none", "-m", "0", "-mem-prealloc"],
        ] {
            assert_eq!(config(none).machine.objects, []);
        }
        let taken = [
            "-machine",
            "none",
            "-m",
            "200",
            "-object",
            "memory-backend-ram,id=ram,size=1M",
        ];
        assert!(message(&taken).contains("object name 'ram' is reserved"));
    }

    #[test]
    fn a_path_for_memory_is_a_backend() {
        let machine = config(&[
            "-machine",
            "q35",
            "-m",
            "64",
            "-smp",
            "2",
            "-mem-prealloc",
            "-mem-path",
            "/hp",
        ])
        .machine;
        assert_eq!(
            serde_json::Value::Object(machine.objects[0].clone()),
            serde_json::json!({"qom-type": "memory-backend-file", "id": "pc.ram", "size": 67_108_864, "mem-path": "/hp",
                "prealloc": true, "prealloc-threads": 2})
        );
        assert_eq!(
            machine.machine_props,
            [("memory-backend".to_owned(), "pc.ram".to_owned())]
        );
    }
}
