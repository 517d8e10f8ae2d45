//! The part of KVM's interface that CPU models of S390 guests use: ioctl and attribute numbers, and the payloads.
//!
//! Sources: Linux `include/uapi/linux/kvm.h` and `arch/s390/include/uapi/asm/kvm.h`; the ultravisor attributes from
//! `Documentation/virt/kvm/devices/vm.rst`. Numbers in payloads are stored big-endian, as the kernel of such a host has them.

#![expect(
    unsafe_code,
    reason = "payloads are handed to the kernel as the bytes they are made of"
)]

use std::mem::{offset_of, size_of};

/// `KVM_GET_API_VERSION`.
pub const GET_API_VERSION: u32 = 0xae00;
/// `KVM_CREATE_VM`.
pub const CREATE_VM: u32 = 0xae01;
/// `KVM_CHECK_EXTENSION`.
pub const CHECK_EXTENSION: u32 = 0xae03;
/// `KVM_GET_VCPU_MMAP_SIZE`.
pub const GET_VCPU_MMAP_SIZE: u32 = 0xae04;
/// `KVM_CREATE_VCPU`.
pub const CREATE_VCPU: u32 = 0xae41;
/// `KVM_ENABLE_CAP`.
pub const ENABLE_CAP: u32 = 0x4068_aea3;
/// `KVM_SET_DEVICE_ATTR`.
pub const SET_DEVICE_ATTR: u32 = 0x4018_aee1;
/// `KVM_GET_DEVICE_ATTR`.
pub const GET_DEVICE_ATTR: u32 = 0x4018_aee2;
/// `KVM_HAS_DEVICE_ATTR`.
pub const HAS_DEVICE_ATTR: u32 = 0x4018_aee3;

/// The version of the interface all this belongs to.
pub const API_VERSION: i32 = 12;

/// A capability of the kernel: its number and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub u32, pub &'static str);

/// Capabilities that are asked for or enabled.
#[expect(
    missing_docs,
    reason = "the names are those of the kernel's header, which says what each is"
)]
pub mod cap {
    use super::Cap;
    use crate::cpu::s390x::feature::Capability;

    pub const MAX_VCPUS: Cap = Cap(66, "KVM_CAP_MAX_VCPUS");
    pub const SYNC_REGS: Cap = Cap(74, "KVM_CAP_SYNC_REGS");
    pub const S390_COW: Cap = Cap(79, "KVM_CAP_S390_COW");
    pub const DEVICE_CTRL: Cap = Cap(89, "KVM_CAP_DEVICE_CTRL");
    pub const VM_ATTRIBUTES: Cap = Cap(101, "KVM_CAP_VM_ATTRIBUTES");
    pub const S390_USER_SIGP: Cap = Cap(106, "KVM_CAP_S390_USER_SIGP");
    pub const S390_VECTOR_REGISTERS: Cap = Cap(107, "KVM_CAP_S390_VECTOR_REGISTERS");
    pub const S390_USER_STSI: Cap = Cap(109, "KVM_CAP_S390_USER_STSI");
    pub const S390_RI: Cap = Cap(124, "KVM_CAP_S390_RI");
    pub const S390_GS: Cap = Cap(140, "KVM_CAP_S390_GS");
    pub const S390_AIS: Cap = Cap(141, "KVM_CAP_S390_AIS");
    pub const S390_AIS_MIGRATION: Cap = Cap(150, "KVM_CAP_S390_AIS_MIGRATION");
    pub const S390_BPB: Cap = Cap(152, "KVM_CAP_S390_BPB");
    pub const S390_PROTECTED: Cap = Cap(180, "KVM_CAP_S390_PROTECTED");
    pub const S390_DIAG318: Cap = Cap(186, "KVM_CAP_S390_DIAG318");
    pub const S390_CPU_TOPOLOGY: Cap = Cap(222, "KVM_CAP_S390_CPU_TOPOLOGY");

    /// The number of a capability that CPU models depend on.
    pub(in crate::accel::kvm::s390x) const fn of_model(capability: Capability) -> Cap {
        match capability {
            Capability::VectorRegisters => S390_VECTOR_REGISTERS,
            Capability::Ri => S390_RI,
            Capability::Gs => S390_GS,
            Capability::Ais => S390_AIS,
            Capability::CpuTopology => S390_CPU_TOPOLOGY,
            Capability::Protected => S390_PROTECTED,
            Capability::Diag318 => S390_DIAG318,
            Capability::Bpb => S390_BPB,
        }
    }
}

/// An attribute of a VM: where it is and how long its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// `KVM_S390_VM_*`.
    pub group: u32,
    /// The attribute in the group.
    pub attr: u64,
    /// Bytes of the payload; 0 for an attribute that is a switch.
    pub bytes: usize,
    /// Its name in the kernel's header.
    pub name: &'static str,
}

/// Attributes that CPU models use.
pub mod attr {
    use std::mem::size_of;

    use super::{Attr, Feat, Machine, Processor, Subfunc, UvFeat};

    /// Switches page state interpretation on.
    pub const ENABLE_CMMA: Attr = switch(0, 0, "KVM_S390_VM_MEM_ENABLE_CMMA");
    /// Switches interpretation of AP instructions on.
    pub const ENABLE_APIE: Attr = switch(2, 4, "KVM_S390_VM_CRYPTO_ENABLE_APIE");
    /// The guest's CPUs.
    pub const PROCESSOR: Attr = model(0, size_of::<Processor>(), "KVM_S390_VM_CPU_PROCESSOR");
    /// The machine.
    pub const MACHINE: Attr = model(1, size_of::<Machine>(), "KVM_S390_VM_CPU_MACHINE");
    /// Features of the guest's CPUs.
    pub const PROCESSOR_FEAT: Attr = model(2, size_of::<Feat>(), "KVM_S390_VM_CPU_PROCESSOR_FEAT");
    /// Features of the machine.
    pub const MACHINE_FEAT: Attr = model(3, size_of::<Feat>(), "KVM_S390_VM_CPU_MACHINE_FEAT");
    /// Function codes of the guest's CPUs.
    pub const PROCESSOR_SUBFUNC: Attr = model(4, size_of::<Subfunc>(), "KVM_S390_VM_CPU_PROCESSOR_SUBFUNC");
    /// Function codes of the machine.
    pub const MACHINE_SUBFUNC: Attr = model(5, size_of::<Subfunc>(), "KVM_S390_VM_CPU_MACHINE_SUBFUNC");
    /// Features of a guest under the ultravisor.
    pub const PROCESSOR_UV_FEAT: Attr = model(6, size_of::<UvFeat>(), "KVM_S390_VM_CPU_PROCESSOR_UV_FEAT_GUEST");
    /// Features the ultravisor can give a guest.
    pub const MACHINE_UV_FEAT: Attr = model(7, size_of::<UvFeat>(), "KVM_S390_VM_CPU_MACHINE_UV_FEAT_GUEST");

    const fn model(attr: u64, bytes: usize, name: &'static str) -> Attr {
        let group = 3;
        Attr {
            group,
            attr,
            bytes,
            name,
        }
    }

    const fn switch(group: u32, attr: u64, name: &'static str) -> Attr {
        let bytes = 0;
        Attr {
            group,
            attr,
            bytes,
            name,
        }
    }
}

/// `struct kvm_device_attr`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DeviceAttr {
    /// None are defined.
    pub flags: u32,
    /// The group.
    pub group: u32,
    /// The attribute in the group.
    pub attr: u64,
    /// Where the payload lies.
    pub addr: u64,
}

/// `struct kvm_enable_cap`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EnableCap {
    /// The capability.
    pub cap: u32,
    /// None are defined.
    pub flags: u32,
    /// What the capability asks for.
    pub args: [u64; 4],
    /// Reserved.
    pub pad: [u8; 64],
}

/// A 64-bit number as the kernel of an S390 host stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Be64([u8; 8]);

impl Be64 {
    /// The number in this form.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// Payload of [`attr::PROCESSOR`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Processor {
    /// CPU id.
    pub cpuid: Be64,
    /// Instruction blocking control, big-endian.
    pub ibc: [u8; 2],
    /// Reserved.
    pub pad: [u8; 6],
    /// Facilities of the guest.
    pub fac_list: [Be64; 256],
}

/// Payload of [`attr::MACHINE`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Machine {
    /// CPU id.
    pub cpuid: Be64,
    /// Lowest and unblocked value of the instruction blocking control, big-endian.
    pub ibc: [u8; 4],
    /// Reserved.
    pub pad: [u8; 4],
    /// Facilities a guest can have.
    pub fac_mask: [Be64; 256],
    /// Facilities of the machine.
    pub fac_list: [Be64; 256],
}

/// Payload of [`attr::PROCESSOR_FEAT`] and [`attr::MACHINE_FEAT`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Feat {
    /// Bits, the first the most significant.
    pub feat: [Be64; 16],
}

/// Payload of [`attr::PROCESSOR_SUBFUNC`] and [`attr::MACHINE_SUBFUNC`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Subfunc {
    /// The blocks of all instructions.
    pub blocks: [u8; 2048],
}

/// Payload of [`attr::PROCESSOR_UV_FEAT`] and [`attr::MACHINE_UV_FEAT`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UvFeat {
    /// Bits, the first the most significant.
    pub feat: Be64,
}

const _: () = {
    assert!(size_of::<DeviceAttr>() == 24);
    assert!(
        offset_of!(DeviceAttr, group) == 4 && offset_of!(DeviceAttr, attr) == 8 && offset_of!(DeviceAttr, addr) == 16
    );
    assert!(size_of::<EnableCap>() == 104 && offset_of!(EnableCap, args) == 8 && offset_of!(EnableCap, pad) == 40);
    assert!(size_of::<Processor>() == 2064);
    assert!(
        offset_of!(Processor, ibc) == 8 && offset_of!(Processor, pad) == 10 && offset_of!(Processor, fac_list) == 16
    );
    assert!(size_of::<Machine>() == 4112);
    assert!(
        offset_of!(Machine, ibc) == 8 && offset_of!(Machine, fac_mask) == 16 && offset_of!(Machine, fac_list) == 2064
    );
    assert!(size_of::<Feat>() == 128 && size_of::<Subfunc>() == 2048 && size_of::<UvFeat>() == 8);
    // The size of an ioctl's argument is part of its number.
    assert!(SET_DEVICE_ATTR >> 16 & 0x3fff == size_of::<DeviceAttr>() as u32);
    assert!(ENABLE_CAP >> 16 & 0x3fff == size_of::<EnableCap>() as u32);
};

/// A payload: nothing but bytes, of which every value means something.
pub trait Payload: Sized + private::Sealed {
    /// One with every byte zero.
    #[must_use]
    fn zeroed() -> Box<Self>;

    /// Its bytes.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the types below consist of bytes and arrays of bytes only, so there is no padding and every byte is initialised.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// Its bytes, to be overwritten.
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and any bytes make a valid value.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(self).cast(), size_of::<Self>()) }
    }
}

macro_rules! payloads {
    ($($name:ident { $($field:ident: $zero:expr),* })*) => {
        mod private {
            pub trait Sealed {}
            $(impl Sealed for super::$name {})*
        }
        $(impl Payload for $name {
            fn zeroed() -> Box<Self> {
                Box::new(Self { $($field: $zero),* })
            }
        })*
        const _: () = { $(assert!(align_of::<$name>() == 1);)* };
    };
}

payloads! {
    Processor { cpuid: Be64::new(0), ibc: [0; 2], pad: [0; 6], fac_list: [Be64::new(0); 256] }
    Machine { cpuid: Be64::new(0), ibc: [0; 4], pad: [0; 4], fac_mask: [Be64::new(0); 256], fac_list: [Be64::new(0); 256] }
    Feat { feat: [Be64::new(0); 16] }
    Subfunc { blocks: [0; 2048] }
    UvFeat { feat: Be64::new(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::s390x::feature::blocks;

    #[test]
    fn numbers_lie_big_endian_in_the_bytes() {
        let mut processor = Processor::zeroed();
        processor.cpuid = Be64::new(0xff12_3456_2964_8000);
        processor.fac_list[2] = Be64::new(1 << 62);
        let bytes = processor.as_bytes();
        assert_eq!(bytes.len(), 2064);
        assert_eq!(bytes[..8], [0xff, 0x12, 0x34, 0x56, 0x29, 0x64, 0x80, 0]);
        assert_eq!(bytes[16 + 16], 0x40);
        let mut copy = Processor::zeroed();
        copy.as_bytes_mut().copy_from_slice(bytes);
        assert_eq!(copy, processor);
    }

    #[test]
    fn the_blocks_of_the_table_fill_the_payload_without_a_gap() {
        let mut end = 0;
        for block in blocks() {
            assert_eq!(block.offset, end, "{}", block.name);
            end += block.bytes;
        }
        assert_eq!(end, 336);
        let place = |name| {
            blocks()
                .iter()
                .find(|block| block.name == name)
                .map(|block| (block.offset, block.bytes))
        };
        assert_eq!(place("sortl"), Some((256, 32)));
        assert_eq!(place("pfcr"), Some((320, 16)));
    }
}
