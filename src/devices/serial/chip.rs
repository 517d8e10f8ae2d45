//! The chip is `vm-superio`'s. Around it: the interrupt line, the byte stream to the host, and saved state.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};
use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents, SerialState};

use super::TYPE;
use crate::devices::{Device, DeviceState, IrqLine, PioDevice};

/// Where the guest's bytes go. Must not wait.
pub type Output = Box<dyn FnMut(&[u8]) + Send>;

/// Called when the guest has read everything there was. Must not wait, nor look at the port.
pub type Drained = Arc<dyn Fn() + Send + Sync>;

/// A serial port.
pub struct IsaSerial {
    chip: Serial<Edge, Events, Outlet>,
}

/// Passes on that the receive buffer is empty.
struct Events(Drained);

impl SerialEvents for Events {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        (self.0)();
    }
}

/// Pulses the line: the port's interrupt is edge-triggered.
struct Edge(Arc<dyn IrqLine>);

struct Outlet(Output);

impl IsaSerial {
    /// A port after power-on, with its interrupt line, where its bytes go, and who wants to know of room for more.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>, output: Output, drained: Drained) -> Self {
        Self {
            chip: Serial::with_events(Edge(irq), Events(drained), Outlet(output)),
        }
    }

    /// How many received bytes there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        // In loopback mode the chip hears nothing from outside.
        if self.chip.state().modem_control & 0x10 != 0 {
            0
        } else {
            self.chip.fifo_capacity()
        }
    }

    /// Takes bytes from the line, at most as many as there is [`IsaSerial::room`] for; the rest is lost.
    pub fn receive(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.room());
        if let Err(error) = self.chip.enqueue_raw_bytes(&bytes[..count]) {
            tracing::debug!("serial port: {error}");
        }
    }
}

impl Trigger for Edge {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        self.0.set(false);
        Ok(())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Device for IsaSerial {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn reset(&mut self) {
        self.set_state(&SerialState::default());
    }

    fn state(&self) -> DeviceState {
        let state = self.chip.state();
        DeviceState::Versioned {
            version: 1,
            fields: json!({
                "divisor": u16::from_le_bytes([state.baud_divisor_low, state.baud_divisor_high]),
                "ier": state.interrupt_enable,
                "iir": state.interrupt_identification,
                "lcr": state.line_control,
                "lsr": state.line_status,
                "mcr": state.modem_control,
                "msr": state.modem_status,
                "scr": state.scratch,
                "received": state.in_buffer,
            }),
        }
    }

    fn restore(&mut self, version: u32, fields: &Value) -> Result<(), String> {
        if version != 1 {
            return Err(format!("version {version} of isa-serial is not known"));
        }
        let byte = |name: &str| {
            let value = fields[name].as_u64().and_then(|value| u8::try_from(value).ok());
            value.ok_or_else(|| format!("isa-serial: field '{name}' is missing or out of range"))
        };
        let divisor = fields["divisor"].as_u64().and_then(|value| u16::try_from(value).ok());
        let [low, high] = divisor
            .ok_or("isa-serial: field 'divisor' is missing or out of range")?
            .to_le_bytes();
        let received = fields["received"]
            .as_array()
            .ok_or("isa-serial: field 'received' is missing")?;
        let received = received
            .iter()
            .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
        let state = SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: byte("ier")?,
            interrupt_identification: byte("iir")?,
            line_control: byte("lcr")?,
            line_status: byte("lsr")?,
            modem_control: byte("mcr")?,
            modem_status: byte("msr")?,
            scratch: byte("scr")?,
            in_buffer: received
                .collect::<Option<_>>()
                .ok_or("isa-serial: field 'received' holds no bytes")?,
        };
        if state.in_buffer.len() > self.chip.fifo_capacity() + self.chip.state().in_buffer.len() {
            return Err("isa-serial: field 'received' is longer than the FIFO".to_owned());
        }
        self.set_state(&state);
        Ok(())
    }

    fn as_pio(&mut self) -> Option<&mut dyn PioDevice> {
        Some(self)
    }
}

impl IsaSerial {
    fn set_state(&mut self, state: &SerialState) {
        let irq = Arc::clone(&self.chip.interrupt_evt().0);
        let output = std::mem::replace(&mut self.chip.writer_mut().0, Box::new(|_| {}));
        let drained = Arc::clone(&self.chip.events().0);
        match Serial::from_state(state, Edge(irq), Events(drained), Outlet(output)) {
            Ok(chip) => self.chip = chip,
            Err(error) => tracing::error!("serial port: {error}"),
        }
    }
}

impl PioDevice for IsaSerial {
    fn pio_read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (Some(first), Ok(offset)) = (data.first_mut(), u8::try_from(offset)) {
            *first = self.chip.read(offset);
        }
    }

    fn pio_write(&mut self, offset: u16, data: &[u8]) {
        if let (Some(first), Ok(offset)) = (data.first(), u8::try_from(offset)) {
            if let Err(error) = self.chip.write(offset, *first) {
                tracing::debug!("serial port: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::serial::PORTS;
    use crate::devices::testing::{CountingLine, random_accesses};
    use proptest::prelude::*;
    use std::sync::Mutex;

    fn port() -> (IsaSerial, Arc<CountingLine>, Arc<Mutex<Vec<u8>>>) {
        let (line, sent) = (Arc::new(CountingLine::default()), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&sent);
        let port = IsaSerial::new(
            Arc::clone(&line) as _,
            Box::new(move |bytes| sink.lock().unwrap().extend_from_slice(bytes)),
            Arc::new(|| {}),
        );
        (port, line, sent)
    }

    #[test]
    fn bytes_go_out_and_come_in_with_an_interrupt() {
        let (mut port, line, sent) = port();
        port.pio_write(0, b"A");
        assert_eq!(*sent.lock().unwrap(), b"A");
        port.pio_write(1, &[1]);
        let before = line.pulses();
        port.receive(b"xy");
        assert_eq!(line.pulses(), before + 1);
        let mut byte = [0];
        port.pio_read(5, &mut byte);
        assert_eq!(byte[0] & 1, 1, "data ready");
        port.pio_read(0, &mut byte);
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn what_does_not_fit_is_lost_and_nothing_else() {
        let (mut port, ..) = port();
        let room = port.room();
        port.receive(&vec![7; room + 100]);
        assert_eq!(port.room(), 0);
    }

    #[test]
    fn a_restored_port_goes_on_where_it_was() {
        let (mut one, ..) = port();
        one.pio_write(7, &[0x5a]);
        one.receive(b"q");
        let DeviceState::Versioned { version, fields } = one.state() else {
            panic!("serial ports can be saved")
        };
        let (mut other, ..) = port();
        other.restore(version, &fields).unwrap();
        let mut byte = [0];
        other.pio_read(7, &mut byte);
        assert_eq!(byte, [0x5a]);
        other.pio_read(0, &mut byte);
        assert_eq!(&byte, b"q");
        assert!(other.restore(2, &fields).is_err());
        assert!(
            other
                .restore(1, &json!({"divisor": 1}))
                .unwrap_err()
                .contains("'received'")
        );
    }

    proptest! {
        #[test]
        fn no_access_does_harm(accesses in random_accesses(PORTS)) {
            let (mut port, ..) = port();
            for access in accesses {
                access.perform(&mut port);
            }
        }
    }
}
