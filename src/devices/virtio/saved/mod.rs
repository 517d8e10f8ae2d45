//! The saved state of a virtio device on PCI, in QEMU's layout: what the transport has, what all devices have, and what this
//! kind has of its own.
//!
//! In a stream all of it is one field. Where an address is 0, nothing lies there.

mod element;
mod queue;
#[cfg(test)]
mod tests;

pub use element::SavedElement;
pub(super) use queue::MAX_QUEUES;
pub use queue::{Areas, QueueState};

use super::Features;
use super::console::SerialState;
use crate::devices::pci::{MsixState, PciState};
use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, Subsections, VmState};
use queue::{ModernQueues, PackedQueues, RingAddresses};

/// No vector.
const NO_VECTOR: u16 = 0xffff;
/// Longest configuration that is taken over.
const MAX_CONFIG: u32 = 4096;

/// A device with its function.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtioState {
    /// Name and version of the section.
    pub section: Layout,
    /// Configuration space.
    pub pci: PciState,
    /// MSI-X, if the function has it.
    pub msix: Option<MsixState>,
    /// The vector of configuration changes.
    pub config_vector: u16,
    /// Device status.
    pub status: u8,
    /// ISR register.
    pub isr: u8,
    /// The queue that the driver has selected.
    pub queue_select: u16,
    /// What the device offers; it decides what a stream has, and is in none.
    pub offered: Features,
    /// What driver and device have agreed upon.
    pub accepted: Features,
    /// The configuration as the driver sees it. A device that is given one longer or shorter keeps what it has beyond.
    pub config: Vec<u8>,
    /// The queues.
    pub queues: Vec<QueueState>,
    /// What only this kind of device has.
    pub own: OwnState,
    /// The driver broke the device.
    pub broken: bool,
    /// The device works.
    pub started: bool,
    /// The transport has taken the device's leave to start transfers. Configuration space tells as much.
    pub disabled: bool,
    /// Which words of features the driver has selected: the device's, and its own.
    pub feature_selects: [u32; 2],
    /// The features that the driver has written.
    pub written: Features,
}

/// What only one kind of device has.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnState {
    /// Nothing.
    None,
    /// Ports.
    Serial(SerialState),
}

impl VmState for OwnState {
    fn layout(&self) -> Layout {
        match self {
            Self::None => Layout::new("virtio device", 1),
            Self::Serial(state) => state.layout(),
        }
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        match self {
            Self::None => Ok(()),
            Self::Serial(state) => state.fields(fields),
        }
    }
}

impl VmState for VirtioState {
    fn layout(&self) -> Layout {
        self.section
    }

    fn pre_save(&mut self) -> Result<(), StateError> {
        let is_packed = self.accepted.contains(Features::RING_PACKED);
        match &self.own {
            // Nor can QEMU read what it writes of such a buffer.
            OwnState::Serial(state) if is_packed && state.has_held() => Err(StateError::new(StateErrorKind::Refused(
                "a buffer of a packed ring is only half sent; nobody reads at the other end of its port".into(),
            ))),
            OwnState::Serial(_) | OwnState::None => Ok(()),
        }
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.opaque("virtio", "virtio", &mut Inner(self))
    }
}

struct Inner<'a>(&'a mut VirtioState);

impl VmState for Inner<'_> {
    fn layout(&self) -> Layout {
        Layout::new("virtio", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let state = &mut *self.0;
        fields.structure("pci", &mut state.pci)?;
        if let Some(msix) = &mut state.msix {
            fields.structure("msix", msix)?;
            fields.int("config_vector", &mut state.config_vector)?;
        }
        fields.int("status", &mut state.status)?;
        fields.int("isr", &mut state.isr)?;
        fields.int("queue_sel", &mut state.queue_select)?;
        let mut low = state.accepted.word(0);
        fields.int("guest_features", &mut low)?;
        state.accepted = state.accepted.with_word(0, low);
        configuration(fields, &mut state.config)?;
        let mut count = u32::try_from(state.queues.len()).unwrap_or(u32::MAX);
        fields.int("queues", &mut count)?;
        let own = state.queues.len();
        let queues = usize::try_from(count)
            .ok()
            .and_then(|count| state.queues.get_mut(..count));
        let Some(queues) = queues else {
            let (own, theirs) = (own as u64, count.into());
            return Err(StateError::new(StateErrorKind::Different { own, theirs }).within("queues"));
        };
        let has_vectors = state.msix.is_some();
        for queue in queues {
            queue.fields(fields, has_vectors)?;
        }
        fields.structure("own", &mut state.own)
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let state = &mut *self.0;
        let offered = state.offered;
        let high = Layout::new("virtio/128bit_features", 1);
        let has_high = offered.word(2) | offered.word(3) != 0;
        subsections.section(high, has_high, |fields| features(fields, &mut state.accepted, 2))?;
        let wide = Layout::new("virtio/64bit_features", 1);
        subsections.section(wide, offered.word(1) != 0, |fields| {
            features(fields, &mut state.accepted, 0)
        })?;
        let is_modern = offered.contains(Features::VERSION_1);
        subsections.section(Layout::new("virtio/virtqueues", 1), is_modern, |fields| {
            RingAddresses(&mut state.queues).fields(fields)
        })?;
        let has_other_sizes = state.queues.iter().any(|queue| queue.size != u32::from(queue.max));
        subsections.section(Layout::new("virtio/ringsize", 1), has_other_sizes, |fields| {
            queue::sizes(fields, &state.queues)
        })?;
        let broken = state.broken;
        subsections.section(Layout::new("virtio/broken", 1), broken, |fields| {
            fields.flag::<u8>("broken", &mut state.broken)
        })?;
        subsections.section(Layout::new("virtio/extra_state", 1), true, |fields| {
            fields.structure("extra_state", &mut Transport(&mut *state))
        })?;
        let started = state.started;
        subsections.section(Layout::new("virtio/started", 1), started, |fields| {
            fields.flag::<u8>("started", &mut state.started)
        })?;
        let packed = offered.contains(Features::RING_PACKED);
        subsections.section(Layout::new("virtio/packed_virtqueues", 1), packed, |fields| {
            PackedQueues(&mut state.queues).fields(fields)
        })?;
        let disabled = state.disabled;
        subsections.section(Layout::new("virtio/disabled", 1), disabled, |fields| {
            fields.flag::<u8>("disabled", &mut state.disabled)
        })
    }

    fn post_load(&mut self, _version: u32) -> Result<(), StateError> {
        let selected = self.0.queue_select;
        if usize::from(selected) >= MAX_QUEUES {
            return Err(StateError::out_of_range("queue_sel", selected));
        }
        self.0.queues.iter().try_for_each(QueueState::check)
    }
}

/// What the registers of the modern interface hold beyond all that.
struct Transport<'a>(&'a mut VirtioState);

impl VmState for Transport<'_> {
    fn layout(&self) -> Layout {
        Layout::new("virtio_pci", 1)
    }

    fn fields(&mut self, _: &mut Fields<'_, '_>) -> Result<(), StateError> {
        Ok(())
    }

    fn subsections(&mut self, subsections: &mut Subsections<'_, '_>) -> Result<(), StateError> {
        let state = &mut *self.0;
        let is_modern = state.offered.contains(Features::VERSION_1);
        subsections.section(Layout::new("virtio_pci/modern_state", 1), is_modern, |fields| {
            let [device, driver] = &mut state.feature_selects;
            fields.int("dfselect", device)?;
            fields.int("gfselect", driver)?;
            for word in 0..2 {
                let mut bits = state.written.word(word);
                fields.int("guest_features", &mut bits)?;
                state.written = state.written.with_word(word, bits);
            }
            ModernQueues(&mut state.queues).fields(fields)
        })
    }
}

/// Configuration with its length.
fn configuration(fields: &mut Fields<'_, '_>, config: &mut [u8]) -> Result<(), StateError> {
    let mut len = u32::try_from(config.len()).unwrap_or(u32::MAX);
    fields.int("config_len", &mut len)?;
    if len > MAX_CONFIG {
        return Err(StateError::out_of_range("config_len", len));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    let both = bytes.len().min(config.len());
    bytes[..both].copy_from_slice(&config[..both]);
    fields.buffer("config", &mut bytes)?;
    config[..both].copy_from_slice(&bytes[..both]);
    Ok(())
}

/// Two words of features, from word `first` on, as one number.
fn features(fields: &mut Fields<'_, '_>, of: &mut Features, first: u32) -> Result<(), StateError> {
    let mut bits = u64::from(of.word(first + 1)) << 32 | u64::from(of.word(first));
    fields.int("guest_features", &mut bits)?;
    let [low, high] = [bits & 0xffff_ffff, bits >> 32].map(|word| word as u32);
    *of = of.with_word(first, low).with_word(first + 1, high);
    Ok(())
}
