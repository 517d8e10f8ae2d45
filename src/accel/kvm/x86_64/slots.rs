//! Memory slots: what of an address space the guest reaches without an exit.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, NoDatamatch};

use super::{ioctls, vm::Vm};
use crate::mem::{Change, FlatRange, Listener, ListenerError, PAGE_SIZE, PlacedDoorbell, RamBlock};

const PAGE: u64 = PAGE_SIZE as u64;

/// Makes slots of the RAM and ROM of an address space, and hears its doorbells.
pub(super) struct MemorySlots(Arc<Vm>);

/// Slots by number; the numbers of those that went are used again. The VM owns them, and with them the memory that the
/// kernel knows of.
pub(super) type SlotTable = Mutex<Vec<Option<Slot>>>;

#[derive(Clone, Debug)]
pub(super) struct Slot {
    start: u64,
    size: u64,
    /// Kept for as long as the kernel knows the slot.
    block: Arc<RamBlock>,
    offset: u64,
    is_writable: bool,
    is_logged: bool,
}

impl Slot {
    /// The whole pages of a range of memory; none when there are none. The rest takes exits.
    fn of(range: &FlatRange) -> Option<Self> {
        let (block, offset, is_writable) = range.memory()?;
        let start = range.start().checked_next_multiple_of(PAGE)?;
        let end = (range.last().checked_add(1)?) & !(PAGE - 1);
        let size = end.checked_sub(start).filter(|size| *size != 0)?;
        let offset = offset + (start - range.start());
        // The host's pages and the guest's must lie alike.
        (offset % PAGE == 0).then(|| Self {
            start,
            size,
            block: Arc::clone(block),
            offset,
            is_writable,
            is_logged: is_writable && block.watchers().is_watched(),
        })
    }

    fn flags(&self) -> u32 {
        let read_only = if self.is_writable { 0 } else { KVM_MEM_READONLY };
        read_only | if self.is_logged { KVM_MEM_LOG_DIRTY_PAGES } else { 0 }
    }

    fn refused(&self, what: &'static str, source: impl Into<io::Error>) -> ListenerError {
        ListenerError {
            what,
            addr: self.start,
            source: source.into(),
        }
    }
}

impl MemorySlots {
    pub(super) fn new(vm: &Arc<Vm>) -> Self {
        Self(Arc::clone(vm))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the kernel what slot `number` is; of size 0 it is none any more.
    fn set(&self, number: usize, slot: &Slot, size: u64) -> Result<(), ListenerError> {
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(number).unwrap_or(u32::MAX),
            flags: slot.flags(),
            guest_phys_addr: slot.start,
            memory_size: size,
            userspace_addr: 0,
        };
        tracing::debug!(number, start = slot.start, size, block = slot.block.id(), "memory slot");
        ioctls::set_memory_slot(&self.0.fd, region, &slot.block, slot.offset)
            .map_err(|error| slot.refused("KVM_SET_USER_MEMORY_REGION", error))
    }

    fn add(&self, slots: &mut Vec<Option<Slot>>, slot: Slot) -> Result<(), ListenerError> {
        let number = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        self.set(number, &slot, slot.size)?;
        if number == slots.len() {
            slots.push(None);
        }
        slots[number] = Some(slot);
        Ok(())
    }

    fn remove(&self, slots: &mut [Option<Slot>], gone: &Slot) -> Result<(), ListenerError> {
        let is_gone = |slot: &Slot| slot.start == gone.start && Arc::ptr_eq(&slot.block, &gone.block);
        let found = slots.iter().position(|slot| slot.as_ref().is_some_and(is_gone));
        let Some((number, slot)) = found.and_then(|number| Some((number, slots[number].clone()?))) else {
            // A change that was refused half-way is taken back as a whole.
            return Ok(());
        };
        if slot.is_logged {
            self.fetch(number, &slot)?;
        }
        self.set(number, &slot, 0)?;
        slots[number] = None;
        Ok(())
    }

    /// Marks what the guest wrote to a slot; the kernel's own marks are clear afterwards.
    fn fetch(&self, number: usize, slot: &Slot) -> Result<(), ListenerError> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let size = usize::try_from(slot.size).unwrap_or(usize::MAX);
        let words = self.0.fd.get_dirty_log(number, size);
        let words = words.map_err(|error| slot.refused("KVM_GET_DIRTY_LOG", error))?;
        let first = usize::try_from(slot.offset / PAGE).unwrap_or(usize::MAX);
        slot.block.watchers().mark_words(first, &words);
        Ok(())
    }

    /// The slots of a block.
    fn of_block(&self, block: &Arc<RamBlock>) -> Vec<(usize, Slot)> {
        let slots = self.lock();
        let numbered = slots.iter().enumerate();
        let present = numbered.filter_map(|(number, slot)| Some((number, slot.clone()?)));
        present.filter(|(_, slot)| Arc::ptr_eq(&slot.block, block)).collect()
    }
}

impl Listener for MemorySlots {
    fn changed(&self, change: &Change<'_>) -> Result<(), ListenerError> {
        let mut slots = self.lock();
        for gone in change.removed.iter().filter_map(|range| Slot::of(range)) {
            self.remove(&mut slots, &gone)?;
        }
        for slot in change.added.iter().filter_map(|range| Slot::of(range)) {
            self.add(&mut slots, slot)?;
        }
        hear(&self.0, change, IoEventAddress::Mmio);
        Ok(())
    }

    fn log_writes(&self, block: &Arc<RamBlock>, on: bool) -> Result<(), ListenerError> {
        for (number, mut slot) in self.of_block(block) {
            if !slot.is_writable || slot.is_logged == on {
                continue;
            }
            slot.is_logged = on;
            self.set(number, &slot, slot.size)?;
            self.lock()[number] = Some(slot);
        }
        Ok(())
    }

    fn fetch_writes(&self, block: &Arc<RamBlock>) -> Result<(), ListenerError> {
        let logged = self.of_block(block).into_iter().filter(|(_, slot)| slot.is_logged);
        for (number, slot) in logged {
            self.fetch(number, &slot)?;
        }
        Ok(())
    }
}

/// Hears the doorbells of the ports.
pub(super) struct PortDoorbells(pub(super) Arc<Vm>);

impl Listener for PortDoorbells {
    fn changed(&self, change: &Change<'_>) -> Result<(), ListenerError> {
        hear(&self.0, change, IoEventAddress::Pio);
        Ok(())
    }

    fn log_writes(&self, _block: &Arc<RamBlock>, _on: bool) -> Result<(), ListenerError> {
        Ok(())
    }

    fn fetch_writes(&self, _block: &Arc<RamBlock>) -> Result<(), ListenerError> {
        Ok(())
    }
}

/// Hears new doorbells and forgets old ones. One that the kernel does not take costs an exit.
fn hear(vm: &Vm, change: &Change<'_>, address: fn(u64) -> IoEventAddress) {
    for placed in &change.removed_doorbells {
        if let Err(error) = assign(vm, placed, &address(placed.addr), false) {
            tracing::debug!(addr = placed.addr, %error, "KVM_IOEVENTFD: deassign");
        }
    }
    for placed in &change.added_doorbells {
        if let Err(error) = assign(vm, placed, &address(placed.addr), true) {
            tracing::debug!(addr = placed.addr, %error, "KVM_IOEVENTFD");
        }
    }
}

fn assign(vm: &Vm, placed: &PlacedDoorbell, at: &IoEventAddress, on: bool) -> Result<(), kvm_ioctls::Error> {
    fn request<T: Into<u64>>(
        vm: &Vm,
        placed: &PlacedDoorbell,
        at: &IoEventAddress,
        on: bool,
        value: T,
    ) -> Result<(), kvm_ioctls::Error> {
        let event = placed.doorbell.event();
        match on {
            true => vm.fd.register_ioevent(event, at, value),
            false => vm.fd.unregister_ioevent(event, at, value),
        }
    }
    // The width of the number says how wide the write is.
    let Some((value, size)) = placed.doorbell.datamatch() else {
        return request(vm, placed, at, on, NoDatamatch);
    };
    let [a, b, c, d, ..] = value.to_le_bytes();
    match size {
        1 => request(vm, placed, at, on, a),
        2 => request(vm, placed, at, on, u16::from_le_bytes([a, b])),
        4 => request(vm, placed, at, on, u32::from_le_bytes([a, b, c, d])),
        _ => request(vm, placed, at, on, value),
    }
}
