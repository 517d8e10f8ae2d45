//! A guest arrives.

use std::io::Write;

use super::channel::Channel;
use super::error::MigrationError;
use super::ram;
use super::read::{Destination, read};
use super::wire::{PAGE, answer};
use crate::machine::saved::StreamMemory;
use crate::vmstate::ReceivedSection;

/// Who takes over sections of devices.
pub trait Devices {
    /// As [`Destination::section`].
    ///
    /// # Errors
    /// As there.
    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError>;
}

/// Takes over the guest that comes through `channel`. Returns whether the source waits to be told how it went, and the
/// description of the stream.
///
/// # Errors
/// Names what is missing, wrong or not this guest's, or how the channel failed.
pub fn receive(
    channel: &Channel,
    machine: &str,
    memory: &StreamMemory,
    devices: &mut impl Devices,
) -> Result<(bool, Option<Vec<u8>>), MigrationError> {
    let clone = || {
        channel
            .try_clone()
            .map_err(|error| MigrationError::io("duplicating the channel", error))
    };
    let mut arrival = Arrival {
        machine,
        memory,
        devices,
        back: clone()?,
        has_way_back: false,
    };
    let description = read(clone()?, &mut arrival)?;
    Ok((arrival.has_way_back, description))
}

/// Tells the source, which waits for it, how it went.
///
/// # Errors
/// It cannot be told.
pub fn report(channel: &mut Channel, succeeded: bool) -> Result<(), MigrationError> {
    say(channel, answer::SHUT, u32::from(!succeeded))
}

fn say(channel: &mut Channel, number: u16, value: u32) -> Result<(), MigrationError> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&4_u16.to_be_bytes());
    message.extend_from_slice(&value.to_be_bytes());
    let sent = channel.write_all(&message);
    sent.map_err(|error| MigrationError::io("answering the source", error))
}

struct Arrival<'a, D> {
    machine: &'a str,
    memory: &'a StreamMemory,
    devices: &'a mut D,
    back: Channel,
    has_way_back: bool,
}

impl<D: Devices> Destination for Arrival<'_, D> {
    fn machine(&self) -> &str {
        self.machine
    }

    fn block(&mut self, name: &str, len: u64) -> Result<usize, MigrationError> {
        ram::listed(self.memory, name, len)
    }

    fn find_block(&mut self, name: &str) -> Result<usize, MigrationError> {
        ram::find(self.memory, name)
    }

    fn page(&mut self, block: usize, address: u64, content: Option<&[u8; PAGE]>) -> Result<(), MigrationError> {
        ram::store(self.memory, block, address, content)
    }

    fn section(&mut self, section: &ReceivedSection<'_>, end: &[u8]) -> Result<Option<usize>, MigrationError> {
        self.devices.section(section, end)
    }

    fn open_return_path(&mut self) -> Result<(), MigrationError> {
        self.has_way_back = true;
        Ok(())
    }

    fn pong(&mut self, number: u32) -> Result<(), MigrationError> {
        match self.has_way_back {
            true => say(&mut self.back, answer::PONG, number),
            false => Err(MigrationError::Unknown(
                "a sign is asked for, and there is no return path".into(),
            )),
        }
    }
}
