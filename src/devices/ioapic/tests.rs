use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::devices::testing::move_state;

#[derive(Default)]
struct Apics {
    sent: Mutex<Vec<Msi>>,
    watched: Mutex<Vec<(u8, Msi)>>,
    handled: Mutex<Vec<u8>>,
}

impl LocalApics for Apics {
    fn deliver(&self, message: Msi) {
        self.sent.lock().unwrap().push(message);
    }

    fn watch(&self, messages: &[(u8, Msi)]) {
        *self.watched.lock().unwrap() = messages.to_vec();
    }

    fn handled(&self, pin: u8) {
        self.handled.lock().unwrap().push(pin);
    }
}

impl Apics {
    fn taken(&self) -> Vec<u32> {
        self.sent
            .lock()
            .unwrap()
            .drain(..)
            .map(|message| message.data)
            .collect()
    }
}

fn ioapic() -> (IoApic, Arc<Apics>) {
    let apics = Arc::new(Apics::default());
    (IoApic::new(Arc::clone(&apics) as _), apics)
}

fn write(ioapic: &mut IoApic, register: u8, value: u32) {
    ioapic.mmio_write(SELECT, &[register]);
    ioapic.mmio_write(WINDOW, &value.to_le_bytes());
}

fn read(ioapic: &mut IoApic, register: u8) -> u32 {
    ioapic.mmio_write(SELECT, &[register]);
    let mut word = [0; 4];
    ioapic.mmio_read(WINDOW, &mut word);
    u32::from_le_bytes(word)
}

#[test]
fn it_says_what_it_is() {
    let (mut ioapic, _) = ioapic();
    assert_eq!(read(&mut ioapic, 1), 0x0017_0020);
    write(&mut ioapic, 0, 0xffff_ffff);
    assert_eq!(read(&mut ioapic, 0), 0x0f00_0000);
    assert_eq!(read(&mut ioapic, 0x3e), 0x1_0000);
    assert_eq!(read(&mut ioapic, 0x40), 0);
}

#[test]
fn an_edge_is_sent_once_and_lost_while_masked() {
    let (mut ioapic, apics) = ioapic();
    ioapic.set_line(4, true);
    ioapic.set_line(4, false);
    write(&mut ioapic, 0x18, 0x31);
    assert_eq!(apics.taken(), [0_u32; 0]);
    for level in [true, true, false, true] {
        ioapic.set_line(4, level);
    }
    assert_eq!(apics.taken(), [0x31, 0x31]);
    assert!(apics.watched.lock().unwrap().is_empty());
}

#[test]
fn a_level_is_sent_again_after_its_end_while_it_lasts() {
    let (mut ioapic, apics) = ioapic();
    ioapic.set_line(9, true);
    write(&mut ioapic, 0x22, 0x8041);
    assert_eq!(apics.taken(), [0xc041]);
    assert_eq!(read(&mut ioapic, 0x22), 0xc041, "waits for the end");
    assert_eq!(apics.watched.lock().unwrap()[0].0, 9);
    ioapic.end_of_interrupt(0x40);
    assert_eq!(apics.taken(), [0_u32; 0]);
    ioapic.end_of_interrupt(0x41);
    assert_eq!(apics.taken(), [0xc041]);
    ioapic.set_line(9, false);
    ioapic.mmio_write(END, &0x41_u32.to_le_bytes());
    assert_eq!(apics.taken(), [0_u32; 0]);
    assert_eq!(read(&mut ioapic, 0x22), 0x8041);
    assert_eq!(
        *apics.handled.lock().unwrap(),
        [9, 9],
        "told of each end, however it comes"
    );
}

#[test]
fn the_end_is_watched_for_after_the_mask() {
    let (mut ioapic, apics) = ioapic();
    write(&mut ioapic, 0x22, 0x8041);
    write(&mut ioapic, 0x22, 0x1_8041);
    assert_eq!(apics.watched.lock().unwrap().len(), 1);
    write(&mut ioapic, 0x22, 0x1_0041);
    assert!(apics.watched.lock().unwrap().is_empty());
}

#[test]
fn destinations_reach_beyond_eight_bits() {
    let (mut ioapic, apics) = ioapic();
    write(&mut ioapic, 0x13, 0x1206_0000);
    write(&mut ioapic, 0x12, 0x0930);
    ioapic.set_line(1, true);
    let sent = apics.sent.lock().unwrap();
    let expected = Msi {
        address: 0xfee0_0000 | 0x12 << 12 | 3 << 5 | 4,
        data: 0x130,
    };
    assert_eq!(*sent, [expected]);
}

#[test]
fn a_saved_state_comes_back() {
    let (mut ioapic, _) = ioapic();
    write(&mut ioapic, 0x22, 0x8041);
    ioapic.set_line(9, true);
    let (mut other, apics) = super::tests::ioapic();
    move_state(&mut ioapic, &mut other);
    other.end_of_interrupt(0x41);
    assert_eq!(apics.taken(), [0xc041]);
    assert_eq!(apics.watched.lock().unwrap().len(), 1);
}

proptest! {
    #[test]
    fn random_accesses_do_not_panic(accesses: Vec<(u64, Vec<u8>, u8, bool)>) {
        let (mut ioapic, _) = ioapic();
        for (offset, mut data, pin, level) in accesses {
            data.truncate(8);
            ioapic.mmio_write(offset & 0x50, &data);
            ioapic.mmio_read(offset & 0x50, &mut data);
            ioapic.set_line(pin & 0x1f, level);
        }
    }
}
