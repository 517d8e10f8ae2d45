//! What an accelerator does for interrupts.

use std::io;

use vmm_sys_util::eventfd::EventFd;

use super::Msi;

/// An interrupt controller of a PC that the accelerator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// The PIC that is wired to the processor.
    FirstPic,
    /// The one behind it.
    SecondPic,
    /// The I/O APIC.
    IoApic,
}

/// Where an interrupt leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTo {
    /// To an input of a controller.
    Pin {
        /// The controller.
        chip: Chip,
        /// Number of the input.
        pin: u32,
    },
    /// To processors.
    Msi(Msi),
}

/// A row of the table. A number may have several: it then leads to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Number of the interrupt (GSI).
    pub gsi: u32,
    /// Where it leads.
    pub to: RouteTo,
}

/// Takes interrupts.
pub trait Controller: Send + Sync {
    /// Sets the level of a line of the accelerator's own controllers.
    ///
    /// # Errors
    /// There is no such line.
    fn set_line(&self, gsi: u32, level: bool) -> io::Result<()>;
    /// Sends a message. One that the guest blocks is no error.
    ///
    /// # Errors
    /// The message is refused.
    fn send(&self, message: Msi) -> io::Result<()>;
    /// Replaces the table. May take milliseconds.
    ///
    /// # Errors
    /// The table is refused; the one before stays.
    fn set_routes(&self, routes: &[Route]) -> io::Result<()>;
    /// Writes to `event` raise the interrupt from now on; the first at once if `event` is readable already. With
    /// `resample` the interrupt is a level, which falls when the guest has handled it; `resample` is written to then.
    ///
    /// # Errors
    /// The accelerator takes no descriptors, or not this one.
    fn connect(&self, gsi: u32, event: &EventFd, resample: Option<&EventFd>) -> io::Result<()>;
    /// Takes [`Controller::connect`] back. What is written to `event` stays there.
    ///
    /// # Errors
    /// The two were not connected.
    fn disconnect(&self, gsi: u32, event: &EventFd) -> io::Result<()>;
}
