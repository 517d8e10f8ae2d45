//! Struct `ich9_pm`, the power management part of section `ICH9LPC`.

use crate::vmstate::{Fields, Layout, StateError, Subsections, VmState};

/// Slots that PCI hot plug by ACPI tells of.
const PCI_BUSES: usize = 256;

/// The power management block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmState {
    /// PM1 status, without the timer's carry.
    pub status: u16,
    /// PM1 enable.
    pub enable: u16,
    /// PM1 control.
    pub control: u16,
    /// When the timer's carry interrupts, in nanoseconds of guest time.
    pub timer: Option<u64>,
    /// The tick of the timer from which on its carry is set.
    pub overflow_time: i64,
    /// General purpose events.
    pub gpe_status: [u8; 16],
    /// Those that interrupt.
    pub gpe_enable: [u8; 16],
    /// What raises a system management interrupt.
    pub smi_enable: u32,
    /// What has raised one.
    pub smi_status: u32,
    /// The slot that memory hot plug shows.
    pub memory_selector: u32,
    /// The watchdog.
    pub tco: TcoState,
    /// CPU hot plug.
    pub cpus: CpuHotplugState,
    /// PCI hot plug by ACPI.
    pub pci: PciHotplugState,
    /// The machine has it.
    pub has_pci: bool,
}

impl PmState {
    /// What every field is read into, for this many vCPUs that there may be.
    #[must_use]
    pub fn blank(possible_cpus: usize) -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            timer: None,
            overflow_time: 0,
            gpe_status: [0; 16],
            gpe_enable: [0; 16],
            smi_enable: 0,
            smi_status: 0,
            memory_selector: 0,
            tco: TcoState::default(),
            cpus: CpuHotplugState::blank(possible_cpus),
            pci: PciHotplugState::default(),
            has_pci: true,
        }
    }
}

impl VmState for PmState {
    fn layout(&self) -> Layout {
        Layout::new("ich9_pm", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("acpi_regs.pm1.evt.sts", &mut self.status)?;
        fields.int("acpi_regs.pm1.evt.en", &mut self.enable)?;
        fields.int("acpi_regs.pm1.cnt.cnt", &mut self.control)?;
        fields.timer("acpi_regs.tmr.timer", &mut self.timer)?;
        fields.int("acpi_regs.tmr.overflow_time", &mut self.overflow_time)?;
        fields.ints("acpi_regs.gpe.sts", &mut self.gpe_status)?;
        fields.ints("acpi_regs.gpe.en", &mut self.gpe_enable)?;
        fields.int("smi_en", &mut self.smi_enable)?;
        fields.int("smi_sts", &mut self.smi_status)
    }

    fn subsections(&mut self, all: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let memory = &mut self.memory_selector;
        all.section(Layout::new("ich9_pm/memhp", 1), true, |fields| {
            fields.structure("acpi_memory_hotplug", &mut MemoryHotplug(memory))
        })?;
        let tco = &mut self.tco;
        all.section(Layout::new("ich9_pm/tco", 1), true, |fields| {
            fields.structure("tco_regs", tco)
        })?;
        let cpus = &mut self.cpus;
        all.section(Layout::new("ich9_pm/cpuhp", 1), true, |fields| {
            fields.structure("cpuhp_state", cpus)
        })?;
        let pci = &mut self.pci;
        all.section(Layout::new("ich9_pm/pcihp", 1), self.has_pci, |fields| {
            fields.int("acpi_pci_hotplug.hotplug_select", &mut pci.select)?;
            fields.structures("acpi_pci_hotplug.acpi_pcihp_pci_status", &mut pci.slots)?;
            fields.int("acpi_pci_hotplug.acpi_index", &mut pci.acpi_index)
        })
    }
}

/// Memory hot plug of a machine without slots for memory.
struct MemoryHotplug<'a>(&'a mut u32);

impl VmState for MemoryHotplug<'_> {
    fn layout(&self) -> Layout {
        Layout::new("memory hotplug state", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("selector", self.0)
    }
}

/// The watchdog of the ICH9 (datasheet, section 13.9). There is none here: this is what its registers are after a reset, or
/// what they were on a machine that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcoState {
    /// TCO_RLD.
    pub reload: u16,
    /// TCO_DAT_IN and TCO_DAT_OUT.
    pub data: [u8; 2],
    /// TCO1_STS and TCO2_STS.
    pub status: [u16; 2],
    /// TCO1_CNT and TCO2_CNT.
    pub control: [u16; 2],
    /// TCO_MESSAGE1 and 2.
    pub messages: [u8; 2],
    /// TCO_WDCNT.
    pub watchdog_control: u8,
    /// TCO_TMR.
    pub initial: u16,
    /// SW_IRQ_GEN.
    pub irq_generator: u8,
    /// When it expires next.
    pub timer: Option<u64>,
    /// The same, also while it stands still; -1 if it never ran.
    pub expire_time: i64,
    /// How often it has expired.
    pub timeouts: u8,
}

impl Default for TcoState {
    fn default() -> Self {
        Self {
            reload: 0,
            data: [0; 2],
            status: [0; 2],
            control: [0, 0x0008],
            messages: [0; 2],
            watchdog_control: 0,
            initial: 4,
            irq_generator: 3,
            timer: None,
            expire_time: -1,
            timeouts: 0,
        }
    }
}

impl VmState for TcoState {
    fn layout(&self) -> Layout {
        Layout::new("tco io device status", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("tco.rld", &mut self.reload)?;
        fields.int("tco.din", &mut self.data[0])?;
        fields.int("tco.dout", &mut self.data[1])?;
        fields.int("tco.sts1", &mut self.status[0])?;
        fields.int("tco.sts2", &mut self.status[1])?;
        fields.int("tco.cnt1", &mut self.control[0])?;
        fields.int("tco.cnt2", &mut self.control[1])?;
        fields.int("tco.msg1", &mut self.messages[0])?;
        fields.int("tco.msg2", &mut self.messages[1])?;
        fields.int("tco.wdcnt", &mut self.watchdog_control)?;
        fields.int("tco.tmr", &mut self.initial)?;
        fields.int("sw_irq_gen", &mut self.irq_generator)?;
        fields.timer("tco_timer", &mut self.timer)?;
        fields.int("expire_time", &mut self.expire_time)?;
        fields.int("timeouts_no", &mut self.timeouts)
    }
}

/// CPU hot plug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuHotplugState {
    /// The vCPU that the registers show.
    pub selector: u32,
    /// What is to be done with it.
    pub command: u8,
    /// All that there may be.
    pub cpus: Vec<PossibleCpuState>,
}

impl CpuHotplugState {
    fn blank(possible_cpus: usize) -> Self {
        Self {
            cpus: vec![PossibleCpuState::default(); possible_cpus],
            ..Self::default()
        }
    }
}

impl VmState for CpuHotplugState {
    fn layout(&self) -> Layout {
        Layout::new("CPU hotplug state", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("selector", &mut self.selector)?;
        fields.int("command", &mut self.command)?;
        fields.structures("devs", &mut self.cpus)
    }
}

/// A vCPU that there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PossibleCpuState {
    /// It has come, and the guest has not been told.
    pub is_inserting: bool,
    /// It is to go, and the guest has not been told.
    pub is_removing: bool,
    /// What the guest said last: event and status of _OST.
    pub ost: [u32; 2],
}

impl VmState for PossibleCpuState {
    fn layout(&self) -> Layout {
        Layout::new("CPU hotplug device state", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("is_inserting", &mut self.is_inserting)?;
        fields.int("is_removing", &mut self.is_removing)?;
        fields.int("ost_event", &mut self.ost[0])?;
        fields.int("ost_status", &mut self.ost[1])
    }
}

/// PCI hot plug by ACPI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciHotplugState {
    /// The bus that the registers show.
    pub select: u32,
    /// Slots of each bus that devices came into or are to leave.
    pub slots: [SlotsState; PCI_BUSES],
    /// The number of the slot that was asked for.
    pub acpi_index: u32,
}

impl Default for PciHotplugState {
    fn default() -> Self {
        Self {
            select: 0,
            slots: [SlotsState::default(); PCI_BUSES],
            acpi_index: 0,
        }
    }
}

/// The slots of a bus; bit n is slot n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotsState {
    /// Devices came.
    pub up: u32,
    /// Devices are to leave.
    pub down: u32,
}

impl VmState for SlotsState {
    fn layout(&self) -> Layout {
        Layout::new("acpi_pcihp_pci_status", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("up", &mut self.up)?;
        fields.int("down", &mut self.down)
    }
}
