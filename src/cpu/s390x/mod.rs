//! S390 CPU models.
