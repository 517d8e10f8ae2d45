//! A guest as the worker sees it, whatever its machine and accelerator.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::chardevs::Chardevs;
use super::info::{EmptySlotInfo, MemdevInfo, MemoryRegionInfo, NodeInfo, RomInfo, VcpuInfo};
use super::saved::Migratable;
use crate::accel::StatValue;
use crate::accel::controllers::InterruptControllers;
use crate::accel::debug::{DebugRegisters, DebugSetup};
use crate::devices::input::{InputEvent, InputKind, Key};
use crate::qapi::Error;
use crate::qapi::qmp::PciInfo;
use crate::qom::Object;

/// An object of a guest in the tree of objects.
#[derive(Clone)]
pub struct GuestObject {
    /// Its path.
    pub path: String,
    /// The object.
    pub object: Arc<dyn Object>,
}

/// A device that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedDevice {
    /// Its id.
    pub id: Option<String>,
    /// The path that it had.
    pub path: String,
    /// The paths that the devices had of which it was made.
    pub parts: Vec<String>,
}

/// A guest that was made. None of its methods may be called on a vCPU thread: they may wait for vCPUs.
///
/// Every error names what failed; the guest is then as it was. Buses, ports and what else not every machine has is absent where
/// a machine does not say otherwise.
pub trait Guest {
    /// Lets the vCPUs run, with the guest's clock where it was when it was paused.
    ///
    /// # Errors
    /// The accelerator refuses.
    fn start(&self) -> Result<(), Error>;
    /// Returns once all vCPUs are out of the guest and its clock stands still.
    ///
    /// # Errors
    /// The accelerator refuses.
    fn pause(&self) -> Result<(), Error>;
    /// Returns the machine to the state after power-on. Only while paused.
    ///
    /// # Errors
    /// An image can no longer be read, or the accelerator refuses.
    fn reset(&self) -> Result<(), Error>;
    /// Presses the power button.
    fn press_power_button(&self);
    /// Wakes the machine from ACPI S3.
    ///
    /// # Errors
    /// The accelerator refuses.
    fn wake(&self) -> Result<(), Error>;
    /// Injects a non-maskable interrupt.
    ///
    /// # Errors
    /// The accelerator refuses.
    fn inject_nmi(&self) -> Result<(), Error>;
    /// Presses keys, one after the other, and lets them go in the opposite order, with a pause of the guest's time after each.
    /// Nothing happens where there is no keyboard.
    ///
    /// # Errors
    /// Too many keys wait to be pressed; none of these is.
    fn send_keys(&self, _keys: &[Key], _pause: Duration) -> Result<(), Error> {
        Ok(())
    }
    /// Whether a device has a use for what people do of this kind.
    fn takes_input(&self, _kind: InputKind) -> bool {
        false
    }
    /// Lets things happen, all at once; those that no device has a use for do not.
    fn input(&self, _events: &[InputEvent]) {}
    /// The vCPUs, by index.
    fn vcpus(&self) -> Vec<VcpuInfo>;
    /// The places for vCPUs that are not there yet, by index.
    fn empty_slots(&self) -> Vec<EmptySlotInfo>;
    /// The parts of RAM, by guest address.
    fn memory_regions(&self) -> Vec<MemoryRegionInfo>;
    /// The memory backends.
    fn memdevs(&self) -> Vec<MemdevInfo>;
    /// Reads RAM and ROM at a physical address; what is neither reads as zeros.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn read_physical(&self, addr: u64, data: &mut [u8]) -> Result<(), Error>;
    /// Reads guest memory at an address as the vCPU with this index sees it.
    ///
    /// # Errors
    /// There is no such vCPU, or it maps nothing to part of the range.
    fn read_virtual(&self, index: u32, addr: u64, data: &mut [u8]) -> Result<(), Error>;
    /// Statistics of the guest as a whole.
    ///
    /// # Errors
    /// The accelerator keeps none.
    fn vm_stats(&self) -> Result<Vec<StatValue>, Error>;
    /// Statistics of each vCPU, by index.
    ///
    /// # Errors
    /// The accelerator keeps none.
    fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error>;
    /// The registers of the vCPU with this index, for people.
    ///
    /// # Errors
    /// There is no such vCPU.
    fn dump_registers(&self, index: u32) -> Result<String, Error>;
    /// The registers of the vCPU with this index that expressions may name.
    ///
    /// # Errors
    /// There is no such vCPU.
    fn register_values(&self, index: u32) -> Result<Vec<(&'static str, u64)>, Error>;
    /// The physical address behind a virtual one, with the page tables that the vCPU with this index uses now.
    ///
    /// # Errors
    /// There is no such vCPU.
    fn translate(&self, index: u32, addr: u64) -> Result<Option<u64>, Error>;
    /// Whether a range of physical addresses is RAM or ROM throughout.
    fn is_backed(&self, addr: u64, len: u64) -> bool;
    /// The backend behind a physical address, and where this process has its memory.
    fn host_address(&self, addr: u64) -> Option<(String, u64)>;
    /// Reads a port as a vCPU would, apart from those in the kernel.
    ///
    /// # Errors
    /// The machine has no ports.
    fn port_read(&self, _port: u16, _data: &mut [u8]) -> Result<(), Error> {
        Err(Error::generic("this machine has no ports"))
    }
    /// Writes to a port as a vCPU would, apart from those in the kernel.
    ///
    /// # Errors
    /// The machine has no ports.
    fn port_write(&self, _port: u16, _data: &[u8]) -> Result<(), Error> {
        Err(Error::generic("this machine has no ports"))
    }
    /// Who answers at which address of memory and ports, for people; nothing where no address leads anywhere yet.
    fn memory_tree(&self) -> String {
        String::new()
    }
    /// The NUMA nodes, by number; none where the guest has no NUMA.
    fn numa_nodes(&self) -> Vec<NodeInfo> {
        Vec::new()
    }
    /// What the guest finds as ROM; none where a machine has none.
    fn roms(&self) -> Vec<RomInfo> {
        Vec::new()
    }
    /// The registers of the local APIC of the vCPU with this index: register n is at offset 16 * n.
    ///
    /// # Errors
    /// There is no such vCPU, or it has no local APIC.
    fn local_apic(&self, _index: u32) -> Result<Vec<u32>, Error> {
        Err(Error::generic("this machine has no local APICs"))
    }
    /// The interrupt controllers.
    ///
    /// # Errors
    /// The machine has others than a PC, or the accelerator refuses.
    fn interrupt_controllers(&self) -> Result<InterruptControllers, Error> {
        Err(Error::generic("this machine has no interrupt controllers of a PC"))
    }
    /// Tells firmware in which order to look for what to boot, from the next boot on.
    ///
    /// # Errors
    /// Names the letter that stands for nothing there is, or says that the machine has no such order.
    fn set_boot_order(&self, _order: &str) -> Result<(), Error> {
        Err(Error::generic(
            "no function defined to set boot device list for this architecture",
        ))
    }
    /// What a debugger needs; none where the accelerator cannot be debugged.
    fn debug(&self) -> Option<&dyn Debuggable> {
        None
    }
    /// What saves and moves the guest; none where that cannot be.
    fn migratable(&self) -> Option<&dyn Migratable> {
        None
    }
    /// QOM type name of the vCPUs.
    fn cpu_type(&self) -> String;
    /// The vCPU with this index as an object of the tree.
    fn cpu_object(&self, index: u32) -> Arc<dyn Object>;
    /// What the host offers to CPU models, in the form of a host file.
    ///
    /// # Errors
    /// The accelerator does not tell.
    fn describe_host(&self) -> Result<Vec<u8>, Error>;
    /// Devices and their properties, bus by bus, for people.
    fn device_tree(&self) -> String {
        String::new()
    }
    /// Devices and buses, as they live; what others are below comes before them.
    fn objects(&self) -> Vec<GuestObject> {
        Vec::new()
    }
    /// Plugs in the device that an entry of `device_add` describes, with the lines of its character devices. Returns what there is
    /// more in the tree of objects.
    ///
    /// # Errors
    /// Names what is missing, wrong or taken; nothing has changed then.
    fn plug(&self, _entry: &Map<String, Value>, _chardevs: Chardevs) -> Result<Vec<GuestObject>, Error> {
        Err(Error::generic("this machine has no buses"))
    }
    /// Asks for the device at this path to be let go. Returns what is gone at once; the guest lets go of the rest in its own
    /// time ([`Guest::take_released`]).
    ///
    /// # Errors
    /// Its bus lets none go, or the guest has been asked already.
    fn unplug(&self, _path: &str) -> Result<Vec<RemovedDevice>, Error> {
        Err(Error::generic("this machine has no buses"))
    }
    /// Takes out the devices that the guest has let go of.
    fn take_released(&self) -> Vec<RemovedDevice> {
        Vec::new()
    }
    /// Takes out the devices that the guest has been asked for. Only when it is about to be reset.
    fn finish_unplugs(&self) -> Vec<RemovedDevice> {
        Vec::new()
    }
    /// The PCI root buses as the guest has set them up.
    fn pci(&self) -> Vec<PciInfo> {
        Vec::new()
    }
}

/// A guest under a debugger, whose vCPUs may run meanwhile. Every error names what failed.
pub trait Debuggable {
    /// The registers of the vCPU with this index.
    ///
    /// # Errors
    /// There is no such vCPU, or the accelerator refuses.
    fn registers(&self, index: u32) -> Result<DebugRegisters, Error>;
    /// Changes the registers of the vCPU with this index.
    ///
    /// # Errors
    /// There is no such vCPU, or some register cannot have that value.
    fn set_registers(&self, index: u32, registers: DebugRegisters) -> Result<(), Error>;
    /// What the vCPU with this index stops for from now on.
    ///
    /// # Errors
    /// There is no such vCPU, or the accelerator refuses.
    fn set_up(&self, index: u32, setup: DebugSetup) -> Result<(), Error>;
    /// Writes physical RAM and ROM.
    ///
    /// # Errors
    /// Part of the range is neither; what lies before has been written.
    fn write_physical(&self, addr: u64, data: &[u8]) -> Result<(), Error>;
}
