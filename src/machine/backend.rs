//! Memory backends: `memory-backend-ram`, `-file` and `-memfd`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
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
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use super::{
    fields::Fields,
    host_memory::{self, Advice, HostPolicy},
};
use crate::qapi::Error;

/// `HUGETLBFS_MAGIC` (linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// A memory backend as configured, with its file opened if it has one.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Id of the object.
    pub id: String,
    /// QOM type name.
    pub qom_type: &'static str,
    /// Bytes.
    pub size: u64,
    /// Whether writes are visible to other processes that map the same file.
    pub share: bool,
    /// Whether all pages are there from the start.
    pub prealloc: bool,
    /// Threads that fetch the pages.
    pub prealloc_threads: u32,
    /// Whether equal pages may be merged.
    pub merge: bool,
    /// Whether pages go into core dumps.
    pub dump: bool,
    /// Whether swap space is reserved.
    pub reserve: bool,
    /// Host NUMA nodes.
    pub host_nodes: Vec<u32>,
    /// What `host_nodes` means.
    pub policy: HostPolicy,
    file: Option<Arc<File>>,
    file_offset: u64,
    page_size: u64,
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
        Self {
            id: id.to_owned(),
            qom_type: "memory-backend-ram",
            size,
            share: false,
            prealloc: false,
            prealloc_threads: 1,
            merge: defaults.merge,
            dump: defaults.dump,
            reserve: true,
            host_nodes: Vec::new(),
            policy: HostPolicy::Default,
            file: None,
            file_offset: 0,
            page_size: host_page_size(),
        }
    }

    /// Reads an `-object` entry; none when it is no memory backend.
    pub(crate) fn from_object(object: &Map<String, Value>, defaults: BackendDefaults) -> Result<Option<Self>, Error> {
        let fields = Fields::new(object);
        let qom_type = match fields.required_text("qom-type")? {
            "memory-backend-ram" => "memory-backend-ram",
            "memory-backend-file" => "memory-backend-file",
            "memory-backend-memfd" => "memory-backend-memfd",
            _ => return Ok(None),
        };
        let id = fields.required_text("id")?;
        let size = fields.size("size")?.unwrap_or_default();
        if size == 0 {
            return Err(Error::generic("can't create backend with size 0"));
        }
        let mut backend = Self::anonymous(id, size, defaults);
        backend.qom_type = qom_type;
        backend.share = fields.flag("share")?.unwrap_or(qom_type == "memory-backend-memfd");
        backend.prealloc = fields.flag("prealloc")?.unwrap_or_default();
        backend.prealloc_threads = fields.small("prealloc-threads")?.unwrap_or(1);
        backend.merge = fields.flag("merge")?.unwrap_or(defaults.merge);
        backend.dump = fields.flag("dump")?.unwrap_or(defaults.dump);
        backend.reserve = fields.flag("reserve")?.unwrap_or(true);
        backend.host_nodes = fields.numbers("host-nodes")?;
        backend.policy = policy(fields.text("policy").unwrap_or("default"), &backend.host_nodes)?;
        match qom_type {
            "memory-backend-file" => backend.open_file(fields)?,
            "memory-backend-memfd" => backend.create_memfd(fields)?,
            _ if backend.share => backend.create_shared()?,
            _ => {}
        }
        Ok(Some(backend))
    }

    /// Maps `len` bytes of the backend from `offset` on, for guest address `guest_addr`.
    pub(crate) fn map(&self, offset: u64, len: u64, guest_addr: u64) -> Result<GuestRegionMmap, Error> {
        let fail = |error: &dyn std::fmt::Display| {
            Error::generic(format!("cannot set up guest memory '{}': {error}", self.id))
        };
        let size = usize::try_from(len).map_err(|error| fail(&error))?;
        let mut flags = if self.share {
            libc::MAP_SHARED
        } else {
            libc::MAP_PRIVATE
        };
        if !self.reserve {
            flags |= libc::MAP_NORESERVE;
        }
        let file = match &self.file {
            Some(file) => {
                let start = self
                    .file_offset
                    .checked_add(offset)
                    .ok_or_else(|| fail(&"offset overflows"))?;
                Some(FileOffset::from_arc(Arc::clone(file), start))
            }
            None => {
                flags |= libc::MAP_ANONYMOUS;
                None
            }
        };
        let region =
            MmapRegion::build(file, size, libc::PROT_READ | libc::PROT_WRITE, flags).map_err(|error| fail(&error))?;
        let region =
            GuestRegionMmap::new(region, GuestAddress(guest_addr)).ok_or_else(|| fail(&"guest address overflows"))?;
        self.advise(&region).map_err(|error| fail(&error))?;
        Ok(region)
    }

    /// Page size behind the backend, in bytes.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    fn advise(&self, region: &GuestRegionMmap) -> io::Result<()> {
        if self.merge {
            host_memory::advise(region, Advice::Merge);
        }
        if !self.dump {
            host_memory::advise(region, Advice::NoDump);
        }
        host_memory::advise(region, Advice::Huge);
        host_memory::advise(region, Advice::NoFork);
        if self.policy != HostPolicy::Default || !self.host_nodes.is_empty() {
            host_memory::bind(region, self.policy, &self.host_nodes)?;
        }
        if self.prealloc {
            let threads = usize::try_from(self.prealloc_threads).unwrap_or(1);
            host_memory::populate(region, threads)?;
        }
        Ok(())
    }

    fn open_file(&mut self, fields: Fields<'_>) -> Result<(), Error> {
        let path = PathBuf::from(fields.required_text("mem-path")?);
        if fields.flag("pmem")?.unwrap_or_default() {
            return Err(Error::generic("pmem=on is not supported"));
        }
        if fields.flag("readonly")?.unwrap_or_default() {
            return Err(Error::generic("readonly=on is not supported for guest memory"));
        }
        self.file_offset = fields.size("offset")?.unwrap_or_default();
        let file = open_backing_file(&path).map_err(|error| {
            Error::generic(format!(
                "can't open backing store {} for guest RAM: {error}",
                path.display()
            ))
        })?;
        self.page_size = page_size_of(&file);
        self.check_alignment()?;
        let end = self.file_offset.checked_add(self.size);
        let end = end.ok_or_else(|| Error::generic("offset and size of the backing store overflow"))?;
        grow(&file, end).map_err(|error| {
            Error::generic(format!(
                "can't resize backing store {} to {end} bytes: {error}",
                path.display()
            ))
        })?;
        self.file = Some(Arc::new(file));
        Ok(())
    }

    fn create_memfd(&mut self, fields: Fields<'_>) -> Result<(), Error> {
        let mut flags = MFdFlags::MFD_CLOEXEC;
        if fields.flag("hugetlb")?.unwrap_or_default() {
            flags |= MFdFlags::MFD_HUGETLB;
            if let Some(size) = fields.size("hugetlbsize")? {
                flags |= huge_page_flag(size)?;
            }
        } else if fields.size("hugetlbsize")?.is_some_and(|size| size != 0) {
            return Err(Error::generic("hugetlbsize needs hugetlb=on"));
        }
        if fields.flag("seal")?.unwrap_or(true) {
            flags |= MFdFlags::MFD_ALLOW_SEALING;
        }
        self.create(flags)?;
        self.check_alignment()
    }

    /// Shared memory without a name: a memfd, so that its two halves may be mapped apart.
    fn create_shared(&mut self) -> Result<(), Error> {
        self.create(MFdFlags::MFD_CLOEXEC)
    }

    fn create(&mut self, flags: MFdFlags) -> Result<(), Error> {
        let fail = |error: io::Error| Error::generic(format!("failed to create memfd for '{}': {error}", self.id));
        let file = File::from(memfd_create(self.id.as_str(), flags).map_err(|error| fail(error.into()))?);
        file.set_len(self.size).map_err(fail)?;
        if flags.contains(MFdFlags::MFD_ALLOW_SEALING) {
            use nix::fcntl::{FcntlArg, SealFlag, fcntl};
            let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|error| fail(error.into()))?;
        }
        self.page_size = page_size_of(&file);
        self.file = Some(Arc::new(file));
        Ok(())
    }

    fn check_alignment(&self) -> Result<(), Error> {
        if self.size % self.page_size == 0 {
            return Ok(());
        }
        Err(Error::generic(format!(
            "backend '{}' memory size must be multiple of 0x{:x}",
            self.id, self.page_size
        )))
    }
}

fn policy(name: &str, host_nodes: &[u32]) -> Result<HostPolicy, Error> {
    if let Some(node) = host_nodes.iter().find(|node| **node >= host_memory::MAX_NODES) {
        return Err(Error::generic(format!("Invalid host-nodes value: {node}")));
    }
    let policy = match name {
        "default" => HostPolicy::Default,
        "preferred" => HostPolicy::Preferred,
        "bind" => HostPolicy::Bind,
        "interleave" => HostPolicy::Interleave,
        other => {
            return Err(Error::generic(format!(
                "Parameter 'policy' does not accept value '{other}'"
            )));
        }
    };
    if policy == HostPolicy::Default && !host_nodes.is_empty() {
        return Err(Error::generic(
            "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default",
        ));
    }
    if policy != HostPolicy::Default && host_nodes.is_empty() {
        return Err(Error::generic(format!("host-nodes must be set for policy {name}")));
    }
    Ok(policy)
}

/// Opens a file of that name, makes one, or makes one without a name when it is a folder (as on hugetlbfs).
fn open_backing_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if path.is_dir() {
        return unnamed_file(path);
    }
    options.create(true).open(path)
}

fn unnamed_file(dir: &Path) -> io::Result<File> {
    let template = dir.join("qemu_back_mem.XXXXXX");
    let (fd, path) = nix::unistd::mkstemp(&template)?;
    std::fs::remove_file(path)?;
    Ok(File::from(fd))
}

/// Makes a regular file at least `size` bytes long; devices stay as they are.
fn grow(file: &File, size: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() || metadata.len() >= size {
        return Ok(());
    }
    file.set_len(size)
}

fn huge_page_flag(size: u64) -> Result<MFdFlags, Error> {
    if !size.is_power_of_two() {
        return Err(Error::generic(format!("hugetlbsize {size} is not a power of two")));
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
    use vm_memory::{Bytes, GuestMemoryRegion, MemoryRegionAddress};

    use super::*;

    const DEFAULTS: BackendDefaults = BackendDefaults {
        merge: true,
        dump: true,
    };

    fn backend(value: &Value) -> Result<Backend, Error> {
        Ok(Backend::from_object(value.as_object().unwrap(), DEFAULTS)?.expect("a memory backend"))
    }

    #[test]
    fn shared_memory_shows_the_same_bytes_in_both_mappings() {
        for value in [
            json!({"qom-type": "memory-backend-memfd", "id": "pc.ram", "size": "2M"}),
            json!({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 2_097_152, "share": true}),
        ] {
            let backend = backend(&value).unwrap();
            assert!(backend.share);
            let whole = backend.map(0, 2 << 20, 0).unwrap();
            let half = backend.map(1 << 20, 1 << 20, 1 << 32).unwrap();
            whole.write_obj(0xabcd_u16, MemoryRegionAddress(1 << 20)).unwrap();
            assert_eq!(half.read_obj::<u16>(MemoryRegionAddress(0)).unwrap(), 0xabcd);
            assert_eq!(half.len(), 1 << 20);
        }
    }

    #[test]
    fn private_memory_can_be_fetched_in_advance() {
        let value = json!({"qom-type": "memory-backend-ram", "id": "m", "size": "8M", "prealloc": "on", "prealloc-threads": "3"});
        let backend = backend(&value).unwrap();
        let region = backend.map(0, 8 << 20, 0).unwrap();
        assert_eq!(region.read_obj::<u64>(MemoryRegionAddress((8 << 20) - 8)).unwrap(), 0);
    }

    #[test]
    fn a_file_is_made_and_grown() {
        let dir = std::env::temp_dir().join(format!("remuda-backend-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ram");
        let value =
            json!({"qom-type": "memory-backend-file", "id": "m", "size": "1M", "mem-path": path, "share": "on"});
        let backend = backend(&value).unwrap();
        backend
            .map(0, 1 << 20, 0)
            .unwrap()
            .write_obj(7_u8, MemoryRegionAddress(5))
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len(), bytes[5]), (1 << 20, 7));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let zero = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 0});
        assert_eq!(backend(&zero).unwrap_err().desc, "can't create backend with size 0");
        let nodes = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096, "host-nodes": "0"});
        assert!(
            backend(&nodes)
                .unwrap_err()
                .desc
                .starts_with("host-nodes must be empty for policy default")
        );
        let policy = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096, "policy": "bind"});
        assert_eq!(
            backend(&policy).unwrap_err().desc,
            "host-nodes must be set for policy bind"
        );
        let path = json!({"qom-type": "memory-backend-file", "id": "m", "size": 4096});
        assert_eq!(backend(&path).unwrap_err().desc, "Parameter 'mem-path' is missing");
    }
}
