//! The drop-in: the process libvirt starts as `qemu-system-*`.
//!
//! libvirt watches, pins and kills the process it started, so this one becomes the worker and forks the monitor. With
//! no guest to run there is only a monitor.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::cmdline::{self, Config, Parsed};
use crate::machine;
use crate::machine::processor::ProcessorRequest;
use crate::machine::types::default_machine;
use crate::monitor;
use crate::report;
use crate::target::Target;
use crate::worker;
use crate::worker::pidfile::PidFile;
use crate::worker::process::{DaemonStatus, Fork, close_all_but, die_with_parent, fork};

use super::{help, logging};

/// Runs the emulator for `target` with this process's arguments.
#[must_use]
pub fn main(target: Target) -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| target.binary().into());
    let name = Path::new(&program).file_name().unwrap_or(&program);
    report::set_program(&name.to_string_lossy());
    if arguments.len() == 0 && default_machine(target).is_none() {
        return fail(&cmdline::help::nothing_given(target));
    }
    let parsed = cmdline::parse(target, arguments, &|path| std::fs::read_to_string(path));
    match parsed {
        Ok(Parsed::Run(config)) => run(*config).unwrap_or_else(|reason| fail(&reason)),
        Ok(Parsed::Help(request)) => match help::text(target, &request) {
            Ok(text) => print(&text),
            Err(error) => fail(&error.desc),
        },
        Err(error) => fail(&error.to_string()),
    }
}

fn run(config: Config) -> Result<ExitCode, String> {
    report::set_timestamp(config.log.timestamp);
    if let Some(name) = config.machine.name.as_ref().filter(|_| config.log.guest_name) {
        report::set_guest_name(name);
    }
    if let Some(path) = &config.log.file {
        File::create(path)
            .map_err(|error| format!("could not open '{}': {}", path.display(), report::reason(&error)))?;
    }
    for warning in &config.warnings {
        match &warning.location {
            Some(location) => report::warning_at(location, &warning.text),
            None => report::warning(&warning.text),
        }
    }
    warn_of_globals(&config);
    let daemon = match config.daemonize {
        true => Some(DaemonStatus::daemonize().map_err(|errno| format!("cannot become a daemon: {errno}"))?),
        false => None,
    };
    if let Some(name) = &config.process_name {
        set_process_name(name)?;
    }
    if config.is_probe() {
        run_monitor_alone(config, daemon)
    } else {
        run_guest(config, daemon)
    }
}

/// Tells of `-global` options that are about no type there is.
fn warn_of_globals(config: &Config) {
    let globals = &config.machine.globals;
    if globals.is_empty() {
        return;
    }
    let registry = machine::registry(config.target, true);
    let globals = globals.iter();
    let globals = globals.map(|global| (global.driver.as_str(), global.property.as_str(), global.value.as_str()));
    registry.check_globals(globals).iter().for_each(report::warning);
}

/// No guest: this process is the monitor.
fn run_monitor_alone(config: Config, daemon: Option<DaemonStatus>) -> Result<ExitCode, String> {
    if config.target == Target::X86_64 {
        // Answers about CPU models count what `-cpu` says.
        ProcessorRequest::new(&config.machine).map_err(|error| error.desc)?;
    }
    logging::start(&config.log)?;
    let pidfile = config.pidfile.as_deref().map(PidFile::create).transpose()?;
    let status = monitor::run_without_guest(config, daemon);
    drop(pidfile);
    Ok(ExitCode::from(status))
}

/// A guest: this process is the worker, the monitor is its child.
fn run_guest(config: Config, daemon: Option<DaemonStatus>) -> Result<ExitCode, String> {
    let (worker_end, monitor_end) =
        UnixStream::pair().map_err(|error| format!("cannot make the socket pair to the monitor: {error}"))?;
    let worker_pid = nix::unistd::getpid();
    match fork().map_err(|errno| format!("cannot fork the monitor: {errno}"))? {
        Fork::Child => {
            let mut keep = config.monitor_fds();
            keep.push(monitor_end.as_raw_fd());
            // The worker's end, the daemon's pipe and what the caller left open belong to the worker alone.
            std::mem::forget((worker_end, daemon));
            close_all_but(&keep);
            if !die_with_parent(worker_pid, Signal::SIGTERM).unwrap_or(false) {
                return Ok(ExitCode::FAILURE);
            }
            logging::start(&config.log)?;
            Ok(ExitCode::from(monitor::run_for_worker(config, monitor_end)))
        }
        Fork::Parent(monitor) => {
            drop(monitor_end);
            for fd in config.monitor_fds() {
                // The monitor has its own copy; a number that is not open is the monitor's to complain about.
                let _ = nix::unistd::close(fd);
            }
            logging::start(&config.log)?;
            let status = worker::run(config, worker_end, Some(monitor), daemon);
            Ok(ExitCode::from(status))
        }
    }
}

/// `-name process=`: the kernel keeps the first fifteen bytes.
fn set_process_name(name: &str) -> Result<(), String> {
    let text = CString::new(name).map_err(|_| "-name: the process name has a zero byte".to_owned())?;
    prctl::set_name(&text).map_err(|errno| format!("cannot set the process name: {errno}"))
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(reason: &str) -> ExitCode {
    report::error(reason);
    ExitCode::FAILURE
}
