//! Walks the arguments by the table of options.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::builder::Builder;
use super::config::{HelpRequest, Parsed};
use super::error::Error;
use super::keyval;
use super::option::{Action, Group, OptionInfo};
use super::opts::Opts;
use super::table::options;
use crate::qapi::json;
use crate::target::Target;

/// Reads a command line, program name left out. `read_file` is asked for the files of `-readconfig`; nothing else is
/// opened.
///
/// # Errors
/// The first thing wrong, with the option it is wrong in.
pub fn parse(
    target: Target,
    arguments: impl IntoIterator<Item = OsString>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Parsed, Error> {
    let mut builder = Builder::new(target, read_file);
    let mut probe_conflict = None;
    let mut arguments = arguments.into_iter().map(into_text);
    while let Some(word) = arguments.next() {
        let word = word?;
        let option = find(target, &word)?;
        let argument = match option.has_argument() {
            true => Some(
                arguments
                    .next()
                    .ok_or_else(|| Error::new("requires an argument").at(&word))??,
            ),
            false => None,
        };
        builder.location = match &argument {
            Some(argument) => format!("{word} {argument}"),
            None => word,
        };
        if !option.in_probe {
            probe_conflict.get_or_insert_with(|| builder.location.clone());
        }
        apply(&mut builder, option, argument.as_deref().unwrap_or_default())
            .map_err(|error| error.at(&builder.location))?;
        if let Some(request) = builder.help.take() {
            return Ok(Parsed::Help(request));
        }
    }
    if let Some(location) = probe_conflict.filter(|_| builder.config.probe) {
        return Err(Error::new("makes no sense with -probe, which runs no guest").at(&location));
    }
    Ok(Parsed::Run(Box::new(builder.finish()?)))
}

/// The option of `target` with this name.
pub(super) fn lookup(target: Target, name: &str) -> Option<&'static OptionInfo> {
    options().find(|option| option.name == name && option.targets.include(target))
}

/// The options that fill in the group of this name.
pub(super) fn lookup_group(target: Target, name: &str) -> Option<(&'static OptionInfo, &'static Group)> {
    options()
        .filter(|option| option.targets.include(target))
        .find_map(|option| Some((option, option.group.filter(|group| group.name == name)?)))
}

/// Does what `option` says with the pairs that a configuration file gives.
pub(super) fn apply_pairs(
    builder: &mut Builder,
    option: &'static OptionInfo,
    group: &Group,
    pairs: Vec<(String, String)>,
) -> Result<(), Error> {
    match option.action {
        Action::Opts(apply) | Action::TextOrOpts { opts: apply, .. } => {
            apply(builder, &Opts::from_pairs(pairs, group)?)
        }
        Action::Keyval { apply, .. } => apply(builder, keyval::from_pairs(pairs)?),
        Action::Properties { lists, apply } => apply(builder, properties(&Opts::from_pairs(pairs, group)?, lists)),
        Action::Flag(_) | Action::Text(_) | Action::Refuse(_) => Err(Error::new(format!(
            "group '{}' cannot be configured by a file",
            group.name
        ))),
    }
}

fn into_text(argument: OsString) -> Result<String, Error> {
    argument
        .into_string()
        .map_err(|argument| Error::new("not valid UTF-8").at(&argument.to_string_lossy()))
}

fn find(target: Target, word: &str) -> Result<&'static OptionInfo, Error> {
    let Some(name) = word.strip_prefix('-') else {
        return Err(Error::new("disk images are not supported").at(word));
    };
    let name = name.strip_prefix('-').unwrap_or(name);
    if let Some(option) = lookup(target, name) {
        return Ok(option);
    }
    let elsewhere = options().any(|option| option.name == name);
    Err(match elsewhere {
        true => Error::new("Option not supported for this target"),
        false => Error::new("invalid option"),
    }
    .at(word))
}

fn apply(builder: &mut Builder, option: &'static OptionInfo, argument: &str) -> Result<(), Error> {
    match (&option.action, option.group) {
        (Action::Flag(apply), _) => apply(builder),
        (Action::Text(apply) | Action::TextOrOpts { text: apply, .. }, _) => apply(builder, argument),
        (Action::Refuse(reason), _) => Err(Error::new(*reason)),
        (Action::Opts(apply), Some(group)) => {
            let opts = Opts::parse(argument, group)?;
            warn_all(builder, &opts);
            if opts.wants_help() && !option.own_help {
                builder.request_help(HelpRequest::Parameters(option));
                return Ok(());
            }
            apply(builder, &opts)
        }
        (Action::Keyval { json: true, apply }, _) if argument.starts_with('{') => apply(builder, object(argument)?),
        (Action::Keyval { apply, .. }, Some(group)) => {
            let (mut map, help) = keyval::parse(argument, group.implied)?;
            if help && !group.parameters.is_empty() {
                builder.request_help(HelpRequest::Parameters(option));
                return Ok(());
            }
            if help {
                map.insert("help".to_owned(), Value::Bool(true));
            }
            apply(builder, map)
        }
        (Action::Properties { apply, .. }, _) if argument.starts_with('{') => apply(builder, object(argument)?),
        (Action::Properties { lists, apply }, Some(group)) => {
            let opts = Opts::parse(argument, group)?;
            warn_all(builder, &opts);
            let mut map = properties(&opts, *lists);
            if opts.wants_help() {
                map.insert("help".to_owned(), Value::Bool(true));
            }
            apply(builder, map)
        }
        (_, None) => Err(Error::new("takes no parameters")),
    }
}

fn properties(opts: &Opts, lists: bool) -> Map<String, Value> {
    match lists {
        true => opts.to_multimap(),
        false => opts.to_map(),
    }
}

fn warn_all(builder: &mut Builder, opts: &Opts) {
    for warning in opts.warnings() {
        builder.warn(warning);
    }
}

/// The object that JSON text says.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match json::from_text(text).map_err(|error| Error::new(error.desc))? {
        Value::Object(members) => Ok(members),
        _ => Err(Error::new("JSON parse error, not an object")),
    }
}
