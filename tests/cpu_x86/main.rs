//! Recorded answers about x86_64 CPU models.

#[cfg(test)]
mod recorded;
