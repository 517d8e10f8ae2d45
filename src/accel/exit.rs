//! Where guest accesses that the accelerator does not answer itself go.

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
    /// The accelerator cannot go on. The text holds what an administrator needs: reason, registers and code bytes.
    Failed(String),
}

/// Answers a vCPU's exits. Called on vCPU threads, several at a time.
pub trait ExitHandler: Send + Sync {
    /// Fills `data` (1, 2 or 4 bytes) from an I/O port.
    fn pio_read(&self, port: u16, data: &mut [u8]);
    /// Takes `data` (1, 2 or 4 bytes) for an I/O port.
    fn pio_write(&self, port: u16, data: &[u8]);
    /// Fills `data` (1 to 8 bytes) from guest physical address `addr`.
    fn mmio_read(&self, addr: u64, data: &mut [u8]);
    /// Takes `data` (1 to 8 bytes) for guest physical address `addr`.
    fn mmio_write(&self, addr: u64, data: &[u8]);
    /// A local interrupt controller saw the end of the interrupt `vector` (split interrupt chips only).
    fn end_of_interrupt(&self, vector: u8);
    /// Whether the PICs ask for an interrupt (split interrupt chips only). Never waits.
    fn has_external_interrupt(&self) -> bool;
    /// Acknowledges the PICs' interrupt: its vector. None without PICs.
    fn take_external_interrupt(&self) -> Option<u8>;
    /// vCPU `index` has parked itself because of `event`.
    fn event(&self, index: u32, event: VcpuEvent);
}
