//! What the compiler makes of good schemas, and what it says about bad ones.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::compile;
use super::error::SchemaError;

/// Compiles modules given as pairs of name and text, the first being the root.
fn compile_modules(modules: &[(&str, &str)]) -> Result<Vec<String>, SchemaError> {
    let read = |path: &Path| {
        let found = modules.iter().find(|(name, _)| Path::new(name) == path);
        found
            .map(|(_, text)| (*text).to_owned())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let files = compile(Path::new(modules[0].0), "test", &read)?;
    Ok(files.into_iter().map(|file| file.contents).collect())
}

/// Compiles one module.
fn compile_text(text: &str) -> Result<Vec<String>, SchemaError> {
    compile_modules(&[("root.json", text)])
}

/// What the compiler says about a bad module.
fn complaint(text: &str) -> String {
    compile_text(text)
        .err()
        .map_or("nothing".to_owned(), |error| error.to_string())
}

/// `query-qmp-schema` of a good module on x86_64.
fn introspection(text: &str) -> Vec<Value> {
    let files = compile_text(text).unwrap();
    serde_json::from_str(&files[1]).unwrap()
}

fn entry<'a>(entries: &'a [Value], name: &str) -> &'a Value {
    entries
        .iter()
        .find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("no entry {name}"))
}

const GOOD: &str = "\
##
# @Kind:
#
# A kind.
#
# @small: little
#
# @big: much
##
{ 'enum': 'Kind', 'data': [ 'small', { 'name': 'big', 'features': [ 'unstable' ] } ] }

##
# @Big:
#
# A big one.
#
# @size: how big
##
{ 'struct': 'Big', 'data': { 'size': 'size' } }

##
# @Thing:
#
# A thing.
#
# @kind: its kind
#
# @big: a big one
##
{ 'union': 'Thing', 'base': { 'kind': 'Kind' }, 'discriminator': 'kind', 'data': { 'big': 'Big' } }

##
# @NameOrThing:
#
# A name, or the thing itself.
#
# @name: the name
#
# @thing: the thing
##
{ 'alternate': 'NameOrThing', 'data': { 'name': 'str', 'thing': 'Thing' } }

##
# @do-it:
#
# Does it.
#
# @things: to what
#
# @level: how much
#
# Returns: how often
##
{ 'command': 'do-it', 'data': { 'things': [ 'NameOrThing' ], '*level': 'uint8' },
  'returns': 'int', 'features': [ 'deprecated' ], 'if': 'TARGET_X86_64' }

##
# @DONE:
#
# It is done.
#
# @id: by whom
##
{ 'event': 'DONE', 'data': { 'id': 'str' }, 'throttle': 'id' }
";

#[test]
fn introspection_hides_names_of_types_and_shows_everything_else() {
    let entries = introspection(GOOD);
    let command = entry(&entries, "do-it");
    assert_eq!(command["meta-type"], "command");
    assert_eq!(command["ret-type"], "int");
    assert_eq!(command["features"], serde_json::json!(["deprecated"]));
    let arguments = entry(&entries, command["arg-type"].as_str().unwrap());
    let members = arguments["members"].as_array().unwrap();
    assert_eq!(members[0]["name"], "things");
    assert_eq!(
        members[1],
        serde_json::json!({"name": "level", "default": null, "type": "int"})
    );
    let array = entry(&entries, members[0]["type"].as_str().unwrap());
    let element = array["element-type"].as_str().unwrap();
    assert_eq!(array["name"], format!("[{element}]"));
    let alternate = entry(&entries, element);
    assert_eq!(alternate["meta-type"], "alternate");
    let thing = entry(&entries, alternate["members"][1]["type"].as_str().unwrap());
    assert_eq!(thing["tag"], "kind");
    assert_eq!(thing["variants"][0]["case"], "small");
    let empty = entry(&entries, thing["variants"][0]["type"].as_str().unwrap());
    assert_eq!(empty["members"], serde_json::json!([]));
    let kind = entry(&entries, thing["members"][0]["type"].as_str().unwrap());
    assert_eq!(kind["values"], serde_json::json!(["small", "big"]));
    assert_eq!(
        kind["members"],
        serde_json::json!([{"name": "small"}, {"name": "big", "features": ["unstable"]}])
    );
}

#[test]
fn names_in_the_introspection_are_unique() {
    let entries = introspection(GOOD);
    let mut names: Vec<_> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_condition_hides_a_command_from_the_other_target() {
    let files = compile_text(GOOD).unwrap();
    assert_eq!(files[2], r#"[{"name": "do-it"}]"#);
    assert_eq!(files[4], "[]");
    assert!(!files[3].contains("do-it"));
}

#[test]
fn included_modules_are_read_once_and_keep_their_own_pragma() {
    let shared = "##\n# @quit:\n#\n# Ends.\n##\n{ 'command': 'quit' }\n";
    let files = compile_modules(&[
        ("dir/root.json", "{ 'pragma': { 'run': 'worker' } }\n{ 'include': 'a.json' }\n{ 'include': 'a.json' }\n##\n# @stop:\n#\n# Stops.\n##\n{ 'command': 'stop' }\n"),
        ("dir/a.json", shared),
    ])
    .unwrap();
    assert!(files[0].contains("name: \"quit\", id: CommandId::Quit, run: crate::qapi::command::Run::Monitor"));
    assert!(files[0].contains("name: \"stop\", id: CommandId::Stop, run: crate::qapi::command::Run::Worker"));
}

#[test]
fn mistakes_are_named_with_file_line_and_reason() {
    for (text, expected) in [
        ("{ 'struct': 'A\n", "root.json:1: string does not end"),
        ("\n@", "root.json:2: stray '@'"),
        ("##\n# @a:\n", "root.json:1: doc comment does not end"),
        ("##\nx\n##", "root.json:2: line of a doc comment must start with '#'"),
        ("[ ]", "root.json:1: expected '{' or a comment"),
        ("{ 'a' 'b' }", "root.json:1: expected ':'"),
        ("{ 'a': 'b'\n'c' }", "root.json:2: expected ',' or '}'"),
        ("{ 'a': [ 'b' 'c' ] }", "root.json:1: expected ',' or ']'"),
        ("{ 'a': : }", "root.json:1: expected '{', '[', a string or a boolean"),
        ("{ true }", "root.json:1: expected a string or '}'"),
        ("{ 'a': 'b', 'a': 'c' }", "root.json:1: duplicate key 'a'"),
        ("\n\n{ 'a':", "root.json:3: expression does not end"),
        (
            "{ 'a': '\u{e4}' }",
            "root.json:1: string '\u{e4}' holds a character that is not allowed",
        ),
        (
            "{ 'include': 'b.json' }",
            "root.json:1: cannot read b.json: entity not found",
        ),
        ("{ 'include': true }", "root.json:1: 'include' must be a string"),
        ("{ 'pragma': 'run' }", "root.json:1: 'pragma' must be an object"),
        ("{ 'pragma': { } }", "root.json:1: 'pragma' sets nothing"),
        ("{ 'pragma': { 'walk': 'x' } }", "root.json:1: unknown pragma 'walk'"),
        (
            "{ 'pragma': { 'run': 'x' } }",
            "root.json:1: 'run' must be 'monitor', 'worker' or 'session', not 'x'",
        ),
        ("{ 'thing': 'x' }", "root.json:1: expression defines nothing known"),
        ("{ 'struct': 'A', 'data': { } }", "root.json:1: 'A' is not documented"),
        (
            "{ 'struct': 'a', 'data': { } }",
            "root.json:1: name 'a' must be in camel case",
        ),
        ("{ 'command': 'A' }", "root.json:1: name 'A' must be in small letters"),
        ("{ 'event': 'a' }", "root.json:1: name 'a' must be in capitals"),
        ("{ 'struct': 'A+b', 'data': { } }", "root.json:1: 'A+b' is not a name"),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

/// A module with `definition` documented, after two types to use. The definition starts on line 17.
fn documented(name: &str, members: &str, definition: &str) -> String {
    format!(
        "##\n# @E:\n#\n# E.\n#\n# @x: x\n##\n{{ 'enum': 'E', 'data': [ 'x' ] }}\n##\n# @S:\n#\n# S.\n#\n# @m: m\n##\n\
         {{ 'struct': 'S', 'data': {{ 'm': 'str' }} }}\n##\n# @{name}:\n#\n# It.\n{members}##\n{definition}\n"
    )
}

#[test]
fn wrong_definitions_are_refused() {
    for (name, members, definition, expected) in [
        (
            "B",
            "",
            "{ 'struct': 'B', 'data': { }, 'colour': 'x' }",
            "unknown key 'colour'",
        ),
        ("B", "", "{ 'struct': 'B' }", "key 'data' is missing"),
        ("B", "", "{ 'struct': 'B', 'data': [ ] }", "'data' must be an object"),
        (
            "S",
            "",
            "{ 'struct': 'S', 'data': { } }",
            "'S' is already defined at root.json:16",
        ),
        (
            "B",
            "",
            "{ 'struct': 'B', 'data': { 'm': 'str' } }",
            "'m' of 'B' is not documented",
        ),
        (
            "B",
            "# @n: n\n",
            "{ 'struct': 'B', 'data': { } }",
            "'n' is documented but no member of 'B'",
        ),
        (
            "C",
            "",
            "{ 'struct': 'B', 'data': { } }",
            "doc comment of 'B' must start with '@B:', not '@C:'",
        ),
        (
            "B",
            "# @m: m\n",
            "{ 'struct': 'B', 'data': { 'm': 'T' } }",
            "unknown type 'T'",
        ),
        (
            "B",
            "# @m: m\n",
            "{ 'struct': 'B', 'data': { 'm': [ 'str', 'str' ] } }",
            "an array type must name one element type",
        ),
        (
            "B",
            "# @m: m\n",
            "{ 'struct': 'B', 'base': 'S', 'data': { 'm': 'str' } }",
            "member 'm' of 'B' is already in its base",
        ),
        (
            "B",
            "",
            "{ 'struct': 'B', 'base': 'E', 'data': { } }",
            "a base must be a struct, 'E' is not",
        ),
        (
            "B",
            "",
            "{ 'struct': 'B', 'base': 'B', 'data': { } }",
            "'B' is its own base",
        ),
        (
            "B",
            "# @m: m\n",
            "{ 'struct': 'B', 'data': { 'm': 'B' } }",
            "'B' holds itself without end",
        ),
        (
            "B",
            "",
            "{ 'struct': 'B', 'data': { }, 'features': [ 'f', 'f' ] }",
            "duplicate feature 'f'",
        ),
        (
            "B",
            "# @x: x\n",
            "{ 'enum': 'B', 'data': [ 'x', 'x' ] }",
            "duplicate value 'x'",
        ),
        (
            "B",
            "# @a-b: 1\n# @a_b: 2\n",
            "{ 'enum': 'B', 'data': [ 'a-b', 'a_b' ] }",
            "'a_b' of 'B' has the same name in Rust as 'a-b'",
        ),
        (
            "B",
            "# @a-b: 1\n# @A-B: 2\n",
            "{ 'struct': 'B', 'data': { 'a-b': 'str', 'A-B': 'str' } }",
            "'A-B' of 'B' has the same name in Rust as 'a-b'",
        ),
        (
            "Event",
            "",
            "{ 'struct': 'Event', 'data': { } }",
            "'Event' is a name that generated code needs",
        ),
        ("B", "", "{ 'enum': 'B', 'data': [ ] }", "an enum needs a value"),
        (
            "B",
            "# @k: k\n",
            "{ 'union': 'B', 'base': { 'k': 'E' }, 'discriminator': 'l', 'data': { } }",
            "discriminator 'l' is not in the base",
        ),
        (
            "B",
            "# @k: k\n",
            "{ 'union': 'B', 'base': { '*k': 'E' }, 'discriminator': 'k', 'data': { } }",
            "discriminator 'k' must not be optional",
        ),
        (
            "B",
            "# @k: k\n",
            "{ 'union': 'B', 'base': { 'k': 'str' }, 'discriminator': 'k', 'data': { } }",
            "discriminator 'k' must be an enum",
        ),
        (
            "B",
            "# @k: k\n",
            "{ 'union': 'B', 'base': { 'k': 'E' }, 'discriminator': 'k', 'data': { 'y': 'S' } }",
            "branch 'y' is no value of 'E'",
        ),
        (
            "B",
            "# @k: k\n",
            "{ 'union': 'B', 'base': { 'k': 'E' }, 'discriminator': 'k', 'data': { 'x': 'str' } }",
            "a branch must be a struct or a union",
        ),
        (
            "B",
            "# @k: k\n# @m: m\n",
            "{ 'union': 'B', 'base': { 'k': 'E', 'm': 'str' }, 'discriminator': 'k', 'data': { 'x': 'S' } }",
            "member 'm' of branch 'S' is already in the base",
        ),
        (
            "B",
            "# @a: a\n# @b: b\n",
            "{ 'alternate': 'B', 'data': { 'a': 'str', 'b': 'E' } }",
            "branch 'b' cannot be told apart: another is a string too",
        ),
        (
            "B",
            "# @a: a\n",
            "{ 'alternate': 'B', 'data': { 'a': 'any' } }",
            "'any' cannot be told apart from anything",
        ),
        (
            "B",
            "",
            "{ 'alternate': 'B', 'data': { } }",
            "an alternate needs a branch",
        ),
        (
            "b",
            "",
            "{ 'command': 'b', 'data': 'E' }",
            "'data' must be a struct or a union, 'E' is not",
        ),
        ("b", "", "{ 'command': 'b', 'boxed': true }", "'boxed' needs 'data'"),
        (
            "b",
            "",
            "{ 'command': 'b', 'gen': 'no' }",
            "'gen' must be true or false",
        ),
        (
            "b",
            "",
            "{ 'command': 'b', 'if': 'TARGET_VAX' }",
            "unknown condition 'TARGET_VAX'",
        ),
        (
            "b",
            "",
            "{ 'command': 'b', 'if': { 'all': [ 'TARGET_S390X', 'TARGET_X86_64' ] } }",
            "'if' holds nowhere",
        ),
        (
            "b",
            "",
            "{ 'command': 'b', 'if': { 'xor': [ ] } }",
            "unknown operator 'xor'",
        ),
        ("B", "", "{ 'event': 'B', 'throttle': 'id' }", "'id' is not in 'data'"),
        (
            "B",
            "# @id: id\n",
            "{ 'event': 'B', 'data': { '*id': 'str' }, 'throttle': 'id' }",
            "'id' must be a string that is always there",
        ),
    ] {
        let said = complaint(&documented(name, members, definition));
        let reason = said.splitn(3, ':').nth(2).map(str::trim);
        assert_eq!(reason, Some(expected), "{definition}");
        assert!(said.starts_with("root.json:"), "{said}");
    }
}

#[test]
fn the_schemas_we_ship_compile() {
    for root in ["qmp", "remuda"] {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{root}.json"));
        let files = compile(&module, root, &|path| std::fs::read_to_string(path)).unwrap();
        for json in &files[1..] {
            assert!(
                serde_json::from_str::<Value>(&json.contents).unwrap().is_array(),
                "{}",
                json.name
            );
        }
    }
}

#[test]
fn two_definitions_must_not_become_one_item() {
    let text = "##\n# @DoArgs:\n#\n# It.\n##\n{ 'struct': 'DoArgs', 'data': { } }\n\
                ##\n# @do:\n#\n# It.\n##\n{ 'command': 'do' }\n";
    assert_eq!(
        complaint(text),
        "root.json:12: 'do' has the same name in Rust as 'DoArgs'"
    );
}
