//! The saved state of ports, in QEMU's layout.

use crate::devices::virtio::saved::SavedElement;
use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, VmState};

/// Ports that a word of the map tells of.
const WORD: u32 = 32;

/// The ports of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialState {
    /// Ports that there may be.
    pub max_ports: u32,
    /// The ports there are.
    pub ports: Vec<PortState>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortState {
    /// Its number.
    pub number: u32,
    /// The guest has its end open.
    pub guest_open: bool,
    /// Somebody is at the host's end.
    pub host_open: bool,
    /// A buffer of the guest that was sent in part.
    pub held: Option<HeldState>,
}

/// A buffer that was sent in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldState {
    /// Bytes that were sent.
    pub sent: u64,
    /// The buffer.
    pub element: SavedElement,
}

impl SerialState {
    /// Whether a buffer was sent in part.
    #[must_use]
    pub fn has_held(&self) -> bool {
        self.ports.iter().any(|port| port.held.is_some())
    }

    /// Which numbers are taken, 32 to a word. Number 0 is kept for a console where there is none.
    fn map(&self) -> Vec<u32> {
        let mut words = vec![0; usize::try_from(self.max_ports.div_ceil(WORD)).unwrap_or_default()];
        for number in self.ports.iter().map(|port| port.number).chain([0]) {
            let word = usize::try_from(number / WORD).ok().and_then(|word| words.get_mut(word));
            *word.unwrap_or(&mut 0) |= 1_u32 << (number % WORD);
        }
        words
    }
}

impl VmState for SerialState {
    fn layout(&self) -> Layout {
        Layout::new("virtio-console", 3)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        // Columns and rows, of which nobody ever tells.
        fields.unused("size", 4)?;
        fields.int("max_nr_ports", &mut { self.max_ports })?;
        for own in self.map() {
            fields.equal("ports_map", own, "uint32 equal")?;
        }
        let own = self.ports.len();
        let mut count = u32::try_from(own).unwrap_or(u32::MAX);
        fields.int("nr_active_ports", &mut count)?;
        if usize::try_from(count) != Ok(own) {
            let (own, theirs) = (own as u64, count.into());
            return Err(StateError::new(StateErrorKind::Different { own, theirs }).within("nr_active_ports"));
        }
        // They come in any order.
        let mut rest = self.ports.clone();
        for port in &mut self.ports {
            let mut number = port.number;
            fields.int("id", &mut number)?;
            let known = rest.iter().position(|port| port.number == number);
            let known = known.ok_or_else(|| StateError::out_of_range("id", number))?;
            *port = rest.swap_remove(known);
            port.fields(fields)?;
        }
        Ok(())
    }
}

impl PortState {
    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.flag::<u8>("guest_connected", &mut self.guest_open)?;
        fields.flag::<u8>("host_connected", &mut self.host_open)?;
        let mut is_held = self.held.is_some();
        fields.flag::<u32>("elem_popped", &mut is_held)?;
        if !is_held {
            self.held = None;
            return Ok(());
        }
        self.held.get_or_insert_default().fields(fields)
    }
}

impl HeldState {
    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let (mut index, mut offset) = self.place();
        fields.int("iov_idx", &mut index)?;
        fields.int("iov_offset", &mut offset)?;
        self.element.fields(fields)?;
        let before = usize::try_from(index)
            .ok()
            .and_then(|index| self.element.readable.get(..index));
        let before = before.ok_or_else(|| StateError::out_of_range("iov_idx", index))?;
        let sent = before
            .iter()
            .map(|part| u64::from(part.len))
            .sum::<u64>()
            .checked_add(offset);
        let end = self.element.readable.iter().map(|part| u64::from(part.len)).sum();
        let sent = sent.filter(|sent| *sent <= end);
        self.sent = sent.ok_or_else(|| StateError::out_of_range("iov_offset", offset))?;
        Ok(())
    }

    /// The part that is sent next, and how much of it has been.
    fn place(&self) -> (u32, u64) {
        let (mut index, mut left) = (0, self.sent);
        for len in self.element.readable.iter().map(|part| u64::from(part.len)) {
            if left < len {
                break;
            }
            (index, left) = (index + 1, left - len);
        }
        (index, left)
    }
}
