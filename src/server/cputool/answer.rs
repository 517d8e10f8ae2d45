//! What the answers for all architectures have in common.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::request::Verb;
use super::{ToolError, Verdict};

/// Answers about the models of one architecture.
pub(super) trait Answers {
    fn list(&mut self) -> Result<Verdict, ToolError>;
    fn show(&mut self) -> Result<Verdict, ToolError>;
    fn compare(&mut self) -> Result<Verdict, ToolError>;
    fn baseline(&mut self) -> Result<Verdict, ToolError>;
    fn explain(&mut self) -> Result<Verdict, ToolError>;
    fn migratable(&mut self) -> Result<Verdict, ToolError>;

    /// Answers one question.
    fn answer(&mut self, verb: Verb) -> Result<Verdict, ToolError> {
        match verb {
            Verb::List => self.list(),
            Verb::Show => self.show(),
            Verb::Compare => self.compare(),
            Verb::Baseline => self.baseline(),
            Verb::Explain => self.explain(),
            Verb::Migratable => self.migratable(),
        }
    }
}

/// What is printed.
pub(super) struct Output<'a>(pub(super) &'a mut Vec<u8>);

impl Output<'_> {
    /// Prints a line.
    pub(super) fn line(&mut self, text: &str) {
        // Writing to a Vec does not fail.
        let _ = writeln!(self.0, "{text}");
    }

    /// Prints JSON, on one line.
    pub(super) fn json(&mut self, value: &Value) {
        self.line(&value.to_string());
    }
}

/// An entry of a list of models, as `query-cpu-definitions` has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Definition<'a> {
    pub(super) name: &'a str,
    pub(super) typename: &'a str,
    #[serde(rename = "static")]
    pub(super) is_static: bool,
    pub(super) migration_safe: bool,
    pub(super) deprecated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unavailable_features: Option<&'a [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alias_of: Option<&'a str>,
}
