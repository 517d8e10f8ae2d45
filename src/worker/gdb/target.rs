//! The guest as gdb's protocol sees it: a thread for each vCPU, numbered from 1.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::rc::Rc;

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::registers::{Number, X86_64, description, to_bytes};
use crate::accel::debug::{Access, DebugRegisters, DebugSetup, HARDWARE_POINTS, HardwarePoint};
use crate::machine::guest::{Debuggable, Guest};
use crate::qapi::Error;
use crate::worker::core::Core;

/// The breakpoint instruction, `INT3`.
const BREAKPOINT: u8 = 0xcc;
/// A page of guest memory, within which addresses stay neighbours.
const PAGE: u64 = 4096;

/// What gdb has set, and the guest it is about.
pub(super) struct DebugTarget {
    core: Rc<Core>,
    /// By linear address: the physical one, and the byte that belongs there.
    software: BTreeMap<u64, (u64, u8)>,
    hardware: Vec<HardwarePoint>,
    /// What is to be done at the next resumption.
    plan: Plan,
    /// The vCPU whose page tables breakpoints are put by: the one that stopped last.
    pub(super) current: Cell<u32>,
}

#[derive(Default)]
struct Plan {
    steps: BTreeSet<u32>,
    named: BTreeSet<u32>,
    /// Only those that are named run.
    is_locked: bool,
}

impl DebugTarget {
    pub(super) fn new(core: Rc<Core>) -> Self {
        Self {
            core,
            software: BTreeMap::new(),
            hardware: Vec::new(),
            plan: Plan::default(),
            current: Cell::new(0),
        }
    }

    fn guest(&self) -> Result<(&dyn Guest, &dyn Debuggable), Error> {
        let guest = self.core.guest()?;
        let debuggable = guest.debug();
        debuggable
            .map(|debuggable| (guest, debuggable))
            .ok_or_else(|| Error::generic(super::NO_DEBUGGING))
    }

    /// Tells every vCPU what to stop for.
    pub(super) fn arm(&self) -> Result<(), Error> {
        let (guest, debuggable) = self.guest()?;
        for vcpu in guest.vcpus() {
            let setup = DebugSetup {
                software: self.software.keys().copied().collect(),
                hardware: self.hardware.clone(),
                step: self.plan.steps.contains(&vcpu.index),
                held: self.plan.is_locked && !self.plan.named.contains(&vcpu.index),
            };
            debuggable.set_up(vcpu.index, setup)?;
        }
        Ok(())
    }

    /// The guest stands: nothing of what was planned for its run is to be done at the next one.
    pub(super) fn forget_plan(&mut self) -> Result<(), Error> {
        if self.plan.steps.is_empty() && !self.plan.is_locked {
            return Ok(());
        }
        self.plan = Plan::default();
        self.arm()
    }

    /// gdb has gone: nothing of what it has set is left in the guest.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for (_, place) in std::mem::take(&mut self.software) {
            result = self.put_back(place).and(result);
        }
        self.hardware.clear();
        self.plan = Plan::default();
        self.arm().and(result)
    }

    /// Takes a breakpoint instruction out, unless something else has been written there.
    fn put_back(&self, (physical, original): (u64, u8)) -> Result<(), Error> {
        let (guest, debuggable) = self.guest()?;
        let mut byte = [0];
        guest.read_physical(physical, &mut byte)?;
        match byte {
            [BREAKPOINT] => debuggable.write_physical(physical, &[original]),
            _ => Ok(()),
        }
    }

    /// The physical address behind a linear one, if there is memory.
    fn physical(&self, index: u32, linear: u64, len: u64) -> Option<u64> {
        let guest = self.core.guest().ok()?;
        let physical = guest.translate(index, linear).ok()??;
        guest.is_backed(physical, len).then_some(physical)
    }

    /// Goes through a range of linear addresses page by page: where each part starts, what is behind it, and its length.
    /// Ends where no memory is.
    fn pages(&self, index: u32, start: u64, len: usize) -> impl Iterator<Item = (usize, u64, usize)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let linear = start.checked_add(u64::try_from(done).ok()?)?;
            let in_page = usize::try_from(PAGE - linear % PAGE).ok()?;
            let count = in_page.min(len - done);
            let physical = (count > 0).then(|| self.physical(index, linear, count as u64))??;
            let part = (done, physical, count);
            done += count;
            Some(part)
        })
    }
}

fn index(tid: Tid) -> u32 {
    u32::try_from(tid.get() - 1).unwrap_or(u32::MAX)
}

/// The thread that stands for a vCPU.
pub(super) fn thread(index: u32) -> Tid {
    let number = usize::try_from(index).unwrap_or_default();
    NonZeroUsize::MIN.saturating_add(number)
}

/// gdb is told that it did not work, and the log why.
fn refused(error: impl std::fmt::Display) -> TargetError<Error> {
    tracing::debug!(%error, "refused");
    TargetError::NonFatal
}

impl Target for DebugTarget {
    type Arch = X86_64;
    type Error = Error;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(&mut self) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl TargetDescriptionXmlOverride for DebugTarget {
    fn target_description_xml(
        &self,
        _annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let description = description();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = description.as_bytes().get(start..).unwrap_or_default();
        let count = rest.len().min(length).min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl MultiThreadBase for DebugTarget {
    fn read_registers(&mut self, registers: &mut DebugRegisters, tid: Tid) -> TargetResult<(), Self> {
        let read = self.guest().and_then(|(_, guest)| guest.registers(index(tid)));
        *registers = read.map_err(refused)?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &DebugRegisters, tid: Tid) -> TargetResult<(), Self> {
        let (_, guest) = self.guest().map_err(refused)?;
        guest.set_registers(index(tid), registers.clone()).map_err(refused)
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let guest = self.core.guest().map_err(refused)?;
        let mut end = 0;
        for (at, physical, count) in self.pages(index(tid), start, data.len()) {
            let part = &mut data[at..at + count];
            guest.read_physical(physical, part).map_err(refused)?;
            end = at + count;
        }
        match end {
            0 if !data.is_empty() => Err(refused("no memory")),
            _ => Ok(end),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let (_, guest) = self.guest().map_err(refused)?;
        let parts: Vec<_> = self.pages(index(tid), start, data.len()).collect();
        if parts.iter().map(|(_, _, count)| count).sum::<usize>() != data.len() {
            return Err(refused("no memory"));
        }
        for (at, physical, count) in parts {
            guest.write_physical(physical, &data[at..at + count]).map_err(refused)?;
        }
        Ok(())
    }

    fn list_active_threads(&mut self, found: &mut dyn FnMut(Tid)) -> Result<(), Error> {
        let vcpus = self.core.guest()?.vcpus();
        vcpus.iter().for_each(|vcpu| found(thread(vcpu.index)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for DebugTarget {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Error> {
        let text = format!("CPU#{}", index(tid));
        let count = text.len().min(buf.len());
        buf[..count].copy_from_slice(&text.as_bytes()[..count]);
        Ok(count)
    }
}

impl SingleRegisterAccess<Tid> for DebugTarget {
    fn read_register(&mut self, tid: Tid, number: Number, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let mut registers = DebugRegisters::default();
        self.read_registers(&mut registers, tid)?;
        let bytes = to_bytes(&registers);
        let value = bytes.get(number.offset..number.offset + number.len);
        let value = value.ok_or(TargetError::NonFatal)?;
        buf.get_mut(..value.len())
            .ok_or(TargetError::NonFatal)?
            .copy_from_slice(value);
        Ok(value.len())
    }

    fn write_register(&mut self, tid: Tid, number: Number, value: &[u8]) -> TargetResult<(), Self> {
        use gdbstub::arch::Registers;
        let mut registers = DebugRegisters::default();
        self.read_registers(&mut registers, tid)?;
        let mut bytes = to_bytes(&registers);
        let place = bytes.get_mut(number.offset..number.offset + number.len);
        let place = place.filter(|place| place.len() == value.len());
        place.ok_or(TargetError::NonFatal)?.copy_from_slice(value);
        registers.gdb_deserialize(&bytes).map_err(|()| TargetError::NonFatal)?;
        self.write_registers(&registers, tid)
    }
}

impl MultiThreadResume for DebugTarget {
    /// If the guest cannot go on, that shows in its state.
    fn resume(&mut self) -> Result<(), Error> {
        self.arm()?;
        if let Err(error) = self.core.cont() {
            tracing::info!(%error, "the guest does not go on");
        }
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Error> {
        self.plan = Plan::default();
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Error> {
        self.plan.named.insert(index(tid));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for DebugTarget {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Error> {
        self.plan.named.insert(index(tid));
        self.plan.steps.insert(index(tid));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for DebugTarget {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Error> {
        self.plan.is_locked = true;
        Ok(())
    }
}

impl Breakpoints for DebugTarget {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for DebugTarget {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        if self.software.contains_key(&addr) {
            return Ok(true);
        }
        let Some(physical) = self.physical(self.current.get(), addr, 1) else {
            return Ok(false);
        };
        let (guest, debuggable) = self.guest().map_err(refused)?;
        let mut byte = [0];
        guest.read_physical(physical, &mut byte).map_err(refused)?;
        debuggable.write_physical(physical, &[BREAKPOINT]).map_err(refused)?;
        self.software.insert(addr, (physical, byte[0]));
        self.arm().map_err(refused)?;
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        let Some(place) = self.software.remove(&addr) else {
            return Ok(false);
        };
        self.put_back(place).map_err(refused)?;
        self.arm().map_err(refused)?;
        Ok(true)
    }
}

impl DebugTarget {
    fn add(&mut self, point: HardwarePoint) -> TargetResult<bool, Self> {
        let is_possible = matches!(point.len, 1 | 2 | 4 | 8) && point.addr % u64::from(point.len) == 0;
        if self.hardware.len() == HARDWARE_POINTS || !is_possible {
            return Ok(false);
        }
        self.hardware.push(point);
        self.arm().map_err(refused)?;
        Ok(true)
    }

    fn remove(&mut self, point: HardwarePoint) -> TargetResult<bool, Self> {
        let Some(at) = self.hardware.iter().position(|other| *other == point) else {
            return Ok(false);
        };
        self.hardware.remove(at);
        self.arm().map_err(refused)?;
        Ok(true)
    }
}

impl HwBreakpoint for DebugTarget {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.add(execution(addr))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        self.remove(execution(addr))
    }
}

impl HwWatchpoint for DebugTarget {
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.add(watch(addr, len, kind))
    }

    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        self.remove(watch(addr, len, kind))
    }
}

fn execution(addr: u64) -> HardwarePoint {
    HardwarePoint {
        addr,
        len: 1,
        access: Access::Execute,
    }
}

/// A watchpoint for reads stops at writes as well, as on QEMU.
fn watch(addr: u64, len: u64, kind: WatchKind) -> HardwarePoint {
    HardwarePoint {
        addr,
        len: u8::try_from(len).unwrap_or_default(),
        access: match kind {
            WatchKind::Write => Access::Write,
            WatchKind::Read | WatchKind::ReadWrite => Access::ReadWrite,
        },
    }
}
