//! The arguments of `remuda cpu`.

use std::path::PathBuf;

use super::ToolError;
use crate::accel::hostfile::{self, HostDescription};
use crate::target::Target;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Show,
    Compare,
    Baseline,
    Explain,
    Migratable,
}

/// A model or a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// A model, as for `-cpu`.
    Model(String),
    /// A file that describes a host.
    Host(PathBuf),
}

/// One call of `remuda cpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) operands: Vec<Operand>,
    pub(super) host: Option<PathBuf>,
    pub(super) from: Option<PathBuf>,
    pub(super) to: Option<PathBuf>,
    pub(super) cpu: Option<String>,
    pub(super) machine: Option<String>,
    pub(super) full: bool,
    pub(super) json: bool,
    target: Option<Target>,
}

impl Request {
    pub(super) fn parse(args: &[String]) -> Result<Self, ToolError> {
        let mut args = args.iter().map(String::as_str);
        let verb = match args.next() {
            Some("list") => Verb::List,
            Some("show") => Verb::Show,
            Some("compare") => Verb::Compare,
            Some("baseline") => Verb::Baseline,
            Some("explain") => Verb::Explain,
            Some("migratable") => Verb::Migratable,
            Some(other) => return Err(ToolError::Usage(format!("'{other}' is none of its commands"))),
            None => return Err(ToolError::Usage("a command is missing".to_owned())),
        };
        let mut request = Self {
            verb,
            operands: Vec::new(),
            host: None,
            from: None,
            to: None,
            cpu: None,
            machine: None,
            full: false,
            json: false,
            target: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| ToolError::Usage(format!("{arg} needs a value")))
            };
            match arg {
                "--host" => request.host = Some(value()?.into()),
                "--from" => request.from = Some(value()?.into()),
                "--to" => request.to = Some(value()?.into()),
                "--cpu" => request.cpu = Some(value()?.to_owned()),
                "--machine" => request.machine = Some(value()?.to_owned()),
                "--full" => request.full = true,
                "--json" => request.json = true,
                "--target" => request.target = Some(target(value()?)?),
                _ if arg.starts_with("--") => return Err(ToolError::Usage(format!("{arg} is none of its options"))),
                _ => request.operands.push(operand(arg)),
            }
        }
        request.check()?;
        Ok(request)
    }

    /// The architecture that the question is about: as told, or that of the first file, or this machine's.
    pub(super) fn target(&self) -> Result<Target, ToolError> {
        if let Some(target) = self.target {
            return Ok(target);
        }
        let files = self.operands.iter().filter_map(|operand| match operand {
            Operand::Host(path) => Some(path),
            Operand::Model(_) => None,
        });
        match files.chain(&self.host).chain(&self.from).chain(&self.to).next() {
            Some(path) => Ok(read(path)?.target()),
            None if Target::S390x.is_native() => Ok(Target::S390x),
            None => Ok(Target::X86_64),
        }
    }

    fn check(&self) -> Result<(), ToolError> {
        let wrong = |what: &str| Err(ToolError::Usage(what.to_owned()));
        let count = self.operands.len();
        match self.verb {
            Verb::List if count != 0 => return wrong("list takes no model"),
            Verb::Show | Verb::Explain if count != 1 => return wrong("one model is needed"),
            Verb::Compare if count != 2 => return wrong("two models or hosts are needed"),
            Verb::Baseline if count == 0 => return wrong("at least one model or host is needed"),
            Verb::Migratable if count != 0 => return wrong("the model to move is given with --cpu"),
            Verb::Migratable if self.from.is_none() || self.to.is_none() => return wrong("--from and --to are needed"),
            _ => {}
        }
        if self.verb != Verb::Migratable && (self.from.is_some() || self.to.is_some() || self.cpu.is_some()) {
            return wrong("--from, --to and --cpu are for migratable");
        }
        if matches!(self.verb, Verb::Compare | Verb::Baseline | Verb::Migratable) && self.host.is_some() {
            return wrong("--host is for list, show and explain");
        }
        if self.full && self.verb != Verb::Show {
            return wrong("--full is for show");
        }
        Ok(())
    }
}

/// Reads the description of a host.
pub(super) fn read(path: &std::path::Path) -> Result<HostDescription, ToolError> {
    hostfile::read(path).map_err(|error| ToolError::failed(&error))
}

fn operand(text: &str) -> Operand {
    if text.contains('/') || text.ends_with(".json") {
        return Operand::Host(text.into());
    }
    Operand::Model(text.to_owned())
}

fn target(name: &str) -> Result<Target, ToolError> {
    let known = [Target::X86_64, Target::S390x]
        .into_iter()
        .find(|target| target.name() == name);
    known.ok_or_else(|| ToolError::Usage(format!("--target: '{name}' is neither x86_64 nor s390x")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, ToolError> {
        Request::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn files_and_models_are_told_apart() {
        let request = parse("baseline a.json ./b z13,vx=off --machine s390-ccw-virtio-9.0").unwrap();
        assert_eq!(
            request.operands,
            [
                Operand::Host("a.json".into()),
                Operand::Host("./b".into()),
                Operand::Model("z13,vx=off".into())
            ]
        );
        assert_eq!(request.machine.as_deref(), Some("s390-ccw-virtio-9.0"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "liste",
            "list z13",
            "compare z13",
            "baseline",
            "show z13 --from a.json",
            "migratable --from a.json",
            "migratable --from a.json --to",
            "list --target arm",
            "compare a.json b.json --full",
            "show z13 --verbose",
        ] {
            assert!(matches!(parse(text), Err(ToolError::Usage(_))), "{text}");
        }
    }
}
