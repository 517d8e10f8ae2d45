//! What a client sends: `{"execute": ..., "arguments": ..., "id": ...}`.

use serde_json::{Map, Value};

use super::queue::Pending;
use crate::qapi::Error;

/// A request, or what is wrong with it, and the id to answer it with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parsed {
    /// What the client calls it.
    pub(super) id: Option<Value>,
    /// Whether it is to be run ahead of those that wait.
    pub(super) oob: bool,
    /// The command.
    pub(super) pending: Result<Pending, Error>,
}

impl Parsed {
    /// A mistake, to be answered in its turn.
    pub(super) fn bad(id: Option<Value>, error: Error) -> Self {
        Self {
            id,
            oob: false,
            pending: Err(error),
        }
    }
}

/// Reads a request. `oob_is_on` says whether the client may send some out of band.
pub(super) fn parse(value: Value, oob_is_on: bool) -> Parsed {
    let Value::Object(mut members) = value else {
        return Parsed::bad(None, Error::generic("QMP input must be a JSON object"));
    };
    let id = members.shift_remove("id");
    let oob = oob_is_on && members.contains_key(OUT_OF_BAND) && !members.contains_key(IN_BAND);
    // Only its id tells which request such a reply is for.
    let pending = match oob && id.is_none() {
        true => Err(Error::generic("QMP input lacks member 'id'")),
        false => command(members, oob_is_on),
    };
    Parsed { id, oob, pending }
}

const IN_BAND: &str = "execute";
const OUT_OF_BAND: &str = "exec-oob";

fn command(members: Map<String, Value>, oob_is_on: bool) -> Result<Pending, Error> {
    let mut command: Option<(String, String)> = None;
    let mut arguments = Map::new();
    for (key, value) in members {
        match (key.as_str(), value) {
            (IN_BAND, value) => name(&mut command, key, value)?,
            (OUT_OF_BAND, value) if oob_is_on => name(&mut command, key, value)?,
            ("arguments", Value::Object(members)) => arguments = members,
            ("arguments", _) => return Err(input_member("arguments", "must be an object")),
            (other, _) => return Err(input_member(other, "is unexpected")),
        }
    }
    match command {
        Some((_, command)) => Ok(Pending { command, arguments }),
        None => Err(Error::generic(format!("QMP input lacks member '{IN_BAND}'"))),
    }
}

/// Takes the name of the command from the member `key`.
fn name(command: &mut Option<(String, String)>, key: String, value: Value) -> Result<(), Error> {
    let Value::String(name) = value else {
        return Err(input_member(&key, "must be a string"));
    };
    if let Some((other, _)) = command {
        return Err(input_member(&key, &format!("clashes with '{other}'")));
    }
    *command = Some((key, name));
    Ok(())
}

fn input_member(name: &str, what: &str) -> Error {
    Error::generic(format!("QMP input member '{name}' {what}"))
}
