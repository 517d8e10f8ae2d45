//! What can happen to a vCPU, on every architecture.

use super::debug::DebugStop;

/// Something that happened to a vCPU and that the machine has to decide about. The vCPU has parked itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VcpuEvent {
    /// The guest ended in a state it cannot leave (x86: triple fault).
    Shutdown,
    /// The guest asked for power-off through the accelerator.
    SystemShutdown,
    /// The guest asked for a reset through the accelerator.
    SystemReset,
    /// The guest told the accelerator that it crashed, with the parameters of a Hyper-V crash if it gave any.
    SystemCrash(Option<[u64; 5]>),
    /// A debugger's breakpoint was hit, or its single step is done.
    Debug(DebugStop),
    /// The accelerator cannot go on. The text holds what an administrator needs: reason, registers and code bytes.
    Failed(String),
}
