//! The schema compiler: QAPI modules in, Rust and introspection data out.
//!
//! `build.rs` runs it once for each root module; the library compiles it for its unit tests only. The steps, one file
//! each: `lexer` makes tokens, `parser` makes expressions and follows `include`, `doc` reads doc comments, `check`
//! turns expressions into the `schema` and refuses what is wrong, and the `gen_*` files and `introspect` write
//! the results.

mod check;
mod condition;
mod doc;
mod error;
mod expect;
mod gen_dispatch;
mod gen_events;
mod gen_types;
mod gen_unions;
mod introspect;
mod lexer;
mod names;
mod parser;
mod schema;

use std::path::Path;

pub(crate) use error::SchemaError;
use schema::Arch;

/// One generated file.
pub(crate) struct OutputFile {
    /// Name of the file in the output directory.
    pub(crate) name: String,
    /// What to write into it.
    pub(crate) contents: String,
}

/// Compiles the module at `root` with everything it includes, as `read` finds it. `name` starts the names of the
/// generated files.
///
/// # Errors
/// The first mistake in the schema, with file, line and reason.
pub(crate) fn compile(root: &Path, name: &str, read: parser::Read<'_>) -> Result<Vec<OutputFile>, SchemaError> {
    let expressions = parser::parse_root(root, read)?;
    let schema = check::check(&expressions)?;
    let mut files = vec![OutputFile {
        name: format!("qapi_{name}.rs"),
        contents: format!(
            "{}{}{}",
            gen_types::generate(&schema),
            gen_dispatch::generate(&schema, name),
            gen_events::generate(&schema)
        ),
    }];
    for arch in Arch::ALL {
        files.push(OutputFile {
            name: format!("qapi_{name}_{}_schema.json", arch.name()),
            contents: introspect::schema_info(&schema, arch),
        });
        files.push(OutputFile {
            name: format!("qapi_{name}_{}_commands.json", arch.name()),
            contents: introspect::command_list(&schema, arch),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
