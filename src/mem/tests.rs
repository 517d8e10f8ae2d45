//! Trees, what shows of them, and who is told.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, Ordering},
};

use vm_memory::{Bytes, GuestAddress};

use super::*;

const PAGE: u64 = 4096;

/// Reads as one byte over and over; notes writes.
struct Register {
    byte: u8,
    written: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Register {
    fn new(byte: u8) -> Arc<Self> {
        Arc::new(Self {
            byte,
            written: Mutex::default(),
        })
    }

    fn written(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut self.written.lock().unwrap())
    }
}

impl IoHandler for Register {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(self.byte);
    }
    fn write(&self, offset: u64, data: &[u8]) {
        self.written.lock().unwrap().push((offset, data.to_vec()));
    }
}

fn io(byte: u8, len: u64) -> Region {
    Region::io(format!("io {byte}"), len, Access::ANY, Register::new(byte))
}

struct World {
    topology: Arc<Topology>,
    root: Region,
    space: Arc<AddressSpace>,
}

fn world() -> World {
    let topology = Topology::new();
    let root = Region::container("root", u64::MAX);
    let space = AddressSpace::new(&topology, &root, 0xff);
    World { topology, root, space }
}

impl World {
    fn map(&self, addr: u64, region: &Region, priority: i32) -> Mapping {
        self.topology.map(&self.root, addr, region, priority).unwrap()
    }

    fn byte(&self, addr: u64) -> u8 {
        let mut data = [0];
        self.space.read(addr, &mut data);
        data[0]
    }

    /// What shows: first and last address, and name.
    fn shown(&self) -> Vec<(u64, u64, String)> {
        let view = self.space.view();
        let ranges = view.ranges().iter();
        ranges
            .map(|range| (range.start(), range.last(), range.region().name().to_owned()))
            .collect()
    }
}

fn ram(id: &str, pages: u64) -> Arc<RamBlock> {
    RamBlock::anonymous(id, usize::try_from(pages * PAGE).unwrap()).unwrap()
}

#[test]
fn the_higher_priority_shows_and_what_lies_beneath_comes_back() {
    let world = world();
    let _low = world.map(0, &io(1, 0x100), 0);
    let high = world.map(0x40, &io(2, 0x20), 1);
    let names: Vec<_> = world.shown();
    assert_eq!(
        names,
        [
            (0, 0x3f, "io 1".to_owned()),
            (0x40, 0x5f, "io 2".to_owned()),
            (0x60, 0xff, "io 1".to_owned())
        ]
    );
    assert_eq!(
        (world.byte(0x3f), world.byte(0x40), world.byte(0x60), world.byte(0x100)),
        (1, 2, 1, 0xff)
    );
    drop(high);
    assert_eq!(world.shown(), [(0, 0xff, "io 1".to_owned())]);
    // Of equal priorities the latest.
    let _later = world.map(0x80, &io(3, 1), 0);
    assert_eq!(world.byte(0x80), 3);
}

#[test]
fn nothing_is_too_big_and_the_last_byte_can_be_mapped() {
    let world = world();
    let _last = world.map(u64::MAX, &io(1, 1), 0);
    assert_eq!(world.byte(u64::MAX), 1);
    let error = world.topology.map(&world.root, u64::MAX, &io(2, 2), 0).unwrap_err();
    assert_eq!(error.to_string(), "io 2 at 0xffffffffffffffff does not fit into root");
    assert!(matches!(
        world.topology.map(&io(3, 8), 0, &io(4, 4), 0),
        Err(MapError::OutOfRange { .. })
    ));
    assert_eq!(world.shown().len(), 1);
}

#[test]
fn an_alias_shows_a_part_and_joins_its_neighbours() {
    let world = world();
    let block = ram("pc.ram", 4);
    let all = Region::ram(&block);
    for page in 0..4 {
        block.write(page * PAGE, &[u8::try_from(page).unwrap()]).unwrap();
    }
    let _low = world.map(0, &Region::alias("low", &all, 0, 2 * PAGE), 0);
    let high = world.map(1 << 32, &Region::alias("high", &all, 2 * PAGE, 2 * PAGE), 0);
    assert_eq!(
        (world.byte(PAGE), world.byte(1 << 32), world.byte((1 << 32) + PAGE)),
        (1, 2, 3)
    );
    drop(high);
    let _next = world.map(2 * PAGE, &Region::alias("high", &all, 2 * PAGE, 2 * PAGE), 0);
    assert_eq!(world.shown(), [(0, 4 * PAGE - 1, "pc.ram".to_owned())]);
}

#[test]
fn memory_below_a_megabyte_switches_between_ram_and_firmware() {
    let world = world();
    let (ram, rom) = (ram("pc.ram", 16), ram("pc.bios", 4));
    rom.write(0, &[0xee]).unwrap();
    let pci = Region::container("pci", u64::MAX);
    let _bios = world.topology.map(&pci, 8 * PAGE, &Region::rom(&rom), 0).unwrap();
    let _pci = world.map(0, &pci, -1);
    let all = Region::ram(&ram);
    let _ram = world.map(0, &all, 0);
    let pam = |region: &Region| world.map(8 * PAGE, region, 1);
    // To the firmware: writes are lost.
    let to_pci = pam(&Region::alias("pam-pci", &pci, 8 * PAGE, 4 * PAGE));
    assert_eq!(world.byte(8 * PAGE), 0xee);
    world.space.write(8 * PAGE, &[1]);
    assert_eq!(world.byte(8 * PAGE), 0xee);
    // To RAM.
    drop(to_pci);
    assert_eq!(world.byte(8 * PAGE), 0);
    world.space.write(8 * PAGE, &[2]);
    // To RAM that cannot be written.
    let locked = pam(&Region::read_only_alias("pam-rom", &all, 8 * PAGE, 4 * PAGE));
    world.space.write(8 * PAGE, &[3]);
    assert_eq!(world.byte(8 * PAGE), 2);
    assert!(world.space.write_memory(8 * PAGE, &[3]).is_err());
    drop(locked);
    world.space.write_memory(8 * PAGE, &[3]).unwrap();
    assert_eq!(world.byte(8 * PAGE), 3);
}

#[test]
fn flash_reads_as_rom_until_it_takes_commands() {
    let world = world();
    let (block, chip) = (ram("system.flash0", 2), Register::new(0x80));
    block.write(0, &[0x55]).unwrap();
    let flash = Region::flash(&block, Access::ANY, Arc::clone(&chip) as _);
    let _mapping = world.map(0, &flash, 0);
    world.space.write(1, &[0x70]);
    assert_eq!((world.byte(0), chip.written()), (0x55, vec![(1, vec![0x70])]));
    let show = |shows| {
        world.topology.change(|edit| {
            edit.show_rom(&flash, shows);
            Ok(())
        })
    };
    show(false).unwrap();
    assert_eq!(world.byte(0), 0x80);
    assert!(world.space.read_memory(0, &mut [0]).is_err());
    show(true).unwrap();
    assert_eq!(world.byte(0), 0x55);
}

#[test]
fn an_access_belongs_to_the_region_it_starts_in() {
    let world = world();
    let (index, reset) = (Register::new(1), Register::new(2));
    let region = |register: &Arc<Register>, len| Region::io("r", len, Access::UP_TO_FOUR, Arc::clone(register) as _);
    let _index = world.map(0xcf8, &region(&index, 4), 0);
    let _reset = world.map(0xcf9, &region(&reset, 1), 1);
    world.space.write(0xcf8, &[1, 2, 3, 4]);
    assert_eq!(
        (index.written(), reset.written()),
        (vec![(0, vec![1, 2, 3, 4])], vec![])
    );
    world.space.write(0xcf9, &[6]);
    assert_eq!((index.written(), reset.written()), (vec![], vec![(0, vec![6])]));
    // An access that is longer than the device takes comes in parts, each found by its own address.
    world.space.write(0xcf4, &[0, 0, 0, 0, 9, 8, 7, 6]);
    assert_eq!(index.written(), [(0, vec![9, 8, 7, 6])]);
}

#[test]
fn memory_is_copied_across_its_borders_but_not_through_registers() {
    let world = world();
    let blocks = [ram("a", 1), ram("b", 1)];
    let _a = world.map(0, &Region::ram(&blocks[0]), 0);
    let _b = world.map(PAGE, &Region::rom(&blocks[1]), 0);
    let _io = world.map(2 * PAGE, &io(1, 8), 0);
    blocks[0].write(PAGE - 1, &[1]).unwrap();
    blocks[1].write(0, &[2]).unwrap();
    let mut data = [0; 2];
    world.space.read_memory(PAGE - 1, &mut data).unwrap();
    assert_eq!(data, [1, 2]);
    let error = world.space.read_memory(2 * PAGE - 1, &mut data).unwrap_err();
    assert_eq!(error.to_string(), "no memory at guest address 0x1fff, 2 bytes");
    assert!(world.space.read_memory(u64::MAX, &mut data).is_err());
    // Loaders and virtqueues see what can be written.
    assert!(world.space.ram().write_slice(&data, GuestAddress(PAGE - 1)).is_err());
    world.space.ram().write_slice(&data, GuestAddress(PAGE - 2)).unwrap();
}

#[test]
fn doorbells_ring_and_hide_nothing() {
    let world = world();
    let register = Register::new(7);
    let _register = world.map(
        0x100,
        &Region::io("queue", 0x10, Access::ANY, Arc::clone(&register) as _),
        0,
    );
    let bells: Vec<_> = (0..2).map(|value| Doorbell::matching(value, 2).unwrap()).collect();
    let rings = |index: usize| bells[index].event().read().unwrap_or(0);
    let mut mappings: Vec<_> = bells
        .iter()
        .map(|bell| world.map(0x104, &Region::doorbell("bell", bell.clone()), 1))
        .collect();
    world.space.write(0x104, &[1, 0]);
    assert_eq!((rings(0), rings(1), register.written()), (0, 1, vec![]));
    world.space.write(0x104, &[2, 0]);
    world.space.write(0x104, &[1]);
    world.space.write(0x105, &[0, 0]);
    assert_eq!((rings(0), rings(1)), (0, 0));
    assert_eq!(register.written().len(), 4, "an odd word comes as two bytes");
    assert_eq!(world.byte(0x104), 7);
    mappings.pop();
    world.space.write(0x104, &[1, 0]);
    assert_eq!((rings(1), register.written().len()), (0, 1));
    // Nor does one ring that something lies on.
    let _lid = world.map(0x105, &io(9, 1), 2);
    assert_eq!(world.space.view().doorbells().len(), 0);
}

/// Notes what it is told; refuses memory of this name.
#[derive(Default)]
struct Log {
    refused: Option<&'static str>,
    told: Mutex<Vec<String>>,
    logging: AtomicBool,
}

impl Log {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Listener for Log {
    fn changed(&self, change: &Change<'_>) -> Result<(), ListenerError> {
        let text = |sign: char, range: &FlatRange| format!("{sign}{} {:x}", range.region().name(), range.start());
        let mut told = self.told.lock().unwrap();
        told.extend(change.removed.iter().map(|range| text('-', range)));
        for range in &change.added {
            if self.refused == Some(range.region().name()) {
                return Err(ListenerError {
                    what: "refused",
                    addr: range.start(),
                    source: std::io::Error::from_raw_os_error(7),
                });
            }
            told.push(text('+', range));
        }
        told.extend(
            change
                .added_doorbells
                .iter()
                .map(|placed| format!("+bell {:x}", placed.addr)),
        );
        told.extend(
            change
                .removed_doorbells
                .iter()
                .map(|placed| format!("-bell {:x}", placed.addr)),
        );
        told.push(".".to_owned());
        Ok(())
    }

    fn log_writes(&self, _: &Arc<RamBlock>, on: bool) -> Result<(), ListenerError> {
        assert_ne!(self.logging.swap(on, Ordering::Relaxed), on, "told of a change only");
        Ok(())
    }

    fn fetch_writes(&self, block: &Arc<RamBlock>) -> Result<(), ListenerError> {
        block.watchers().mark_words(0, &[1 << 5]);
        Ok(())
    }
}

#[test]
fn listeners_are_told_of_a_change_once_and_of_nothing_else() {
    let world = world();
    let first = world.map(0, &Region::ram(&ram("a", 1)), 0);
    let log = Arc::new(Log::default());
    world.space.listen(Arc::clone(&log) as _).unwrap();
    assert_eq!(log.told(), ["+a 0", "."]);
    let bell = Region::doorbell("bell", Doorbell::new().unwrap());
    let (second, ring) = world
        .topology
        .change(|edit| {
            edit.unmap(first);
            let second = edit.map(&world.root, PAGE, &Region::ram(&ram("b", 1)), 0)?;
            Ok((second, edit.map(&world.root, 0, &bell, 0)?))
        })
        .unwrap();
    assert_eq!(log.told(), ["-a 0", "+b 1000", "+bell 0", "."]);
    // What shows nowhere changes nothing.
    let _hidden = world.map(PAGE, &Region::ram(&ram("c", 1)), -1);
    assert_eq!(log.told(), [""; 0]);
    drop(ring);
    assert_eq!(log.told(), ["-bell 0", "."]);
    drop(second);
    assert_eq!(log.told(), ["-b 1000", "+c 1000", "."]);
}

#[test]
fn a_change_that_is_refused_leaves_everything_as_it_was() {
    let world = world();
    let kept = world.map(0, &Region::ram(&ram("kept", 1)), 0);
    let log = Arc::new(Log {
        refused: Some("bad"),
        ..Log::default()
    });
    world.space.listen(Arc::clone(&log) as _).unwrap();
    log.told();
    let before = world.shown();
    let result = world.topology.change(|edit| {
        edit.unmap(kept);
        let good = edit.map(&world.root, PAGE, &Region::ram(&ram("good", 1)), 0)?;
        Ok((good, edit.map(&world.root, 2 * PAGE, &Region::ram(&ram("bad", 1)), 0)?))
    });
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused at 0x2000: Argument list too long (os error 7)"
    );
    assert_eq!(world.shown(), before);
    let told = log.told();
    assert_eq!(
        told,
        ["-kept 0", "+good 1000", "-good 1000", "-bad 2000", "+kept 0", "."]
    );
    // A step that fails takes those before it back, and what they mapped may go.
    let result = world.topology.change(|edit| {
        let _good = edit.map(&world.root, PAGE, &Region::ram(&ram("good", 1)), 0)?;
        edit.map(&world.root, u64::MAX, &Region::ram(&ram("far", 1)), 0)
    });
    assert!(matches!(result, Err(MapError::OutOfRange { .. })));
    assert_eq!((world.shown(), log.told()), (before, vec![]));
}

#[test]
fn watchers_of_a_block_do_not_disturb_each_other() {
    let world = world();
    let block = ram("pc.ram", 64);
    let _mapping = world.map(0, &Region::ram(&block), 0);
    let log = Arc::new(Log::default());
    world.space.listen(Arc::clone(&log) as _).unwrap();
    world.space.write_memory(PAGE, &[1]).unwrap();
    let one = DirtyLog::new(&world.space, &block).unwrap();
    world.space.write_memory(2 * PAGE, &[1]).unwrap();
    let other = DirtyLog::new(&world.space, &block).unwrap();
    world.space.write(3 * PAGE - 1, &[1, 1]);
    assert_eq!(one.take().unwrap(), [2, 3, 5], "what the guest wrote is among them");
    assert_eq!(other.take().unwrap(), [2, 3, 5]);
    drop(one);
    assert!(log.logging.load(Ordering::Relaxed));
    drop(other);
    assert!(!log.logging.load(Ordering::Relaxed) && !block.watchers().is_watched());
}

/// Takes itself out when it is written to, and shows something else.
struct Switch {
    world: Weak<World>,
    mappings: Mutex<Vec<Mapping>>,
}

impl IoHandler for Switch {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0x11);
    }
    fn write(&self, _: u64, _: &[u8]) {
        let world = self.world.upgrade().unwrap();
        let mut mappings = self.mappings.lock().unwrap();
        mappings.clear();
        mappings.push(world.map(0, &io(0x22, 8), 0));
    }
}

#[test]
fn a_device_may_change_the_map_while_it_answers() {
    let world = Arc::new(world());
    let switch = Arc::new(Switch {
        world: Arc::downgrade(&world),
        mappings: Mutex::default(),
    });
    let region = Region::io("switch", 8, Access::ANY, Arc::clone(&switch) as _);
    switch.mappings.lock().unwrap().push(world.map(0, &region, 0));
    assert_eq!(world.byte(0), 0x11);
    world.space.write(0, &[1]);
    assert_eq!(world.byte(0), 0x22);
}

/// Holds the space it is in.
struct Master(#[expect(dead_code, reason = "held only")] Arc<AddressSpace>);

impl IoHandler for Master {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(1);
    }
    fn write(&self, _: u64, _: &[u8]) {}
}

#[test]
fn a_dismantled_map_keeps_nothing_alive() {
    let world = world();
    let master = Arc::new(Master(Arc::clone(&world.space)));
    let weak = Arc::downgrade(&master);
    let bus = Region::container("bus", 0xff);
    let inner = world
        .topology
        .map(&bus, 0, &Region::io("master", 8, Access::ANY, master), 0)
        .unwrap();
    let outer = world.map(0, &bus, 0);
    assert_eq!(world.byte(0), 1);
    world.topology.dismantle();
    assert!(weak.upgrade().is_none());
    drop((inner, outer));
}

#[test]
fn trees_are_shown_by_address_and_then_by_priority() {
    let world = world();
    let block = ram("ram", 4);
    let ram = Region::ram(&block);
    let bus = Region::container("bus", 0xfff);
    let low = Region::alias("low", &ram, 0x1000, PAGE);
    let shadow = Region::read_only_alias("shadow", &ram, 0, PAGE);
    let _mapped = [
        world.map(0x2000, &bus, -1),
        world.map(0, &low, 0),
        world.map(0x2000, &shadow, 1),
        world.topology.map(&bus, 8, &io(1, 8), 0).unwrap(),
    ];
    let expected = [
        "address-space: memory",
        "  0000000000000000-ffffffffffffffff (prio 0, i/o): root",
        "    0000000000000000-0000000000000fff (prio 0, ram): alias low @ram 0000000000001000-0000000000001fff",
        "    0000000000002000-0000000000002fff (prio 1, rom): alias shadow @ram 0000000000000000-0000000000000fff",
        "    0000000000002000-0000000000002fff (prio -1, i/o): bus",
        "      0000000000002008-000000000000200f (prio 0, i/o): io 1",
        "",
        "memory-region: ram",
        "  0000000000000000-0000000000003fff (prio 0, ram): ram",
        "",
        "",
    ];
    assert_eq!(show_trees(&[("memory", &world.space)]), expected.join("\n"));
    assert_eq!(show_trees(&[]), "");
}
