//! Registers of the 16550A and their bits (PC16550D data sheet, section 8).

/// Receiver buffer and transmitter holding register; divisor latch, low byte.
pub(super) const DATA: u16 = 0;
/// Interrupt enable register; divisor latch, high byte.
pub(super) const IER: u16 = 1;
/// Interrupt identification register, and FIFO control register for writes.
pub(super) const IIR_FCR: u16 = 2;
/// Line control register.
pub(super) const LCR: u16 = 3;
/// Modem control register.
pub(super) const MCR: u16 = 4;
/// Line status register.
pub(super) const LSR: u16 = 5;
/// Modem status register.
pub(super) const MSR: u16 = 6;
/// Scratch register.
pub(super) const SCR: u16 = 7;

/// Received data available.
pub(super) const IER_RDI: u8 = 0x01;
/// Transmitter holding register empty.
pub(super) const IER_THRI: u8 = 0x02;
/// Receiver line status.
pub(super) const IER_RLSI: u8 = 0x04;
/// Modem status.
pub(super) const IER_MSI: u8 = 0x08;

/// No interrupt is pending.
pub(super) const IIR_NONE: u8 = 0x01;
/// Modem status changed.
pub(super) const IIR_MSI: u8 = 0x00;
/// The transmitter holding register is empty.
pub(super) const IIR_THRI: u8 = 0x02;
/// Received data is available.
pub(super) const IIR_RDI: u8 = 0x04;
/// The line status has an error or a break.
pub(super) const IIR_RLSI: u8 = 0x06;
/// Characters wait in the FIFO and no more come.
pub(super) const IIR_CTI: u8 = 0x0c;
/// Which interrupt it is.
pub(super) const IIR_ID: u8 = 0x0f;
/// The FIFOs are enabled.
pub(super) const IIR_FIFO: u8 = 0xc0;

/// Enables the FIFOs.
pub(super) const FCR_ENABLE: u8 = 0x01;
/// Clears the receive FIFO.
pub(super) const FCR_CLEAR_RECEIVE: u8 = 0x02;
/// Clears the transmit FIFO.
pub(super) const FCR_CLEAR_TRANSMIT: u8 = 0x04;
/// The bits that stay: enable, DMA mode and trigger level.
pub(super) const FCR_KEPT: u8 = 0xc9;

/// Gives access to the divisor latch.
pub(super) const LCR_DLAB: u8 = 0x80;
/// A parity bit follows the data bits.
pub(super) const LCR_PARITY: u8 = 0x08;
/// Two stop bits.
pub(super) const LCR_STOP: u8 = 0x04;
/// Data bits beyond five.
pub(super) const LCR_LENGTH: u8 = 0x03;

/// The transmitter is looped back to the receiver.
pub(super) const MCR_LOOP: u8 = 0x10;
/// Output 2, which a PC uses to enable the interrupt.
pub(super) const MCR_OUT2: u8 = 0x08;
/// The bits there are.
pub(super) const MCR_ALL: u8 = 0x1f;

/// Data is ready.
pub(super) const LSR_DR: u8 = 0x01;
/// A character came and there was no room.
pub(super) const LSR_OE: u8 = 0x02;
/// A break came.
pub(super) const LSR_BI: u8 = 0x10;
/// The transmitter holding register, or the FIFO, is empty.
pub(super) const LSR_THRE: u8 = 0x20;
/// And so is the shift register.
pub(super) const LSR_TEMT: u8 = 0x40;
/// What interrupts as line status.
pub(super) const LSR_INTERRUPT: u8 = 0x1e;

/// Carrier, data set ready and clear to send: what a line without modem shows.
pub(super) const MSR_CONNECTED: u8 = 0xb0;
/// What has changed since the last read.
pub(super) const MSR_DELTA: u8 = 0x0f;
