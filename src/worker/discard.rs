//! Files of memory backends whose content is given up with the object (`discard-data`).

use std::fs::File;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::qom::objects::{FileAccess, MemoryBackendConfig, MemorySource};
use crate::report;

/// The part of a file that belongs to a backend.
#[derive(Debug)]
pub(super) struct Discard {
    file: File,
    offset: i64,
    len: i64,
}

impl Discard {
    /// What is to be given up once a backend goes; none when nothing is. Private memory leaves nothing in its file, and a
    /// file without a name goes by itself.
    pub(super) fn of(config: &MemoryBackendConfig) -> Option<Self> {
        let MemorySource::File {
            path,
            offset,
            access: FileAccess::Writable,
            discard: true,
            ..
        } = &config.source
        else {
            return None;
        };
        if !config.share || !path.is_file() {
            return None;
        }
        let file = File::options().write(true).open(path);
        let file = file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "discard-data"));
        Some(Self {
            file: file.ok()?,
            offset: i64::try_from(*offset).ok()?,
            len: i64::try_from(config.size).ok()?,
        })
    }

    /// Gives it up: the file reads as zeros there and takes no room. Its length stays.
    pub(super) fn run(self) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let Err(error) = fallocate(&self.file, flags, self.offset, self.len) {
            report::warning(format!("discard-data: {}", error.desc()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use serde_json::json;

    use super::*;
    use crate::qom::Registry;

    #[test]
    fn what_shared_memory_left_in_its_file_is_given_up_where_asked_for() {
        let path = std::env::temp_dir().join(format!("remuda-discard-{}", std::process::id()));
        for (more, is_kept) in [
            (json!({"share": true, "discard-data": true}), false),
            (json!({"share": true}), true),
            (json!({"discard-data": true}), true),
            (json!({"share": true, "discard-data": true, "readonly": true}), true),
        ] {
            std::fs::write(&path, [7; 12288]).unwrap();
            let mut given = json!({"size": 4096, "offset": 4096, "mem-path": path});
            given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let values = Registry::new().values("memory-backend-file", given.as_object().unwrap(), []);
            let config = MemoryBackendConfig::from_values("memory-backend-file", &values.unwrap()).unwrap();
            if let Some(discard) = Discard::of(&config) {
                discard.run();
            }
            let bytes = std::fs::read(&path).unwrap();
            let expected = if is_kept { 7 } else { 0 };
            assert!(bytes[4096..8192].iter().all(|byte| *byte == expected), "{more}");
            assert_eq!((bytes.len(), bytes[4095], bytes[8192]), (12288, 7, 7), "{more}");
            assert_eq!(std::fs::metadata(&path).unwrap().size(), 12288);
        }
        std::fs::remove_file(&path).unwrap();
    }
}
