//! Type 4: a processor for each socket.

use super::options::Requests;
use super::structure::{Structure, Text};
use super::system::texts;
use super::{Form, Inventory, MANUFACTURER, NO_HANDLE};

/// The byte of the family that says to look at the longer one.
const FAMILY_2: u8 = 0xfe;
/// The family "other".
const OTHER: u16 = 1;
/// MHz where nothing else is said.
const SPEED: u64 = 2000;

pub(super) fn structures(form: Form, inventory: &Inventory<'_>, requests: &Requests) -> Vec<Structure> {
    let sockets = inventory.smp.sockets.max(1);
    (0..sockets)
        .map(|socket| processor(form, socket, inventory, requests))
        .collect()
}

fn processor(form: Form, socket: u32, inventory: &Inventory<'_>, requests: &Requests) -> Structure {
    let smp = inventory.smp;
    let cores = smp.dies.max(1) * smp.modules.max(1) * smp.cores.max(1);
    let threads = cores * smp.threads.max(1);
    let short = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
    let wide = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    let number = |name, default| requests.number(4, name).unwrap_or(default);
    let half = |name, default| u16::try_from(number(name, default)).unwrap_or(u16::MAX);
    let id = match number("processor-id", 0) {
        0 => inventory.processor_id,
        given => given,
    };
    let prefix = requests.fields(4).and_then(|fields| fields.get("sock_pfx"));
    let prefix = prefix.map_or("CPU", String::as_str);
    let structure = Structure::new(4, 0x400_u16.saturating_add(wide(socket)))
        .texts(&[Text::from(format!("{prefix} {socket}"))])
        .bytes(&[3, FAMILY_2])
        .texts(&texts(requests, 4, [("manufacturer", MANUFACTURER)]))
        .bytes(&id.to_le_bytes())
        .texts(&texts(requests, 4, [("version", inventory.machine_type)]))
        .bytes(&[0, 0, 0])
        .word(half("max-speed", SPEED))
        .word(half("current-speed", SPEED))
        .bytes(&[0x41, 1])
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .texts(&texts(requests, 4, [("serial", ""), ("asset", ""), ("part", "")]))
        .bytes(&[short(cores), short(cores), short(threads)])
        .word(2)
        .word(half("processor-family", OTHER.into()));
    match form {
        // Numbers beyond a byte came with 3.0.
        Form::Two => structure,
        Form::Three => structure.word(wide(cores)).word(wide(cores)).word(wide(threads)),
    }
}
