//! `remuda serve`: the pool server, its zygote and the registry of guests; and the entry points of all binaries.

pub mod dropin;
pub mod tool;
