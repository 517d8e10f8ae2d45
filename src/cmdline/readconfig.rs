//! `-readconfig`: options from a file, grouped under headings.
//!
//! ```text
//! [chardev "console"]
//!   backend = "pty"
//! ```

use super::builder::Builder;
use super::error::Error;
use super::parser;
use crate::report::reason;

/// `-readconfig`.
pub(super) fn apply(builder: &mut Builder, path: &str) -> Result<(), Error> {
    let text = builder
        .read_file(path)
        .map_err(|error| Error::new(format!("Could not open '{path}': {}", reason(&error))))?;
    for section in sections(path, &text)? {
        section.apply(builder).map_err(|error| error.at(&section.place))?;
    }
    Ok(())
}

struct Section {
    place: String,
    group: String,
    pairs: Vec<(String, String)>,
}

impl Section {
    fn apply(&self, builder: &mut Builder) -> Result<(), Error> {
        let (option, group) = parser::lookup_group(builder.config.target, &self.group)
            .ok_or_else(|| Error::new(format!("There is no option group '{}'", self.group)))?;
        builder.location.clone_from(&self.place);
        parser::apply_pairs(builder, option, group, self.pairs.clone())
    }
}

fn sections(path: &str, text: &str) -> Result<Vec<Section>, Error> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = heading(line) {
            sections.push(section(place, heading)?);
            continue;
        }
        let (Some((key, value)), Some(section)) = (assignment(line), sections.last_mut()) else {
            return Err(Error::new("parse error").at(&place));
        };
        section.pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(sections)
}

/// What stands between the brackets of a heading; text behind them does not count.
fn heading(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('[')?;
    // The id may hold a bracket.
    let end = match rest.find(['"', ']'])? {
        quote if rest[quote..].starts_with('"') => {
            let after = quote + 1 + rest[quote + 1..].find('"')? + 1;
            after + rest[after..].find(']')?
        }
        end => end,
    };
    Some(&rest[..end])
}

/// `group` or `group "id"`.
fn section(place: String, heading: &str) -> Result<Section, Error> {
    let (group, id) = heading.split_once(char::is_whitespace).unwrap_or((heading, ""));
    let id = match id.trim() {
        "" => None,
        quoted => match unquote(quoted) {
            Some(id) => Some(id),
            None => return Err(Error::new("parse error").at(&place)),
        },
    };
    let pairs = id.map(|id| ("id".to_owned(), id.to_owned()));
    Ok(Section {
        group: group.to_owned(),
        pairs: pairs.into_iter().collect(),
        place,
    })
}

/// `key = "value"`; text behind the value does not count.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let (value, _) = value.trim().strip_prefix('"')?.split_once('"')?;
    Some((key.trim(), value))
}

fn unquote(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{Config, Parsed, parse};
    use crate::target::Target;
    use std::io;

    fn read(text: &'static str) -> Result<Config, Error> {
        let args = ["-readconfig", "f"].map(Into::into);
        match parse(Target::X86_64, args, &|_| Ok(text.to_owned()))? {
            Parsed::Run(config) => Ok(*config),
            Parsed::Help(_) => unreachable!("no help was asked for"),
        }
    }

    #[test]
    fn a_file_says_what_options_say() {
        let config = read(
            "# a guest\n[machine]\n  type = \"q35\"\n[chardev \"c\"]\nbackend = \"pty\"\n\n[device \"s\"]\n\
             driver = \"isa-serial\"\nchardev = \"c\"\n[smp-opts]\ncpus = \"3\"\n[memory]\nsize = \"64\"\n",
        )
        .unwrap();
        assert_eq!(config.machine.machine_type.as_deref(), Some("q35"));
        assert_eq!(config.chardevs[0].options["backend"], "pty");
        assert_eq!(config.machine.devices[0]["id"], "s");
        assert_eq!((config.machine.smp.cpus, config.machine.memory.size), (3, 64 << 20));
    }

    #[test]
    fn globals_and_remarks() {
        let config = read(
            "[global] # for all\n  driver = \"pvpanic\"  # why\n  property = \"events\"\n  value = \"1\"\n\
             [device \"a]b\"]\ndriver = \"pvpanic\"\n",
        );
        assert_eq!(
            config.unwrap_err().to_string(),
            "f:5: Parameter 'id' expects an identifier\n\
             Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."
        );
        let config = read("[global]\ndriver = \"pvpanic\" # why\nproperty = \"events\"\nvalue = \"1\"\n").unwrap();
        let global = &config.machine.globals[0];
        assert_eq!(
            (global.driver.as_str(), global.property.as_str(), global.value.as_str()),
            ("pvpanic", "events", "1")
        );
        assert_eq!(
            read("[global]\ndriver = \"pvpanic\"\n").unwrap_err().to_string(),
            "f:1: options 'driver', 'property', and 'value' are required"
        );
    }

    #[test]
    fn errors_name_file_and_line() {
        assert_eq!(
            read("\n[foo]\n").unwrap_err().to_string(),
            "f:2: There is no option group 'foo'"
        );
        assert_eq!(read("a = \"b\"\n").unwrap_err().to_string(), "f:1: parse error");
        assert_eq!(read("[device]\nx\n").unwrap_err().to_string(), "f:2: parse error");
        assert_eq!(
            read("[msg]\ntimestamp = \"x\"\n").unwrap_err().to_string(),
            "f:1: Parameter 'timestamp' expects 'on' or 'off'"
        );
        let missing = |_: &std::path::Path| Err(io::Error::from_raw_os_error(2));
        let error = parse(Target::X86_64, ["-readconfig", "/x"].map(Into::into), &missing).unwrap_err();
        assert_eq!(
            error.to_string(),
            "-readconfig /x: Could not open '/x': No such file or directory"
        );
    }
}
