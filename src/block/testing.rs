//! For tests of what is made of futures.

pub(crate) use crate::io::block_on;
