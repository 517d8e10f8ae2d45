//! What XSAVE knows: x87, vector registers, bounds, masks, protection keys, tiles (Intel SDM volume 1, 13.4).

use kvm_bindings::CpuId;
use kvm_ioctls::{Kvm, VcpuFd};

use super::failed;
use crate::accel::kvm::KvmError;
use crate::accel::kvm::x86_64::xsave::XsaveState;
use crate::cpu::x86::vmstate::{Bound, CpuState, FpReg, Tiles};

// The legacy area.
const FCW: usize = 0;
const FSW: usize = 2;
const FTW: usize = 4;
const FOP: usize = 6;
const FIP: usize = 8;
const FDP: usize = 16;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
/// Bytes of a register of the legacy area.
const REGISTER: usize = 16;
/// The header: which components are not in their initial state.
const COMPONENTS: usize = 512;

/// Numbers of components.
const AVX: u32 = 2;
const BOUNDS: u32 = 3;
const BOUNDS_CONTROL: u32 = 4;
const OPMASKS: u32 = 5;
const ZMM_HIGH: u32 = 6;
const HIGH_ZMM: u32 = 7;
const PKRU: u32 = 9;
const TILE_CONFIG: u32 = 17;
const TILE_DATA: u32 = 18;

/// Leaf of CPUID that tells where components are.
const LEAF: u32 = 0xd;

/// Where the components that the guest's processor has are in the area.
pub(super) struct Places<'a>(&'a CpuId);

impl<'a> Places<'a> {
    /// Of a vCPU with this CPUID.
    pub(super) fn new(cpuid: &'a CpuId) -> Self {
        Self(cpuid)
    }

    /// Where the component begins; none if there is none.
    fn of(&self, component: u32) -> Option<usize> {
        let leaf = |index| {
            let mut leaves = self.0.as_slice().iter();
            leaves.find(|leaf| (leaf.function, leaf.index) == (LEAF, index))
        };
        let offered = leaf(0).map(|leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax))?;
        if offered >> component & 1 == 0 {
            return None;
        }
        usize::try_from(leaf(component)?.ebx).ok().filter(|at| *at != 0)
    }
}

pub(super) fn save(kvm: &Kvm, fd: &VcpuFd, places: &Places<'_>, cpu: &mut CpuState) -> Result<(), KvmError> {
    if let Ok(xcrs) = fd.get_xcrs() {
        // XCR0 is the only one there is.
        cpu.xcr0 = xcrs.xcrs[0].value;
    }
    let area = XsaveState::read(kvm, fd).map_err(failed("KVM_GET_XSAVE2"))?;
    take(&area, places, cpu);
    Ok(())
}

pub(super) fn load(kvm: &Kvm, fd: &VcpuFd, places: &Places<'_>, cpu: &CpuState) -> Result<(), KvmError> {
    if let Ok(mut xcrs) = fd.get_xcrs() {
        xcrs.xcrs[0].value = cpu.xcr0;
        fd.set_xcrs(&xcrs).map_err(failed("KVM_SET_XCRS"))?;
    }
    // Its own area tells how long it is, and how components lie in it.
    let mut area = XsaveState::read(kvm, fd).map_err(failed("KVM_GET_XSAVE2"))?;
    put(cpu, places, &mut area);
    area.write(fd).map_err(failed("KVM_SET_XSAVE"))
}

/// From the area.
fn take(area: &XsaveState, places: &Places<'_>, cpu: &mut CpuState) {
    let half = |at| u16::from_le_bytes(area.bytes(at));
    let word = |at| u32::from_le_bytes(area.bytes(at));
    let quad = |at| u64::from_le_bytes(area.bytes(at));
    (cpu.fpu_control, cpu.fpu_status) = (half(FCW), half(FSW));
    let [tag] = area.bytes(FTW);
    cpu.fpu_tag = tag.into();
    cpu.extensions.fpu_last = (half(FOP), quad(FIP), quad(FDP));
    cpu.mxcsr = word(MXCSR);
    for (number, register) in cpu.fpregs.iter_mut().enumerate() {
        let at = ST + REGISTER * number;
        *register = FpReg {
            mantissa: quad(at),
            exponent: half(at + 8),
        };
    }
    cpu.xstate_bv = quad(COMPONENTS);
    let mut vectors = |numbers: std::ops::Range<usize>, from: usize, to: usize, at: Option<usize>| {
        let Some(at) = at else { return };
        let count = to - from;
        for (place, vector) in cpu.vectors[numbers].iter_mut().enumerate() {
            for (index, quadword) in vector[from..to].iter_mut().enumerate() {
                *quadword = quad(at + 8 * (count * place + index));
            }
        }
    };
    vectors(0..16, 0, 2, Some(XMM));
    vectors(0..16, 2, 4, places.of(AVX));
    vectors(0..16, 4, 8, places.of(ZMM_HIGH));
    vectors(16..32, 0, 8, places.of(HIGH_ZMM));
    let extensions = &mut cpu.extensions;
    if let Some(at) = places.of(BOUNDS) {
        for (number, bound) in extensions.mpx.bounds.iter_mut().enumerate() {
            *bound = Bound {
                lower: quad(at + 16 * number),
                upper: quad(at + 16 * number + 8),
            };
        }
    }
    if let Some(at) = places.of(BOUNDS_CONTROL) {
        (extensions.mpx.cfgu, extensions.mpx.status) = (quad(at), quad(at + 8));
    }
    if let Some(at) = places.of(OPMASKS) {
        for (number, mask) in extensions.opmasks.iter_mut().enumerate() {
            *mask = quad(at + 8 * number);
        }
    }
    if let Some(at) = places.of(PKRU) {
        extensions.pkru = word(at);
    }
    if let (Some(config), Some(data)) = (places.of(TILE_CONFIG), places.of(TILE_DATA)) {
        extensions.tiles = Some(Box::new(Tiles {
            config: area.bytes(config),
            data: area.bytes(data),
        }));
    }
}

/// Into the area.
fn put(cpu: &CpuState, places: &Places<'_>, area: &mut XsaveState) {
    area.set_bytes(FCW, &cpu.fpu_control.to_le_bytes());
    area.set_bytes(FSW, &cpu.fpu_status.to_le_bytes());
    // The abridged tag has a bit for each register.
    area.set_bytes(FTW, &[cpu.fpu_tag.to_le_bytes()[0]]);
    let (fop, fip, fdp) = cpu.extensions.fpu_last;
    area.set_bytes(FOP, &fop.to_le_bytes());
    area.set_bytes(FIP, &fip.to_le_bytes());
    area.set_bytes(FDP, &fdp.to_le_bytes());
    area.set_bytes(MXCSR, &cpu.mxcsr.to_le_bytes());
    for (number, register) in cpu.fpregs.iter().enumerate() {
        let at = ST + REGISTER * number;
        area.set_bytes(at, &register.mantissa.to_le_bytes());
        area.set_bytes(at + 8, &register.exponent.to_le_bytes());
    }
    area.set_bytes(COMPONENTS, &cpu.xstate_bv.to_le_bytes());
    let mut vectors = |numbers: std::ops::Range<usize>, from: usize, to: usize, at: Option<usize>| {
        let Some(at) = at else { return };
        let count = to - from;
        for (place, vector) in cpu.vectors[numbers].iter().enumerate() {
            for (index, quadword) in vector[from..to].iter().enumerate() {
                area.set_bytes(at + 8 * (count * place + index), &quadword.to_le_bytes());
            }
        }
    };
    vectors(0..16, 0, 2, Some(XMM));
    vectors(0..16, 2, 4, places.of(AVX));
    vectors(0..16, 4, 8, places.of(ZMM_HIGH));
    vectors(16..32, 0, 8, places.of(HIGH_ZMM));
    let extensions = &cpu.extensions;
    if let Some(at) = places.of(BOUNDS) {
        for (number, bound) in extensions.mpx.bounds.iter().enumerate() {
            area.set_bytes(at + 16 * number, &bound.lower.to_le_bytes());
            area.set_bytes(at + 16 * number + 8, &bound.upper.to_le_bytes());
        }
    }
    if let Some(at) = places.of(BOUNDS_CONTROL) {
        area.set_bytes(at, &extensions.mpx.cfgu.to_le_bytes());
        area.set_bytes(at + 8, &extensions.mpx.status.to_le_bytes());
    }
    if let Some(at) = places.of(OPMASKS) {
        for (number, mask) in extensions.opmasks.iter().enumerate() {
            area.set_bytes(at + 8 * number, &mask.to_le_bytes());
        }
    }
    if let Some(at) = places.of(PKRU) {
        area.set_bytes(at, &extensions.pkru.to_le_bytes());
    }
    if let (Some(config), Some(data), Some(tiles)) = (places.of(TILE_CONFIG), places.of(TILE_DATA), &extensions.tiles) {
        area.set_bytes(config, &tiles.config);
        area.set_bytes(data, &tiles.data);
    }
}
