//! What the tests of devices share.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Device, IrqLine, PioDevice};
use crate::irq::{Msi, MsiSource, MsiVector};
use crate::vmstate::{Layout, StateError};

/// A line that counts how often it went high.
#[derive(Debug, Default)]
pub(crate) struct CountingLine {
    state: Mutex<(bool, usize)>,
}

impl CountingLine {
    /// How often it went high.
    pub(crate) fn pulses(&self) -> usize {
        self.state.lock().unwrap().1
    }

    /// Whether it is high.
    pub(crate) fn is_high(&self) -> bool {
        self.state.lock().unwrap().0
    }
}

impl IrqLine for CountingLine {
    fn set(&self, level: bool) {
        let mut state = self.state.lock().unwrap();
        state.1 += usize::from(level && !state.0);
        state.0 = level;
    }
}

/// Message-signalled interrupts that were sent: address and data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Messages(Arc<Mutex<Vec<(u64, u32)>>>);

impl Messages {
    /// Those sent since the last call.
    pub(crate) fn taken(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl MsiSource for Messages {
    fn vector(&self) -> Arc<dyn MsiVector> {
        Arc::new(MessageVector {
            sent: self.clone(),
            message: Mutex::default(),
        })
    }

    fn together(&self, job: &mut dyn FnMut()) {
        job();
    }
}

struct MessageVector {
    sent: Messages,
    message: Mutex<Option<Msi>>,
}

impl MsiVector for MessageVector {
    fn program(&self, to: Option<Msi>) {
        *self.message.lock().unwrap() = to;
    }

    fn fire(&self) {
        let message = *self.message.lock().unwrap();
        let sent = message.map(|message| (message.address, message.data));
        self.sent.0.lock().unwrap().extend(sent);
    }

    fn event(&self) -> io::Result<Arc<EventFd>> {
        Ok(Arc::new(EventFd::new(EFD_NONBLOCK)?))
    }

    fn is_pending(&self) -> bool {
        false
    }
}

/// One access of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    offset: u16,
    write: Option<u32>,
    size: usize,
}

impl Access {
    /// Whether it is a write.
    pub(crate) fn is_write(&self) -> bool {
        self.write.is_some()
    }

    /// Performs it.
    pub(crate) fn perform(&self, device: &mut dyn PioDevice) {
        match self.write {
            Some(value) => device.pio_write(self.offset, &value.to_le_bytes()[..self.size]),
            None => device.pio_read(self.offset, &mut [0; 4][..self.size]),
        }
    }
}

/// Accesses of every size anywhere in a range of ports.
pub(crate) fn random_accesses(ports: u16) -> impl Strategy<Value = Vec<Access>> {
    let access = (0..ports, any::<Option<u32>>(), prop::sample::select(vec![1, 2, 4]))
        .prop_map(|(offset, write, size)| Access { offset, write, size });
    prop::collection::vec(access, 0..200)
}

/// The sections of a device, with what each takes.
pub(crate) fn saved(device: &mut dyn Device) -> Vec<(Layout, Vec<u8>)> {
    let mut all = Vec::new();
    let result = device.sections(&mut |section| {
        all.push((section.layout(), section.save()?.bytes));
        Ok(())
    });
    result.unwrap();
    all
}

/// Gives a device what [`saved`] took from one like it.
pub(crate) fn restore(device: &mut dyn Device, saved: &[(Layout, Vec<u8>)]) -> Result<(), StateError> {
    let mut rest = saved.iter();
    device.sections(&mut |section| {
        let (layout, bytes) = rest.next().unwrap();
        assert_eq!(*layout, section.layout());
        assert_eq!(section.load(layout.version, bytes)?, bytes.len());
        Ok(())
    })
}

/// Moves the state of `one` to `other`, which is like it after a reset, and checks that nothing is lost on the way.
#[track_caller]
pub(crate) fn move_state(one: &mut dyn Device, other: &mut dyn Device) {
    let before = saved(one);
    restore(other, &before).unwrap();
    assert_eq!(saved(other), before, "{}", one.type_name());
}
