//! The guest architecture a binary emulates.

/// A guest architecture, chosen by the name of the binary that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `qemu-system-x86_64`.
    X86_64,
    /// `qemu-system-s390x`.
    S390x,
}

impl Target {
    /// The name QMP's `query-target` and QOM type names use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::S390x => "s390x",
        }
    }

    /// The name of the emulator binary, which error messages start with.
    #[must_use]
    pub const fn binary(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::S390x => "qemu-system-s390x",
        }
    }

    /// Whether this process runs on the architecture it would emulate, so that KVM could serve it.
    #[must_use]
    pub const fn is_native(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::S390x => cfg!(target_arch = "s390x"),
        }
    }
}
