use serde_json::json;

use super::*;

const DEFAULTS: BackendDefaults = BackendDefaults {
    merge: true,
    dump: true,
};

fn backend(value: &Value) -> Result<Backend, BackendError> {
    Ok(Backend::from_object(&Registry::new(), value.as_object().unwrap(), DEFAULTS)?.expect("a memory backend"))
}

#[test]
fn shared_memory_shows_the_same_bytes_in_both_mappings() {
    for value in [
        json!({"qom-type": "memory-backend-memfd", "id": "pc.ram", "size": "2M"}),
        json!({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 2_097_152, "share": true}),
    ] {
        let backend = backend(&value).unwrap();
        assert!(backend.config.share);
        let (one, other) = (backend.map().unwrap(), backend.map().unwrap());
        one.write(1 << 20, &[0xab, 0xcd]).unwrap();
        let mut bytes = [0; 2];
        other.read(1 << 20, &mut bytes).unwrap();
        assert_eq!((bytes, other.len()), ([0xab, 0xcd], 2 << 20));
    }
}

#[test]
fn private_memory_can_be_fetched_in_advance() {
    let value =
        json!({"qom-type": "memory-backend-ram", "id": "m", "size": "8M", "prealloc": "on", "prealloc-threads": "3"});
    let backend = backend(&value).unwrap();
    let block = backend.map().unwrap();
    let mut last = [0xff; 8];
    block.read((8 << 20) - 8, &mut last).unwrap();
    assert_eq!(last, [0; 8]);
}

#[test]
fn a_file_is_made_and_grown() {
    let dir = std::env::temp_dir().join(format!("remuda-backend-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("ram");
    let value = json!({"qom-type": "memory-backend-file", "id": "m", "size": "1M", "mem-path": path, "share": "on"});
    let backend = backend(&value).unwrap();
    backend.map().unwrap().write(5, &[7]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!((bytes.len(), bytes[5]), (1 << 20, 7));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_file_that_is_only_read_is_a_template_or_rom() {
    let file = std::env::temp_dir().join(format!("remuda-template-{}", std::process::id()));
    std::fs::write(&file, [7; 8192]).unwrap();
    let make = |more: Value| {
        let mut value = json!({"qom-type": "memory-backend-file", "id": "m", "size": 8192, "mem-path": file});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        backend(&value)
    };
    let template = make(json!({"readonly": true, "rom": "off"})).unwrap();
    assert!(!template.is_rom());
    let memory = template.map().unwrap();
    memory.write(5, &[1]).unwrap();
    let mut bytes = [0; 2];
    memory.read(5, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 7]);
    assert_eq!(std::fs::read(&file).unwrap(), [7; 8192]);
    for share in [true, false] {
        let rom = make(json!({"readonly": true, "share": share})).unwrap();
        assert!(rom.is_rom());
        let memory = rom.map().unwrap();
        memory.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 7]);
    }
    let large = make(json!({"size": 16384})).unwrap_err().to_string();
    let expected = "m backing store size 0x2000 is too small for 'size' option 0x4000 plus 'offset' option 0x0";
    assert_eq!(large, expected);
    for (path, reason) in [
        ("/nonexistent/f", "No such file or directory"),
        ("/tmp", "Is a directory"),
    ] {
        let missing = make(json!({"mem-path": path, "readonly": true}))
            .unwrap_err()
            .to_string();
        assert_eq!(
            missing,
            format!("can't open backing store {path} for guest RAM: {reason}")
        );
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_file_is_mapped_where_it_is_asked_for() {
    let file = std::env::temp_dir().join(format!("remuda-aligned-{}", std::process::id()));
    std::fs::write(&file, [7; 8192]).unwrap();
    let make = |align: u64, offset: u64| {
        backend(
            &json!({"qom-type": "memory-backend-file", "id": "m", "size": 4096, "mem-path": file,
                        "align": align, "offset": offset}),
        )
    };
    let block = make(1 << 30, 4096).unwrap().map().unwrap();
    assert_eq!(block.mapping().as_ptr().align_offset(1 << 30), 0);
    let mut bytes = [0; 2];
    block.read(4094, &mut bytes).unwrap();
    assert_eq!(bytes, [7, 7]);
    for (align, offset, text) in [
        (3, 0, "alignment 0x3 must be multiples of page size 0x1000"),
        (12288, 0, "alignment 0x3000 must be a power of two"),
        (0, 100, "offset 0x64 must be multiples of page size 0x1000"),
    ] {
        assert_eq!(make(align, offset).unwrap_err().to_string(), text);
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn sizes_are_whole_pages() {
    let value = json!({"qom-type": "memory-backend-memfd", "id": "m", "size": 5000});
    assert_eq!(
        backend(&value).unwrap_err().to_string(),
        "backend 'memory-backend-memfd' memory size must be multiple of 4 KiB"
    );
}
