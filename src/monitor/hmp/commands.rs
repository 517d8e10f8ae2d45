//! The commands that are more than one QMP command of the same name.

use serde_json::{Map, Value};

use super::memory::{self, Space};
use super::table::{self, COMMANDS, Run, TOPICS};
use super::{Failure, HmpHost, MonitorState, controllers, info, keys, log, paging, pci, stats};
use crate::chardev::ChardevOptions;
use crate::cmdline::{boot, debugger, keyval};
use crate::qapi::qmp::{Netdev, ObjectOptions};
use crate::qapi::{Error, visit};
use crate::worker::inspect::Inspect;

/// Runs a command with its arguments. Returns what it prints.
pub(super) async fn run(
    host: &impl HmpHost,
    state: &mut MonitorState,
    run: Run,
    arguments: Map<String, Value>,
) -> Result<String, Failure> {
    let query = async |command| host.qmp(command, Map::new()).await;
    Ok(match run {
        Run::Qmp(command) => silently(host.qmp(command, arguments).await?),
        Run::Help => help(text(&arguments, "name")),
        Run::Info => table::help_all(TOPICS, "info "),
        Run::Cpu => choose_cpu(host, state, &arguments).await?,
        Run::QomList => qom_list(host, text(&arguments, "path")).await?,
        Run::QomGet => pretty(&host.qmp("qom-get", arguments).await?),
        Run::QomSet => qom_set(host, arguments).await?,
        Run::ObjectAdd => object_add(host, text(&arguments, "args")).await?,
        Run::DeviceAdd => device_add(host, text(&arguments, "args")).await?,
        Run::NetdevAdd => netdev_add(host, text(&arguments, "args")).await?,
        Run::SetLink => set_link(host, text(&arguments, "name"), text(&arguments, "up")).await?,
        Run::ShowNetwork => text_of(&host.inspect(Inspect::Networks).await?),
        Run::ChardevAdd => chardev_add(host, text(&arguments, "args")).await?,
        Run::ChardevChange => chardev_change(host, text(&arguments, "id"), text(&arguments, "args")).await?,
        Run::RingbufRead => ringbuf_read(host, arguments).await?,
        Run::Memsave => memsave(host, state, arguments).await?,
        Run::Log => log::choose(host, text(&arguments, "items")).await?,
        Run::LogFile => log::write_to(host, text(&arguments, "filename")).await?,
        Run::TraceEvent => log::set_event(host, &arguments).await?,
        Run::ShowTraceEvents => log::show_events(host, text(&arguments, "name")).await?,
        Run::ShowRoms => log::roms(&host.inspect(Inspect::Roms).await?),
        Run::BootSet => boot_set(host, text(&arguments, "bootdevice")).await?,
        Run::SendKey => keys::send(host, &arguments).await?,
        Run::Gdbserver => gdbserver(host, text(&arguments, "device")).await?,
        Run::Print => memory::print(state, &arguments)?,
        Run::DumpPhysical => memory::dump(host, state, Space::Physical, &arguments).await?,
        Run::DumpVirtual => memory::dump(host, state, Space::Virtual, &arguments).await?,
        Run::Sum => memory::sum(host, &arguments).await?,
        Run::ToHost => memory::to_host(host, &arguments).await?,
        Run::ToPhysical => memory::to_physical(host, state, &arguments).await?,
        Run::PortRead => memory::port_read(host, state, &arguments).await?,
        Run::PortWrite => memory::port_write(host, state, &arguments).await?,
        Run::ShowBlock => info::block(&query("query-block").await?),
        Run::ShowBlockStats => info::blockstats(&query("query-blockstats").await?),
        Run::ShowChardev => info::chardev(&query("query-chardev").await?),
        Run::ShowCpus => info::cpus(&query("query-cpus-fast").await?, state.cpu),
        Run::ShowHotpluggableCpus => info::hotpluggable_cpus(&query("query-hotpluggable-cpus").await?),
        Run::ShowIothreads => info::iothreads(&query("query-iothreads").await?),
        Run::ShowKvm => info::kvm(&query("query-kvm").await?),
        Run::ShowMappings => paging::ranges(host, state).await?,
        Run::ShowLocalApic => controllers::local_apic(host, state, &arguments).await?,
        Run::ShowMemdev => info::memdev(&query("query-memdev").await?),
        Run::ShowMemoryDevices => stats::memory_devices(&query("query-memory-devices").await?),
        Run::ShowMigration => stats::migration(&query("query-migrate").await?),
        Run::ShowQdm => host.devices_help(),
        Run::ShowDeviceTree => memory::device_tree(host).await?,
        Run::ShowRamBlocks => memory::ram_blocks(host).await?,
        Run::ShowRegisters => memory::registers(host, state, &arguments).await?,
        Run::ShowStats => stats::stats(host, memory::cpu(state), &arguments).await?,
        Run::ShowMemorySize => info::memory_size(&query("query-memory-size-summary").await?),
        Run::ShowMemoryTree => memory::tree(host).await?,
        Run::ShowName => info::name(&query("query-name").await?),
        Run::ShowNuma => info::numa(
            &host.inspect(Inspect::NumaNodes).await?,
            &query("query-cpus-fast").await?,
        ),
        Run::ShowPic => controllers::pic(host).await?,
        Run::ShowPci => pci::show(&query("query-pci").await?),
        Run::ShowQomTree => info::qom_tree(host, text(&arguments, "path")).await?,
        Run::ShowStatus => info::status(&query("query-status").await?),
        Run::ShowTlb => paging::tlb(host, state).await?,
        Run::ShowUuid => info::uuid(&query("query-uuid").await?),
        Run::ShowVersion => info::version(&query("query-version").await?),
    })
}

/// Nothing is printed about success.
fn silently(_reply: Value) -> String {
    String::new()
}

fn help(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    match words.as_slice() {
        [] => table::help_all(COMMANDS, ""),
        ["info"] => table::help_all(TOPICS, "info "),
        ["info", topic, ..] => match table::find(TOPICS, topic) {
            Some(topic) => table::help(topic, "info "),
            None => format!("unknown command: 'info {topic}'\n"),
        },
        ["log", ..] => log::help(),
        [command, ..] => match table::find(COMMANDS, command) {
            Some(command) => table::help(command, ""),
            None => format!("unknown command: '{command}'\n"),
        },
    }
}

async fn choose_cpu(
    host: &impl HmpHost,
    state: &mut MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let index = arguments.get("index").and_then(Value::as_i64);
    let cpus = host.qmp("query-cpus-fast", Map::new()).await?;
    let exists = info::items(&cpus)
        .iter()
        .any(|cpu| cpu.get("cpu-index").and_then(Value::as_i64) == index);
    if !exists {
        return Err(Failure::Usage("invalid CPU index\n".into()));
    }
    state.cpu = index;
    Ok(String::new())
}

async fn qom_list(host: &impl HmpHost, path: &str) -> Result<String, Failure> {
    if path.is_empty() {
        return Ok("/\n".into());
    }
    let properties = host.qmp("qom-list", object([("path", path.into())])).await?;
    let line = |property: &Value| format!("{} ({})\n", info::text(property, "name"), info::text(property, "type"));
    Ok(info::items(&properties).iter().map(line).collect())
}

/// A value without `-j` is a text that stands for whatever the property is.
async fn qom_set(host: &impl HmpHost, mut arguments: Map<String, Value>) -> Result<String, Failure> {
    let as_json = arguments.shift_remove("json").is_some();
    let value = text(&arguments, "value").to_owned();
    let parsed = serde_json::from_str::<Value>(&value);
    if as_json {
        let parsed = parsed.map_err(|error| Error::generic(format!("JSON parse error, {error}")))?;
        arguments.insert("value".into(), parsed);
        return Ok(silently(host.qmp("qom-set", arguments).await?));
    }
    let switch = crate::qapi::text::parse_bool(&value).map(Value::Bool);
    let number = parsed.ok().filter(Value::is_number);
    let mut result = Err(Error::generic(format!("'{value}' is not a value of the property")));
    // The property's type is not known here, so the readings of the text are offered in turn. The complaint about
    // the text itself is the one to show.
    for candidate in [switch, number, Some(Value::String(value))].into_iter().flatten() {
        arguments.insert("value".into(), candidate);
        result = host.qmp("qom-set", arguments.clone()).await;
        if result.is_ok() {
            break;
        }
    }
    Ok(silently(result?))
}

async fn object_add(host: &impl HmpHost, text: &str) -> Result<String, Failure> {
    let (map, _) = keyval::parse(text, Some("qom-type")).map_err(|error| Error::generic(error.to_string()))?;
    let options: ObjectOptions = visit::decode_keyval(map)?;
    let encoded = serde_json::from_slice(&visit::encoded(&options));
    let Ok(Value::Object(arguments)) = encoded else {
        return Err(Error::generic("the options of an object are not an object").into());
    };
    Ok(silently(host.qmp("object-add", arguments).await?))
}

async fn netdev_add(host: &impl HmpHost, text: &str) -> Result<String, Failure> {
    let (map, _) = keyval::parse(text, Some("type")).map_err(|error| Error::generic(error.to_string()))?;
    let options: Netdev = visit::decode_keyval(map)?;
    let encoded = serde_json::from_slice(&visit::encoded(&options));
    let Ok(Value::Object(arguments)) = encoded else {
        return Err(Error::generic("the options of a back end are not an object").into());
    };
    Ok(silently(host.qmp("netdev_add", arguments).await?))
}

async fn set_link(host: &impl HmpHost, name: &str, up: &str) -> Result<String, Failure> {
    let up = match up {
        "on" => true,
        "off" => false,
        _ => return Err(Failure::Usage("Expected 'on' or 'off'\n".into())),
    };
    let arguments = object([("name", name.into()), ("up", up.into())]);
    Ok(silently(host.qmp("set_link", arguments).await?))
}

fn text_of(reply: &Value) -> String {
    reply.as_str().unwrap_or_default().to_owned()
}

async fn device_add(host: &impl HmpHost, text: &str) -> Result<String, Failure> {
    let (map, _) = keyval::parse(text, Some("driver")).map_err(|error| Error::generic(error.to_string()))?;
    Ok(silently(host.qmp("device_add", map).await?))
}

async fn chardev_add(host: &impl HmpHost, text: &str) -> Result<String, Failure> {
    let options = chardev_options(text)?;
    let arguments = object([("id", options.id.as_str().into()), ("backend", options.to_backend())]);
    Ok(redirected(&options.id, &host.qmp("chardev-add", arguments).await?))
}

async fn chardev_change(host: &impl HmpHost, id: &str, text: &str) -> Result<String, Failure> {
    let options = chardev_options(&format!("{text},id={}", id.replace(',', ",,")))?;
    let arguments = object([("id", id.into()), ("backend", options.to_backend())]);
    Ok(redirected(id, &host.qmp("chardev-change", arguments).await?))
}

fn chardev_options(text: &str) -> Result<ChardevOptions, Error> {
    let (map, _) = keyval::parse(text, Some("backend")).map_err(|error| Error::generic(error.to_string()))?;
    Ok(ChardevOptions::from_monitor(&map)?)
}

fn redirected(id: &str, reply: &Value) -> String {
    match reply.get("pty").and_then(Value::as_str) {
        Some(pty) => format!("char device redirected to {pty} (label {id})\n"),
        None => String::new(),
    }
}

/// Bytes that a terminal would act on are shown by their number.
async fn ringbuf_read(host: &impl HmpHost, arguments: Map<String, Value>) -> Result<String, Failure> {
    let data = host.qmp("ringbuf-read", arguments).await?;
    let mut shown = String::new();
    for character in data.as_str().unwrap_or_default().chars() {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => shown.push(other),
        }
    }
    shown.push('\n');
    Ok(shown)
}

async fn memsave(
    host: &impl HmpHost,
    state: &MonitorState,
    mut arguments: Map<String, Value>,
) -> Result<String, Failure> {
    if let Some(cpu) = state.cpu {
        arguments.insert("cpu-index".into(), cpu.into());
    }
    Ok(silently(host.qmp("memsave", arguments).await?))
}

async fn gdbserver(host: &impl HmpHost, device: &str) -> Result<String, Failure> {
    let device = match device {
        "" => debugger::DEFAULT,
        given => given,
    };
    let terminal = host.debugger(device).await.map_err(|error| {
        Failure::Usage(format!(
            "{}\nCould not open gdbserver on device '{device}'\n",
            error.desc
        ))
    })?;
    Ok(match device {
        debugger::NONE => "Disabled gdbserver\n".to_owned(),
        _ => {
            let terminal = terminal.map(|path| format!("char device redirected to {path} (label gdb)\n"));
            terminal.unwrap_or_default() + &format!("Waiting for gdb connection on device '{device}'\n")
        }
    })
}

async fn boot_set(host: &impl HmpHost, order: &str) -> Result<String, Failure> {
    let complain = |text: String| Failure::Usage(format!("{text}\n"));
    let order = boot::checked_order(order).map_err(|error| complain(error.to_string()))?;
    let shown = format!("boot device list now set to {order}\n");
    let set = host.inspect(Inspect::SetBootOrder { order }).await;
    set.map(|_| shown).map_err(|error| complain(error.desc))
}

fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    // Writing a value to memory does not fail, nor does it make anything but UTF-8.
    let written = serde::Serialize::serialize(value, &mut serializer);
    let mut text = written
        .map(|()| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    text.push('\n');
    text
}

/// An argument that is a text; nothing if it was not given.
pub(super) fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
