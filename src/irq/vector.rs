//! A vector: a message that the guest programs, and a descriptor that fires it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Msi, MsiVector, Router};

pub(super) struct Vector {
    router: Arc<Router>,
    itself: Weak<Self>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What it sends; none while it is masked.
    message: Option<Msi>,
    /// Once somebody has asked for it.
    event: Option<Bound>,
}

/// A descriptor and its number in the table.
struct Bound {
    event: Arc<EventFd>,
    gsi: u32,
    /// What the table says of it.
    routed: Option<Msi>,
    is_connected: bool,
}

impl Vector {
    pub(super) fn new(router: &Arc<Router>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            router: Arc::clone(router),
            itself: Weak::clone(itself),
            state: Mutex::default(),
        })
    }

    /// Lets the accelerator listen on the descriptor, unless the vector was masked meanwhile.
    pub(super) fn connect(&self) {
        let mut state = self.lock();
        let is_masked = state.message.is_none();
        let Some(bound) = &mut state.event else { return };
        if is_masked || bound.is_connected {
            return;
        }
        match self.router.controller().connect(bound.gsi, &bound.event, None) {
            Ok(()) => bound.is_connected = true,
            Err(error) => tracing::warn!(gsi = bound.gsi, %error, "an interrupt's descriptor is refused"),
        }
    }

    fn disconnect(&self, bound: &mut Bound) {
        if !std::mem::replace(&mut bound.is_connected, false) {
            return;
        }
        if let Err(error) = self.router.controller().disconnect(bound.gsi, &bound.event) {
            tracing::warn!(gsi = bound.gsi, %error, "an interrupt's descriptor stays connected");
        }
    }

    /// Brings table and accelerator in line with the state.
    fn apply(&self, mut state: MutexGuard<'_, State>) {
        let message = state.message;
        let Some(bound) = &mut state.event else { return };
        let Some(message) = message else {
            return self.disconnect(bound);
        };
        if bound.routed == Some(message) {
            drop(state);
            return self.connect();
        }
        bound.routed = Some(message);
        let gsi = bound.gsi;
        drop(state);
        if let Some(itself) = self.itself.upgrade() {
            self.router.route(gsi, message, &itself);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MsiVector for Vector {
    fn program(&self, to: Option<Msi>) {
        let mut state = self.lock();
        if state.message != to {
            state.message = to;
            self.apply(state);
        }
    }

    fn fire(&self) {
        let state = self.lock();
        match (state.message, &state.event) {
            (Some(message), _) => self.router.send(message),
            (None, Some(bound)) => {
                // Fails only when it is full, and then it is pending.
                let _ = bound.event.write(1);
            }
            (None, None) => {}
        }
    }

    fn event(&self) -> io::Result<Arc<EventFd>> {
        let mut state = self.lock();
        if let Some(bound) = &state.event {
            return Ok(Arc::clone(&bound.event));
        }
        let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        state.event = Some(Bound {
            event: Arc::clone(&event),
            gsi: self.router.take_number(),
            routed: None,
            is_connected: false,
        });
        self.apply(state);
        Ok(event)
    }

    fn is_pending(&self) -> bool {
        let state = self.lock();
        let Some(bound) = state.event.as_ref().filter(|bound| !bound.is_connected) else {
            return false;
        };
        is_readable(&bound.event)
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        let bound = self
            .state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .event
            .take();
        if let Some(mut bound) = bound {
            self.disconnect(&mut bound);
            self.router.give_back(bound.gsi);
        }
    }
}

/// Whether something was written to a descriptor that nobody reads now.
fn is_readable(event: &EventFd) -> bool {
    let Ok(count) = event.read() else { return false };
    // As it was; there is room for what was there.
    let _ = event.write(count);
    true
}
