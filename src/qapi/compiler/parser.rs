//! Expressions of a schema: tokens become values, `include` pulls in other modules, `pragma` sets defaults.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::error::{Place, SchemaError};
use super::lexer::{self, Token};
use super::schema::Run;

/// A value of the schema language.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it starts.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) kind: NodeKind,
}

/// The kinds of value.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    /// A string.
    Str(String),
    /// A boolean.
    Bool(bool),
    /// A list.
    List(Vec<Node>),
    /// An object, members in the order written.
    Object(Vec<(String, Node)>),
}

/// A top-level expression that defines something.
#[derive(Debug)]
pub(crate) struct Expression {
    /// Its members.
    pub(crate) members: Vec<(String, Node)>,
    /// The lines of the doc comment before it.
    pub(crate) doc: Option<Vec<String>>,
    /// Where it starts.
    pub(crate) place: Place,
    /// Where commands run unless they say otherwise.
    pub(crate) default_run: Run,
}

/// Reads the text of a module.
pub(crate) type Read<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads the module at `path` and, in place of each `include`, the module it names; each module once.
///
/// # Errors
/// A file that cannot be read, or text that is not a schema.
pub(crate) fn parse_root(path: &Path, read: Read<'_>) -> Result<Vec<Expression>, SchemaError> {
    let start = Place {
        file: Rc::new(path.to_owned()),
        line: 1,
    };
    let mut expressions = Vec::new();
    parse_module(path, read, &start, &mut BTreeSet::new(), &mut expressions)?;
    Ok(expressions)
}

fn parse_module(
    path: &Path,
    read: Read<'_>,
    from: &Place,
    seen: &mut BTreeSet<PathBuf>,
    expressions: &mut Vec<Expression>,
) -> Result<(), SchemaError> {
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    let text = read(path).map_err(|error| from.error(format!("cannot read {}: {error}", path.display())))?;
    let file = Rc::new(path.to_owned());
    let mut parser = Parser {
        tokens: lexer::tokenize(&text, &file)?.into_iter().peekable(),
        end: Place {
            file,
            line: text.lines().count().max(1),
        },
    };
    let mut doc = None;
    let mut default_run = Run::Monitor;
    while let Some((token, place)) = parser.tokens.next() {
        match token {
            // A comment that another one follows stands alone, as a heading.
            Token::Doc(lines) => doc = Some(lines),
            Token::Punct('{') => {
                let members = parser.object_members()?;
                match directive(&members) {
                    Some(("include", name)) => {
                        let name = string(name, "'include'")?;
                        let included = path.parent().unwrap_or(Path::new("")).join(name);
                        parse_module(&included, read, &place, seen, expressions)?;
                        doc = None;
                    }
                    Some((_, pragma)) => {
                        default_run = pragma_run(pragma)?;
                        doc = None;
                    }
                    None => expressions.push(Expression {
                        members,
                        doc: doc.take(),
                        place,
                        default_run,
                    }),
                }
            }
            _ => return Err(place.error("expected '{' or a comment")),
        }
    }
    Ok(())
}

/// The name and value of an expression that is a directive.
fn directive(members: &[(String, Node)]) -> Option<(&str, &Node)> {
    match members {
        [(key, node)] if key == "include" || key == "pragma" => Some((key, node)),
        _ => None,
    }
}

/// The value of `{ 'pragma': { 'run': ... } }`.
fn pragma_run(pragma: &Node) -> Result<Run, SchemaError> {
    let NodeKind::Object(settings) = &pragma.kind else {
        return Err(pragma.place.error("'pragma' must be an object"));
    };
    match settings.as_slice() {
        [(key, node)] if key == "run" => run(node),
        [(key, node), ..] => Err(node.place.error(format!("unknown pragma '{key}'"))),
        [] => Err(pragma.place.error("'pragma' sets nothing")),
    }
}

/// The value of a `run` key.
pub(crate) fn run(node: &Node) -> Result<Run, SchemaError> {
    match string(node, "'run'")? {
        "monitor" => Ok(Run::Monitor),
        "worker" => Ok(Run::Worker),
        "session" => Ok(Run::Session),
        other => Err(node
            .place
            .error(format!("'run' must be 'monitor', 'worker' or 'session', not '{other}'"))),
    }
}

/// The string in `node`; `what` names it in the error.
pub(crate) fn string<'a>(node: &'a Node, what: &str) -> Result<&'a str, SchemaError> {
    match &node.kind {
        NodeKind::Str(text) => Ok(text),
        _ => Err(node.place.error(format!("{what} must be a string"))),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(Token, Place)>>,
    end: Place,
}

impl Parser {
    fn next(&mut self) -> Result<(Token, Place), SchemaError> {
        match self.tokens.next() {
            Some((Token::Doc(_), place)) => Err(place.error("doc comment inside an expression")),
            Some(token) => Ok(token),
            None => Err(self.end.error("expression does not end")),
        }
    }

    /// The members after `{`.
    fn object_members(&mut self) -> Result<Vec<(String, Node)>, SchemaError> {
        let mut members: Vec<(String, Node)> = Vec::new();
        if self.take_if('}') {
            return Ok(members);
        }
        loop {
            let (token, place) = self.next()?;
            let Token::Str(key) = token else {
                return Err(place.error("expected a string or '}'"));
            };
            if members.iter().any(|(other, _)| *other == key) {
                return Err(place.error(format!("duplicate key '{key}'")));
            }
            let (token, place) = self.next()?;
            if token != Token::Punct(':') {
                return Err(place.error("expected ':'"));
            }
            members.push((key, self.value()?));
            let (token, place) = self.next()?;
            match token {
                Token::Punct('}') => return Ok(members),
                Token::Punct(',') => {}
                _ => return Err(place.error("expected ',' or '}'")),
            }
        }
    }

    fn list_items(&mut self) -> Result<Vec<Node>, SchemaError> {
        let mut items = Vec::new();
        if self.take_if(']') {
            return Ok(items);
        }
        loop {
            items.push(self.value()?);
            let (token, place) = self.next()?;
            match token {
                Token::Punct(']') => return Ok(items),
                Token::Punct(',') => {}
                _ => return Err(place.error("expected ',' or ']'")),
            }
        }
    }

    fn value(&mut self) -> Result<Node, SchemaError> {
        let (token, place) = self.next()?;
        let kind = match token {
            Token::Str(text) => NodeKind::Str(text),
            Token::Bool(value) => NodeKind::Bool(value),
            Token::Punct('{') => NodeKind::Object(self.object_members()?),
            Token::Punct('[') => NodeKind::List(self.list_items()?),
            _ => return Err(place.error("expected '{', '[', a string or a boolean")),
        };
        Ok(Node { place, kind })
    }

    fn take_if(&mut self, punct: char) -> bool {
        self.tokens
            .next_if(|(token, _)| *token == Token::Punct(punct))
            .is_some()
    }
}
