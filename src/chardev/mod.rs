//! Character device back ends.
