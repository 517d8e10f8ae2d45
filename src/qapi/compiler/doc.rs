//! Doc comments of definitions: the text, and one paragraph for each member.

use std::collections::BTreeMap;

use super::error::{Place, SchemaError};

/// What a doc comment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doc {
    /// The text about the definition itself.
    pub(crate) text: String,
    /// The text about each member or value.
    pub(crate) members: BTreeMap<String, String>,
    /// What a command returns.
    pub(crate) returns: String,
}

/// Where the line at hand belongs.
enum Section {
    Text,
    Member(String),
    Returns,
    /// `Features:`, whose `@name:` paragraphs are not members.
    Features,
    /// `Since:`, `Errors:`, examples: for readers of the schema only.
    Other,
}

impl Doc {
    /// Reads the comment before the definition of `name`.
    ///
    /// # Errors
    /// The comment does not start with `@name:`.
    pub(crate) fn parse(lines: &[String], name: &str, place: &Place) -> Result<Self, SchemaError> {
        let mut doc = Self::default();
        let mut section = Section::Text;
        let mut lines = lines.iter();
        let head = lines.next().map_or("", String::as_str);
        if head != format!("@{name}:") {
            return Err(place.error(format!(
                "doc comment of '{name}' must start with '@{name}:', not '{head}'"
            )));
        }
        for line in lines {
            let line = match heading(line, &section) {
                Some((next, rest)) => {
                    section = next;
                    rest
                }
                None => line,
            };
            let text = match &section {
                Section::Text => &mut doc.text,
                Section::Member(member) => doc.members.entry(member.clone()).or_default(),
                Section::Returns => &mut doc.returns,
                Section::Features | Section::Other => continue,
            };
            append(text, line.trim());
        }
        for text in doc.members.values_mut().chain([&mut doc.text, &mut doc.returns]) {
            text.truncate(text.trim_end().len());
        }
        if doc.text.is_empty() {
            return Err(place.error(format!("doc comment of '{name}' says nothing about it")));
        }
        Ok(doc)
    }
}

/// The section that `line` starts, with what is left of the line.
fn heading<'a>(line: &'a str, section: &Section) -> Option<(Section, &'a str)> {
    if let Some((name, rest)) = line.strip_prefix('@').and_then(|line| line.split_once(':')) {
        if matches!(section, Section::Features) {
            return Some((Section::Features, rest));
        }
        return Some((Section::Member(name.to_owned()), rest));
    }
    let (word, rest) = line.split_once(':')?;
    let section = match word {
        "Returns" => Section::Returns,
        "Features" => Section::Features,
        "Since" | "Errors" | "Note" | "Example" => Section::Other,
        _ => return None,
    };
    Some((section, rest))
}

/// Adds a line; an empty one ends a paragraph.
fn append(text: &mut String, line: &str) {
    if line.is_empty() {
        if !text.is_empty() && !text.ends_with("\n\n") {
            text.push_str("\n\n");
        }
        return;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
}
