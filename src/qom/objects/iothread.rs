//! `iothread`: a thread that serves devices.

use super::object;
use crate::qapi::QmpError;
use crate::qom::types::{Default, PropertyInfo, PropertyKind, TypeInfo};
use crate::qom::values::Values;

const EVENT_LOOP: [PropertyInfo; 3] = [
    PropertyInfo::new(
        "aio-max-batch",
        PropertyKind::Int,
        Default::Int(0),
        "Requests handed to the kernel at once, 0 for no limit of ours",
    ),
    PropertyInfo::new(
        "thread-pool-min",
        PropertyKind::Int,
        Default::Int(0),
        "Helper threads kept ready",
    ),
    PropertyInfo::new(
        "thread-pool-max",
        PropertyKind::Int,
        Default::Int(64),
        "Helper threads at most",
    ),
];

const IOTHREAD: [PropertyInfo; 3] = [
    PropertyInfo::new(
        "poll-max-ns",
        PropertyKind::Int,
        Default::Int(32768),
        "Nanoseconds to look for events before sleeping, 0 for none",
    ),
    PropertyInfo::new(
        "poll-grow",
        PropertyKind::Int,
        Default::Int(0),
        "Factor by which polling grows when it pays, 0 for ours",
    ),
    PropertyInfo::new(
        "poll-shrink",
        PropertyKind::Int,
        Default::Int(0),
        "Divisor by which polling shrinks when it does not pay, 0 to stop it",
    ),
];

/// `event-loop-base` and `iothread`.
pub(super) static TYPES: &[TypeInfo] = &[
    object("event-loop-base", "object", true, "", &EVENT_LOOP),
    object(
        "iothread",
        "event-loop-base",
        false,
        "A thread that serves devices",
        &IOTHREAD,
    ),
];

/// What is asked of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoThreadConfig {
    /// Nanoseconds to look for events before sleeping.
    pub poll_max_ns: u64,
    /// Factor by which polling grows, 0 for ours.
    pub poll_grow: u64,
    /// Divisor by which polling shrinks, 0 to stop it.
    pub poll_shrink: u64,
    /// Requests handed to the kernel at once, 0 for no limit.
    pub aio_max_batch: u64,
    /// Helper threads kept ready.
    pub thread_pool_min: u64,
    /// Helper threads at most.
    pub thread_pool_max: u64,
}

/// What is asked of a thread and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoThreadError {
    /// A number that QEMU's signed numbers do not reach.
    #[error("{property} value must be in range [0, {}]", i64::MAX)]
    OutOfRange {
        /// The property.
        property: &'static str,
    },
    /// No helper thread may be there, or fewer than shall be kept ready.
    #[error("bad thread-pool-min/thread-pool-max values: {min}/{max}")]
    PoolLimits {
        /// `thread-pool-min`.
        min: u64,
        /// `thread-pool-max`.
        max: u64,
    },
}

impl QmpError for IoThreadError {}

impl IoThreadConfig {
    /// Checks the values of an `iothread`.
    ///
    /// # Errors
    /// Names the number that is negative, or the limits that contradict each other.
    pub fn from_values(values: &Values) -> Result<Self, IoThreadError> {
        let number = |property: &'static str| {
            let number = values.int(property).unwrap_or(0);
            u64::try_from(number).map_err(|_| IoThreadError::OutOfRange { property })
        };
        let config = Self {
            poll_max_ns: number("poll-max-ns")?,
            poll_grow: number("poll-grow")?,
            poll_shrink: number("poll-shrink")?,
            aio_max_batch: number("aio-max-batch")?,
            thread_pool_min: number("thread-pool-min")?,
            thread_pool_max: number("thread-pool-max")?,
        };
        if config.thread_pool_max == 0 || config.thread_pool_min > config.thread_pool_max {
            return Err(IoThreadError::PoolLimits {
                min: config.thread_pool_min,
                max: config.thread_pool_max,
            });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qom::Registry;
    use serde_json::json;

    fn config(given: &serde_json::Value) -> Result<IoThreadConfig, String> {
        let values = Registry::new()
            .values("iothread", given.as_object().unwrap(), [])
            .unwrap();
        IoThreadConfig::from_values(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(config(&json!({})).unwrap().poll_max_ns, 32768);
        assert_eq!(
            config(&json!({"poll-max-ns": -4})).unwrap_err(),
            "poll-max-ns value must be in range [0, 9223372036854775807]"
        );
        assert_eq!(
            config(&json!({"thread-pool-min": 65})).unwrap_err(),
            "bad thread-pool-min/thread-pool-max values: 65/64"
        );
    }
}
