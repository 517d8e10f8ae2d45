//! Windows that get in each other's way.

use std::sync::{Arc, Mutex};

use super::*;
use crate::devices::Device;
use crate::vmstate::{StateError, Visitor};

/// A function with 4 KiB of memory and 32 ports, which answers with its number.
struct Numbered {
    config: ConfigSpace,
    number: u8,
}

impl Device for Numbered {
    fn type_name(&self) -> &'static str {
        "numbered"
    }
    fn reset(&mut self) {
        self.config.reset();
    }
    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

impl PciFunction for Numbered {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn bar_read(&mut self, _: usize, _: u64, data: &mut [u8]) {
        data.fill(self.number);
    }
    fn bar_write(&mut self, _: usize, _: u64, _: &[u8]) {}
}

/// A board whose root bus has functions 1 and 2 in slots 1 and 2.
fn two_functions() -> (Arc<Board>, Arc<RootComplex>) {
    let board = Arc::new(Board::new(&(Arc::new(|_| {}) as _)).unwrap());
    let root = RootComplex::new(&board, "pcie.0");
    for number in [1, 2] {
        let mut config = ConfigSpace::new(0x1234, 0x5678, [0xff, 0, 0], 0);
        config.add_bar(0, BarKind::Memory32, 4096);
        config.add_bar(1, BarKind::Io, 32);
        let function = Numbered {
            config: config.sealed(),
            number,
        };
        let want = Placement {
            driver: "numbered",
            id: None,
            bus: None,
            addr: Some(Devfn::new(number, 0)),
            multifunction: false,
            hotplugged: false,
        };
        let place = root.place(&want).unwrap();
        root.insert(place, &want, Arc::new(Mutex::new(function)), None);
    }
    (board, root)
}

fn set_bar(root: &RootComplex, slot: u8, bar: u16, address: u32) {
    root.config_write(0, Devfn::new(slot, 0), 0x10 + 4 * bar, &address.to_le_bytes());
}

fn enable(root: &RootComplex, slot: u8, command: u8) {
    root.config_write(0, Devfn::new(slot, 0), 4, &[command, 0]);
}

fn answers(board: &Board, address: u64) -> u8 {
    let mut data = [0];
    board.map.memory.read(address, &mut data);
    data[0]
}

fn answers_port(board: &Board, port: u16) -> u8 {
    let mut data = [0];
    board.map.ports.read(port.into(), &mut data);
    data[0]
}

const HERE: u32 = 0xfe00_0000;
const THERE: u32 = 0xfe10_0000;

#[test]
fn of_two_windows_in_one_place_the_later_answers() {
    let (board, root) = two_functions();
    for slot in [1, 2] {
        set_bar(&root, slot, 0, HERE);
        enable(&root, slot, 3);
    }
    assert_eq!(answers(&board, HERE.into()), 2);
    set_bar(&root, 1, 0, THERE);
    assert_eq!((answers(&board, THERE.into()), answers(&board, HERE.into())), (1, 2));
    set_bar(&root, 1, 0, HERE);
    assert_eq!((answers(&board, THERE.into()), answers(&board, HERE.into())), (0xff, 1));
    enable(&root, 1, 0);
    assert_eq!(answers(&board, HERE.into()), 2);
}

#[test]
fn ports_that_overlap_come_back_as_well() {
    let (board, root) = two_functions();
    set_bar(&root, 1, 1, 0xc000);
    set_bar(&root, 2, 1, 0xc000);
    enable(&root, 1, 1);
    enable(&root, 2, 1);
    assert_eq!(answers_port(&board, 0xc01f), 2);
    enable(&root, 2, 0);
    assert_eq!(answers_port(&board, 0xc01f), 1);
}

#[test]
fn a_reset_closes_all_windows() {
    let (board, root) = two_functions();
    for slot in [1, 2] {
        set_bar(&root, slot, 0, HERE);
        enable(&root, slot, 2);
    }
    root.functions().iter().for_each(|function| lock(function).reset());
    root.refresh();
    assert_eq!(answers(&board, HERE.into()), 0xff);
    set_bar(&root, 2, 0, HERE);
    enable(&root, 2, 2);
    assert_eq!(answers(&board, HERE.into()), 2);
}

#[test]
fn ports_without_an_id_have_buses_of_their_own() {
    let mut topology: Topology<()> = Topology::new("pcie.0");
    let want = Placement {
        driver: "pcie-root-port",
        id: None,
        bus: None,
        addr: None,
        multifunction: false,
        hotplugged: false,
    };
    for name in ["pcie.1", "pcie.2"] {
        let place = topology.place(&want).unwrap();
        topology.insert(place, &want, ());
        let bus = topology.add_link(None, place);
        assert_eq!(topology.bus_name(bus), name);
    }
}
