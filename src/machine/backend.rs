//! Memory backends: `memory-backend-ram`, `-file` and `-memfd`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::Path,
    sync::Arc,
};

use nix::{
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        statfs::fstatfs,
    },
};
use serde_json::{Map, Value};
use vm_memory::FileOffset;
use vm_memory::mmap::MmapRegionError;

use super::host_memory::{self, Advice};
use super::info::MemdevInfo;
use crate::mem::{RamBlock, RamMapping};
use crate::qapi::Error;
use crate::qom::Registry;
use crate::qom::objects::{FileAccess, MemoryBackendConfig, MemorySource, NumaPolicy};
use crate::report::reason;

/// QOM types of memory backends.
const QOM_TYPES: [&str; 3] = ["memory-backend-ram", "memory-backend-file", "memory-backend-memfd"];

/// `HUGETLBFS_MAGIC` (linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// A memory backend, with its file opened if it has one.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Id of the object.
    pub id: String,
    /// QOM type name.
    pub qom_type: &'static str,
    /// What is asked of it.
    pub config: MemoryBackendConfig,
    file: Option<Arc<File>>,
    file_offset: u64,
    page_size: u64,
    /// What its address in this process is a multiple of, where that is more than a page.
    align: Option<u64>,
}

/// What `-machine` says about memory in general.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackendDefaults {
    /// `mem-merge`.
    pub(crate) merge: bool,
    /// `dump-guest-core`.
    pub(crate) dump: bool,
}

impl Backend {
    /// The backend that `-m` alone stands for.
    pub(crate) fn anonymous(id: &str, size: u64, defaults: BackendDefaults) -> Self {
        let config = MemoryBackendConfig {
            size,
            share: false,
            prealloc: false,
            prealloc_threads: 1,
            merge: defaults.merge,
            dump: defaults.dump,
            reserve: true,
            policy: NumaPolicy::Default,
            host_nodes: Vec::new(),
            source: MemorySource::Anonymous,
        };
        Self {
            id: id.to_owned(),
            qom_type: "memory-backend-ram",
            config,
            file: None,
            file_offset: 0,
            page_size: host_page_size(),
            align: None,
        }
    }

    /// Opens the backend that an `-object` entry describes; none when it is no memory backend.
    pub(crate) fn from_object(
        registry: &Registry,
        object: &Map<String, Value>,
        defaults: BackendDefaults,
    ) -> Result<Option<Self>, Error> {
        let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let qom_type = text("qom-type");
        if !QOM_TYPES.contains(&qom_type) {
            return Ok(None);
        }
        let values = registry.values(qom_type, object, [])?;
        let mut config = MemoryBackendConfig::from_values(qom_type, &values)?;
        config.merge = if values.is_given("merge") {
            config.merge
        } else {
            defaults.merge
        };
        config.dump = if values.is_given("dump") {
            config.dump
        } else {
            defaults.dump
        };
        Self::open(text("id"), qom_type, config)
    }

    /// Opens the backend `id` of that type; none when that is no memory backend. May wait for a file.
    fn open(id: &str, qom_type: &str, config: MemoryBackendConfig) -> Result<Option<Self>, Error> {
        let Some(qom_type) = QOM_TYPES.into_iter().find(|known| *known == qom_type) else {
            return Ok(None);
        };
        let source = config.source.clone();
        let mut backend = Self {
            id: id.to_owned(),
            qom_type,
            config,
            file: None,
            file_offset: 0,
            page_size: host_page_size(),
            align: None,
        };
        match source {
            MemorySource::File {
                path,
                offset,
                align,
                access,
                ..
            } => backend.open_file(&path, offset, align, access)?,
            MemorySource::Memfd { huge_page_size, seal } => backend.create_memfd(huge_page_size, seal)?,
            MemorySource::Anonymous if backend.config.share => backend.create(MFdFlags::MFD_CLOEXEC)?,
            MemorySource::Anonymous => {}
        }
        Ok(Some(backend))
    }

    /// Maps the backend as a block of RAM.
    pub(crate) fn map(&self) -> Result<Arc<RamBlock>, Error> {
        let fail = |error: &dyn std::fmt::Display| {
            Error::generic(format!("cannot set up guest memory '{}': {error}", self.id))
        };
        let size = usize::try_from(self.config.size).map_err(|error| fail(&error))?;
        let protection = match self.is_rom() {
            true => libc::PROT_READ,
            false => libc::PROT_READ | libc::PROT_WRITE,
        };
        let mut flags = if self.config.share {
            libc::MAP_SHARED
        } else {
            libc::MAP_PRIVATE
        };
        if !self.config.reserve {
            flags |= libc::MAP_NORESERVE;
        }
        let file = match &self.file {
            Some(file) => Some(FileOffset::from_arc(Arc::clone(file), self.file_offset)),
            None => {
                flags |= libc::MAP_ANONYMOUS;
                None
            }
        };
        let id = self.id.as_str();
        let block = match self.align.map(usize::try_from) {
            None => RamMapping::build(file, size, protection, flags).map(|mapping| RamBlock::new(id, mapping)),
            Some(Ok(align)) => RamBlock::aligned(id, file, size, (protection, flags), align),
            Some(Err(error)) => return Err(fail(&error)),
        };
        let block = block.map_err(|error| match error {
            MmapRegionError::Mmap(error) => fail(&reason(&error)),
            error => fail(&error),
        })?;
        self.advise(block.mapping())?;
        Ok(block)
    }

    /// The backend as `query-memdev` shows it.
    pub(crate) fn info(&self) -> MemdevInfo {
        let config = &self.config;
        MemdevInfo {
            id: self.id.clone(),
            qom_type: self.qom_type,
            size: config.size,
            merge: config.merge,
            dump: config.dump,
            prealloc: config.prealloc,
            share: config.share,
            reserve: config.reserve,
            host_nodes: config.host_nodes.iter().map(|node| u32::from(*node)).collect(),
            policy: config.policy.name(),
        }
    }

    /// Page size behind the backend, in bytes.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    fn advise(&self, region: &RamMapping) -> Result<(), Error> {
        let config = &self.config;
        if config.merge {
            host_memory::advise(region, Advice::Merge);
        }
        if !config.dump {
            host_memory::advise(region, Advice::NoDump);
        }
        host_memory::advise(region, Advice::Huge);
        host_memory::advise(region, Advice::NoFork);
        if config.policy != NumaPolicy::Default {
            host_memory::bind(region, config.policy, &config.host_nodes).map_err(|error| {
                Error::generic(format!("cannot bind memory to host NUMA nodes: {}", reason(&error)))
            })?;
        }
        if config.prealloc {
            let threads = usize::try_from(config.prealloc_threads).unwrap_or(1);
            host_memory::populate(region, threads).map_err(|error| {
                Error::generic(format!("cannot set up guest memory '{}': {}", self.id, reason(&error)))
            })?;
        }
        Ok(())
    }

    /// Whether nobody may write to its memory.
    pub(crate) fn is_rom(&self) -> bool {
        let source = &self.config.source;
        matches!(
            source,
            MemorySource::File {
                access: FileAccess::Rom,
                ..
            }
        )
    }

    fn open_file(&mut self, path: &Path, offset: u64, align: u64, access: FileAccess) -> Result<(), Error> {
        let opened = match access {
            FileAccess::Writable => open_backing_file(path),
            FileAccess::Template | FileAccess::Rom => open_template(path),
        };
        let file = opened.map_err(|error| {
            Error::generic(format!(
                "can't open backing store {} for guest RAM: {}",
                path.display(),
                reason(&error)
            ))
        })?;
        self.file_offset = offset;
        self.page_size = page_size_of(&file);
        self.check_alignment()?;
        self.check_place(offset, align)?;
        let end = offset.checked_add(self.config.size);
        let end = end.ok_or_else(|| Error::generic("offset and size of the backing store overflow"))?;
        let len = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        if (1..end).contains(&len) {
            return Err(Error::generic(format!(
                "{} backing store size 0x{len:x} is too small for 'size' option 0x{:x} plus 'offset' option 0x{offset:x}",
                self.id, self.config.size
            )));
        }
        grow(&file, end).map_err(|error| {
            Error::generic(format!(
                "can't resize backing store {} to {end} bytes: {}",
                path.display(),
                reason(&error)
            ))
        })?;
        self.file = Some(Arc::new(file));
        Ok(())
    }

    fn create_memfd(&mut self, huge_page_size: Option<u64>, seal: bool) -> Result<(), Error> {
        let mut flags = MFdFlags::MFD_CLOEXEC;
        if let Some(size) = huge_page_size {
            flags |= MFdFlags::MFD_HUGETLB | huge_page_flag(size)?;
        }
        if seal {
            flags |= MFdFlags::MFD_ALLOW_SEALING;
        }
        self.create(flags)?;
        self.check_alignment()
    }

    /// Makes a memfd. Shared memory without a name is one as well, so that another process can map it.
    fn create(&mut self, flags: MFdFlags) -> Result<(), Error> {
        let fail =
            |error: io::Error| Error::generic(format!("failed to create memfd for '{}': {}", self.id, reason(&error)));
        let file = File::from(memfd_create(self.id.as_str(), flags).map_err(|error| fail(error.into()))?);
        file.set_len(self.config.size).map_err(fail)?;
        if flags.contains(MFdFlags::MFD_ALLOW_SEALING) {
            use nix::fcntl::{FcntlArg, SealFlag, fcntl};
            let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|error| fail(error.into()))?;
        }
        self.page_size = page_size_of(&file);
        self.file = Some(Arc::new(file));
        Ok(())
    }

    /// Checks where in its file and in this process the memory is to begin.
    fn check_place(&mut self, offset: u64, align: u64) -> Result<(), Error> {
        let page = self.page_size;
        if align % page != 0 {
            return Err(Error::generic(format!(
                "alignment 0x{align:x} must be multiples of page size 0x{page:x}"
            )));
        }
        if align != 0 && !align.is_power_of_two() {
            return Err(Error::generic(format!("alignment 0x{align:x} must be a power of two")));
        }
        if offset % page != 0 {
            return Err(Error::generic(format!(
                "offset 0x{offset:x} must be multiples of page size 0x{page:x}"
            )));
        }
        self.align = (align > page).then_some(align);
        Ok(())
    }

    fn check_alignment(&self) -> Result<(), Error> {
        if self.config.size % self.page_size == 0 {
            return Ok(());
        }
        let (size, unit) = match self.page_size {
            size if size % (1 << 30) == 0 => (size >> 30, "GiB"),
            size if size % (1 << 20) == 0 => (size >> 20, "MiB"),
            size => (size >> 10, "KiB"),
        };
        Err(Error::generic(format!(
            "backend '{}' memory size must be multiple of {size} {unit}",
            self.qom_type
        )))
    }
}

/// A memory backend that no guest uses: its memory is there all the same.
#[derive(Debug)]
pub struct SpareMemory {
    backend: Backend,
    _block: Arc<RamBlock>,
}

impl SpareMemory {
    /// Allocates the memory of the backend `id` of that type; none when that is no memory backend. May take its time: for a
    /// file, or to fill it.
    ///
    /// # Errors
    /// Names the property, file or host resource that does not work.
    pub fn new(id: &str, qom_type: &str, config: MemoryBackendConfig) -> Result<Option<Self>, Error> {
        let Some(backend) = Backend::open(id, qom_type, config)? else {
            return Ok(None);
        };
        let block = backend.map()?;
        Ok(Some(Self { backend, _block: block }))
    }

    /// The backend as `query-memdev` shows it.
    #[must_use]
    pub fn info(&self) -> MemdevInfo {
        self.backend.info()
    }
}

/// Opens a file of that name, makes one, or makes one without a name when it is a folder (as on hugetlbfs). A pipe, which
/// cannot be mapped, is not waited for.
fn open_backing_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    if path.is_dir() {
        return unnamed_file(path);
    }
    options.create(true).open(path)
}

/// Opens a file that is there for reading only.
fn open_template(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    Ok(file)
}

fn unnamed_file(dir: &Path) -> io::Result<File> {
    let template = dir.join("qemu_back_mem.XXXXXX");
    let (fd, path) = nix::unistd::mkstemp(&template)?;
    std::fs::remove_file(path)?;
    Ok(File::from(fd))
}

/// Makes an empty regular file `size` bytes long; devices stay as they are.
fn grow(file: &File, size: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() || metadata.len() >= size {
        return Ok(());
    }
    file.set_len(size)
}

fn huge_page_flag(size: u64) -> Result<MFdFlags, Error> {
    if size == 0 {
        // The host's usual size.
        return Ok(MFdFlags::empty());
    }
    if !size.is_power_of_two() {
        return Err(Error::generic("Hugepage size must be a power of 2"));
    }
    // The logarithm of the page size goes into bits 26 to 31 (linux/memfd.h).
    Ok(MFdFlags::from_bits_retain(size.trailing_zeros() << 26))
}

fn page_size_of(file: &File) -> u64 {
    match fstatfs(file) {
        Ok(stat) if stat.filesystem_type().0 == HUGETLBFS_MAGIC => u64::try_from(stat.block_size()).unwrap_or(4096),
        Ok(_) => host_page_size(),
        Err(error) => {
            tracing::debug!(fd = file.as_raw_fd(), %error, "fstatfs");
            host_page_size()
        }
    }
}

fn host_page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEFAULTS: BackendDefaults = BackendDefaults {
        merge: true,
        dump: true,
    };

    fn backend(value: &Value) -> Result<Backend, Error> {
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
        let value = json!({"qom-type": "memory-backend-ram", "id": "m", "size": "8M", "prealloc": "on", "prealloc-threads": "3"});
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
        let value =
            json!({"qom-type": "memory-backend-file", "id": "m", "size": "1M", "mem-path": path, "share": "on"});
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
        let large = make(json!({"size": 16384})).unwrap_err().desc;
        let expected = "m backing store size 0x2000 is too small for 'size' option 0x4000 plus 'offset' option 0x0";
        assert_eq!(large, expected);
        for (path, reason) in [
            ("/nonexistent/f", "No such file or directory"),
            ("/tmp", "Is a directory"),
        ] {
            let missing = make(json!({"mem-path": path, "readonly": true})).unwrap_err().desc;
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
            assert_eq!(make(align, offset).unwrap_err().desc, text);
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn sizes_are_whole_pages() {
        let value = json!({"qom-type": "memory-backend-memfd", "id": "m", "size": 5000});
        assert_eq!(
            backend(&value).unwrap_err().desc,
            "backend 'memory-backend-memfd' memory size must be multiple of 4 KiB"
        );
    }
}
