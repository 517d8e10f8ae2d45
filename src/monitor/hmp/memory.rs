//! Looking into a guest: memory, addresses, ports and registers.

use serde_json::{Map, Value};

use super::format::Format;
use super::info::{items, number, text};
use super::{Failure, HmpHost, MonitorState};
use crate::worker::inspect::Inspect;

/// Bytes that the worker sums up at once.
const SUMMED_AT_ONCE: u64 = 1 << 18;

/// Whose addresses are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Those of the machine.
    Physical,
    /// Those of the vCPU that was chosen.
    Virtual,
}

/// `x` and `xp`.
pub(super) async fn dump(
    host: &impl HmpHost,
    state: &mut MonitorState,
    space: Space,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let format = format(state, arguments)?;
    if format.letter == 'i' {
        return Err(Failure::Usage("disassembly is not supported\n".into()));
    }
    let mut addr = unsigned(arguments, "addr");
    let mut left = format.width().saturating_mul(format.count);
    let mut shown = String::new();
    while left > 0 {
        let len = left.min(format.line_size());
        let question = match space {
            Space::Physical => Inspect::Physical { addr, len },
            Space::Virtual => Inspect::Virtual {
                cpu: cpu(state),
                addr,
                len,
            },
        };
        let reply = host.inspect(question).await?;
        let Some(bytes) = bytes(&reply) else {
            shown += &format!("{addr:016x}: Cannot access memory\n");
            break;
        };
        shown += &format.line(addr, &bytes);
        addr = addr.wrapping_add(len);
        left -= len;
    }
    Ok(shown)
}

/// `print`.
pub(super) fn print(state: &mut MonitorState, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let value = arguments.get("value").and_then(Value::as_i64).unwrap_or_default();
    Ok(format!("{}\n", format(state, arguments)?.number(value)))
}

/// `sum`, in parts, so that the worker has other things to do in between.
pub(super) async fn sum(host: &impl HmpHost, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let [addr, len] = ["start", "size"].map(|name| unsigned(arguments, name));
    let mut sum = 0;
    let mut done = 0;
    while done < len {
        let part = Inspect::Sum {
            addr: addr.wrapping_add(done),
            len: SUMMED_AT_ONCE.min(len - done),
            sum,
        };
        let reply = host.inspect(part).await?;
        sum = reply
            .as_u64()
            .and_then(|sum| u16::try_from(sum).ok())
            .unwrap_or_default();
        done += SUMMED_AT_ONCE.min(len - done);
    }
    Ok(format!("{sum:05}\n"))
}

/// `gva2gpa`.
pub(super) async fn to_physical(
    host: &impl HmpHost,
    state: &MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let question = Inspect::Translate {
        cpu: cpu(state),
        addr: unsigned(arguments, "addr"),
    };
    Ok(match host.inspect(question).await?.as_u64() {
        Some(physical) => format!("gpa: {physical:#x}\n"),
        None => "Unmapped\n".to_owned(),
    })
}

/// `gpa2hva`.
pub(super) async fn to_host(host: &impl HmpHost, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let addr = unsigned(arguments, "addr");
    let found = host.inspect(Inspect::HostAddress { addr }).await;
    // The address is what people ask about, so there is no "Error:" before it.
    let found = found.map_err(|error| Failure::Usage(format!("{}\n", error.desc)))?;
    let (block, at) = (text(&found, "block"), found["address"].as_u64().unwrap_or_default());
    Ok(format!("Host virtual address for {addr:#x} ({block}) is {at:#x}\n"))
}

/// `i`. With an index, the port is one of an index register and its data.
pub(super) async fn port_read(
    host: &impl HmpHost,
    state: &mut MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let size = port_size(format(state, arguments)?);
    let mut port = unsigned(arguments, "addr") as u16;
    if arguments.contains_key("index") {
        let value = unsigned(arguments, "index") as u32 & 0xff;
        host.inspect(Inspect::PortWrite { port, size: 1, value }).await?;
        port = port.wrapping_add(1);
    }
    let value = host.inspect(Inspect::PortRead { port, size }).await?;
    let suffix = match size {
        2 => 'w',
        4 => 'l',
        _ => 'b',
    };
    let digits = usize::from(size) * 2;
    Ok(format!(
        "port{suffix}[0x{port:04x}] = 0x{:0digits$x}\n",
        value.as_u64().unwrap_or_default()
    ))
}

/// `o`.
pub(super) async fn port_write(
    host: &impl HmpHost,
    state: &mut MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let size = port_size(format(state, arguments)?);
    let (port, value) = (unsigned(arguments, "addr") as u16, unsigned(arguments, "val") as u32);
    host.inspect(Inspect::PortWrite { port, size, value }).await?;
    Ok(String::new())
}

/// `info registers`: those of one vCPU, or with `-a` of all.
pub(super) async fn registers(
    host: &impl HmpHost,
    state: &MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let cpus = host.qmp("query-cpus-fast", Map::new()).await?;
    let indices = items(&cpus).iter().map(|cpu| number(cpu, "cpu-index"));
    let wanted = match arguments.get("vcpu").and_then(Value::as_i64) {
        Some(index) => index,
        None => cpu(state).into(),
    };
    let is_wanted = |index: &i64| arguments.contains_key("cpustate_all") || *index == wanted;
    let chosen: Vec<i64> = indices.filter(is_wanted).collect();
    if chosen.is_empty() {
        return Err(Failure::Usage(match arguments.contains_key("vcpu") {
            true => format!("CPU#{wanted} not available\n"),
            false => "No CPU available\n".to_owned(),
        }));
    }
    let mut shown = String::new();
    for index in chosen {
        let cpu = u32::try_from(index).unwrap_or_default();
        let dump = host.inspect(Inspect::Registers { cpu }).await?;
        shown += &format!("\nCPU#{index}\n{}", dump.as_str().unwrap_or_default());
    }
    Ok(shown)
}

/// `info qtree`.
pub(super) async fn device_tree(host: &impl HmpHost) -> Result<String, Failure> {
    let tree = host.inspect(Inspect::DeviceTree).await?;
    Ok(tree.as_str().unwrap_or_default().to_owned())
}

/// `info mtree`.
pub(super) async fn tree(host: &impl HmpHost) -> Result<String, Failure> {
    let tree = host.inspect(Inspect::MemoryTree).await?;
    Ok(tree.as_str().unwrap_or_default().to_owned())
}

/// `info ramblock`.
pub(super) async fn ram_blocks(host: &impl HmpHost) -> Result<String, Failure> {
    let blocks = host.inspect(Inspect::RamBlocks).await?;
    let mut shown = format!(
        "{:>24} {:>8}  {:>18} {:>18} {:>18}\n",
        "Block Name", "PSize", "Offset", "Used", "Total"
    );
    for block in items(&blocks) {
        let [offset, size] = ["offset", "size"].map(|name| number(block, name));
        shown += &format!(
            "{:>24} {:>8}  0x{offset:016x} 0x{size:016x} 0x{size:016x}\n",
            text(block, "name"),
            "4 KiB"
        );
    }
    Ok(shown)
}

/// The index of the vCPU that commands mean.
pub(super) fn cpu(state: &MonitorState) -> u32 {
    state.cpu.and_then(|cpu| u32::try_from(cpu).ok()).unwrap_or_default()
}

/// The format of a command, which the next one starts from.
fn format(state: &mut MonitorState, arguments: &Map<String, Value>) -> Result<Format, Failure> {
    let letters = text_of(arguments, "format");
    let format = Format::parse(letters, state.format).map_err(|complaint| Failure::Usage(format!("{complaint}\n")))?;
    state.format = Format { count: 1, ..format };
    Ok(format)
}

fn text_of<'a>(arguments: &'a Map<String, Value>, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn unsigned(arguments: &Map<String, Value>, name: &str) -> u64 {
    arguments.get(name).and_then(Value::as_i64).unwrap_or_default() as u64
}

/// Ports take no eight bytes at once.
fn port_size(format: Format) -> u8 {
    if matches!(format.size, 2 | 4) { format.size } else { 1 }
}

/// The bytes of an answer; none where there is no memory.
pub(super) fn bytes(reply: &Value) -> Option<Vec<u8>> {
    let bytes = reply.as_array()?.iter();
    bytes.map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}
