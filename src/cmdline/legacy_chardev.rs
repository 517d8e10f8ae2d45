//! Character devices in one word, as `-serial`, `-monitor` and `-qmp` take them: `tcp:host:port,server=on`, `pty`, ...

use serde_json::{Map, Value, json};

use super::error::Error;
use super::opts::Opts;
use super::table::CHARDEV;

/// A word read into what `-chardev` would have said.
#[derive(Debug)]
pub(super) enum Legacy {
    /// `chardev:ID`: a device declared elsewhere.
    Reference(String),
    /// A device of its own.
    Device {
        /// `id`, `backend` and the backend's parameters.
        map: Map<String, Value>,
        /// `mon:`: a monitor shares it.
        with_monitor: bool,
        /// Advice to the user.
        warnings: Vec<String>,
    },
}

/// Before a device that a monitor shares.
pub(super) const WITH_MONITOR: &str = "mon:";

/// Reads `text`; a device of its own gets the id `label`. `mon:` is only understood where `may_share` is set.
///
/// # Errors
/// Says that there is no such back end, or which parameter is wrong.
pub(super) fn parse(label: &str, text: &str, may_share: bool) -> Result<Legacy, Error> {
    if let Some(id) = text.strip_prefix("chardev:") {
        return Ok(Legacy::Reference(id.to_owned()));
    }
    let (text, with_monitor) = match text.strip_prefix(WITH_MONITOR) {
        Some(_) if !may_share => return Err(Error::new("mon: isn't supported in this context")),
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (backend, opts) = parse_backend(text)?;
    let mut map = Map::new();
    map.insert("id".to_owned(), json!(label));
    map.insert("backend".to_owned(), json!(backend));
    if with_monitor {
        map.insert("mux".to_owned(), json!("on"));
        if backend == "stdio" {
            map.insert("signal".to_owned(), json!("off"));
        }
    }
    map.extend(opts.to_map());
    Ok(Legacy::Device {
        map,
        with_monitor,
        warnings: opts.warnings().to_vec(),
    })
}

fn parse_backend(text: &str) -> Result<(&'static str, Opts), Error> {
    let unknown = || Error::new(format!("'{text}' is not a valid char driver"));
    if let Some(backend) = PLAIN.iter().find(|backend| **backend == text) {
        return Ok((backend, Opts::default()));
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return match text.starts_with("/dev/") {
            true => Ok(("serial", single("path", text)?)),
            false => Err(unknown()),
        };
    };
    match kind {
        "unix" => Ok(("socket", Opts::parse_implying(rest, Some("path"), &CHARDEV)?)),
        "file" => Ok(("file", single("path", rest)?)),
        "pipe" => Ok(("pipe", single("path", rest)?)),
        "pty" => Ok(("pty", single("path", rest)?)),
        "tcp" => Ok(("socket", address_and_options(text, rest, None)?)),
        "telnet" => Ok(("socket", address_and_options(text, rest, Some("telnet"))?)),
        "websocket" => Ok(("socket", address_and_options(text, rest, Some("websocket"))?)),
        "udp" => Ok(("udp", udp_addresses(text, rest)?)),
        "vc" => Ok(("vc", Opts::default())),
        _ => Err(unknown()),
    }
}

/// Back ends that need no parameters.
const PLAIN: [&str; 4] = ["null", "pty", "stdio", "vc"];

fn single(key: &str, value: &str) -> Result<Opts, Error> {
    Opts::from_pairs(vec![(key.to_owned(), value.to_owned())], &CHARDEV)
}

/// `[HOST]:PORT[,OPTIONS]`.
fn address_and_options(whole: &str, text: &str, protocol: Option<&str>) -> Result<Opts, Error> {
    let (address, options) = text.split_once(',').unwrap_or((text, ""));
    let (host, port) = split_address(address).ok_or_else(|| unusable(whole))?;
    let options = Opts::parse_implying(options, None, &CHARDEV)?;
    let mut pairs = vec![
        ("host".to_owned(), host.to_owned()),
        ("port".to_owned(), port.to_owned()),
    ];
    pairs.extend(protocol.map(|name| (name.to_owned(), "on".to_owned())));
    options.prefixed(pairs, &CHARDEV)
}

/// `[HOST]:PORT[@[LOCAL]:LOCALPORT]`.
fn udp_addresses(whole: &str, text: &str) -> Result<Opts, Error> {
    let (remote, local) = match text.split_once('@') {
        Some((remote, local)) => (remote, Some(local)),
        None => (text, None),
    };
    let mut pairs = Vec::new();
    let mut add = |address: &str, keys: [&str; 2]| {
        let (host, port) = split_address(address).ok_or_else(|| unusable(whole))?;
        pairs.push((keys[0].to_owned(), host.to_owned()));
        pairs.push((keys[1].to_owned(), port.to_owned()));
        Ok(())
    };
    add(remote, ["host", "port"])?;
    if let Some(local) = local {
        add(local, ["localaddr", "localport"])?;
    }
    Opts::from_pairs(pairs, &CHARDEV)
}

/// Host and port; an IPv6 address stands in brackets, which are taken off.
fn split_address(address: &str) -> Option<(&str, &str)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => address.split_once(':')?,
    };
    (!port.is_empty()).then_some((host, port))
}

fn unusable(text: &str) -> Error {
    Error::new(format!("'{text}' is not a valid char driver: expected HOST:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Value {
        match parse("x0", text, true) {
            Ok(Legacy::Device { map, .. }) => Value::Object(map),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn words_become_chardev_options() {
        assert_eq!(
            device("unix:/a,,b,server=on,wait=off"),
            json!({"id": "x0", "backend": "socket", "path": "/a,b", "server": "on", "wait": "off"})
        );
        assert_eq!(
            device("tcp:localhost:4444,server,nowait"),
            json!({"id": "x0", "backend": "socket", "host": "localhost", "port": "4444", "server": "on", "wait": "off"})
        );
        assert_eq!(
            device("telnet:[::1]:23"),
            json!({"id": "x0", "backend": "socket", "host": "::1", "port": "23", "telnet": "on"})
        );
        assert_eq!(
            device("udp::5000@127.0.0.1:6000"),
            json!({"id": "x0", "backend": "udp", "host": "", "port": "5000", "localaddr": "127.0.0.1",
                "localport": "6000"})
        );
        assert_eq!(
            device("mon:stdio"),
            json!({"id": "x0", "backend": "stdio", "mux": "on", "signal": "off"})
        );
        assert_eq!(device("file:/a,b=c")["path"], "/a,b=c");
        assert_eq!(
            device("/dev/ttyS0"),
            json!({"id": "x0", "backend": "serial", "path": "/dev/ttyS0"})
        );
        assert!(matches!(parse("x0", "chardev:c", false), Ok(Legacy::Reference(id)) if id == "c"));
    }

    #[test]
    fn words_that_mean_nothing() {
        let message = |text| parse("x0", text, false).unwrap_err().message;
        assert_eq!(message("foo"), "'foo' is not a valid char driver");
        assert_eq!(
            message("tcp:x"),
            "'tcp:x' is not a valid char driver: expected HOST:PORT"
        );
        assert_eq!(message("tcp:h:1,foo=bar"), "Invalid parameter 'foo'");
        assert_eq!(message("unix:/tmp/q,wait=x"), "Parameter 'wait' expects 'on' or 'off'");
        assert_eq!(message("mon:stdio"), "mon: isn't supported in this context");
    }
}
