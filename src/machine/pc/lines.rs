//! The interrupt lines of a PC.

use crate::irq::{Chip, Route, RouteTo};

/// Inputs of the I/O APIC, of which the PICs share the first 16.
pub(crate) const LINES: u8 = 24;
/// The timer's line, and the input of the I/O APIC it is on. Line 2 is nobody's.
pub(crate) const TIMER: u8 = 0;
pub(crate) const TIMER_PIN: u8 = 2;

/// Where the lines lead when the accelerator has the controllers: lines 0 to 15 to both the PICs and the I/O APIC.
pub(crate) fn routes() -> Vec<Route> {
    let (timer, timer_pin) = (u32::from(TIMER), u32::from(TIMER_PIN));
    let of_pics = (0..16).filter(|gsi| *gsi != timer_pin).map(|gsi| match gsi {
        0..8 => (gsi, Chip::FirstPic, gsi),
        _ => (gsi, Chip::SecondPic, gsi - 8),
    });
    let lines = (0..u32::from(LINES)).filter(|gsi| *gsi != timer_pin);
    let of_ioapic = lines.map(|gsi| (gsi, Chip::IoApic, if gsi == timer { timer_pin } else { gsi }));
    of_pics
        .chain(of_ioapic)
        .map(|(gsi, chip, pin)| Route {
            gsi,
            to: RouteTo::Pin { chip, pin },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_on_pin_two_of_the_io_apic() {
        let routes = routes();
        let of = |gsi| routes.iter().filter(|route| route.gsi == gsi).collect::<Vec<_>>();
        let pin = |chip, pin| RouteTo::Pin { chip, pin };
        assert_eq!(
            (of(0)[0].to, of(0)[1].to),
            (pin(Chip::FirstPic, 0), pin(Chip::IoApic, 2))
        );
        assert_eq!((of(2).len(), of(20).len()), (0, 1));
        assert_eq!(of(9)[0].to, pin(Chip::SecondPic, 1));
        assert_eq!(routes.len(), 7 + 8 + 23);
    }
}
