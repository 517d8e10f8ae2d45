//! What an accelerator is told, and how often.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use vmm_sys_util::eventfd::EventFd;

use super::*;

/// Notes what it is told.
#[derive(Default)]
struct Chips {
    routes: Mutex<Vec<Route>>,
    told: Mutex<Vec<String>>,
    refuses_routes: AtomicBool,
}

impl Chips {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn note(&self, text: String) -> io::Result<()> {
        self.told.lock().unwrap().push(text);
        Ok(())
    }
}

impl Controller for Chips {
    fn set_line(&self, gsi: u32, level: bool) -> io::Result<()> {
        self.note(format!("line {gsi} {level}"))
    }
    fn send(&self, message: Msi) -> io::Result<()> {
        self.note(format!("send {:x}", message.data))
    }
    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        if self.refuses_routes.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(22));
        }
        *self.routes.lock().unwrap() = routes.to_vec();
        self.note(format!("{} routes", routes.len()))
    }
    fn connect(&self, gsi: u32, _: &EventFd, resample: Option<&EventFd>) -> io::Result<()> {
        let known = self.routes.lock().unwrap().iter().any(|route| route.gsi == gsi);
        assert!(
            known || resample.is_some(),
            "a descriptor is connected before its route is there"
        );
        self.note(format!("connect {gsi}"))
    }
    fn disconnect(&self, gsi: u32, _: &EventFd) -> io::Result<()> {
        self.note(format!("disconnect {gsi}"))
    }
}

fn router() -> (Arc<Router>, Arc<Chips>) {
    let chips = Arc::new(Chips::default());
    (Router::new(Arc::clone(&chips) as _), chips)
}

fn message(data: u32) -> Option<Msi> {
    Some(Msi {
        address: 0xfee0_0000,
        data,
    })
}

#[test]
fn a_vector_without_a_descriptor_is_in_no_table() {
    let (router, chips) = router();
    let vector = router.vector();
    vector.fire();
    vector.program(message(0x41));
    vector.fire();
    vector.program(None);
    vector.fire();
    assert_eq!(chips.told(), ["send 41"]);
    assert!(!vector.is_pending());
}

#[test]
fn masking_changes_no_table_and_a_masked_event_waits() {
    let (router, chips) = router();
    let vector = router.vector();
    let event = vector.event().unwrap();
    assert_eq!(event.as_raw_fd(), vector.event().unwrap().as_raw_fd());
    assert_eq!(chips.told(), [""; 0], "nothing to tell of a masked vector");
    event.write(1).unwrap();
    assert!(vector.is_pending() && vector.is_pending());
    vector.program(message(0x41));
    assert_eq!(chips.told(), ["1 routes", "connect 24"]);
    assert!(!vector.is_pending(), "the accelerator has it now");
    assert_eq!(event.read().unwrap(), 1, "it is delivered when the vector is unmasked");
    vector.program(None);
    vector.fire();
    assert!(vector.is_pending());
    vector.program(message(0x41));
    assert_eq!(chips.told(), ["disconnect 24", "connect 24"]);
    vector.program(message(0x42));
    assert_eq!(
        chips.told(),
        ["1 routes"],
        "another message: another route, the same descriptor"
    );
}

#[test]
fn many_vectors_are_programmed_at_once() {
    let (router, chips) = router();
    let vectors: Vec<_> = (0..3).map(|_| router.vector()).collect();
    for vector in &vectors {
        vector.event().unwrap();
    }
    router.together(&mut || {
        for (vector, data) in vectors.iter().zip(0x50..) {
            vector.program(message(data));
        }
        vectors[2].program(None);
    });
    assert_eq!(chips.told(), ["3 routes", "connect 24", "connect 25"]);
}

#[test]
fn numbers_are_used_again_and_their_rows_go_with_the_next_change() {
    let (router, chips) = router();
    let mut vectors: Vec<_> = (0..2).map(|_| router.vector()).collect();
    for vector in &vectors {
        vector.event().unwrap();
        vector.program(message(1));
    }
    drop(vectors.remove(0));
    chips.told();
    let vector = router.vector();
    vector.event().unwrap();
    vector.program(message(2));
    assert_eq!(chips.told(), ["2 routes", "connect 24"]);
}

#[test]
fn lines_inputs_and_vectors_share_the_table() {
    let (router, chips) = router();
    let pin = |gsi, chip, pin| Route {
        gsi,
        to: RouteTo::Pin { chip, pin },
    };
    router
        .set_pins(vec![pin(0, Chip::FirstPic, 0), pin(0, Chip::IoApic, 2)])
        .unwrap();
    router.set_inputs(&[(9, message(0x39).unwrap())]).unwrap();
    let vector = router.vector();
    vector.program(message(0x41));
    vector.event().unwrap();
    let gsis: Vec<_> = chips.routes.lock().unwrap().iter().map(|route| route.gsi).collect();
    assert_eq!(gsis, [0, 0, 9, 24]);
    chips.told();
    router.set_inputs(&[(9, message(0x39).unwrap())]).unwrap();
    assert_eq!(chips.told(), [""; 0], "no news");
    router.set_inputs(&[]).unwrap();
    assert_eq!(chips.told(), ["3 routes"]);
}

#[test]
fn without_routes_a_vector_can_still_be_fired() {
    let (router, chips) = router();
    chips.refuses_routes.store(true, Ordering::Relaxed);
    let vector = router.vector();
    vector.event().unwrap();
    vector.program(message(0x41));
    vector.fire();
    assert_eq!(chips.told(), ["send 41"]);
    // The next change tells of all.
    chips.refuses_routes.store(false, Ordering::Relaxed);
    vector.program(message(0x42));
    assert_eq!(chips.told(), ["1 routes", "connect 24"]);
}

#[test]
fn a_line_is_high_while_any_driver_is() {
    let (router, chips) = router();
    let lines = Lines::new(24, &(router as Arc<dyn Inputs>));
    let (one, other) = (lines.driver(10).unwrap(), lines.driver(10).unwrap());
    one.set(true);
    other.set(true);
    one.set(false);
    assert_eq!(chips.told(), ["line 10 true"]);
    drop(other);
    assert_eq!(chips.told(), ["line 10 false"]);
    let resample = one.resample().unwrap().unwrap();
    assert_eq!(chips.told(), ["connect 10"]);
    assert!(resample.event().read().is_err(), "nothing has been handled yet");
    assert_eq!(lines.driver(24).err(), Some(NoSuchLine { gsi: 24 }));
}
