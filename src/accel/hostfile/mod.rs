//! Hosts described in a file: they answer CPU questions and run no guest.
