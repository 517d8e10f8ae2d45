//! `if`: on which architectures a definition exists.

use super::error::SchemaError;
use super::parser::{Node, NodeKind};
use super::schema::Arch;

/// The architectures for which the condition in `node` holds.
///
/// # Errors
/// An unknown name or operator, or a condition that never holds.
pub(crate) fn archs(node: &Node) -> Result<Vec<Arch>, SchemaError> {
    let mut archs = Vec::new();
    for arch in Arch::ALL {
        if holds(node, arch)? {
            archs.push(arch);
        }
    }
    if archs.is_empty() {
        return Err(node.place.error("'if' holds nowhere"));
    }
    Ok(archs)
}

fn holds(node: &Node, arch: Arch) -> Result<bool, SchemaError> {
    match &node.kind {
        NodeKind::Str(name) => match name.as_str() {
            "TARGET_X86_64" | "TARGET_I386" => Ok(arch == Arch::X86_64),
            "TARGET_S390X" => Ok(arch == Arch::S390x),
            other => Err(node.place.error(format!("unknown condition '{other}'"))),
        },
        NodeKind::Object(members) => match members.as_slice() {
            [(operator, operand)] => operation(operator, operand, arch),
            _ => Err(node.place.error("'if' must hold one of 'all', 'any' and 'not'")),
        },
        _ => Err(node.place.error("'if' must be a string or an object")),
    }
}

fn operation(operator: &str, operand: &Node, arch: Arch) -> Result<bool, SchemaError> {
    if operator == "not" {
        return Ok(!holds(operand, arch)?);
    }
    let NodeKind::List(conditions) = &operand.kind else {
        return Err(operand.place.error(format!("'{operator}' must hold a list")));
    };
    let results = conditions
        .iter()
        .map(|condition| holds(condition, arch))
        .collect::<Result<Vec<_>, _>>()?;
    match operator {
        "all" => Ok(results.iter().all(|&result| result)),
        "any" => Ok(results.iter().any(|&result| result)),
        other => Err(operand.place.error(format!("unknown operator '{other}'"))),
    }
}
