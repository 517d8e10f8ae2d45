//! Types, commands and events of a guest's QMP, generated from `schema/qmp.json`.

include!(concat!(env!("OUT_DIR"), "/qapi_qmp.rs"));
