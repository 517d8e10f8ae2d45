//! What the options have said so far, and how it becomes a [`Config`].

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::config::{Config, HelpRequest, MonitorConfig, Warning};
use super::error::Error;
use super::opts::Opts;
use super::{accel, character, machine};
use crate::machine::config::Entry;
use crate::target::Target;

/// The state of a parse: the configuration as far as known, and what can be decided only once all options are read.
pub(super) struct Builder<'a> {
    /// What is known already.
    pub(super) config: Config,
    /// Help that was asked for.
    pub(super) help: Option<HelpRequest>,
    /// `-machine`, `-smp`, `-m`, `-boot`: one tree of machine properties.
    pub(super) machine: Map<String, Value>,
    /// `-serial` arguments, with their places.
    pub(super) serials: Vec<Placed>,
    /// `-debugcon` arguments, with their places.
    pub(super) debugcons: Vec<Placed>,
    /// `-gdb` arguments, with their places.
    pub(super) debuggers: Vec<Placed>,
    /// `-chardev` ids that monitors name, to be looked up at the end, with their places.
    pub(super) references: Vec<Placed>,
    /// Whether a monitor option was seen, `-monitor none` included.
    pub(super) monitor_given: bool,
    /// `-nographic`.
    pub(super) nographic: bool,
    /// `-mem-path`.
    pub(super) mem_path: Option<String>,
    /// `-mem-prealloc`.
    pub(super) mem_prealloc: bool,
    /// The option being read.
    pub(super) location: String,
    read_file: ReadFile<'a>,
}

/// How configuration files are read.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// An argument and the option it came with.
pub(super) struct Placed {
    pub(super) location: String,
    pub(super) text: String,
}

impl<'a> Builder<'a> {
    pub(super) fn new(target: Target, read_file: ReadFile<'a>) -> Self {
        Self {
            config: Config::new(target),
            help: None,
            machine: Map::new(),
            serials: Vec::new(),
            debugcons: Vec::new(),
            debuggers: Vec::new(),
            references: Vec::new(),
            monitor_given: false,
            nographic: false,
            mem_path: None,
            mem_prealloc: false,
            location: String::new(),
            read_file,
        }
    }

    /// Reads a configuration file.
    pub(super) fn read_file(&self, path: &str) -> io::Result<String> {
        (self.read_file)(Path::new(path))
    }

    /// Keeps the first request for help.
    pub(super) fn request_help(&mut self, request: HelpRequest) {
        self.help.get_or_insert(request);
    }

    /// Remembers an advice to the user, with the option it is about.
    pub(super) fn warn(&mut self, text: &str) {
        self.config.warnings.push(Warning {
            location: Some(self.location.clone()),
            text: text.to_owned(),
        });
    }

    /// The option being read as one of several of its kind.
    pub(super) fn entry(&self, opts: &Opts) -> Entry {
        Entry {
            location: self.location.clone(),
            parameters: opts.to_multimap(),
        }
    }

    /// `text` with the place of the option being read.
    pub(super) fn placed(&self, text: &str) -> Placed {
        Placed {
            location: self.location.clone(),
            text: text.to_owned(),
        }
    }

    /// Adds a monitor.
    pub(super) fn add_monitor(&mut self, monitor: MonitorConfig) {
        self.monitor_given = true;
        self.config.monitors.push(monitor);
    }

    /// Decides what was left open.
    pub(super) fn finish(mut self) -> Result<Config, Error> {
        machine::finish(&mut self)?;
        accel::finish(&mut self)?;
        character::finish(&mut self)?;
        Ok(self.config)
    }
}
