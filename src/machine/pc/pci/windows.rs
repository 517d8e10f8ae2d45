//! What base address registers map, kept in line with what the guest writes to them.

use std::{ops::Range, sync::Arc};

use super::{BarKind, SharedFunction, lock};
use crate::{
    machine::pc::memory_map::{BAR_PRIORITY, MemoryMap},
    mem::{Access, IoHandler, MapError, Mapping, Region},
};

/// Of doorbells, over the registers they stand for.
const DOORBELL_PRIORITY: i32 = 1;

/// The windows of one function.
#[derive(Default)]
pub(super) struct Windows {
    open: Vec<Window>,
}

struct Window {
    place: Place,
    _mappings: Vec<Mapping>,
}

#[derive(Clone, PartialEq, Eq)]
struct Place {
    bar: usize,
    kind: BarKind,
    range: Range<u64>,
}

impl Windows {
    /// Closes windows that moved or were switched off, and opens new ones. Guests move windows one by one, so two may
    /// overlap for a while.
    pub(super) fn refresh(&mut self, function: &SharedFunction, map: &MemoryMap) {
        let wanted: Vec<Place> = {
            let function = lock(function);
            let config = function.config();
            let bars = config.bars();
            bars.filter_map(|(bar, kind, _)| {
                let range = config.bar_range(bar)?;
                Some(Place { bar, kind, range })
            })
            .collect()
        };
        self.open.retain(|window| wanted.contains(&window.place));
        for place in wanted {
            if self.open.iter().any(|window| window.place == place) {
                continue;
            }
            match place.open(function, map) {
                Ok(mappings) => self.open.push(Window {
                    place,
                    _mappings: mappings,
                }),
                Err(error) => tracing::debug!(bar = place.bar, %error, "base address register"),
            }
        }
    }
}

impl Place {
    /// The registers, with the doorbells in them.
    fn open(&self, function: &SharedFunction, map: &MemoryMap) -> Result<Vec<Mapping>, MapError> {
        let (name, doorbells) = {
            let function = lock(function);
            (function.type_name(), function.doorbells(self.bar))
        };
        let (parent, access) = match self.kind {
            BarKind::Io => (&map.io, Access::UP_TO_FOUR),
            BarKind::Memory32 | BarKind::Memory64 { .. } => (&map.pci, Access::ANY),
        };
        let bar = BaseAddressRegister {
            function: Arc::clone(function),
            bar: self.bar,
        };
        let len = self.range.end - self.range.start;
        let registers = Region::io(name, len, access, Arc::new(bar));
        map.topology.change(|edit| {
            if doorbells.is_empty() {
                return Ok(vec![edit.map(parent, self.range.start, &registers, BAR_PRIORITY)?]);
            }
            let all = Region::container(name, len - 1);
            let mut mappings = vec![
                edit.map(parent, self.range.start, &all, BAR_PRIORITY)?,
                edit.map(&all, 0, &registers, 0)?,
            ];
            for (offset, doorbell) in doorbells {
                let doorbell = Region::doorbell(name, doorbell);
                mappings.push(edit.map(&all, offset, &doorbell, DOORBELL_PRIORITY)?);
            }
            Ok(mappings)
        })
    }
}

/// What lies behind one base address register.
struct BaseAddressRegister {
    function: SharedFunction,
    bar: usize,
}

impl IoHandler for BaseAddressRegister {
    fn read(&self, offset: u64, data: &mut [u8]) {
        lock(&self.function).bar_read(self.bar, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        lock(&self.function).bar_write(self.bar, offset, data);
    }
}
