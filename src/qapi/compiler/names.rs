//! Rust names for names on the wire.

/// A type or variant name: `memory-backend-ram` becomes `MemoryBackendRam`.
pub(crate) fn camel(wire: &str) -> String {
    let shout = !wire.contains(|c: char| c.is_ascii_lowercase());
    let mut name = String::new();
    for word in wire.split(['-', '_', '.']).filter(|word| !word.is_empty()) {
        let starts_with_digit = word.starts_with(|c: char| c.is_ascii_digit());
        if starts_with_digit && name.ends_with(|c: char| c.is_ascii_digit()) {
            name.push('_');
        }
        let mut chars = word.chars();
        if let Some(first) = chars.next() {
            name.push(first.to_ascii_uppercase());
        }
        if shout {
            name.extend(chars.map(|c| c.to_ascii_lowercase()));
        } else {
            name.extend(chars);
        }
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, 'V');
    }
    name
}

/// A field or function name: `poll-max-ns` becomes `poll_max_ns`, `type` becomes `r#type`.
pub(crate) fn snake(wire: &str) -> String {
    let name = plain_snake(wire);
    match name.as_str() {
        "self" | "super" | "crate" => format!("{name}_"),
        _ if KEYWORDS.contains(&name.as_str()) => format!("r#{name}"),
        _ if name.starts_with(|c: char| c.is_ascii_digit()) => format!("n{name}"),
        _ => name,
    }
}

/// The same, to be part of a longer name.
pub(crate) fn plain_snake(wire: &str) -> String {
    wire.chars()
        .map(|c| match c {
            '-' | '.' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

/// Words that need `r#` to be names.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "box", "break", "const", "continue", "do", "dyn", "else", "enum", "extern",
    "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
    "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe",
    "unsized", "use", "virtual", "where", "while", "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_variants_are_in_camel_case() {
        for (wire, rust) in [
            ("memory-backend-ram", "MemoryBackendRam"),
            ("qmp_capabilities", "QmpCapabilities"),
            ("RTC_CHANGE", "RtcChange"),
            ("x86_64", "X86_64"),
            ("7.2", "V7_2"),
            ("QMPCapability", "QMPCapability"),
        ] {
            assert_eq!(camel(wire), rust);
        }
    }

    #[test]
    fn fields_are_in_snake_case_and_no_keywords() {
        for (wire, rust) in [
            ("poll-max-ns", "poll_max_ns"),
            ("UUID", "uuid"),
            ("type", "r#type"),
            ("self", "self_"),
            ("64bit", "n64bit"),
        ] {
            assert_eq!(snake(wire), rust);
        }
    }
}
