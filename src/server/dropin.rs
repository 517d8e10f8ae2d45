//! The drop-in: the process libvirt starts as `qemu-system-*`.
//!
//! libvirt watches, pins and kills the process it started, so this one becomes the worker and forks the monitor. With
//! no guest to run there is only a monitor.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};

use crate::cmdline::{self, Config, Parsed};
use crate::host::daemon::DaemonStatus;
use crate::host::guard;
use crate::host::inherited::Inherited;
use crate::host::pidfile::PidFile;
use crate::host::process::{spawn, watch_parent};
use crate::machine;
use crate::machine::processor::ProcessorRequest;
use crate::machine::types::default_machine;
use crate::monitor;
use crate::report;
use crate::target::Target;
use crate::worker;
use crate::worker::link::Link;

use super::{config_file, help, logging, output};

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
    let parsed = cmdline::parse(target, arguments, &config_file::read);
    match parsed {
        Ok(Parsed::Run(config)) => run(*config).unwrap_or_else(|reason| fail(&reason)),
        Ok(Parsed::Help(request)) => match help::text(target, &request) {
            Ok(text) => print(&text),
            Err(error) => fail(&error.desc),
        },
        Err(error) => {
            let status = fail(&error.to_string());
            error.following().map_or(status, |error| fail(&error.to_string()))
        }
    }
}

fn run(config: Config) -> Result<ExitCode, String> {
    let inherited = match config.incoming {
        // `migrate-incoming` may name any of them.
        Some(_) => Inherited::claim_all().map_err(|error| {
            format!(
                "cannot list the descriptors that were handed down: {}",
                report::reason(&error)
            )
        })?,
        None => Inherited::claim(config.monitor_fds()),
    };
    report::set_timestamp(config.log.timestamp);
    if let Some(name) = config.machine.name.as_ref().filter(|_| config.log.guest_name) {
        report::set_guest_name(name);
    }
    let log = logging::open(&config.log)?;
    print_warnings(&config);
    let daemon = match config.daemonize {
        true => Some(
            DaemonStatus::daemonize().map_err(|error| format!("cannot become a daemon: {}", report::reason(&error)))?,
        ),
        false => None,
    };
    if let Some(name) = &config.process_name {
        set_process_name(name)?;
    }
    if config.is_probe() {
        run_monitor_alone(config, log, inherited, daemon)
    } else {
        run_guest(config, log, inherited, daemon)
    }
}

/// Tells of `-global` options that are about no device there is.
fn warn_of_globals(config: &Config) {
    if config.machine.globals.is_empty() {
        return;
    }
    machine::registry(config.target, true)
        .check_globals(config.machine.global_values())
        .iter()
        .for_each(report::warning);
}

/// Prints what the user should know of a command line.
pub(super) fn print_warnings(config: &Config) {
    for warning in &config.warnings {
        match &warning.location {
            Some(location) => report::warning_at(location, &warning.text),
            None => report::warning(&warning.text),
        }
    }
    warn_of_globals(config);
}

/// No guest: this process is the monitor.
fn run_monitor_alone(
    config: Config,
    log: Option<File>,
    inherited: Inherited,
    daemon: Option<DaemonStatus>,
) -> Result<ExitCode, String> {
    if config.target == Target::X86_64 {
        // Answers about CPU models count what `-cpu` says.
        ProcessorRequest::new(&config.machine).map_err(|error| error.to_string())?;
    }
    logging::start(&config.log, log)?;
    let pidfile = config.pidfile.as_deref().map(PidFile::create).transpose()?;
    let status = monitor::run_without_guest(config, inherited, daemon);
    drop(pidfile);
    Ok(ExitCode::from(status))
}

/// A guest: this process is the worker, the monitor is its child. A pipe that both held would never show its end to its
/// reader, so each keeps only what is its own.
fn run_guest(
    config: Config,
    log: Option<File>,
    inherited: Inherited,
    daemon: Option<DaemonStatus>,
) -> Result<ExitCode, String> {
    let failed = |doing: &str, error: std::io::Error| format!("cannot {doing}: {}", report::reason(&error));
    let (worker_end, monitor_end) =
        UnixStream::pair().map_err(|error| failed("make the socket pair to the monitor", error))?;
    let log_of_monitor = log.as_ref().map(File::try_clone).transpose();
    let log_of_monitor = log_of_monitor.map_err(|error| failed("share the log", error))?;
    // In this order, and `run_monitor` takes them in it.
    let mut keep = vec![OwnedFd::from(monitor_end)];
    keep.extend(log_of_monitor.map(OwnedFd::from));
    keep.extend(inherited);
    guard::hold_signals().map_err(|error| failed("hold signals back", error))?;
    let monitor =
        spawn(keep, (config.clone(), getpid()), run_monitor).map_err(|error| failed("fork the monitor", error))?;
    logging::start(&config.log, log)?;
    let status = worker::run(config, Link::new(worker_end), Some(monitor), daemon);
    Ok(ExitCode::from(status))
}

/// The monitor's process. Its death signal wakes it if it was stopped; that the worker is gone it sees by its socket.
fn run_monitor(fds: Vec<OwnedFd>, (config, worker): (Config, Pid)) -> u8 {
    let mut fds = fds.into_iter();
    let Some(socket) = fds.next() else {
        return 1;
    };
    let log = config.log.file.is_some().then(|| fds.next().map(File::from)).flatten();
    if !watch_parent(worker, Signal::SIGCONT).unwrap_or(false) {
        return 1;
    }
    if let Err(reason) = logging::start(&config.log, log) {
        report::error(reason);
        return 1;
    }
    monitor::run_for_worker(config, UnixStream::from(socket), fds.collect())
}

/// `-name process=`: the kernel keeps the first fifteen bytes.
fn set_process_name(name: &str) -> Result<(), String> {
    let text = CString::new(name).map_err(|_| "-name: the process name has a zero byte".to_owned())?;
    prctl::set_name(&text).map_err(|errno| format!("cannot set the process name: {}", errno.desc()))
}

fn print(text: &str) -> ExitCode {
    match output::write(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    report::error(reason);
    ExitCode::FAILURE
}
