//! The arguments of `remuda cpu`.

use super::ToolError;
use super::operand::{HostRef, Operand, target_of};
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

/// A question as the help text has it: its name, what follows, and what it is good for.
struct Usage(Verb, &'static str, &'static str, &'static str);

const USAGE: [Usage; 6] = [
    Usage(
        Verb::List,
        "list",
        "[--host HOST]... [--features]",
        "models, and which of them run on which host",
    ),
    Usage(Verb::Show, "show", "MODEL [--host HOST] [--full]", "a model spelt out"),
    Usage(
        Verb::Compare,
        "compare",
        "A B...",
        "how models and hosts relate to one another",
    ),
    Usage(
        Verb::Baseline,
        "baseline",
        "A... [--xml]",
        "the largest model that all of them can run",
    ),
    Usage(
        Verb::Explain,
        "explain",
        "MODEL [--host HOST]...",
        "whether hosts run a model, and what is in the way",
    ),
    Usage(
        Verb::Migratable,
        "migratable",
        "--from HOST... --to HOST... [--cpu MODEL]",
        "whether a guest can move, and what is in the way",
    ),
];

const OPERANDS: &str = "\
A MODEL is written as for -cpu. A HOST is a file that describes one (remuda-host(5)), or 'host' for this one. Where either
may stand, a name with a slash in it or with the ending .json or .xml is a file; what virsh domcapabilities says is a host,
the XML of a domain or its <cpu> a model. --host, --from and --to may be given more than once.
Every question takes --target x86_64|s390x, --machine TYPE and --json. Exit status: 0 yes, 1 no, 2 no answer.
";

/// One call of `remuda cpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) operands: Vec<Operand>,
    pub(super) hosts: Vec<HostRef>,
    pub(super) from: Vec<HostRef>,
    pub(super) to: Vec<HostRef>,
    pub(super) cpu: Option<Operand>,
    pub(super) machine: Option<String>,
    pub(super) full: bool,
    pub(super) features: bool,
    pub(super) xml: bool,
    pub(super) json: bool,
    target: Option<Target>,
}

/// What the arguments come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A text to print.
    Help(String),
    /// A question.
    Ask(Box<Request>),
}

impl Request {
    /// Understands the arguments behind `cpu`. An option's value follows it, or stands behind `=`.
    pub(super) fn parse(args: &[String]) -> Result<Parsed, ToolError> {
        let Some((verb, args)) = args.split_first() else {
            return Err(ToolError::Usage("a command is missing".to_owned()));
        };
        if is_help(verb) || verb == "help" {
            return Ok(Parsed::Help(help(None)));
        }
        let Some(Usage(verb, ..)) = USAGE.iter().find(|Usage(_, name, ..)| name == verb) else {
            return Err(ToolError::Usage(format!("'{verb}' is none of its commands")));
        };
        if args.iter().any(|arg| is_help(arg)) {
            return Ok(Parsed::Help(help(Some(*verb))));
        }
        let mut request = Self::new(*verb);
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            if !arg.starts_with("--") {
                request.operands.push(Operand::parse(arg));
                continue;
            }
            let (name, attached) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            if request.set_switch(name) {
                match attached {
                    Some(_) => return Err(ToolError::Usage(format!("{name} takes no value"))),
                    None => continue,
                }
            }
            let value = attached.map_or_else(|| args.next(), Some);
            request.set_option(name, value)?;
        }
        request.check()?;
        Ok(Parsed::Ask(Box::new(request)))
    }

    fn new(verb: Verb) -> Self {
        Self {
            verb,
            operands: Vec::new(),
            hosts: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
            cpu: None,
            machine: None,
            full: false,
            features: false,
            xml: false,
            json: false,
            target: None,
        }
    }

    /// Sets an option without a value; false if there is none of that name.
    fn set_switch(&mut self, name: &str) -> bool {
        let switch = match name {
            "--full" => &mut self.full,
            "--features" => &mut self.features,
            "--xml" => &mut self.xml,
            "--json" => &mut self.json,
            _ => return false,
        };
        *switch = true;
        true
    }

    fn set_option(&mut self, name: &str, value: Option<&str>) -> Result<(), ToolError> {
        if !["--host", "--from", "--to", "--cpu", "--machine", "--target"].contains(&name) {
            return Err(ToolError::Usage(format!("{name} is none of its options")));
        }
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| ToolError::Usage(format!("{name} needs a value")))?;
        let is_second = match name {
            "--cpu" => self.cpu.replace(model_operand(value)?).is_some(),
            "--machine" => self.machine.replace(value.to_owned()).is_some(),
            "--target" => self.target.replace(target(value)?).is_some(),
            "--from" => {
                self.from.push(HostRef::parse(value));
                false
            }
            "--to" => {
                self.to.push(HostRef::parse(value));
                false
            }
            _ => {
                self.hosts.push(HostRef::parse(value));
                false
            }
        };
        match is_second {
            true => Err(ToolError::Usage(format!("{name} is given twice"))),
            false => Ok(()),
        }
    }

    /// The architecture that the question is about: as told, or that of the first file, or this machine's.
    pub(super) fn target(&self) -> Result<Target, ToolError> {
        if let Some(target) = self.target {
            return Ok(target);
        }
        let operands = self.operands.iter().chain(&self.cpu).filter_map(Operand::path);
        let hosts = self.hosts.iter().chain(&self.from).chain(&self.to);
        match operands.chain(hosts.filter_map(HostRef::path)).next() {
            Some(path) => target_of(path),
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
            Verb::Show if self.hosts.len() > 1 => return wrong("a model is shown on one host"),
            Verb::Compare if count < 2 => return wrong("two models or hosts are needed"),
            Verb::Baseline if count == 0 => return wrong("at least one model or host is needed"),
            Verb::Migratable if count != 0 => return wrong("the model to move is given with --cpu"),
            Verb::Migratable if self.from.is_empty() || self.to.is_empty() => {
                return wrong("--from and --to are needed");
            }
            _ => {}
        }
        let moves = !self.from.is_empty() || !self.to.is_empty() || self.cpu.is_some();
        if self.verb != Verb::Migratable && moves {
            return wrong("--from, --to and --cpu are for migratable");
        }
        if matches!(self.verb, Verb::Compare | Verb::Baseline | Verb::Migratable) && !self.hosts.is_empty() {
            return wrong("--host is for list, show and explain");
        }
        if self.full && self.verb != Verb::Show {
            return wrong("--full is for show");
        }
        if self.features && self.verb != Verb::List {
            return wrong("--features is for list");
        }
        if self.xml && self.verb != Verb::Baseline {
            return wrong("--xml is for baseline");
        }
        if self.xml && self.json {
            return wrong("--xml and --json exclude each other");
        }
        Ok(())
    }
}

fn is_help(arg: &str) -> bool {
    arg == "--help" || arg == "-h"
}

fn help(of: Option<Verb>) -> String {
    let mut text = String::new();
    let wanted = USAGE.iter().filter(|Usage(verb, ..)| of.is_none_or(|of| of == *verb));
    for (place, Usage(_, name, synopsis, description)) in wanted.enumerate() {
        let start = if place == 0 { "usage:" } else { "      " };
        text += &format!("{start} remuda cpu {name} {synopsis}\n           {description}\n");
    }
    text + OPERANDS
}

/// The model to move: written out, or in a file.
fn model_operand(text: &str) -> Result<Operand, ToolError> {
    match Operand::parse(text) {
        // Here `host` is what a guest has that takes all of the host it comes from.
        Operand::Host(HostRef::Here) => Ok(Operand::Model(text.to_owned())),
        Operand::Host(HostRef::File(path)) => Err(ToolError::Usage(format!(
            "--cpu: {} is a host, not a model",
            path.display()
        ))),
        other => Ok(other),
    }
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
        let args = text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match Request::parse(&args)? {
            Parsed::Ask(request) => Ok(*request),
            Parsed::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn files_and_models_are_told_apart() {
        let request = parse("baseline a.json ./b z13,vx=off guest.xml host --machine s390-ccw-virtio-9.0").unwrap();
        assert_eq!(
            request.operands,
            [
                Operand::Host(HostRef::File("a.json".into())),
                Operand::Host(HostRef::File("./b".into())),
                Operand::Model("z13,vx=off".into()),
                Operand::Document("guest.xml".into()),
                Operand::Host(HostRef::Here),
            ]
        );
        assert_eq!(request.machine.as_deref(), Some("s390-ccw-virtio-9.0"));
    }

    #[test]
    fn any_number_of_hosts_is_taken_and_values_may_be_attached() {
        let request = parse("migratable --from=a.json --from b.json --to=host --cpu=EPYC,svm=off --json").unwrap();
        assert_eq!(request.from, ["a.json", "b.json"].map(HostRef::parse));
        assert_eq!(request.to, [HostRef::Here]);
        assert_eq!(request.cpu, Some(Operand::Model("EPYC,svm=off".to_owned())));
        assert!(request.json);
    }

    #[test]
    fn every_question_explains_itself() {
        for Usage(_, name, ..) in USAGE {
            for flag in ["--help", "-h"] {
                let Ok(Parsed::Help(text)) = Request::parse(&[name.to_owned(), flag.to_owned()]) else {
                    panic!("{name} {flag}");
                };
                assert!(text.starts_with(&format!("usage: remuda cpu {name} ")), "{text}");
            }
        }
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
            "show z13 --host a.json --host b.json",
            "migratable --from a.json",
            "migratable --from a.json --to",
            "migratable --from a.json --to=",
            "migratable --from a.json --to b.json --cpu c.json",
            "migratable --from a.json --to b.json --cpu z13 --cpu z14",
            "list --target arm",
            "list --json=yes",
            "compare a.json b.json --full",
            "explain z13 --features",
            "compare z13 z14 --xml",
            "baseline z13 z14 --xml --json",
            "show z13 --verbose",
            "list --machine q35 --machine none",
        ] {
            assert!(matches!(parse(text), Err(ToolError::Usage(_))), "{text}");
        }
    }
}
