//! What a debugger sees of a vCPU, and what it sets, in plain values. The registers are those of x86_64.

use std::collections::BTreeSet;

/// How many hardware breakpoints and watchpoints there are.
pub const HARDWARE_POINTS: usize = 4;

/// The registers of a vCPU, but for those of the vector extensions beyond SSE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15.
    pub general: [u64; 16],
    /// The instruction pointer.
    pub rip: u64,
    /// The flags.
    pub eflags: u32,
    /// The selectors CS, SS, DS, ES, FS, GS.
    pub selectors: [u16; 6],
    /// The bases of FS and GS, and the one that SWAPGS brings.
    pub bases: [u64; 3],
    /// CR0, CR2, CR3, CR4, CR8 and EFER.
    pub control: [u64; 6],
    /// ST0 to ST7.
    pub st: [[u8; 10]; 8],
    /// Control, status and tag word of the floating point unit.
    pub fpu: [u16; 3],
    /// Where its last instruction was, that one's operand, and its operation code.
    pub fpu_last: (u64, u64, u16),
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
    /// The control and status register of SSE.
    pub mxcsr: u32,
}

/// When a hardware point stops its vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Before an instruction at its address.
    Execute,
    /// After a write to it.
    Write,
    /// After a read of it or a write to it. x86 knows no points for reads alone.
    ReadWrite,
}

/// A hardware breakpoint or watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwarePoint {
    /// Linear address.
    pub addr: u64,
    /// Bytes: 1, 2, 4 or 8; 1 for instructions.
    pub len: u8,
    /// When it stops the vCPU.
    pub access: Access,
}

/// What a debugger wants of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugSetup {
    /// Linear addresses at which the debugger has put a breakpoint instruction.
    pub software: BTreeSet<u64>,
    /// No more than [`HARDWARE_POINTS`].
    pub hardware: Vec<HardwarePoint>,
    /// Stops after one instruction.
    pub step: bool,
    /// Does not run while others do.
    pub held: bool,
}

impl DebugSetup {
    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a vCPU stopped for a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugStop {
    /// It is at one of the debugger's breakpoint instructions.
    Software,
    /// One instruction is done.
    Step,
    /// A hardware point was hit.
    Hardware(HardwarePoint),
}
