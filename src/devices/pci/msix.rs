//! MSI-X: a table of messages in memory (PCI Express Base 5.0, 6.1.4 and 7.7.2).

use std::sync::Arc;

use super::{ConfigSpace, MsixState};
use crate::irq::{Msi, MsiSource, MsiVector};

/// Id of the capability.
const ID: u8 = 0x11;
/// Offset of the message control register in the capability.
const CONTROL: usize = 2;
/// Message control: MSI-X is on.
const ENABLE: u16 = 1 << 15;
/// Message control: every vector is masked.
const FUNCTION_MASK: u16 = 1 << 14;
/// Bytes of a table entry: address, data, vector control.
const ENTRY: usize = 16;
/// Where the vector control is in an entry; its lowest bit masks the vector.
const VECTOR_CONTROL: usize = 12;
const MASKED: u8 = 1;
/// An entry after power-on: masked.
const INITIAL: [u8; ENTRY] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, MASKED, 0, 0, 0];
/// Vectors a function may have.
const MAX_VECTORS: u16 = 2048;

/// Where the table and the bits of pending interrupts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// Number of vectors: 1 to 2048.
    pub vectors: u16,
    /// Base address register that maps both.
    pub bar: u8,
    /// Offset of the table in bytes, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits in bytes, a multiple of 8.
    pub pending: u32,
}

/// A function's MSI-X. The guest's writes to the table program the vectors.
pub struct Msix {
    at: usize,
    layout: MsixLayout,
    entries: Vec<[u8; ENTRY]>,
    pending: Vec<bool>,
    source: Arc<dyn MsiSource>,
    vectors: Vec<Arc<dyn MsiVector>>,
    /// Message control as the vectors were last programmed for.
    control: u16,
}

impl Msix {
    /// Adds the capability. The function passes accesses to the base address register on to [`Msix::read`] and
    /// [`Msix::write`].
    #[must_use]
    pub fn add(config: &mut ConfigSpace, layout: MsixLayout, source: Arc<dyn MsiSource>) -> Self {
        let vectors = layout.vectors.clamp(1, MAX_VECTORS);
        let mut body = (vectors - 1).to_le_bytes().to_vec();
        body.extend((layout.table & !7 | u32::from(layout.bar)).to_le_bytes());
        body.extend((layout.pending & !7 | u32::from(layout.bar)).to_le_bytes());
        let at = config.add_capability(ID, &body);
        config.allow_write(at + CONTROL, &(ENABLE | FUNCTION_MASK).to_le_bytes());
        Self {
            at,
            layout,
            entries: vec![INITIAL; usize::from(vectors)],
            pending: vec![false; usize::from(vectors)],
            vectors: (0..vectors).map(|_| source.vector()).collect(),
            source,
            control: 0,
        }
    }

    /// Whether the guest uses MSI-X, so that INTx stays silent.
    #[must_use]
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        config.u16(self.at + CONTROL) & ENABLE != 0
    }

    /// Interrupts with `vector`, or remembers that once the vector is unmasked. Without effect while MSI-X is off or
    /// when there is no such vector.
    pub fn notify(&mut self, config: &ConfigSpace, vector: u16) {
        if !self.is_enabled(config) {
            return;
        }
        if let Some(pending) = self.pending.get_mut(usize::from(vector)) {
            *pending = true;
            self.deliver(config, usize::from(vector));
        }
    }

    /// The vectors, for whoever fires them by their descriptors.
    #[must_use]
    pub fn vectors(&self) -> &[Arc<dyn MsiVector>] {
        &self.vectors
    }

    /// The message of a vector that is neither masked nor off.
    fn message(&self, config: &ConfigSpace, vector: usize) -> Option<Msi> {
        let open = config.u16(self.at + CONTROL) & (ENABLE | FUNCTION_MASK) == ENABLE;
        let entry = self.entries.get(vector).filter(|_| open)?;
        if entry[VECTOR_CONTROL] & MASKED != 0 {
            return None;
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *entry;
        Some(Msi {
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            data: u32::from_le_bytes([i, j, k, l]),
        })
    }

    /// Call after the guest wrote to configuration space: what was held back by the function mask goes out.
    pub fn config_written(&mut self, config: &ConfigSpace) {
        if config.u16(self.at + CONTROL) != self.control {
            self.program_all(config);
        }
    }

    /// Programs all vectors, and sends what waited for that.
    fn program_all(&mut self, config: &ConfigSpace) {
        self.control = config.u16(self.at + CONTROL);
        self.source.together(&mut || {
            for (index, vector) in self.vectors.iter().enumerate() {
                vector.program(self.message(config, index));
            }
        });
        for vector in 0..self.entries.len() {
            self.deliver(config, vector);
        }
    }

    /// A guest's read at `offset` of the base address register; false when neither table nor pending bits are there.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        if let Some(at) = self.table_offset(offset) {
            for (byte, at) in data.iter_mut().zip(at..) {
                *byte = self.entries.get(at / ENTRY).map_or(0, |entry| entry[at % ENTRY]);
            }
            return true;
        }
        let Some(at) = self.pending_offset(offset) else {
            return false;
        };
        for (byte, at) in data.iter_mut().zip(at..) {
            let vectors = self.pending.iter().zip(&self.vectors);
            let bits = vectors.skip(at.saturating_mul(8)).take(8).enumerate();
            *byte = bits.fold(0, |byte, (bit, (set, vector))| {
                byte | u8::from(*set || vector.is_pending()) << bit
            });
        }
        true
    }

    /// A guest's write at `offset` of the base address register; false when it is not the table's.
    pub fn write(&mut self, config: &ConfigSpace, offset: u64, data: &[u8]) -> bool {
        let Some(start) = self.table_offset(offset) else {
            return self.pending_offset(offset).is_some();
        };
        for (byte, at) in data.iter().zip(start..) {
            if let Some(entry) = self.entries.get_mut(at / ENTRY) {
                entry[at % ENTRY] = *byte;
            }
        }
        // An access of eight bytes at most, aligned or not, is within two entries.
        let touched = start / ENTRY..(start + data.len()).div_ceil(ENTRY).min(self.entries.len());
        for index in touched {
            self.vectors[index].program(self.message(config, index));
            self.deliver(config, index);
        }
        true
    }

    /// Returns to the state after power-on; configuration space is reset by its owner.
    pub fn reset(&mut self) {
        self.entries.fill(INITIAL);
        self.pending.fill(false);
        self.control = 0;
        self.source
            .together(&mut || self.vectors.iter().for_each(|vector| vector.program(None)));
    }

    /// Table and pending bits, for saving.
    #[must_use]
    pub fn state(&self) -> MsixState {
        MsixState {
            table: self.entries.clone(),
            pending: self
                .pending
                .iter()
                .zip(&self.vectors)
                .map(|(waits, vector)| *waits || vector.is_pending())
                .collect(),
        }
    }

    /// Takes back what [`Msix::state`] gave, for as many vectors as there are.
    pub fn set_state(&mut self, config: &ConfigSpace, state: MsixState) {
        self.entries
            .iter_mut()
            .zip(state.table)
            .for_each(|(entry, saved)| *entry = saved);
        self.pending
            .iter_mut()
            .zip(state.pending)
            .for_each(|(waits, saved)| *waits = saved);
        self.program_all(config);
    }

    fn deliver(&mut self, config: &ConfigSpace, vector: usize) {
        if !self.pending.get(vector).copied().unwrap_or(false) {
            return;
        }
        if self.message(config, vector).is_some() {
            self.pending[vector] = false;
            self.vectors[vector].fire();
        }
    }

    fn table_offset(&self, offset: u64) -> Option<usize> {
        within(offset, self.layout.table & !7, self.entries.len() * ENTRY)
    }

    fn pending_offset(&self, offset: u64) -> Option<usize> {
        within(offset, self.layout.pending & !7, self.entries.len().div_ceil(64) * 8)
    }
}

/// Where `offset` is in the `len` bytes from `start` on.
fn within(offset: u64, start: u32, len: usize) -> Option<usize> {
    let at = usize::try_from(offset.checked_sub(u64::from(start))?).ok()?;
    (at < len).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::testing::Messages;

    const LAYOUT: MsixLayout = MsixLayout {
        vectors: 3,
        bar: 1,
        table: 0,
        pending: 0x800,
    };

    fn function() -> (ConfigSpace, Msix, Arc<Messages>) {
        let messages = Arc::new(Messages::default());
        let mut config = ConfigSpace::new(1, 2, [0xff, 0, 0], 0);
        let msix = Msix::add(&mut config, LAYOUT, Arc::clone(&messages) as _);
        (config.sealed(), msix, messages)
    }

    fn write(msix: &mut Msix, config: &ConfigSpace, offset: u64, value: u32) {
        assert!(msix.write(config, offset, &value.to_le_bytes()));
    }

    fn pending(msix: &Msix) -> u8 {
        let mut byte = [0];
        assert!(msix.read(0x800, &mut byte));
        byte[0]
    }

    #[test]
    fn a_masked_interrupt_waits_for_its_vector() {
        let (mut config, mut msix, messages) = function();
        config.write(0x42, &[0, 0x80]);
        write(&mut msix, &config, 0x10, 0xfee0_1000);
        write(&mut msix, &config, 0x18, 0x4031);
        msix.notify(&config, 1);
        assert_eq!((messages.taken(), pending(&msix)), (vec![], 2));
        write(&mut msix, &config, 0x1c, 0);
        assert_eq!((messages.taken(), pending(&msix)), (vec![(0xfee0_1000, 0x4031)], 0));
        msix.notify(&config, 1);
        assert_eq!(messages.taken(), [(0xfee0_1000, 0x4031)]);
    }

    #[test]
    fn the_function_mask_holds_everything_back() {
        let (mut config, mut msix, messages) = function();
        write(&mut msix, &config, 0x0c, 0);
        msix.notify(&config, 0);
        assert_eq!(pending(&msix), 0, "MSI-X is off");
        config.write(0x42, &[0, 0xc0]);
        msix.notify(&config, 0);
        assert_eq!((messages.taken(), pending(&msix)), (vec![], 1));
        config.write(0x42, &[0, 0x80]);
        msix.config_written(&config);
        assert_eq!((messages.taken(), pending(&msix)), (vec![(0, 0)], 0));
    }

    #[test]
    fn the_table_survives_saving() {
        let (config, mut one, _) = function();
        write(&mut one, &config, 0x20, 0x1234);
        let (_, mut other, _) = function();
        other.set_state(&config, one.state());
        let mut data = [0; 4];
        assert!(other.read(0x20, &mut data));
        assert_eq!(u32::from_le_bytes(data), 0x1234);
        assert_eq!(other.state(), one.state());
    }

    proptest! {
        #[test]
        fn no_access_does_harm(accesses in prop::collection::vec((0_u64..0x1000, any::<u64>(), 1_usize..=8), 0..50)) {
            let (mut config, mut msix, _) = function();
            config.write(0x42, &[0, 0x80]);
            for (offset, value, size) in accesses {
                msix.write(&config, offset, &value.to_le_bytes()[..size]);
                msix.read(offset, &mut [0; 8][..size]);
                msix.notify(&config, u16::try_from(offset).unwrap());
            }
        }
    }
}
