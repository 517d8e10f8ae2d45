//! A PCI function for tests: sixteen ports, and properties that show what became of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::class::{DeviceClass, Realize, RealizeError, Site};
use super::drain::{Drain, InFlight};
use super::pci::{BarKind, ConfigSpace, PciFunction, PciPlace, Pin, SharedFunction};
use super::{Device, ResetKind};
use crate::qom::tree::Simple;
use crate::qom::{Default, Object, PropertyInfo, PropertyKind, TypeInfo, Values};
use crate::vmstate::{StateError, Visitor};

/// The QOM type.
static TYPE: TypeInfo = TypeInfo {
    name: "test-endpoint",
    parent: Some("pci-device"),
    is_abstract: false,
    interfaces: &["pci-express-device"],
    bus: None,
    user_creatable: true,
    hotpluggable: true,
    description: "A function for tests",
    properties: &[
        PropertyInfo::new(
            "answer",
            PropertyKind::Uint8,
            Default::Uint(42),
            "What its ports read as",
        ),
        PropertyInfo::new("fails", PropertyKind::Bool, Default::Bool(false), "It cannot be made"),
        PropertyInfo::read_only("written", PropertyKind::Uint8, "What was written last"),
        PropertyInfo::read_only("history", PropertyKind::Str, "What happened to it"),
        PropertyInfo::read_only("idle", PropertyKind::Bool, "Nothing is under way"),
    ],
};

/// The class.
pub(super) static CLASS: DeviceClass = DeviceClass {
    info: &TYPE,
    realize: Realize::Pci(realize),
};

/// Writing this begins something that takes a while.
const BEGIN: u8 = 0xbe;

#[derive(Debug, thiserror::Error)]
#[error("it was to fail")]
struct ToFail;

struct Endpoint {
    config: ConfigSpace,
    answer: u8,
    written: u8,
    history: Vec<&'static str>,
    pin: Pin,
    requests: InFlight,
    idle: Arc<AtomicBool>,
}

fn realize(values: &Values, place: PciPlace, _: &mut dyn Site) -> Result<SharedFunction, RealizeError> {
    if values.boolean("fails") {
        return Err(RealizeError::of(ToFail));
    }
    let config = ConfigSpace::new(0x1234, 0x11e8, [0xff, 0, 0], 0).with_multifunction(place.multifunction);
    let mut config = config.with_interrupt_pin(1);
    config.add_bar(0, BarKind::Io, 16);
    let [answer, ..] = values.uint("answer").unwrap_or_default().to_le_bytes();
    Ok(Arc::new(Mutex::new(Endpoint {
        config: config.sealed(),
        answer,
        written: 0,
        history: Vec::new(),
        pin: Pin::new(place.intx),
        requests: InFlight::default(),
        idle: Arc::new(AtomicBool::new(true)),
    })))
}

impl Device for Endpoint {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.config.reset();
        self.written = 0;
        self.history.push("enter");
    }

    fn reset_hold(&mut self, _: ResetKind) {
        self.pin.set(&mut self.config, false);
        self.history.push("hold");
    }

    fn reset_exit(&mut self, kind: ResetKind) {
        self.history.push(match kind {
            ResetKind::Cold => "cold",
            ResetKind::Wakeup => "wakeup",
        });
    }

    fn pause(&mut self) -> Option<Drain> {
        self.history.push("pause");
        Some(self.requests.drain())
    }

    fn resume(&mut self) {
        self.history.push("resume");
    }

    fn property(&self, name: &str) -> Option<Value> {
        match name {
            "answer" => Some(json!(self.answer)),
            "written" => Some(json!(self.written)),
            "history" => Some(json!(self.history.join(" "))),
            "idle" => Some(json!(self.idle.load(Ordering::SeqCst))),
            _ => None,
        }
    }

    fn set_property(&mut self, name: &str, value: &Value) -> Option<Result<(), String>> {
        if name != "answer" {
            return None;
        }
        let Some(Ok(answer)) = value.as_u64().map(u8::try_from) else {
            return Some(Err("answer expects a byte".to_owned()));
        };
        self.answer = answer;
        Some(Ok(()))
    }

    fn parts(&self) -> Vec<(&'static str, Arc<dyn Object>)> {
        vec![("backend", Arc::new(Simple::new("test-backend")))]
    }

    fn sections(&mut self, _: &mut Visitor<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

impl PciFunction for Endpoint {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn bar_read(&mut self, _: usize, _: u64, data: &mut [u8]) {
        data.fill(self.answer);
    }

    fn bar_write(&mut self, _: usize, _: u64, data: &[u8]) {
        self.written = data[0];
        if self.written == BEGIN {
            self.idle.store(false, Ordering::SeqCst);
            let (request, idle) = (self.requests.begin(), Arc::clone(&self.idle));
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                idle.store(true, Ordering::SeqCst);
                drop(request);
            });
        }
    }
}
