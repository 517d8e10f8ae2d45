//! The address spaces of a machine, and what its vCPUs' exits mean.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::memory_map::MemoryMap;
use super::split::SplitChips;
use crate::devices::pace::Pace;
use crate::{
    accel::{VcpuEvent, delay_current_vcpu, stop_current_vcpu, x86_64::X86Exits},
    devices::{Notice, Notifier},
    mem::MapError,
};

/// Answers vCPU exits.
pub(crate) struct Board {
    pub(crate) map: MemoryMap,
    notifier: Notifier,
    /// The interrupt controllers that are not in the kernel.
    pub(crate) chips: OnceLock<Arc<SplitChips>>,
}

impl Board {
    /// A board without devices. Notices go on to `notifier` after the vCPU that caused them was told to stop.
    pub(crate) fn new(notifier: &Notifier) -> Result<Self, MapError> {
        Ok(Self {
            map: MemoryMap::new()?,
            notifier: stopping(Arc::clone(notifier)),
            chips: OnceLock::new(),
        })
    }

    /// Where devices send their notices.
    pub(crate) fn notifier(&self) -> Notifier {
        Arc::clone(&self.notifier)
    }
}

/// A guest that asked to be reset or switched off must not run another instruction meanwhile, nor one that panicked,
/// unless it is told to run on; one that makes events without end is slowed down.
fn stopping(notifier: Notifier) -> Notifier {
    let pace = Pace::default();
    Arc::new(move |notice| {
        match notice {
            Notice::ResetRequest
            | Notice::ShutdownRequest
            | Notice::SuspendRequest
            | Notice::HibernateRequest
            | Notice::GuestPanicked
            | Notice::HyperVCrash(_)
            | Notice::GuestPvShutdown
            | Notice::InternalError
            | Notice::DebugExit(_) => stop_current_vcpu(),
            // The vCPU of a debugger has parked itself.
            Notice::WakeupRequest
            | Notice::SlotReleased
            | Notice::DebugStop(..)
            | Notice::NetworkNews
            | Notice::DiskError
            | Notice::PortChange(_) => {}
            Notice::GuestCrashLoaded | Notice::RtcChange(_) => delay_current_vcpu(pace.event(Instant::now())),
        }
        notifier(notice);
    })
}

impl X86Exits for Board {
    fn pio_read(&self, port: u16, data: &mut [u8]) {
        self.map.ports.read(port.into(), data);
    }

    fn pio_write(&self, port: u16, data: &[u8]) {
        self.map.ports.write(port.into(), data);
    }

    fn mmio_read(&self, addr: u64, data: &mut [u8]) {
        self.map.memory.read(addr, data);
    }

    fn mmio_write(&self, addr: u64, data: &[u8]) {
        self.map.memory.write(addr, data);
    }

    fn end_of_interrupt(&self, vector: u8) {
        if let Some(chips) = self.chips.get() {
            chips.end_of_interrupt(vector);
        }
    }

    fn has_external_interrupt(&self) -> bool {
        self.chips.get().is_some_and(|chips| chips.has_interrupt())
    }

    fn take_external_interrupt(&self) -> Option<u8> {
        self.chips.get().map(|chips| chips.take_interrupt())
    }

    fn event(&self, index: u32, event: VcpuEvent) {
        let notice = match event {
            VcpuEvent::Shutdown => {
                tracing::info!(vcpu = index, "triple fault");
                Notice::ResetRequest
            }
            VcpuEvent::SystemShutdown => Notice::ShutdownRequest,
            VcpuEvent::SystemReset => Notice::ResetRequest,
            VcpuEvent::SystemCrash(parameters) => parameters.map_or(Notice::GuestPanicked, Notice::HyperVCrash),
            VcpuEvent::Debug(stop) => Notice::DebugStop(index, stop),
            VcpuEvent::Failed(reason) => {
                tracing::error!(vcpu = index, "{reason}");
                Notice::InternalError
            }
        };
        (self.notifier)(notice);
    }
}
