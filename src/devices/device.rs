//! What every device offers, as capability views instead of one wide trait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::class::ChildBus;
use super::drain::Drain;
use super::input::InputDevice;
use crate::accel::debug::DebugStop;
use crate::qom::Object;
use crate::vmstate::{StateError, Visitor};

/// Something a device asks of the machine as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The guest asked for a reset.
    ResetRequest,
    /// The guest powered itself off.
    ShutdownRequest,
    /// Something happened that wakes a sleeping guest.
    WakeupRequest,
    /// The guest asked to sleep (ACPI S3).
    SuspendRequest,
    /// The guest asked to hibernate (ACPI S4): it has saved itself and may be powered off.
    HibernateRequest,
    /// The guest said that it panicked.
    GuestPanicked,
    /// The guest said through Hyper-V's interface that it crashed, with these parameters.
    HyperVCrash([u64; 5]),
    /// The guest said that it panicked and is now loading its crash kernel.
    GuestCrashLoaded,
    /// The guest panicked and asks to be powered off (pvpanic bit 2).
    GuestPvShutdown,
    /// The guest ended the emulator with this exit status (debug-exit).
    DebugExit(u8),
    /// The vCPU with this index stopped for a debugger.
    DebugStop(u32, DebugStop),
    /// The accelerator cannot run the guest any further; the log says why.
    InternalError,
    /// The guest let go of a device in a slot, which may now be taken out.
    SlotReleased,
    /// Something happened in the networks of its cards.
    NetworkNews,
    /// Requests to a disk failed; the graph of nodes knows which.
    DiskError,
    /// The guest set its clock; the new offset from the configured base in seconds.
    RtcChange(i64),
    /// The guest opened or closed a port.
    PortChange(PortNews),
}

/// Whether the guest has a port open, for those who manage it. However often the guest changes that before anybody looks, it is
/// one notice. Clones are of the same port.
#[derive(Clone, Debug)]
pub struct PortNews(Arc<PortState>);

#[derive(Debug)]
struct PortState {
    id: String,
    open: AtomicBool,
    told: AtomicBool,
}

impl PortNews {
    /// Of the port that is the device of this id.
    #[must_use]
    pub fn new(id: String) -> Self {
        Self(Arc::new(PortState {
            id,
            open: AtomicBool::new(false),
            told: AtomicBool::new(true),
        }))
    }

    /// The guest opened or closed it. What there is to tell, if nobody is about to look anyway.
    #[must_use]
    pub fn changed(&self, open: bool) -> Option<Self> {
        self.0.open.store(open, Ordering::SeqCst);
        self.0.told.swap(false, Ordering::SeqCst).then(|| self.clone())
    }

    /// The id of the port, and whether it is open now.
    #[must_use]
    pub fn look(&self) -> (&str, bool) {
        self.0.told.store(true, Ordering::SeqCst);
        (&self.0.id, self.0.open.load(Ordering::SeqCst))
    }
}

impl PartialEq for PortNews {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PortNews {}

/// Where notices go. Never blocks; may be called on a vCPU thread.
pub type Notifier = Arc<dyn Fn(Notice) + Send + Sync>;

/// Guest accesses to I/O ports. `offset` counts from the start of the registered range.
pub trait PioDevice {
    /// Fills `data` (1, 2 or 4 bytes).
    fn pio_read(&mut self, offset: u16, data: &mut [u8]);
    /// Takes `data` (1, 2 or 4 bytes).
    fn pio_write(&mut self, offset: u16, data: &[u8]);
}

/// Guest accesses to memory-mapped registers. `offset` counts from the start of the registered range.
pub trait MmioDevice {
    /// Fills `data` (1 to 8 bytes).
    fn mmio_read(&mut self, offset: u64, data: &mut [u8]);
    /// Takes `data` (1 to 8 bytes).
    fn mmio_write(&mut self, offset: u64, data: &[u8]);
}

/// Why devices return to the state after power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// The machine starts over.
    Cold,
    /// The machine wakes from sleep (ACPI S3): memory has kept what it held.
    Wakeup,
}

/// How firmware's tables tell of a device that nobody could find otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiDevice {
    /// A serial port: its first port and its interrupt.
    SerialPort(u16, u8),
    /// The port of a panic device.
    PanicPort(u16),
}

/// What firmware calls a device that it can start from, in the words of Open Firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootName {
    /// The PCI function.
    pub function: &'static str,
    /// What it starts from, with its address behind the function: `disk@0,0`.
    pub unit: &'static str,
}

/// A device of the machine.
pub trait Device: Send {
    /// The QOM type name.
    fn type_name(&self) -> &'static str;
    /// First phase of a reset: returns to the state after power-on.
    fn reset(&mut self);
    /// Second phase, when all devices have been through the first: drives its outputs as they are after power-on.
    fn reset_hold(&mut self, kind: ResetKind) {
        let _ = kind;
    }
    /// Third phase, when all devices hold still: does what begins with the end of a reset.
    fn reset_exit(&mut self, kind: ResetKind) {
        let _ = kind;
    }
    /// The guest has been paused: starts nothing new until [`Device::resume`]. Returns what there is to wait for, if anything is
    /// under way; the machine is paused when that has ended.
    fn pause(&mut self) -> Option<Drain> {
        None
    }
    /// The guest is about to run.
    fn resume(&mut self) {}
    /// The device has been taken out: lets go of all that is not let go when it is dropped. The guest does not reach it any more,
    /// though an access that had begun may still end.
    fn unrealize(&mut self) {}
    /// Visits the sections of its saved state, in QEMU's order; none if it remembers nothing.
    ///
    /// # Errors
    /// Those of the visitor, passed on.
    fn sections(&mut self, visit: &mut Visitor<'_>) -> Result<(), StateError>;
    /// Why a guest that has this device cannot be saved; none if it can.
    fn migration_blocker(&self) -> Option<&'static str> {
        None
    }
    /// What it makes of a property beyond the value that it was given: a choice of its own, or what changes while the guest
    /// runs. None where the value that it was given stands.
    fn property(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
    /// Changes a property of the living device. None where it stays as the device was made.
    ///
    /// # Errors
    /// The device does not take the value.
    fn set_property(&mut self, name: &str, value: &Value) -> Option<Result<(), String>> {
        let _ = (name, value);
        None
    }
    /// Devices that it is made of, which the tree of objects shows below it by these names.
    fn parts(&self) -> Vec<(&'static str, Arc<dyn Object>)> {
        Vec::new()
    }
    /// The bus that it has for other devices, unless that is a bus of PCI.
    fn child_bus(&self) -> Option<ChildBus> {
        None
    }
    /// How firmware's tables tell of it, if they do.
    fn acpi(&self) -> Option<AcpiDevice> {
        None
    }
    /// The view of people, if they use the device.
    fn as_input(&mut self) -> Option<&mut dyn InputDevice> {
        None
    }
    /// What firmware calls it, if it can start from it.
    fn boot_name(&self) -> Option<BootName> {
        None
    }
    /// The port view, if the device has ports.
    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        None
    }
    /// The memory-mapped view, if the device has one.
    fn as_mmio(&mut self) -> Option<&mut dyn MmioDevice> {
        None
    }
}
