//! The one owner of the table that says where interrupts lead.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Controller, Inputs, Msi, MsiSource, MsiVector, Resample, Route, RouteTo, vector::Vector};

/// Numbers below this are those of lines, even where nothing is connected to them.
const FIRST_MESSAGE: u32 = 24;

/// Owner of the routing table: lines of controllers, level-triggered inputs of an I/O APIC that is a device, and the
/// vectors of any number of devices share it. The accelerator is told of a change once.
pub struct Router {
    controller: Arc<dyn Controller>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Of the accelerator's own controllers.
    pins: Vec<Route>,
    /// Of an I/O APIC outside the accelerator: inputs whose end of interrupt is to be told.
    inputs: Vec<(u8, Msi)>,
    /// Of vectors with a descriptor. One that is masked keeps its row, so that unmasking it changes no table.
    messages: BTreeMap<u32, Option<Msi>>,
    /// Numbers given out and given back.
    given: u32,
    free: Vec<u32>,
    /// What the accelerator knows.
    told: Vec<Route>,
    /// How many [`MsiSource::together`] are under way.
    batches: u32,
    /// Vectors to be connected when the table has been told.
    waiting: Vec<Arc<Vector>>,
}

impl Table {
    fn routes(&self) -> Vec<Route> {
        let message = |gsi: u32, message: Msi| Route {
            gsi,
            to: RouteTo::Msi(message),
        };
        let inputs = self.inputs.iter().map(|(pin, to)| message((*pin).into(), *to));
        let messages = self.messages.iter().filter_map(|(gsi, to)| Some(message(*gsi, (*to)?)));
        self.pins.iter().copied().chain(inputs).chain(messages).collect()
    }

    /// Tells the accelerator, if there is news.
    fn tell(&mut self, controller: &dyn Controller) -> io::Result<()> {
        let routes = self.routes();
        if routes != self.told {
            controller.set_routes(&routes)?;
            self.told = routes;
        }
        Ok(())
    }
}

impl Router {
    /// An empty table for `controller`.
    #[must_use]
    pub fn new(controller: Arc<dyn Controller>) -> Arc<Self> {
        Arc::new(Self {
            controller,
            table: Mutex::default(),
        })
    }

    /// Where the lines of the accelerator's controllers lead.
    ///
    /// # Errors
    /// The accelerator refuses the table.
    pub fn set_pins(&self, pins: Vec<Route>) -> io::Result<()> {
        let mut table = self.lock();
        table.pins = pins;
        table.tell(&*self.controller)
    }

    /// The level-triggered inputs of an I/O APIC that is a device, and what they send: the accelerator tells when
    /// their interrupts end.
    ///
    /// # Errors
    /// The accelerator refuses the table.
    pub fn set_inputs(&self, inputs: &[(u8, Msi)]) -> io::Result<()> {
        let mut table = self.lock();
        table.inputs = inputs.to_vec();
        if table.batches != 0 {
            return Ok(());
        }
        table.tell(&*self.controller)
    }

    /// Sends a message that is in no table.
    pub fn send(&self, message: Msi) {
        if let Err(error) = self.controller.send(message) {
            tracing::warn!(?message, %error, "message-signalled interrupt");
        }
    }

    pub(super) fn controller(&self) -> &dyn Controller {
        &*self.controller
    }

    /// A number for a vector with a descriptor.
    pub(super) fn take_number(&self) -> u32 {
        let mut table = self.lock();
        let number = table.free.pop().unwrap_or_else(|| {
            table.given += 1;
            FIRST_MESSAGE + table.given - 1
        });
        table.messages.insert(number, None);
        number
    }

    pub(super) fn give_back(&self, number: u32) {
        let mut table = self.lock();
        table.messages.remove(&number);
        // The row goes with the next change.
        table.free.push(number);
    }

    /// Makes `number` lead to `message`, and connects `vector` once the accelerator knows.
    pub(super) fn route(&self, number: u32, message: Msi, vector: &Arc<Vector>) {
        let mut table = self.lock();
        table.messages.insert(number, Some(message));
        table.waiting.push(Arc::clone(vector));
        self.finish(table);
    }

    /// Tells the accelerator and connects who waits for it, unless more is to come.
    fn finish(&self, mut table: MutexGuard<'_, Table>) {
        if table.batches != 0 {
            return;
        }
        let told = table.tell(&*self.controller);
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        match told {
            Ok(()) => waiting.iter().for_each(|vector| vector.connect()),
            Err(error) => tracing::warn!(vectors = waiting.len(), %error, "interrupt routes are refused"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source of vectors that share a router.
impl MsiSource for Arc<Router> {
    fn vector(&self) -> Arc<dyn MsiVector> {
        Vector::new(self)
    }

    fn together(&self, job: &mut dyn FnMut()) {
        self.lock().batches += 1;
        job();
        let mut table = self.lock();
        table.batches -= 1;
        self.finish(table);
    }
}

/// The lines of the accelerator's own controllers.
impl Inputs for Router {
    fn set(&self, gsi: u8, level: bool) {
        if let Err(error) = self.controller.set_line(gsi.into(), level) {
            tracing::warn!(gsi, level, %error, "interrupt line");
        }
    }

    fn resample(&self, gsi: u8) -> io::Result<Option<Resample>> {
        // Never written to: a second driver of the line, which is only there to learn of its ends.
        let (silent, resample) = (EventFd::new(EFD_NONBLOCK)?, EventFd::new(EFD_NONBLOCK)?);
        self.controller.connect(gsi.into(), &silent, Some(&resample))?;
        // The accelerator forgets a descriptor that is closed.
        Ok(Some(Resample::new(resample, silent)))
    }
}
