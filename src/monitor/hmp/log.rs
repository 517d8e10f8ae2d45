//! `log`, `logfile`, `trace-event`, `info trace-events` and `info roms`.

use serde_json::{Map, Value};

use super::commands::text;
use super::{Failure, HmpHost, info};
use crate::ipc::message::LogChange;
use crate::logging::events;
use crate::logging::items::{self, Item};

/// What `log help` and `help log` print.
pub(super) fn help() -> String {
    format!("{}{:15} nothing of all this\n", items::help(), "none")
}

/// `log`: the items of the list are logged and no others; events are added or taken out.
pub(super) async fn choose(host: &impl HmpHost, list: &str) -> Result<String, Failure> {
    let items = match list {
        "none" => Vec::new(),
        list => items::parse(list)
            .map_err(|error| Failure::Usage(format!("{error}\nTry \"help log\" for more information\n")))?,
    };
    if items.contains(&Item::Help) {
        return Ok(help());
    }
    if items.contains(&Item::EventHelp) {
        return Ok(items::event_help());
    }
    let (mut named, mut shown) = (Vec::new(), String::new());
    for item in items {
        match item {
            Item::Named(name) => named.push(name.to_owned()),
            Item::Events(pattern) => {
                let complaint = events::complaint(&pattern).map(|text| format!("warning: {text}\n"));
                shown.extend(complaint);
                host.change_log(match events::split_sign(&pattern) {
                    (pattern, true) => LogChange::EnableEvents(pattern.to_owned()),
                    (pattern, false) => LogChange::DisableEvents(pattern.to_owned()),
                })
                .await?;
            }
            Item::Help | Item::EventHelp => {}
        }
    }
    host.change_log(LogChange::Items(named)).await?;
    Ok(shown)
}

/// `logfile`.
pub(super) async fn write_to(host: &impl HmpHost, path: &str) -> Result<String, Failure> {
    let complain = |text| Failure::Usage(format!("{text}\n"));
    host.log_to(path).await.map_err(|error| complain(error.desc))?;
    Ok(String::new())
}

/// `trace-event`.
pub(super) async fn set_event(host: &impl HmpHost, arguments: &Map<String, Value>) -> Result<String, Failure> {
    let arguments = [("name", "name"), ("enable", "option")].map(|(qmp, own)| {
        let value = arguments.get(own).cloned().unwrap_or_default();
        (qmp.to_owned(), value)
    });
    let arguments = Map::from_iter(arguments);
    let set = host.qmp("trace-event-set-state", arguments).await;
    set.map(|_| String::new())
        .map_err(|error| Failure::Usage(format!("{}\n", error.desc)))
}

/// `info trace-events`.
pub(super) async fn show_events(host: &impl HmpHost, name: &str) -> Result<String, Failure> {
    let name = if name.is_empty() { "*" } else { name };
    let arguments = Map::from_iter([("name".to_owned(), name.into())]);
    let events = host.qmp("trace-event-get-state", arguments).await;
    let events = events.map_err(|error| Failure::Usage(format!("{}\n", error.desc)))?;
    let line = |event: &Value| {
        let is_enabled = info::text(event, "state") == "enabled";
        format!("{} : state {}\n", info::text(event, "name"), u8::from(is_enabled))
    };
    Ok(info::items(&events).iter().map(line).collect())
}

/// `info roms`.
pub(super) fn roms(roms: &Value) -> String {
    let line = |rom: &Value| {
        let number = |rom: &Value, name| rom.get(name).and_then(Value::as_u64).unwrap_or_default();
        match (rom.get("loaded"), rom.get("given")) {
            (Some(rom), _) => format!(
                "addr={:016x} size=0x{:06x} mem=rom name=\"{}\"\n",
                number(rom, "addr"),
                number(rom, "size"),
                text_of(rom)
            ),
            (_, Some(rom)) => {
                let name = text_of(rom);
                format!("/rom@{name} size=0x{:06x} name=\"{name}\"\n", number(rom, "size"))
            }
            _ => String::new(),
        }
    };
    info::items(roms).iter().map(line).collect()
}

fn text_of(rom: &Value) -> &str {
    rom.as_object().map(|rom| text(rom, "name")).unwrap_or_default()
}
