//! Where accesses go that the accelerator does not answer itself.

use crate::accel::VcpuEvent;

/// Answers an x86_64 vCPU's exits. Called on vCPU threads, several at a time.
pub trait X86Exits: Send + Sync {
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
