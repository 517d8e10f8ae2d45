//! QMP sessions, the event bus and the command handlers.
