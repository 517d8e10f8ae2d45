//! Character devices from the keys and texts of `-chardev`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::error::OptionError;
use super::options::{
    BackendOptions, ChardevOptions, FdAddress, InetAddress, LogOptions, SocketAddress, SocketOptions, UnixAddress,
};
use super::ringbuf;
use crate::qapi::text;

impl ChardevOptions {
    /// Reads the options of one `-chardev`: `backend`, `id` and the back end's own keys, all of them texts.
    ///
    /// # Errors
    /// A key is missing, has a value it cannot have, or contradicts another one.
    pub fn from_command_line(map: &Map<String, Value>) -> Result<Self, OptionError> {
        Self::from_keys(&Keys { map, inherited: true })
    }

    /// The same as typed at a monitor, where `fd=` is a name of `getfd` rather than an inherited number.
    ///
    /// # Errors
    /// As [`Self::from_command_line`].
    pub fn from_monitor(map: &Map<String, Value>) -> Result<Self, OptionError> {
        Self::from_keys(&Keys { map, inherited: false })
    }

    fn from_keys(keys: &Keys) -> Result<Self, OptionError> {
        let id = keys.text("id")?.ok_or(OptionError::NoId)?;
        let backend = keys
            .text("backend")?
            .ok_or_else(|| OptionError::NoBackend(id.clone()))?;
        let log = match keys.text("logfile")? {
            Some(path) => Some(LogOptions {
                path,
                append: keys.switch("logappend")?.unwrap_or(false),
            }),
            None => None,
        };
        Ok(Self {
            id,
            backend: keys.backend(&backend)?,
            mux: keys.switch("mux")?.unwrap_or(false),
            log,
        })
    }
}

/// The keys and texts of one option.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// Whether descriptors are meant by inherited numbers.
    inherited: bool,
}

impl Keys<'_> {
    fn backend(&self, name: &str) -> Result<BackendOptions, OptionError> {
        match name {
            "null" => Ok(BackendOptions::Null),
            "pty" => Ok(BackendOptions::Pty {
                link: self.text("path")?,
            }),
            "file" => Ok(BackendOptions::File {
                output: self.required("path", "chardev: file: no filename given")?,
                input: self.text("input-path")?,
                append: self.switch("append")?.unwrap_or(false),
            }),
            "pipe" => Ok(BackendOptions::Pipe {
                path: self.required("path", "chardev: pipe: no device path given")?,
            }),
            "serial" | "tty" => Ok(BackendOptions::Serial {
                path: self.required("path", "chardev: serial/tty: no device path given")?,
            }),
            "stdio" => Ok(BackendOptions::Stdio {
                signal: self.switch("signal")?.unwrap_or(true),
            }),
            "ringbuf" | "memory" => Ok(BackendOptions::Ringbuf {
                size: self.ringbuf_size()?,
            }),
            "socket" => self.socket().map(BackendOptions::Socket),
            "udp" => self.udp(),
            "mux" => Ok(BackendOptions::Mux {
                base: self.required("chardev", "chardev: mux: no chardev given")?,
            }),
            "vc" => Err(OptionError::NoDisplay),
            _ => Err(OptionError::NoSuchBackend(name.to_owned())),
        }
    }

    fn ringbuf_size(&self) -> Result<u64, OptionError> {
        let Some(text) = self.text("size")? else {
            return Ok(ringbuf::DEFAULT_SIZE);
        };
        match text::parse_size(&text, 1) {
            Ok(0) => Ok(ringbuf::DEFAULT_SIZE),
            Ok(size) => Ok(size),
            Err(_) => Err(OptionError::Size),
        }
    }

    fn socket(&self) -> Result<SocketOptions, OptionError> {
        let (path, host, fd) = (self.text("path")?, self.text("host")?, self.text("fd")?);
        if [path.is_some(), host.is_some(), fd.is_some()]
            .into_iter()
            .filter(|given| *given)
            .count()
            > 1
        {
            return Err(OptionError::SeveralAddresses);
        }
        let server = self.switch("server")?.unwrap_or(false);
        refuse_tls(self.text("tls-creds")?, self.text("tls-authz")?)?;
        if self.switch("websocket")?.unwrap_or(false) {
            return Err(OptionError::Websocket);
        }
        let telnet = self.switch("telnet")?.unwrap_or(false) || self.switch("tn3270")?.unwrap_or(false);
        let address = match path {
            Some(path) => SocketAddress::Unix(UnixAddress {
                path,
                abstract_name: self.switch("abstract")?.unwrap_or(false),
                tight: self.switch("tight")?.unwrap_or(true),
            }),
            None if host.is_some() || self.text("port")?.is_some() => SocketAddress::Inet(InetAddress {
                host: host.unwrap_or_default(),
                port: self.required("port", "chardev: socket: no port given")?,
                to: self.number("to")?,
                ipv4: self.switch("ipv4")?,
                ipv6: self.switch("ipv6")?,
            }),
            None => {
                let fd = fd.unwrap_or_default();
                SocketAddress::Fd(match fd.parse() {
                    Ok(number) if self.inherited => FdAddress::Inherited(number),
                    Err(_) if self.inherited => {
                        return Err(OptionError::FdNumber(fd));
                    }
                    _ => FdAddress::Named(fd),
                })
            }
        };
        let mut options = SocketOptions {
            address,
            server,
            wait: server,
            nodelay: match self.switch("nodelay")? {
                Some(nodelay) => nodelay,
                None => !self.switch("delay")?.unwrap_or(true),
            },
            telnet,
            reconnect: None,
        };
        options.set_wait(self.switch("wait")?)?;
        options.set_reconnect(self.number("reconnect")?, self.number("reconnect-ms")?)?;
        Ok(options)
    }

    fn udp(&self) -> Result<BackendOptions, OptionError> {
        let (ipv4, ipv6) = (self.switch("ipv4")?, self.switch("ipv6")?);
        let remote = InetAddress {
            host: self
                .text("host")?
                .filter(|host| !host.is_empty())
                .unwrap_or_else(|| "localhost".into()),
            port: self.required("port", "chardev: udp: remote port not specified")?,
            to: None,
            ipv4,
            ipv6,
        };
        let (host, port) = (self.text("localaddr")?, self.text("localport")?);
        let local = (host.is_some() || port.is_some()).then(|| InetAddress {
            host: host.unwrap_or_default(),
            port: port.filter(|port| !port.is_empty()).unwrap_or_else(|| "0".into()),
            to: None,
            ipv4,
            ipv6,
        });
        Ok(BackendOptions::Udp { remote, local })
    }

    fn required(&self, key: &str, complaint: &'static str) -> Result<String, OptionError> {
        self.text(key)?.ok_or(OptionError::Required(complaint))
    }

    /// A text; numbers and booleans of JSON are taken in their text form.
    fn text(&self, key: &str) -> Result<Option<String>, OptionError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(on)) => Ok(Some(if *on { "on" } else { "off" }.into())),
            Some(_) => Err(OptionError::wrong_type(key, "string")),
        }
    }

    fn switch(&self, key: &str) -> Result<Option<bool>, OptionError> {
        match self.text(key)?.as_deref() {
            None => Ok(None),
            Some("on" | "yes" | "true" | "y") => Ok(Some(true)),
            Some("off" | "no" | "false" | "n") => Ok(Some(false)),
            Some(_) => Err(OptionError::expects(key, "'on' or 'off'")),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, OptionError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| OptionError::expects(key, "a number"))
    }
}

/// Says what is wrong with the TLS options `tls-creds` and `tls-authz`, if there are any: no object is TLS credentials.
pub(super) fn refuse_tls(credentials: Option<String>, authorization: Option<String>) -> Result<(), OptionError> {
    match (credentials, authorization) {
        (Some(id), _) => Err(OptionError::NoTlsCredentials(id)),
        (None, Some(_)) => Err(OptionError::TlsAuthorization),
        (None, None) => Ok(()),
    }
}

impl SocketOptions {
    /// `wait`, which only servers have.
    pub(super) fn set_wait(&mut self, wait: Option<bool>) -> Result<(), OptionError> {
        match wait {
            Some(_) if !self.server => Err(OptionError::ClientWaits),
            Some(wait) => {
                self.wait = wait;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `reconnect` in seconds or `reconnect-ms` in milliseconds, which only clients have. Zero is never.
    pub(super) fn set_reconnect(&mut self, seconds: Option<u32>, millis: Option<u32>) -> Result<(), OptionError> {
        let interval = match (seconds, millis) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => {
                return Err(OptionError::TwoIntervals);
            }
            (Some(seconds), None) => Duration::from_secs(seconds.into()),
            (None, Some(millis)) => Duration::from_millis(millis.into()),
        };
        if self.server {
            let name = if seconds.is_some() { "reconnect" } else { "reconnect-ms" };
            return Err(OptionError::ServerReconnects(name));
        }
        self.reconnect = (!interval.is_zero()).then_some(interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChardevOptions, String> {
        let mut map = Map::new();
        for (index, part) in text.split(',').enumerate() {
            let (key, value) = part.split_once('=').unwrap_or(("backend", part));
            assert!(index > 0 || key == "backend");
            map.insert(key.into(), value.into());
        }
        ChardevOptions::from_command_line(&map).map_err(|error| error.to_string())
    }

    fn complaint(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn libvirts_monitor_socket() {
        let options = parse("socket,id=charmonitor,fd=30,server=on,wait=off").unwrap();
        let BackendOptions::Socket(socket) = options.backend else {
            panic!("not a socket")
        };
        assert_eq!(socket.address, SocketAddress::Fd(FdAddress::Inherited(30)));
        assert!(socket.server && !socket.wait);
    }

    #[test]
    fn libvirts_logged_terminal() {
        let options = parse("pty,id=charserial0,logfile=/dev/fdset/2,logappend=on").unwrap();
        assert_eq!(options.backend, BackendOptions::Pty { link: None });
        assert_eq!(
            options.log,
            Some(LogOptions {
                path: "/dev/fdset/2".into(),
                append: true
            })
        );
    }

    #[test]
    fn complaints_are_those_clients_know() {
        for (text, expected) in [
            ("bogus,id=a", "'bogus' is not a valid char driver name"),
            ("socket,id=a", "Unable to parse FD number "),
            ("socket,id=a,fd=foo", "Unable to parse FD number foo"),
            ("socket,id=a,host=1", "chardev: socket: no port given"),
            (
                "socket,id=a,path=x,fd=3",
                "None or one of 'path', 'fd' or 'host' option required.",
            ),
            (
                "socket,id=a,path=/x,server=maybe",
                "Parameter 'server' expects 'on' or 'off'",
            ),
            (
                "socket,id=a,path=/x,wait=off",
                "'wait' option is incompatible with socket in client connect mode",
            ),
            (
                "socket,id=a,path=/x,server=on,reconnect=2",
                "'reconnect' option is incompatible with socket in server listen mode",
            ),
            (
                "socket,id=a,path=/x,reconnect=abc",
                "Parameter 'reconnect' expects a number",
            ),
            ("socket,id=a,path=/x,tls-creds=t", "No TLS credentials with id 't'"),
            (
                "socket,id=a,path=/x,tls-authz=z",
                "'tls_authz' option requires 'tls_creds' option",
            ),
            (
                "vc,id=a",
                "'vc' is not supported: there is no display for a virtual console",
            ),
            ("file,id=a", "chardev: file: no filename given"),
            ("pipe,id=a", "chardev: pipe: no device path given"),
            ("serial,id=a", "chardev: serial/tty: no device path given"),
            ("udp,id=a", "chardev: udp: remote port not specified"),
            ("null,id=a,mux=2", "Parameter 'mux' expects 'on' or 'off'"),
            ("null", "chardev: no id specified"),
        ] {
            assert_eq!(complaint(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_and_times() {
        let backend = |text| parse(text).unwrap().backend;
        assert_eq!(backend("ringbuf,id=a,size=1k"), BackendOptions::Ringbuf { size: 1024 });
        assert_eq!(backend("ringbuf,id=a"), BackendOptions::Ringbuf { size: 65536 });
        let BackendOptions::Socket(socket) = backend("socket,id=a,path=/x,reconnect-ms=1500") else {
            panic!()
        };
        assert_eq!(socket.reconnect, Some(Duration::from_millis(1500)));
    }
}
