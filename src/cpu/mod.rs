//! CPU models as pure functions over tables and a host description.

pub mod s390x;
pub mod x86;
