//! What base address registers map, kept in line with what the guest writes to them.

use std::{ops::Range, sync::Arc};

use super::{BarKind, SharedFunction, lock};
use crate::{
    machine::pc::memory_map::{BAR_PRIORITY, MemoryMap},
    mem::{Access, IoHandler, MapError, Mapping, Region},
};

/// The windows of one function.
#[derive(Default)]
pub(super) struct Windows {
    open: Vec<Window>,
}

struct Window {
    place: Place,
    _mapping: Mapping,
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
                Ok(mapping) => self.open.push(Window {
                    place,
                    _mapping: mapping,
                }),
                Err(error) => tracing::debug!(bar = place.bar, %error, "base address register"),
            }
        }
    }
}

impl Place {
    fn open(&self, function: &SharedFunction, map: &MemoryMap) -> Result<Mapping, MapError> {
        let name = lock(function).type_name();
        let (parent, access) = match self.kind {
            BarKind::Io => (&map.io, Access::UP_TO_FOUR),
            BarKind::Memory32 | BarKind::Memory64 { .. } => (&map.pci, Access::ANY),
        };
        let bar = BaseAddressRegister {
            function: Arc::clone(function),
            bar: self.bar,
        };
        let region = Region::io(name, self.range.end - self.range.start, access, Arc::new(bar));
        map.topology.map(parent, self.range.start, &region, BAR_PRIORITY)
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
