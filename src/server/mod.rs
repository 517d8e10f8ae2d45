//! `remuda serve`: the pool server, its zygote and the registry of guests; and the entry points of all binaries.

mod carried;
mod config_file;
mod cputool;
pub mod dropin;
mod help;
mod logging;
mod output;
mod serve;
mod title;
pub mod tool;
mod zygote;
