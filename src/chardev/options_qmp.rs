//! Character devices from the `backend` argument of `chardev-add` and `chardev-change`.

use serde_json::{Map, Value, json};

use super::error::OptionError;
use super::options::{
    BackendOptions, ChardevOptions, FdAddress, InetAddress, LogOptions, SocketAddress, SocketOptions, UnixAddress,
};
use super::options_cli::refuse_tls;
use super::ringbuf;

impl ChardevOptions {
    /// Reads a `ChardevBackend` of QMP: `{"type": ..., "data": {...}}`.
    ///
    /// # Errors
    /// A member is missing, unknown, of the wrong type, or contradicts another one.
    pub fn from_backend(id: &str, backend: &Value) -> Result<Self, OptionError> {
        let mut union = Members::new(backend, "backend")?;
        let kind = union.required_text("type")?;
        let data = union.required("data")?;
        union.finish()?;
        let mut data = Members::new(&data, "backend.data")?;
        let log = match data.text("logfile")? {
            Some(path) => Some(LogOptions {
                path,
                append: data.boolean("logappend")?.unwrap_or(false),
            }),
            None => {
                data.boolean("logappend")?;
                None
            }
        };
        let backend = data.backend(&kind)?;
        data.finish()?;
        Ok(Self {
            id: id.to_owned(),
            backend,
            mux: false,
            log,
        })
    }
}

impl ChardevOptions {
    /// The same as a `ChardevBackend` of QMP. A shared device (`mux=on`) is more than one back end; it comes out as
    /// the one that is shared.
    #[must_use]
    pub fn to_backend(&self) -> Value {
        let (kind, mut data) = match &self.backend {
            BackendOptions::Null => ("null", Map::new()),
            BackendOptions::Pty { link } => ("pty", members([("path", link.clone().map(Value::from))])),
            BackendOptions::File { output, input, append } => (
                "file",
                members([
                    ("out", Some(output.as_str().into())),
                    ("in", input.clone().map(Value::from)),
                    ("append", Some((*append).into())),
                ]),
            ),
            BackendOptions::Pipe { path } => ("pipe", members([("device", Some(path.as_str().into()))])),
            BackendOptions::Serial { path } => ("serial", members([("device", Some(path.as_str().into()))])),
            BackendOptions::Stdio { signal } => ("stdio", members([("signal", Some((*signal).into()))])),
            BackendOptions::Ringbuf { size } => ("ringbuf", members([("size", Some((*size).into()))])),
            BackendOptions::Socket(socket) => ("socket", socket.to_members()),
            BackendOptions::Udp { remote, local } => (
                "udp",
                members([
                    ("remote", Some(remote.to_legacy())),
                    ("local", local.as_ref().map(InetAddress::to_legacy)),
                ]),
            ),
            BackendOptions::Mux { base } => ("mux", members([("chardev", Some(base.as_str().into()))])),
        };
        if let Some(LogOptions { path, append }) = &self.log {
            data.insert("logfile".into(), path.as_str().into());
            data.insert("logappend".into(), (*append).into());
        }
        json!({"type": kind, "data": data})
    }
}

impl SocketOptions {
    fn to_members(&self) -> Map<String, Value> {
        let address = match &self.address {
            SocketAddress::Inet(inet) => inet.to_legacy(),
            SocketAddress::Unix(unix) => legacy(
                "unix",
                members([
                    ("path", Some(unix.path.as_str().into())),
                    ("abstract", unix.abstract_name.then_some(true.into())),
                    ("tight", (unix.abstract_name && !unix.tight).then_some(false.into())),
                ]),
            ),
            SocketAddress::Fd(FdAddress::Named(name)) => legacy("fd", members([("str", Some(name.as_str().into()))])),
            SocketAddress::Fd(FdAddress::Inherited(number)) => {
                legacy("fd", members([("str", Some(number.to_string().into()))]))
            }
        };
        let interval = self
            .reconnect
            .map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        members([
            ("addr", Some(address)),
            ("server", Some(self.server.into())),
            ("wait", self.server.then(|| self.wait.into())),
            ("nodelay", self.nodelay.then_some(true.into())),
            ("telnet", self.telnet.then_some(true.into())),
            ("reconnect-ms", interval.map(Value::from)),
        ])
    }
}

impl InetAddress {
    fn to_legacy(&self) -> Value {
        let data = members([
            ("host", Some(self.host.as_str().into())),
            ("port", Some(self.port.as_str().into())),
            ("to", self.to.map(Value::from)),
            ("ipv4", self.ipv4.map(Value::from)),
            ("ipv6", self.ipv6.map(Value::from)),
        ]);
        legacy("inet", data)
    }
}

/// A `SocketAddressLegacy`.
fn legacy(kind: &str, data: Map<String, Value>) -> Value {
    members([("type", Some(kind.into())), ("data", Some(data.into()))]).into()
}

/// An object of the members that are there.
fn members<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The members of one object that are not yet read.
struct Members {
    map: Map<String, Value>,
    path: String,
}

impl Members {
    fn new(value: &Value, path: impl Into<String>) -> Result<Self, OptionError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { map: map.clone(), path }),
            _ => Err(OptionError::wrong_type(&path, "object")),
        }
    }

    fn backend(&mut self, kind: &str) -> Result<BackendOptions, OptionError> {
        match kind {
            "null" => Ok(BackendOptions::Null),
            "pty" => Ok(BackendOptions::Pty {
                link: self.text("path")?,
            }),
            "file" => Ok(BackendOptions::File {
                output: self.required_text("out")?,
                input: self.text("in")?,
                append: self.boolean("append")?.unwrap_or(false),
            }),
            "pipe" => Ok(BackendOptions::Pipe {
                path: self.required_text("device")?,
            }),
            "serial" => Ok(BackendOptions::Serial {
                path: self.required_text("device")?,
            }),
            "stdio" => Ok(BackendOptions::Stdio {
                signal: self.boolean("signal")?.unwrap_or(true),
            }),
            "ringbuf" | "memory" => Ok(BackendOptions::Ringbuf {
                size: match self.unsigned("size")? {
                    None | Some(0) => ringbuf::DEFAULT_SIZE,
                    Some(size) => size,
                },
            }),
            "socket" => self.socket().map(BackendOptions::Socket),
            "udp" => Ok(BackendOptions::Udp {
                remote: self.udp_address("remote")?,
                local: self.local_address()?,
            }),
            "mux" => Ok(BackendOptions::Mux {
                base: self.required_text("chardev")?,
            }),
            _ => Err(OptionError::NoSuchType(kind.to_owned())),
        }
    }

    fn socket(&mut self) -> Result<SocketOptions, OptionError> {
        let address = self.address("addr")?;
        refuse_tls(self.text("tls-creds")?, self.text("tls-authz")?)?;
        if self.boolean("websocket")?.unwrap_or(false) {
            return Err(OptionError::Websocket);
        }
        let server = self.boolean("server")?.unwrap_or(true);
        let telnet = self.boolean("telnet")?.unwrap_or(false) | self.boolean("tn3270")?.unwrap_or(false);
        let nodelay = self.boolean("nodelay")?.unwrap_or(false);
        let mut options = SocketOptions {
            address,
            server,
            wait: false,
            nodelay,
            telnet,
            reconnect: None,
        };
        let wait = self.boolean("wait")?;
        options.set_wait(wait)?;
        let milliseconds = self.unsigned("reconnect-ms")?;
        let seconds = self.unsigned("reconnect")?;
        options.set_reconnect(seconds.map(saturated), milliseconds.map(saturated))?;
        Ok(options)
    }

    /// A `SocketAddressLegacy`.
    fn address(&mut self, name: &str) -> Result<SocketAddress, OptionError> {
        let mut union = self.required_object(name)?;
        let kind = union.required_text("type")?;
        let mut data = union.required_object("data")?;
        union.finish()?;
        let address = match kind.as_str() {
            "inet" => SocketAddress::Inet(data.inet()?),
            "unix" => SocketAddress::Unix(UnixAddress {
                path: data.required_text("path")?,
                abstract_name: data.boolean("abstract")?.unwrap_or(false),
                tight: data.boolean("tight")?.unwrap_or(true),
            }),
            "fd" => SocketAddress::Fd(FdAddress::Named(data.required_text("str")?)),
            _ => {
                return Err(OptionError::NoSuchType(kind));
            }
        };
        data.finish()?;
        Ok(address)
    }

    fn inet(&mut self) -> Result<InetAddress, OptionError> {
        self.boolean("numeric")?;
        Ok(InetAddress {
            host: self.required_text("host")?,
            port: self.required_text("port")?,
            to: self.unsigned("to")?.map(|to| u16::try_from(to).unwrap_or(u16::MAX)),
            ipv4: self.boolean("ipv4")?,
            ipv6: self.boolean("ipv6")?,
        })
    }

    fn udp_address(&mut self, name: &str) -> Result<InetAddress, OptionError> {
        match self.address(name)? {
            SocketAddress::Inet(address) => Ok(address),
            _ => Err(OptionError::NotInet),
        }
    }

    fn local_address(&mut self) -> Result<Option<InetAddress>, OptionError> {
        if self.map.contains_key("local") {
            self.udp_address("local").map(Some)
        } else {
            Ok(None)
        }
    }

    fn required(&mut self, name: &str) -> Result<Value, OptionError> {
        let value = self.map.shift_remove(name);
        value.ok_or_else(|| OptionError::Missing(self.full(name)))
    }

    fn required_object(&mut self, name: &str) -> Result<Self, OptionError> {
        let value = self.required(name)?;
        Self::new(&value, self.full(name))
    }

    fn required_text(&mut self, name: &str) -> Result<String, OptionError> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            _ => Err(OptionError::wrong_type(&self.full(name), "string")),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, OptionError> {
        if self.map.contains_key(name) {
            self.required_text(name).map(Some)
        } else {
            Ok(None)
        }
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>, OptionError> {
        match self.map.shift_remove(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(on)),
            Some(_) => Err(OptionError::wrong_type(&self.full(name), "boolean")),
        }
    }

    fn unsigned(&mut self, name: &str) -> Result<Option<u64>, OptionError> {
        match self.map.shift_remove(name) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| OptionError::wrong_type(&self.full(name), "integer")),
        }
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn finish(self) -> Result<(), OptionError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(OptionError::Unexpected(self.full(name))),
        }
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(backend: &Value) -> Result<BackendOptions, String> {
        ChardevOptions::from_backend("a", backend)
            .map(|options| options.backend)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn libvirts_hotplug_forms() {
        let socket = json!({"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "charchannel0"}},
            "wait": false, "server": true}});
        let Ok(BackendOptions::Socket(socket)) = parse(&socket) else {
            panic!("not a socket")
        };
        assert_eq!(
            socket.address,
            SocketAddress::Fd(FdAddress::Named("charchannel0".into()))
        );
        assert!(socket.server && !socket.wait);
        assert_eq!(
            parse(&json!({"type": "pty", "data": {}})),
            Ok(BackendOptions::Pty { link: None })
        );
        let file = json!({"type": "file", "data": {"out": "/dev/fdset/2", "append": true}});
        let expected = BackendOptions::File {
            output: "/dev/fdset/2".into(),
            input: None,
            append: true,
        };
        assert_eq!(parse(&file), Ok(expected));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            json!({"backend": "pty", "id": "a", "path": "/link", "logfile": "/log", "logappend": "on"}),
            json!({"backend": "file", "id": "a", "path": "/x", "append": "on"}),
            json!({"backend": "socket", "id": "a", "path": "x", "abstract": "on", "tight": "off", "server": "on"}),
            json!({"backend": "socket", "id": "a", "host": "h", "port": "1", "ipv4": "on", "reconnect": "2"}),
            json!({"backend": "socket", "id": "a", "fd": "channel"}),
            json!({"backend": "udp", "id": "a", "port": "1", "localport": "2"}),
            json!({"backend": "stdio", "id": "a", "signal": "off"}),
            json!({"backend": "ringbuf", "id": "a", "size": "16"}),
            json!({"backend": "pipe", "id": "a", "path": "/x"}),
            json!({"backend": "mux", "id": "a", "chardev": "b"}),
        ] {
            let options = ChardevOptions::from_monitor(text.as_object().unwrap()).unwrap();
            assert_eq!(
                ChardevOptions::from_backend("a", &options.to_backend()),
                Ok(options),
                "{text}"
            );
        }
    }

    #[test]
    fn complaints_are_those_clients_know() {
        let unix = json!({"type": "unix", "data": {"path": "/x"}});
        for (backend, expected) in [
            (
                json!({"type": "file", "data": {}}),
                "Parameter 'backend.data.out' is missing",
            ),
            (json!({"type": "file"}), "Parameter 'backend.data' is missing"),
            (
                json!({"type": "bogus", "data": {}}),
                "Parameter 'type' does not accept value 'bogus'",
            ),
            (
                json!({"type": "file", "data": {"out": "x", "bogus": 1}}),
                "Parameter 'backend.data.bogus' is unexpected",
            ),
            (
                json!({"type": "file", "data": {"out": 1}}),
                "Invalid parameter type for 'backend.data.out', expected: string",
            ),
            (
                json!({"type": "socket", "data": {"addr": unix, "server": true, "reconnect": 1}}),
                "'reconnect' option is incompatible with socket in server listen mode",
            ),
            (
                json!({"type": "socket", "data": {"addr": unix, "server": false, "wait": true}}),
                "'wait' option is incompatible with socket in client connect mode",
            ),
        ] {
            assert_eq!(parse(&backend).unwrap_err(), expected, "{backend}");
        }
    }
}
