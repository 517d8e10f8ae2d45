//! Device status (virtio 1.2, 2.1).

/// The driver knows how to drive the device.
pub(super) const DRIVER_OK: u8 = 1 << 2;
/// Features are agreed upon.
pub(super) const FEATURES_OK: u8 = 1 << 3;
/// The device cannot go on without a reset.
pub(super) const NEEDS_RESET: u8 = 1 << 6;
