//! Types, commands and events of the pool server's control socket, generated from `schema/remuda.json`.

include!(concat!(env!("OUT_DIR"), "/qapi_remuda.rs"));
