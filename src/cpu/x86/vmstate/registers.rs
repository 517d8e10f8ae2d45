//! Registers that consist of several fields.

use crate::vmstate::{Fields, Layout, StateError, VmState};

/// A segment register or descriptor table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The linear address of its first byte.
    pub base: u64,
    /// The offset of its last byte.
    pub limit: u32,
    /// The upper half of the descriptor, without base and limit: type in bits 8 to 11, S 12, DPL 13-14, P 15, AVL 20,
    /// L 21, D/B 22, G 23.
    pub flags: u32,
}

impl VmState for Segment {
    fn layout(&self) -> Layout {
        Layout::new("segment", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut selector = u32::from(self.selector);
        fields.int("selector", &mut selector)?;
        self.selector = u16::try_from(selector).map_err(|_| StateError::out_of_range("selector", selector))?;
        fields.int("base", &mut self.base)?;
        fields.int("limit", &mut self.limit)?;
        fields.int("flags", &mut self.flags)
    }
}

/// An x87 register in extended precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FpReg {
    /// The significand.
    pub mantissa: u64,
    /// Sign and exponent.
    pub exponent: u16,
}

impl VmState for FpReg {
    fn layout(&self) -> Layout {
        Layout::new("fpreg", 0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.helper("tmp", &mut FpRegParts(self))
    }
}

struct FpRegParts<'a>(&'a mut FpReg);

impl VmState for FpRegParts<'_> {
    fn layout(&self) -> Layout {
        Layout::new("fpreg_tmp", 0)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("tmp_mant", &mut self.0.mantissa)?;
        fields.int("tmp_exp", &mut self.0.exponent)
    }
}

/// A variable-range MTRR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MtrrVar {
    /// IA32_MTRR_PHYSBASE.
    pub base: u64,
    /// IA32_MTRR_PHYSMASK.
    pub mask: u64,
}

impl VmState for MtrrVar {
    fn layout(&self) -> Layout {
        Layout::new("mtrr_var", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("base", &mut self.base)?;
        fields.int("mask", &mut self.mask)
    }
}

/// An MPX bound register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Lower bound.
    pub lower: u64,
    /// Upper bound, in one's complement.
    pub upper: u64,
}

impl VmState for Bound {
    fn layout(&self) -> Layout {
        Layout::new("bnd_regs", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("lb", &mut self.lower)?;
        fields.int("ub", &mut self.upper)
    }
}

/// An entry of the architectural last branch record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LbrRecord {
    /// IA32_LBR_FROM_IP.
    pub from: u64,
    /// IA32_LBR_TO_IP.
    pub to: u64,
    /// IA32_LBR_INFO.
    pub info: u64,
}

impl VmState for LbrRecord {
    fn layout(&self) -> Layout {
        Layout::new("lbr_records_var", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("from", &mut self.from)?;
        fields.int("to", &mut self.to)?;
        fields.int("info", &mut self.info)
    }
}

/// A vector register of 512 bits, lowest quadword first; XMM and YMM registers are its lower parts.
pub type Vector = [u64; 8];

/// Which quadwords of a vector register a struct of the stream holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    layout: Layout,
    from: usize,
    names: &'static [&'static str],
}

/// Bits 0 to 127.
pub(super) const XMM: Part = part("xmm_reg", 0, &["_q_ZMMReg[0]", "_q_ZMMReg[1]"]);
/// Bits 128 to 255.
pub(super) const YMM_HIGH: Part = part("ymmh_reg", 2, &["_q_ZMMReg[2]", "_q_ZMMReg[3]"]);
/// Bits 256 to 511.
pub(super) const ZMM_HIGH: Part = part(
    "zmmh_reg",
    4,
    &["_q_ZMMReg[4]", "_q_ZMMReg[5]", "_q_ZMMReg[6]", "_q_ZMMReg[7]"],
);
/// All 512 bits.
pub(super) const ZMM: Part = part(
    "hi16_zmm_reg",
    0,
    &[
        "_q_ZMMReg[0]",
        "_q_ZMMReg[1]",
        "_q_ZMMReg[2]",
        "_q_ZMMReg[3]",
        "_q_ZMMReg[4]",
        "_q_ZMMReg[5]",
        "_q_ZMMReg[6]",
        "_q_ZMMReg[7]",
    ],
);

const fn part(name: &'static str, from: usize, names: &'static [&'static str]) -> Part {
    Part {
        layout: Layout::new(name, 1),
        from,
        names,
    }
}

impl Part {
    /// This part of each register.
    pub(super) fn of(self, vectors: &mut [Vector]) -> Vec<VectorPart<'_>> {
        vectors
            .iter_mut()
            .map(|vector| VectorPart { part: self, vector })
            .collect()
    }
}

/// A part of a vector register.
pub(super) struct VectorPart<'a> {
    part: Part,
    vector: &'a mut Vector,
}

impl VmState for VectorPart<'_> {
    fn layout(&self) -> Layout {
        self.part.layout
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let quadwords = self.vector.iter_mut().skip(self.part.from);
        for (name, quadword) in self.part.names.iter().zip(quadwords) {
            fields.int(name, quadword)?;
        }
        Ok(())
    }
}
