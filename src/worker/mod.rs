//! The guest process: run state, request loop and vCPU threads.
