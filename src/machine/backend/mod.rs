//! Memory backends: `memory-backend-ram`, `-file` and `-memfd`.

mod error;

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

use self::error::MapFailure;
use super::host_memory::{self, Advice};
use super::info::MemdevInfo;
use crate::mem::{RamBlock, RamMapping};
use crate::qom::Registry;
use crate::qom::objects::{FileAccess, MemoryBackendConfig, MemoryBackendError, MemorySource, NumaPolicy};

pub use self::error::BackendError;

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
    ) -> Result<Option<Self>, BackendError> {
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
    fn open(id: &str, qom_type: &str, config: MemoryBackendConfig) -> Result<Option<Self>, BackendError> {
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
    pub(crate) fn map(&self) -> Result<Arc<RamBlock>, BackendError> {
        let fail = |cause: MapFailure| BackendError::Map {
            id: self.id.clone(),
            cause,
        };
        let size = usize::try_from(self.config.size).map_err(|_| fail(MapFailure::TooLarge))?;
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
            Some(Err(_)) => return Err(fail(MapFailure::TooLarge)),
        };
        let block = block.map_err(|error| fail(error.into()))?;
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

    fn advise(&self, region: &RamMapping) -> Result<(), BackendError> {
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
            host_memory::bind(region, config.policy, &config.host_nodes).map_err(BackendError::Bind)?;
        }
        if config.prealloc {
            host_memory::populate(region, config.prealloc_threads).map_err(|error| BackendError::Map {
                id: self.id.clone(),
                cause: MapFailure::Host(error),
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

    fn open_file(&mut self, path: &Path, offset: u64, align: u64, access: FileAccess) -> Result<(), BackendError> {
        let opened = match access {
            FileAccess::Writable => open_backing_file(path),
            FileAccess::Template | FileAccess::Rom => open_template(path),
        };
        let file = opened.map_err(|error| BackendError::Open {
            path: path.to_owned(),
            error,
        })?;
        self.file_offset = offset;
        self.page_size = page_size_of(&file);
        self.check_alignment()?;
        self.check_place(offset, align)?;
        let end = offset.checked_add(self.config.size);
        let end = end.ok_or(BackendError::Overflow)?;
        let resize = |error| BackendError::Resize {
            path: path.to_owned(),
            size: end,
            error,
        };
        let len = file.metadata().map_err(resize)?.len();
        if (1..end).contains(&len) {
            return Err(BackendError::FileTooSmall {
                id: self.id.clone(),
                len,
                size: self.config.size,
                offset,
            });
        }
        grow(&file, end).map_err(resize)?;
        self.file = Some(Arc::new(file));
        Ok(())
    }

    fn create_memfd(&mut self, huge_page_size: Option<u64>, seal: bool) -> Result<(), BackendError> {
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
    fn create(&mut self, flags: MFdFlags) -> Result<(), BackendError> {
        let fail = |error: io::Error| BackendError::Memfd {
            id: self.id.clone(),
            error,
        };
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
    fn check_place(&mut self, offset: u64, align: u64) -> Result<(), BackendError> {
        let page = self.page_size;
        if align % page != 0 {
            return Err(BackendError::PartOfPage {
                what: "alignment",
                bytes: align,
                page,
            });
        }
        if align != 0 && !align.is_power_of_two() {
            return Err(BackendError::OddAlignment(align));
        }
        if offset % page != 0 {
            return Err(BackendError::PartOfPage {
                what: "offset",
                bytes: offset,
                page,
            });
        }
        self.align = (align > page).then_some(align);
        Ok(())
    }

    fn check_alignment(&self) -> Result<(), BackendError> {
        if self.config.size % self.page_size == 0 {
            return Ok(());
        }
        Err(BackendError::OddSize {
            qom_type: self.qom_type,
            page: self.page_size,
        })
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
    pub fn new(id: &str, qom_type: &str, config: MemoryBackendConfig) -> Result<Option<Self>, BackendError> {
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

fn huge_page_flag(size: u64) -> Result<MFdFlags, BackendError> {
    if size == 0 {
        // The host's usual size.
        return Ok(MFdFlags::empty());
    }
    if !size.is_power_of_two() {
        return Err(MemoryBackendError::HugePageSize.into());
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
mod tests;
