//! Options about the process rather than the guest: `-S`, `-daemonize`, `-action`, `-sandbox`, `-add-fd`, logging.

use std::path::PathBuf;

use super::builder::Builder;
use super::config::{AddFd, ElevatePrivileges, HelpRequest, Incoming};
use super::error::Error;
use super::opts::Opts;
use crate::logging::events;
use crate::logging::items::{self, Item};
use crate::migration::parse_uri;
use crate::qapi::qmp::{MigrationChannel, PanicAction, RebootAction, ShutdownAction, WatchdogAction};
use crate::qapi::text;
use crate::qapi::visit::{Policy, decode_arguments};

/// `-h`, `-help`.
pub(super) fn apply_help(builder: &mut Builder) -> Result<(), Error> {
    builder.request_help(HelpRequest::Usage);
    Ok(())
}

/// `-version`.
pub(super) fn apply_version(builder: &mut Builder) -> Result<(), Error> {
    builder.request_help(HelpRequest::Version);
    Ok(())
}

/// `-probe`.
pub(super) fn apply_probe(builder: &mut Builder) -> Result<(), Error> {
    builder.config.probe = true;
    Ok(())
}

/// `-S`.
pub(super) fn apply_stopped(builder: &mut Builder) -> Result<(), Error> {
    builder.config.stopped = true;
    Ok(())
}

/// `-incoming`: where a guest comes from, as a text or as a channel in JSON.
pub(super) fn apply_incoming(builder: &mut Builder, place: &str) -> Result<(), Error> {
    let wrong = |what: &dyn std::fmt::Display| Error::new(format!("-incoming: {what}"));
    builder.config.incoming = Some(match place {
        "defer" => Incoming::Deferred,
        json if json.starts_with('{') => {
            let members = serde_json::from_str(json).map_err(|error| wrong(&error))?;
            let channel: MigrationChannel =
                decode_arguments(members, Policy::ACCEPT_ALL).map_err(|error| wrong(&error))?;
            Incoming::From(channel.addr)
        }
        uri => Incoming::From(parse_uri(uri).map_err(|error| wrong(&error))?),
    });
    Ok(())
}

/// `-only-migratable`.
pub(super) fn apply_only_migratable(builder: &mut Builder) -> Result<(), Error> {
    builder.config.only_migratable = true;
    Ok(())
}

/// `-daemonize`.
pub(super) fn apply_daemonize(builder: &mut Builder) -> Result<(), Error> {
    builder.config.daemonize = true;
    Ok(())
}

/// `-pidfile`.
pub(super) fn apply_pidfile(builder: &mut Builder, path: &str) -> Result<(), Error> {
    builder.config.pidfile = Some(PathBuf::from(path));
    Ok(())
}

/// `-no-user-config`: there is no user configuration to leave out.
pub(super) fn apply_no_user_config(_: &mut Builder) -> Result<(), Error> {
    Ok(())
}

/// `-no-reboot`.
pub(super) fn apply_no_reboot(builder: &mut Builder) -> Result<(), Error> {
    builder.config.actions.reboot = RebootAction::Shutdown;
    Ok(())
}

/// `-no-shutdown`.
pub(super) fn apply_no_shutdown(builder: &mut Builder) -> Result<(), Error> {
    builder.config.actions.shutdown = ShutdownAction::Pause;
    Ok(())
}

/// `-action`.
pub(super) fn apply_action(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let actions = &mut builder.config.actions;
    if let Some(action) = opts.choice("reboot", RebootAction::from_wire)? {
        actions.reboot = action;
    }
    if let Some(action) = opts.choice("shutdown", ShutdownAction::from_wire)? {
        actions.shutdown = action;
    }
    if let Some(action) = opts.choice("panic", PanicAction::from_wire)? {
        actions.panic = action;
    }
    if let Some(action) = opts.choice("watchdog", WatchdogAction::from_wire)? {
        actions.watchdog = action;
    }
    Ok(())
}

/// `-watchdog-action`.
pub(super) fn apply_watchdog_action(builder: &mut Builder, name: &str) -> Result<(), Error> {
    let action = WatchdogAction::from_wire(name).ok_or_else(|| Error::invalid_value("watchdog", name))?;
    builder.config.actions.watchdog = action;
    Ok(())
}

/// `-add-fd`.
pub(super) fn apply_add_fd(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let fd = opts.number("fd").and_then(|fd| i32::try_from(fd).ok());
    let fd = fd.ok_or_else(|| Error::new("fd option is required and must be non-negative"))?;
    if fd <= 2 {
        return Err(Error::new("fd cannot be a standard I/O stream"));
    }
    let set = opts.number("set").filter(|set| i64::try_from(*set).is_ok());
    let set = set.ok_or_else(|| Error::new("set option is required and must be non-negative"))?;
    builder.config.fds.push(AddFd {
        location: builder.location.clone(),
        fd,
        set,
        opaque: opts.get("opaque").map(str::to_owned),
    });
    Ok(())
}

/// `-sandbox`.
pub(super) fn apply_sandbox(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let sandbox = &mut builder.config.sandbox;
    if let Some(on) = opts.boolean("enable") {
        sandbox.enabled = on;
    }
    let denies = |key: &str| match opts.get(key) {
        None => Ok(None),
        Some("deny") => Ok(Some(true)),
        Some("allow") => Ok(Some(false)),
        Some(_) => Err(Error::new(format!("invalid argument for {key}"))),
    };
    if let Some(deny) = denies("obsolete")? {
        sandbox.deny_obsolete = deny;
    }
    if let Some(deny) = denies("spawn")? {
        sandbox.deny_spawn = deny;
    }
    if let Some(deny) = denies("resourcecontrol")? {
        sandbox.deny_resource_control = deny;
    }
    if let Some(value) = opts.get("elevateprivileges") {
        sandbox.elevate_privileges = match value {
            "allow" => ElevatePrivileges::Allow,
            "deny" => ElevatePrivileges::Deny,
            "children" => ElevatePrivileges::Children,
            _ => return Err(Error::new("invalid argument for elevateprivileges")),
        };
    }
    Ok(())
}

/// `-msg`.
pub(super) fn apply_msg(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    if let Some(on) = opts.boolean("timestamp") {
        builder.config.log.timestamp = on;
    }
    if let Some(on) = opts.boolean("guest-name") {
        builder.config.log.guest_name = on;
    }
    Ok(())
}

/// `-D`.
pub(super) fn apply_log_file(builder: &mut Builder, path: &str) -> Result<(), Error> {
    builder.config.log.file = Some(PathBuf::from(path));
    Ok(())
}

/// `-d`.
pub(super) fn apply_log_items(builder: &mut Builder, list: &str) -> Result<(), Error> {
    let items =
        items::parse(list).map_err(|error| Error::new(error.to_string()).with_hint("Use -d help to list them"))?;
    for item in items {
        match item {
            Item::Help => builder.request_help(HelpRequest::LogItems),
            Item::EventHelp => builder.request_help(HelpRequest::TraceEvents),
            Item::Named(name) => builder.config.log.items.push(name.to_owned()),
            Item::Events(pattern) => add_events(builder, pattern),
        }
    }
    Ok(())
}

/// Adds a pattern of events, in their order.
fn add_events(builder: &mut Builder, pattern: String) {
    if let Some(text) = events::complaint(&pattern) {
        builder.warn(&text);
    }
    builder.config.log.events.push(pattern);
}

/// `-trace`.
pub(super) fn apply_trace(builder: &mut Builder, opts: &Opts) -> Result<(), Error> {
    let patterns: Vec<String> = opts.all("enable").map(str::to_owned).collect();
    if patterns.iter().any(|pattern| text::is_help(pattern)) {
        builder.request_help(HelpRequest::TraceEvents);
        return Ok(());
    }
    patterns.into_iter().for_each(|pattern| add_events(builder, pattern));
    if let Some(file) = opts.get("file") {
        builder.config.log.file = Some(PathBuf::from(file));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn actions_by_either_option() {
        let actions = config(&[
            "-no-shutdown",
            "-no-reboot",
            "-watchdog-action",
            "inject-nmi",
            "-action",
            "panic=none",
        ]);
        let actions = actions.actions;
        assert_eq!(actions.reboot, RebootAction::Shutdown);
        assert_eq!(actions.shutdown, ShutdownAction::Pause);
        assert_eq!(actions.watchdog, WatchdogAction::InjectNmi);
        assert_eq!(actions.panic, PanicAction::None);
        assert_eq!(
            message(&["-action", "reboot=x"]),
            "-action reboot=x: Parameter 'reboot' does not accept value 'x'"
        );
        assert_eq!(
            message(&["-watchdog-action", "x"]),
            "-watchdog-action x: Parameter 'watchdog' does not accept value 'x'"
        );
    }

    #[test]
    fn descriptors() {
        let fds = config(&["-add-fd", "set=0,fd=30,opaque=serial0-source"]).fds;
        assert_eq!(
            (fds[0].fd, fds[0].set, fds[0].opaque.as_deref()),
            (30, 0, Some("serial0-source"))
        );
        assert_eq!(
            message(&["-add-fd", "fd=1,set=1"]),
            "-add-fd fd=1,set=1: fd cannot be a standard I/O stream"
        );
        assert_eq!(
            message(&["-add-fd", "set=1"]),
            "-add-fd set=1: fd option is required and must be non-negative"
        );
    }

    #[test]
    fn confinement() {
        let sandbox = config(&[
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=children,spawn=deny,resourcecontrol=allow",
        ])
        .sandbox;
        assert!(sandbox.enabled && sandbox.deny_obsolete && sandbox.deny_spawn && !sandbox.deny_resource_control);
        assert_eq!(sandbox.elevate_privileges, ElevatePrivileges::Children);
        assert_eq!(
            message(&["-sandbox", "foo"]),
            "-sandbox foo: Parameter 'enable' expects 'on' or 'off'"
        );
        assert_eq!(
            message(&["-sandbox", "on,obsolete=x"]),
            "-sandbox on,obsolete=x: invalid argument for obsolete"
        );
    }

    #[test]
    fn logging() {
        let log = config(&[
            "-D",
            "/l",
            "-d",
            "unimp,trace:kvm_*",
            "-trace",
            "virtio*",
            "-msg",
            "timestamp=on",
        ])
        .log;
        assert_eq!(log.file.unwrap().to_str(), Some("/l"));
        assert_eq!(
            (log.items, log.events),
            (vec!["unimp".to_owned()], vec!["kvm_*".to_owned(), "virtio*".to_owned()])
        );
        assert!(log.timestamp && !log.guest_name);
        assert_eq!(
            message(&["-d", "foo"]),
            "-d foo: unknown log item 'foo'\nUse -d help to list them"
        );
        assert!(matches!(help(&["-d", "help"]), HelpRequest::LogItems));
    }

    #[test]
    fn an_event_that_does_not_exist_is_a_warning() {
        assert!(events::EVENTS.contains(&"devices_i8042") && events::EVENTS.is_sorted());
        assert!(
            config(&["-trace", "devices_i8042", "-d", "trace:nosuch_*"])
                .warnings
                .is_empty()
        );
        let warnings = config(&["-trace", "enable=nosuch"]).warnings;
        assert_eq!(warnings[0].location.as_deref(), Some("-trace enable=nosuch"));
        assert_eq!(warnings[0].text, "trace event 'nosuch' does not exist");
        assert!(matches!(help(&["-trace", "help"]), HelpRequest::TraceEvents));
        assert!(matches!(help(&["-d", "trace:help"]), HelpRequest::TraceEvents));
    }
}
