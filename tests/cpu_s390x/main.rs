//! CPU models against what real hosts and QEMU said of them.

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod common;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod tcg;
