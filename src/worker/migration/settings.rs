//! How a migration is to go.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Migration;
use crate::migration::Progress;
use crate::qapi::Error;
use crate::qapi::qmp::{MigrationCapability, MigrationCapabilityStatus, MigrationParameters};

/// The longest that a guest may be stopped for, in milliseconds.
const LONGEST_DOWNTIME: u64 = 2_000_000;

/// What is on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) events: bool,
    pub(super) pause_before_switchover: bool,
    /// Of effect once guests with disks move: until then there is nothing that the target could leave to the source.
    late_block_activate: bool,
    pub(super) return_path: bool,
}

impl Capabilities {
    fn switch(&mut self, capability: MigrationCapability) -> &mut bool {
        match capability {
            MigrationCapability::Events => &mut self.events,
            MigrationCapability::PauseBeforeSwitchover => &mut self.pause_before_switchover,
            MigrationCapability::LateBlockActivate => &mut self.late_block_activate,
            MigrationCapability::ReturnPath => &mut self.return_path,
        }
    }
}

impl Migration {
    /// `query-migrate-capabilities`.
    #[must_use]
    pub fn capabilities(&self) -> Vec<MigrationCapabilityStatus> {
        let mut capabilities = *self.capabilities.borrow();
        let status = |capability: &MigrationCapability| MigrationCapabilityStatus {
            capability: *capability,
            state: *capabilities.switch(*capability),
        };
        MigrationCapability::ALL.iter().map(status).collect()
    }

    /// `migrate-set-capabilities`.
    ///
    /// # Errors
    /// The guest is leaving.
    pub fn set_capabilities(&self, changes: &[MigrationCapabilityStatus]) -> Result<(), Error> {
        if self.is_leaving() {
            return Err(Error::generic("There's a migration process in progress"));
        }
        let mut capabilities = self.capabilities.borrow_mut();
        for change in changes {
            *capabilities.switch(change.capability) = change.state;
        }
        Ok(())
    }

    /// `query-migrate-parameters`.
    #[must_use]
    pub fn parameters(&self) -> MigrationParameters {
        let limits = &self.limits;
        MigrationParameters {
            max_bandwidth: Some(Progress::get(&limits.max_bandwidth)),
            avail_switchover_bandwidth: Some(Progress::get(&limits.switchover_bandwidth)),
            downtime_limit: Some(Progress::get(&limits.downtime_limit)),
        }
    }

    /// `migrate-set-parameters`.
    ///
    /// # Errors
    /// A value is out of range; nothing has changed then.
    pub fn set_parameters(&self, changes: &MigrationParameters) -> Result<(), Error> {
        if changes.downtime_limit.is_some_and(|limit| limit > LONGEST_DOWNTIME) {
            return Err(Error::generic(format!(
                "Parameter 'downtime_limit' expects an integer in the range of 0 to {LONGEST_DOWNTIME} ms"
            )));
        }
        let set = |limit: &AtomicU64, value: Option<u64>| {
            if let Some(value) = value {
                limit.store(value, Ordering::Relaxed);
            }
        };
        set(&self.limits.max_bandwidth, changes.max_bandwidth);
        set(&self.limits.switchover_bandwidth, changes.avail_switchover_bandwidth);
        set(&self.limits.downtime_limit, changes.downtime_limit);
        Ok(())
    }
}
