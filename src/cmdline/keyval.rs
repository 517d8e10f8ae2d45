//! Dotted keys: `a.b=c` makes an object in an object, `a.0=x,a.1=y` a list.

use serde_json::{Map, Value};

use super::error::Error;
use super::opts::{self, Item};

/// Reads `text` into nested objects of texts; the first value may stand for `implied`. The second half of the result is
/// whether `help` was asked for.
///
/// # Errors
/// Names the key that is malformed, lacks its value, or is used both as a value and as an object.
pub fn parse(text: &str, implied: Option<&str>) -> Result<(Map<String, Value>, bool), Error> {
    let mut pairs = Vec::new();
    let mut help = false;
    for (index, item) in opts::split(text).into_iter().enumerate() {
        match (item, implied) {
            (Item::Pair(key, value), _) => pairs.push((key, value)),
            (Item::Bare(word), _) if crate::qapi::text::is_help(&word) => help = true,
            (Item::Bare(value), Some(key)) if index == 0 => pairs.push((key.to_owned(), value)),
            (Item::Bare(key), _) => {
                return Err(Error::new(format!("Expected '=' after parameter '{key}'")));
            }
        }
    }
    Ok((from_pairs(pairs)?, help))
}

/// Nests keys and values that were split elsewhere.
///
/// # Errors
/// Names the key that is malformed or is used both as a value and as an object.
pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Map<String, Value>, Error> {
    let mut root = Map::new();
    for (key, value) in pairs {
        insert(&mut root, &key, value)?;
    }
    listify_all(&mut root, "")?;
    Ok(root)
}

/// Lays `newer` over `older`: objects are merged, everything else is replaced.
///
/// # Errors
/// Names the key that is an object on one side only.
pub fn merge(older: &mut Map<String, Value>, newer: Map<String, Value>) -> Result<(), Error> {
    for (key, value) in newer {
        match (older.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more)?,
            (Some(Value::Object(_)), _) | (Some(Value::String(_)), Value::Object(_)) => {
                return Err(inconsistent(&key));
            }
            (_, value) => {
                older.insert(key, value);
            }
        }
    }
    Ok(())
}

/// How deep keys may nest; far more than any option has, and little enough for recursion.
const MAX_DEPTH: usize = 64;

fn insert(root: &mut Map<String, Value>, key: &str, value: String) -> Result<(), Error> {
    let fragments: Vec<&str> = key.split('.').collect();
    if fragments.len() > MAX_DEPTH || !fragments.iter().all(|fragment| is_fragment(fragment)) {
        return Err(Error::invalid_parameter(key));
    }
    let Some((last, parents)) = fragments.split_last() else {
        return Err(Error::invalid_parameter(key));
    };
    let mut node = root;
    let mut prefix = 0;
    for parent in parents {
        prefix += parent.len();
        let child = node
            .entry((*parent).to_owned())
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(map) = child else {
            return Err(inconsistent(&key[..prefix]));
        };
        node = map;
        prefix += 1;
    }
    if matches!(node.get(*last), Some(Value::Object(_))) {
        return Err(inconsistent(key));
    }
    node.insert((*last).to_owned(), Value::String(value));
    Ok(())
}

/// A key between dots: a list index, or a name of letters, digits, `-` and `_` that starts with a letter. Names may
/// carry a reverse domain name with two underscores in front.
fn is_fragment(fragment: &str) -> bool {
    let is_index = !fragment.is_empty() && fragment.chars().all(|c| c.is_ascii_digit());
    let name = fragment.strip_prefix("__").unwrap_or(fragment);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    is_index || is_name
}

fn inconsistent(key: &str) -> Error {
    Error::new(format!("Parameters '{key}.*' used inconsistently"))
}

/// Turns every object whose keys are indices into a list.
fn listify_all(map: &mut Map<String, Value>, prefix: &str) -> Result<(), Error> {
    for (key, value) in map.iter_mut() {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        if let Value::Object(inner) = value {
            listify_all(inner, &path)?;
            if let Some(list) = listify(inner, &path)? {
                *value = Value::Array(list);
            }
        }
    }
    Ok(())
}

fn listify(map: &Map<String, Value>, path: &str) -> Result<Option<Vec<Value>>, Error> {
    let indices: Vec<Option<usize>> = map.keys().map(|key| key.parse().ok()).collect();
    if indices.iter().all(Option::is_none) {
        return Ok(None);
    }
    if indices.iter().any(Option::is_none) {
        return Err(inconsistent(path));
    }
    let mut list: Vec<(usize, &Value)> = indices.into_iter().flatten().zip(map.values()).collect();
    list.sort_by_key(|(index, _)| *index);
    for (expected, (index, _)) in list.iter().enumerate() {
        if *index != expected {
            return Err(Error::new(format!("Parameter '{path}.{expected}' missing")));
        }
    }
    Ok(Some(list.into_iter().map(|(_, value)| value.clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(text: &str) -> Value {
        Value::Object(parse(text, Some("type")).unwrap().0)
    }

    fn message(text: &str) -> String {
        parse(text, Some("type")).unwrap_err().message
    }

    #[test]
    fn dotted_keys_nest_and_list() {
        assert_eq!(
            nested("q35,smp.cpus=2,smp.maxcpus=4,l.1=b,l.0=a,x=1,,2"),
            json!({"type": "q35", "smp": {"cpus": "2", "maxcpus": "4"}, "l": ["a", "b"], "x": "1,2"})
        );
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(message("a=1,b"), "Expected '=' after parameter 'b'");
        assert_eq!(message("=x"), "Invalid parameter ''");
        assert_eq!(message("a.=x"), "Invalid parameter 'a.'");
        assert_eq!(message("a=1,a.b=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(message("a.b=1,a=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(message("a.0=1,a.b=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(message("a.0=1,a.2=2"), "Parameter 'a.1' missing");
        let deep = vec!["a"; 100_000].join(".");
        assert_eq!(message(&format!("{deep}=1")), format!("Invalid parameter '{deep}'"));
    }

    #[test]
    fn merging_keeps_what_is_not_named_again() {
        let mut older = parse("a.b=1,c=2", None).unwrap().0;
        merge(&mut older, parse("a.d=3,c=4", None).unwrap().0).unwrap();
        assert_eq!(
            Value::Object(older.clone()),
            json!({"a": {"b": "1", "d": "3"}, "c": "4"})
        );
        let error = merge(&mut older, parse("a=5", None).unwrap().0).unwrap_err();
        assert_eq!(error.message, "Parameters 'a.*' used inconsistently");
    }
}
