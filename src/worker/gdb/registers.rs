//! The registers of x86_64 as gdb's protocol numbers and describes them.

use std::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId, Registers};

use crate::accel::debug::DebugRegisters;

/// x86_64 with the registers that [`description`] lists.
#[derive(Debug)]
pub(super) enum X86_64 {}

impl Arch for X86_64 {
    type Usize = u64;
    type Registers = DebugRegisters;
    type RegId = Number;
    type BreakpointKind = usize;
}

/// The number of a register: its place among [`FEATURES`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// Where its value is among those of all.
    pub(super) offset: usize,
    /// Bytes.
    pub(super) len: usize,
}

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let sizes = || all().map(|(bits, _)| bits / 8);
        let len = sizes().nth(id)?;
        let offset = sizes().take(id).sum();
        Some((Self { offset, len }, NonZeroUsize::new(len)))
    }
}

/// Registers of one kind: bits, type, names.
type Group = (usize, &'static str, &'static [&'static str]);

/// The features, as gdb knows them, with their registers in the order of their numbers.
const FEATURES: [(&str, &[Group]); 4] = [
    (
        "org.gnu.gdb.i386.core",
        &[
            (64, "int64", &["rax", "rbx", "rcx", "rdx", "rsi", "rdi"]),
            (64, "data_ptr", &["rbp", "rsp"]),
            (64, "int64", &["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]),
            (64, "code_ptr", &["rip"]),
            (32, "int32", &["eflags", "cs", "ss", "ds", "es", "fs", "gs"]),
            (
                80,
                "i387_ext",
                &["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"],
            ),
            (
                32,
                "int",
                &["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"],
            ),
        ],
    ),
    (
        "org.gnu.gdb.i386.sse",
        &[
            (
                128,
                "uint128",
                &[
                    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                    "xmm12", "xmm13", "xmm14", "xmm15",
                ],
            ),
            (32, "int", &["mxcsr"]),
        ],
    ),
    ("org.gnu.gdb.i386.segments", &[(64, "int64", &["fs_base", "gs_base"])]),
    (
        "system",
        &[(64, "int64", &["k_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"])],
    ),
];

/// Bits and name of every register, by number.
fn all() -> impl Iterator<Item = (usize, &'static str)> {
    let groups = FEATURES.iter().flat_map(|(_, groups)| groups.iter());
    groups.flat_map(|(bits, _, names)| names.iter().map(|name| (*bits, *name)))
}

/// What gdb is told of the registers.
pub(super) fn description() -> String {
    let mut xml = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>\
        <architecture>i386:x86-64</architecture>"
        .to_owned();
    for (feature, groups) in FEATURES {
        xml += &format!("<feature name=\"{feature}\">");
        for (bits, kind, names) in groups {
            for name in *names {
                xml += &format!("<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"/>");
            }
        }
        xml += "</feature>";
    }
    xml + "</target>"
}

/// The values of all registers, in the order of their numbers, little-endian.
pub(super) fn to_bytes(registers: &DebugRegisters) -> Vec<u8> {
    let mut bytes = Vec::new();
    registers.gdb_serialize(|byte| bytes.push(byte.unwrap_or_default()));
    bytes
}

impl Registers for DebugRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.rip
    }

    fn gdb_serialize(&self, mut write: impl FnMut(Option<u8>)) {
        let mut put = |bytes: &[u8]| bytes.iter().for_each(|byte| write(Some(*byte)));
        self.general.iter().for_each(|register| put(&register.to_le_bytes()));
        put(&self.rip.to_le_bytes());
        put(&self.eflags.to_le_bytes());
        for selector in self.selectors {
            put(&u32::from(selector).to_le_bytes());
        }
        self.st.iter().for_each(|register| put(register));
        for word in self.fpu {
            put(&u32::from(word).to_le_bytes());
        }
        let (at, operand, code) = self.fpu_last;
        let half = |value: u64, upper: bool| (if upper { value >> 32 } else { value }) as u32;
        for word in [
            half(at, true),
            half(at, false),
            half(operand, true),
            half(operand, false),
            code.into(),
        ] {
            put(&word.to_le_bytes());
        }
        self.xmm.iter().for_each(|register| put(register));
        put(&self.mxcsr.to_le_bytes());
        let system = self.bases.iter().chain(&self.control);
        system.for_each(|register| put(&register.to_le_bytes()));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let mut source = Source(bytes);
        for register in &mut self.general {
            *register = source.u64()?;
        }
        self.rip = source.u64()?;
        self.eflags = source.u32()?;
        for selector in &mut self.selectors {
            *selector = source.half()?;
        }
        for register in &mut self.st {
            *register = source.take()?;
        }
        for word in &mut self.fpu {
            *word = source.half()?;
        }
        let [at_high, at_low, operand_high, operand_low] =
            [source.u32()?, source.u32()?, source.u32()?, source.u32()?].map(u64::from);
        self.fpu_last = (at_high << 32 | at_low, operand_high << 32 | operand_low, source.half()?);
        for register in &mut self.xmm {
            *register = source.take()?;
        }
        self.mxcsr = source.u32()?;
        for register in self.bases.iter_mut().chain(&mut self.control) {
            *register = source.u64()?;
        }
        Ok(())
    }
}

/// Values that are read one after the other; an error where there is none left.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ()> {
        let (value, rest) = self.0.split_first_chunk().ok_or(())?;
        self.0 = rest;
        Ok(*value)
    }

    fn u64(&mut self) -> Result<u64, ()> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ()> {
        self.take().map(u32::from_le_bytes)
    }

    /// A register of 16 bits in 32.
    fn half(&mut self) -> Result<u16, ()> {
        u16::try_from(self.u32()?).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_and_lie_where_their_numbers_say() {
        let mut registers = DebugRegisters {
            rip: 0x1122_3344_5566_7788,
            eflags: 2,
            selectors: [8, 16, 24, 32, 40, 48],
            fpu: [0x37f, 1, 0xffff],
            fpu_last: (0xf_0000_0001, 0xe_0000_0002, 3),
            mxcsr: 0x1f80,
            bases: [1, 2, 3],
            control: [4, 5, 6, 7, 8, 9],
            ..DebugRegisters::default()
        };
        registers.general[15] = 15;
        registers.st[7] = [7; 10];
        registers.xmm[15] = [0xaa; 16];
        let bytes = to_bytes(&registers);
        let mut read = DebugRegisters::default();
        read.gdb_deserialize(&bytes).unwrap();
        assert_eq!(read, registers);
        assert_eq!(read.gdb_deserialize(&bytes[..bytes.len() - 1]), Err(()));
        assert_eq!(bytes.len(), all().map(|(bits, _)| bits / 8).sum::<usize>());
        let value = |name| {
            let id = all().position(|(_, other)| other == name).unwrap();
            let (number, _) = Number::from_raw_id(id).unwrap();
            bytes[number.offset..number.offset + number.len].to_vec()
        };
        assert_eq!(value("r15"), 15_u64.to_le_bytes());
        assert_eq!(value("rip"), registers.rip.to_le_bytes());
        assert_eq!(value("ds"), 24_u32.to_le_bytes());
        assert_eq!(value("fioff"), 1_u32.to_le_bytes());
        assert_eq!(value("mxcsr"), 0x1f80_u32.to_le_bytes());
        assert_eq!(value("efer"), 9_u64.to_le_bytes());
        assert!(Number::from_raw_id(all().count()).is_none());
        assert!(description().contains("<reg name=\"xmm15\" bitsize=\"128\" type=\"uint128\"/>"));
    }
}
