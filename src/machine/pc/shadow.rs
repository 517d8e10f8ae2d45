//! What shows between 768 KiB and 1 MiB: ROM as after power-on, or RAM, segment by segment, as the host bridge says.

use std::sync::{Mutex, PoisonError};

use vm_memory::mmap::MmapRegionError;

use super::layout::ROM_AREA;
use super::memory_map::MemoryMap;
use super::ram::Ram;
use crate::devices::pci::{SEGMENTS, Segment, Shadow};
use crate::mem::{BlockExists, Edit, MapError, Mapping, RamBlock, Region};
use crate::qapi::QmpError;

/// The ROM for the ROMs of cards: nothing is in it, and it takes the room that firmware expects.
const OPTION_ROM: &str = "pc.rom";
/// Where it starts, and its bytes.
const OPTION_ROM_START: u64 = ROM_AREA.start;
const OPTION_ROM_SIZE: usize = 128 << 10;
/// Segments lie over RAM.
const PRIORITY: i32 = 1;

/// Memory below 1 MiB that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShadowError {
    /// The host has no memory for the ROMs of cards.
    #[error("{OPTION_ROM}: {0}")]
    NoMemory(#[from] MmapRegionError),
    /// A block of their name is there already.
    #[error(transparent)]
    Block(#[from] BlockExists),
    /// The guest cannot be shown a segment.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl QmpError for ShadowError {}

/// The segments as they show.
pub(crate) struct Shadows {
    /// RAM below 1 MiB. Its regions are no others', so that RAM above stays as it is when a segment changes.
    ram: Region,
    shown: Mutex<Vec<Shown>>,
    _mappings: Vec<Mapping>,
}

struct Shown {
    segment: Segment,
    shadow: Shadow,
    /// None once the accelerator has refused a change, after which it shows as it is for good.
    mapping: Option<Mapping>,
}

impl Shadows {
    /// Shows all segments as `shadow` says.
    pub(crate) fn new(map: &MemoryMap, ram: &Ram, shadow: Shadow) -> Result<Self, ShadowError> {
        let rom = RamBlock::anonymous(OPTION_ROM, OPTION_ROM_SIZE)?;
        map.blocks.add(&rom)?;
        let low = Region::container("ram-below-1m", ROM_AREA.end - 1);
        let (mappings, shown) = map.topology.change(|edit| {
            let mut mappings = ram.plug_low(edit, &low)?;
            mappings.push(edit.map(&map.pci, OPTION_ROM_START, &Region::rom(&rom), PRIORITY)?);
            let shown = SEGMENTS.into_iter().map(|segment| {
                let mapping = Some(show(edit, map, &low, segment, shadow)?);
                Ok(Shown {
                    segment,
                    shadow,
                    mapping,
                })
            });
            Ok((mappings, shown.collect::<Result<_, MapError>>()?))
        })?;
        Ok(Self {
            ram: low,
            shown: Mutex::new(shown),
            _mappings: mappings,
        })
    }

    /// Shows each segment as the host bridge says now.
    pub(crate) fn follow(&self, map: &MemoryMap, wanted: [Shadow; SEGMENTS.len()]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = shown.iter_mut().zip(wanted);
        let mut changing: Vec<_> = pairs
            .filter(|(one, shadow)| one.shadow != *shadow && one.mapping.is_some())
            .collect();
        if changing.is_empty() {
            return;
        }
        let changed = map.topology.change(|edit| {
            let mappings = changing.iter_mut().map(|(one, shadow)| {
                if let Some(mapping) = one.mapping.take() {
                    edit.unmap(mapping);
                }
                show(edit, map, &self.ram, one.segment, *shadow)
            });
            mappings.collect::<Result<Vec<_>, MapError>>()
        });
        match changed {
            Ok(mappings) => {
                for ((one, shadow), mapping) in changing.into_iter().zip(mappings) {
                    (one.shadow, one.mapping) = (shadow, Some(mapping));
                }
            }
            Err(error) => tracing::error!(%error, "memory below 1 MiB stays as it is"),
        }
    }
}

fn show(
    edit: &mut Edit<'_>,
    map: &MemoryMap,
    ram: &Region,
    segment: Segment,
    shadow: Shadow,
) -> Result<Mapping, MapError> {
    let (start, len) = (segment.start, segment.len);
    let region = match shadow {
        Shadow::Rom => Region::alias("pam-pci", &map.pci, start, len),
        Shadow::ReadOnlyRam => Region::read_only_alias("pam-rom", ram, start, len),
        Shadow::Ram => Region::alias("pam-ram", ram, start, len),
    };
    edit.map(&map.system, start, &region, PRIORITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::backend::BackendDefaults;
    use crate::machine::numa::Numa;
    use crate::machine::pc::layout::FOUR_GIB;
    use crate::machine::pc::ram::RamRequest;
    use crate::qom::Registry;

    /// What ROM and RAM hold at first.
    const ROM: u8 = 0xee;
    const RAM: u8 = 0x11;

    struct Bench {
        map: MemoryMap,
        shadows: Shadows,
        _mappings: Vec<Mapping>,
    }

    impl Bench {
        fn new(shadow: Shadow) -> Self {
            let map = MemoryMap::new().unwrap();
            let ram = Ram::new(&RamRequest {
                size: 2 << 20,
                max_low: FOUR_GIB,
                backend: None,
                numa: &Numa::default(),
                registry: &Registry::new(),
                objects: &[],
                defaults: BackendDefaults {
                    merge: false,
                    dump: true,
                },
            });
            let ram = ram.unwrap();
            ram.blocks[0].block.write(ROM_AREA.start, &[RAM; 0x4_0000]).unwrap();
            let mut mappings = ram.plug_into(&map).unwrap();
            let shadows = Shadows::new(&map, &ram, shadow).unwrap();
            let rom = RamBlock::anonymous("bios", 0x2_0000).unwrap();
            rom.write(0, &[ROM; 0x2_0000]).unwrap();
            mappings.push(map.topology.map(&map.pci, 0xe_0000, &Region::rom(&rom), 2).unwrap());
            Self {
                map,
                shadows,
                _mappings: mappings,
            }
        }

        /// What a segment reads as at its end, before and after something is written there.
        fn probe(&self, segment: Segment) -> [u8; 2] {
            let at = segment.start + segment.len - 1;
            let mut bytes = [[0]; 2];
            self.map.memory.read(at, &mut bytes[0]);
            self.map.memory.write(at, &[0x55]);
            self.map.memory.read(at, &mut bytes[1]);
            self.map.memory.write(at, &[RAM]);
            bytes.map(|[byte]| byte)
        }
    }

    #[test]
    fn each_segment_is_rom_or_ram_by_itself() {
        let bench = Bench::new(Shadow::Rom);
        let rom = |segment: Segment| if segment.start < 0xe_0000 { 0 } else { ROM };
        for (index, segment) in SEGMENTS.into_iter().enumerate() {
            for (shadow, expected) in [
                (Shadow::ReadOnlyRam, [RAM, RAM]),
                (Shadow::Ram, [RAM, 0x55]),
                (Shadow::Rom, [rom(segment); 2]),
            ] {
                let mut wanted = [Shadow::Rom; SEGMENTS.len()];
                wanted[index] = shadow;
                bench.shadows.follow(&bench.map, wanted);
                assert_eq!(bench.probe(segment), expected, "{segment:x?} as {shadow:?}");
                for other in SEGMENTS.into_iter().filter(|other| *other != segment) {
                    assert_eq!(bench.probe(other), [rom(other); 2], "{other:x?} beside {segment:x?}");
                }
            }
        }
    }

    #[test]
    fn a_kernel_without_firmware_finds_ram() {
        let bench = Bench::new(Shadow::Ram);
        assert!(SEGMENTS.into_iter().all(|segment| bench.probe(segment) == [RAM, 0x55]));
    }

    #[test]
    fn ram_above_stays_in_one_piece_whatever_shows_below() {
        let bench = Bench::new(Shadow::Rom);
        let above = |bench: &Bench| {
            let view = bench.map.memory.view();
            let range = view.ranges().iter().find(|range| range.start() == ROM_AREA.end);
            range.map(|range| {
                (
                    range.last(),
                    range.memory().map(|(_, offset, writable)| (offset, writable)),
                )
            })
        };
        let before = above(&bench);
        assert_eq!(before, Some(((2 << 20) - 1, Some((ROM_AREA.end, true)))));
        bench.shadows.follow(&bench.map, [Shadow::Ram; SEGMENTS.len()]);
        assert_eq!(above(&bench), before);
    }
}
