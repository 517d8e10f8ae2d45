//! MSI-X: a table of messages, one for each of a function's interrupts (PCI Local Bus 3.0, 6.8.2).

use std::sync::Arc;

use serde_json::{Value, json};

use super::ConfigSpace;

/// Id of the capability.
const ID: u8 = 0x11;
/// Bytes of one table entry.
const ENTRY: u64 = 16;
/// Most entries a table can have.
pub const MAX_VECTORS: u16 = 2048;

/// Message control: MSI-X is on.
const ENABLE: u16 = 1 << 15;
/// Message control: all messages are held back.
const FUNCTION_MASK: u16 = 1 << 14;
/// Vector control of an entry: its message is held back.
const MASKED: u32 = 1;

/// Where messages go.
pub trait MsiSink: Send + Sync {
    /// Sends a message-signalled interrupt.
    fn send(&self, address: u64, data: u32);
}

/// A function's messages.
pub struct Msix {
    sink: Arc<dyn MsiSink>,
    capability: usize,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

/// After power-on every message is held back.
const RESET: Entry = Entry {
    address: 0,
    data: 0,
    control: MASKED,
    pending: false,
};

impl Msix {
    /// Adds the capability: `vectors` entries (1 to [`MAX_VECTORS`]) at `table` behind base address register `bar`, and
    /// the bits of pending ones at `pending` behind the same register.
    #[must_use]
    pub fn add(
        config: &mut ConfigSpace,
        sink: Arc<dyn MsiSink>,
        vectors: u16,
        bar: u8,
        table: u32,
        pending: u32,
    ) -> Self {
        let count = vectors.clamp(1, MAX_VECTORS);
        let mut body = (count - 1).to_le_bytes().to_vec();
        for offset in [table, pending] {
            body.extend((offset & !7 | u32::from(bar & 7)).to_le_bytes());
        }
        let capability = config.add_capability(ID, &body);
        config.allow_write(capability + 2, &(ENABLE | FUNCTION_MASK).to_le_bytes());
        Self {
            sink,
            capability,
            entries: vec![RESET; usize::from(count)],
        }
    }

    /// Returns to the state after power-on.
    pub fn reset(&mut self) {
        self.entries.fill(RESET);
    }

    /// Whether the guest uses MSI-X.
    #[must_use]
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        config.u16(self.capability + 2) & ENABLE != 0
    }

    /// Raises interrupt `vector`: sends its message, or notes that it is pending.
    pub fn notify(&mut self, config: &ConfigSpace, vector: u16) {
        let flows = self.flows(config);
        let Some(entry) = self.entries.get_mut(usize::from(vector)) else {
            return;
        };
        entry.pending = true;
        if flows {
            deliver(entry, &*self.sink);
        }
    }

    /// The guest may have changed message control.
    pub fn config_written(&mut self, config: &ConfigSpace) {
        if self.flows(config) {
            self.entries.iter_mut().for_each(|entry| deliver(entry, &*self.sink));
        }
    }

    /// A guest's read from the table. `offset` counts from its start.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        let word = self.entry(offset).map_or(0, |entry| {
            let words = [entry.address, u64::from(entry.data) | u64::from(entry.control) << 32];
            words[usize::from(offset % ENTRY >= 8)]
        });
        copy_part(word, offset, data);
    }

    /// A guest's write to the table: four or eight aligned bytes, everything else is ignored.
    pub fn table_write(&mut self, config: &ConfigSpace, offset: u64, data: &[u8]) {
        let flows = self.flows(config);
        let Some(entry) = usize::try_from(offset / ENTRY)
            .ok()
            .and_then(|index| self.entries.get_mut(index))
        else {
            return;
        };
        for (word, at) in data.chunks_exact(4).zip((offset % ENTRY..).step_by(4)) {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            match at {
                0 => entry.address = entry.address >> 32 << 32 | u64::from(word & !3),
                4 => entry.address = entry.address & 0xffff_ffff | u64::from(word) << 32,
                8 => entry.data = word,
                12 => entry.control = word & MASKED,
                _ => {}
            }
        }
        if flows {
            deliver(entry, &*self.sink);
        }
    }

    /// A guest's read from the bits of pending messages. `offset` counts from their start.
    pub fn pending_read(&self, offset: u64, data: &mut [u8]) {
        let first = usize::try_from(offset / 8 * 64).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(first).take(64).enumerate();
        let bits = entries.fold(0_u64, |bits, (bit, entry)| bits | u64::from(entry.pending) << bit);
        copy_part(bits, offset, data);
    }

    /// The table, for saving.
    #[must_use]
    pub fn state(&self) -> Value {
        let entry = |entry: &Entry| json!([entry.address, entry.data, entry.control, entry.pending]);
        self.entries.iter().map(entry).collect()
    }

    /// Takes back a saved table.
    ///
    /// # Errors
    /// When it has another number of entries, or one is malformed.
    pub fn restore(&mut self, saved: &Value) -> Result<(), String> {
        let list = saved.as_array().filter(|list| list.len() == self.entries.len());
        let list = list.ok_or_else(|| format!("the MSI-X table does not have {} entries", self.entries.len()))?;
        let entries: Option<Vec<Entry>> = list.iter().map(parse_entry).collect();
        self.entries = entries.ok_or("an MSI-X table entry is malformed")?;
        Ok(())
    }

    fn entry(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset / ENTRY).ok()?)
    }

    fn flows(&self, config: &ConfigSpace) -> bool {
        config.u16(self.capability + 2) & (ENABLE | FUNCTION_MASK) == ENABLE
    }
}

/// Sends a pending message that nothing holds back.
fn deliver(entry: &mut Entry, sink: &dyn MsiSink) {
    if entry.pending && entry.control & MASKED == 0 {
        entry.pending = false;
        sink.send(entry.address, entry.data);
    }
}

/// The bytes of an aligned eight-byte word that an access at `offset` asks for.
fn copy_part(word: u64, offset: u64, data: &mut [u8]) {
    let bytes = word.to_le_bytes();
    let start = usize::try_from(offset % 8).unwrap_or_default();
    for (byte, at) in data.iter_mut().zip(start..) {
        *byte = bytes.get(at).copied().unwrap_or_default();
    }
}

fn parse_entry(value: &Value) -> Option<Entry> {
    let [address, data, control, pending] = value.as_array()?.as_slice() else {
        return None;
    };
    Some(Entry {
        address: address.as_u64()?,
        data: u32::try_from(data.as_u64()?).ok()?,
        control: u32::try_from(control.as_u64()?).ok()? & MASKED,
        pending: pending.as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Sink(Mutex<Vec<(u64, u32)>>);

    impl MsiSink for Sink {
        fn send(&self, address: u64, data: u32) {
            self.0.lock().unwrap().push((address, data));
        }
    }

    fn function() -> (ConfigSpace, Msix, Arc<Sink>) {
        let sink = Arc::new(Sink::default());
        let mut config = ConfigSpace::new(1, 2, [0, 0, 0], 0);
        let msix = Msix::add(&mut config, Arc::clone(&sink) as _, 3, 4, 0, 0x800);
        (config.sealed(), msix, sink)
    }

    fn set_up(config: &ConfigSpace, msix: &mut Msix, vector: u64) {
        msix.table_write(config, 16 * vector, &0xfee0_1000_u64.to_le_bytes());
        msix.table_write(
            config,
            16 * vector + 8,
            &(0x40 + u32::try_from(vector).unwrap()).to_le_bytes(),
        );
        msix.table_write(config, 16 * vector + 12, &[0; 4]);
    }

    #[test]
    fn a_message_is_sent_once_nothing_holds_it_back() {
        let (mut config, mut msix, sink) = function();
        let control = u16::from(config.u8(0x34)) + 2;
        msix.notify(&config, 1);
        set_up(&config, &mut msix, 1);
        assert!(sink.0.lock().unwrap().is_empty(), "MSI-X is off");
        let mut pending = [0; 8];
        msix.pending_read(0, &mut pending);
        assert_eq!(pending[0], 2);
        config.write(control, &0xc000_u16.to_le_bytes());
        msix.config_written(&config);
        assert!(sink.0.lock().unwrap().is_empty(), "the function is masked");
        config.write(control, &0x8000_u16.to_le_bytes());
        msix.config_written(&config);
        assert_eq!(*sink.0.lock().unwrap(), [(0xfee0_1000, 0x41)]);
        msix.pending_read(0, &mut pending);
        assert_eq!(pending[0], 0);
    }

    #[test]
    fn the_table_reads_as_written_in_words_of_any_size() {
        let (config, mut msix, _) = function();
        set_up(&config, &mut msix, 2);
        let mut quad = [0; 8];
        msix.table_read(32, &mut quad);
        assert_eq!(u64::from_le_bytes(quad), 0xfee0_1000);
        let mut word = [0; 4];
        msix.table_read(40, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x42);
        msix.table_read(12, &mut word);
        assert_eq!(word, [1, 0, 0, 0]);
        msix.table_read(48, &mut word);
        assert_eq!(word, [0; 4], "beyond the end");
        msix.table_write(&config, 48, &[1, 2, 3, 4]);
        msix.notify(&config, 3);
    }

    #[test]
    fn a_saved_table_comes_back() {
        let (config, mut msix, _) = function();
        set_up(&config, &mut msix, 0);
        msix.notify(&config, 2);
        let saved = msix.state();
        let (_, mut other, _) = function();
        other.restore(&saved).unwrap();
        assert_eq!(other.entries, msix.entries);
        assert!(other.restore(&json!([])).is_err());
        assert!(other.restore(&json!([1, 2, 3])).is_err());
    }
}
