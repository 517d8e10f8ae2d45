//! x86_64 CPU models.
