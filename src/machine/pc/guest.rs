//! A PC guest under the names the worker knows.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cpu::CpuObject;
use super::pci_info::pci_info;
use super::vm::Vm;
use crate::accel::controllers::InterruptControllers;
use crate::accel::debug::{DebugRegisters, DebugSetup};
use crate::accel::{StatValue, hostfile};
use crate::devices::input::{InputEvent, InputKind, Key};
use crate::machine::chardevs::Chardevs;
use crate::machine::guest::{Debuggable, Guest, GuestObject, RemovedDevice};
use crate::machine::info::{EmptySlotInfo, MemdevInfo, MemoryRegionInfo, NodeInfo, RomInfo, VcpuInfo};
use crate::machine::saved::Migratable;
use crate::qapi::Error;
use crate::qapi::qmp::PciInfo;
use crate::qom::Object;

impl Guest for Vm {
    fn start(&self) -> Result<(), Error> {
        self.start()
    }

    fn pause(&self) -> Result<(), Error> {
        self.pause()
    }

    fn reset(&self) -> Result<(), Error> {
        self.reset()
    }

    fn press_power_button(&self) {
        self.powerdown();
    }

    fn wake(&self) -> Result<(), Error> {
        self.wakeup()
    }

    fn inject_nmi(&self) -> Result<(), Error> {
        self.inject_nmi()
    }

    fn send_keys(&self, keys: &[Key], pause: Duration) -> Result<(), Error> {
        let sent = self.devices.input.send_keys(keys, pause);
        sent.map_err(|error| Error::generic(error.to_string()))
    }

    fn takes_input(&self, kind: InputKind) -> bool {
        self.devices.input.takes(kind)
    }

    fn input(&self, events: &[InputEvent]) {
        self.devices.input.happen(events);
    }

    fn vcpus(&self) -> Vec<VcpuInfo> {
        self.vcpus()
    }

    fn empty_slots(&self) -> Vec<EmptySlotInfo> {
        self.empty_slots()
    }

    fn memory_regions(&self) -> Vec<MemoryRegionInfo> {
        self.memory_regions()
    }

    fn memdevs(&self) -> Vec<MemdevInfo> {
        self.memdevs()
    }

    fn read_physical(&self, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        self.read_physical(addr, data)
    }

    fn read_virtual(&self, index: u32, addr: u64, data: &mut [u8]) -> Result<(), Error> {
        self.read_virtual(index, addr, data)
    }

    fn vm_stats(&self) -> Result<Vec<StatValue>, Error> {
        self.vm_stats()
    }

    fn vcpu_stats(&self) -> Result<Vec<Vec<StatValue>>, Error> {
        self.vcpu_stats()
    }

    fn dump_registers(&self, index: u32) -> Result<String, Error> {
        self.dump_registers(index)
    }

    fn register_values(&self, index: u32) -> Result<Vec<(&'static str, u64)>, Error> {
        self.register_values(index)
    }

    fn translate(&self, index: u32, addr: u64) -> Result<Option<u64>, Error> {
        self.translate(index, addr)
    }

    fn is_backed(&self, addr: u64, len: u64) -> bool {
        self.is_backed(addr, len)
    }

    fn host_address(&self, addr: u64) -> Option<(String, u64)> {
        self.host_address(addr)
    }

    fn port_read(&self, port: u16, data: &mut [u8]) -> Result<(), Error> {
        self.port_read(port, data);
        Ok(())
    }

    fn port_write(&self, port: u16, data: &[u8]) -> Result<(), Error> {
        self.port_write(port, data);
        Ok(())
    }

    fn debug(&self) -> Option<&dyn Debuggable> {
        Some(self)
    }

    fn migratable(&self) -> Option<&dyn Migratable> {
        Some(self)
    }

    fn memory_tree(&self) -> String {
        self.memory_tree()
    }

    fn numa_nodes(&self) -> Vec<NodeInfo> {
        self.numa_nodes()
    }

    fn roms(&self) -> Vec<RomInfo> {
        self.roms.clone()
    }

    fn local_apic(&self, index: u32) -> Result<Vec<u32>, Error> {
        self.local_apic(index)
    }

    fn interrupt_controllers(&self) -> Result<InterruptControllers, Error> {
        self.interrupt_controllers()
    }

    fn set_boot_order(&self, order: &str) -> Result<(), Error> {
        self.set_boot_order(order)
    }

    fn cpu_type(&self) -> String {
        self.processor().cpu().model().typename().to_owned()
    }

    fn cpu_object(&self, index: u32) -> Arc<dyn Object> {
        Arc::new(CpuObject::new(self.processor(), index))
    }

    fn describe_host(&self) -> Result<Vec<u8>, Error> {
        Ok(hostfile::x86::describe(self.processor().host())
            .to_string()
            .into_bytes())
    }

    fn device_tree(&self) -> String {
        self.device_tree()
    }

    fn objects(&self) -> Vec<GuestObject> {
        self.objects()
    }

    fn plug(&self, entry: &Map<String, Value>, chardevs: Chardevs) -> Result<Vec<GuestObject>, Error> {
        self.plug(entry, chardevs)
    }

    fn unplug(&self, path: &str) -> Result<Vec<RemovedDevice>, Error> {
        self.unplug(path)
    }

    fn take_released(&self) -> Vec<RemovedDevice> {
        self.take_released()
    }

    fn finish_unplugs(&self) -> Vec<RemovedDevice> {
        self.finish_unplugs()
    }

    fn pci(&self) -> Vec<PciInfo> {
        vec![pci_info(&self.pci())]
    }
}

impl Debuggable for Vm {
    fn registers(&self, index: u32) -> Result<DebugRegisters, Error> {
        self.debug_registers(index)
    }

    fn set_registers(&self, index: u32, registers: DebugRegisters) -> Result<(), Error> {
        self.set_debug_registers(index, registers)
    }

    fn set_up(&self, index: u32, setup: DebugSetup) -> Result<(), Error> {
        self.set_debug(index, setup)
    }

    fn write_physical(&self, addr: u64, data: &[u8]) -> Result<(), Error> {
        self.write_physical(addr, data)
    }
}
