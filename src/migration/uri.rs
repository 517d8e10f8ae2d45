//! Where a guest moves to or comes from, as one text.

use crate::qapi::qmp::{
    FdSocketAddress, FileMigrationArgs, InetSocketAddress, MigrationAddress, MigrationExecCommand, SocketAddress,
    UnixSocketAddress,
};
use crate::qapi::text;

/// Why a text names no place that a guest could move to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUri {
    /// What it begins with means nothing.
    #[error("unknown migration protocol: {0}")]
    Protocol(String),
    /// No port is told.
    #[error("error parsing address '{0}'")]
    Address(String),
    /// An option behind the address.
    #[error("invalid option '{0}' in address '{1}'")]
    Option(String, String),
    /// Where in a file it begins.
    #[error("file URI has bad offset {0}")]
    Offset(String),
}

/// Takes such a text apart.
///
/// # Errors
/// Says which part of it means nothing.
pub fn parse_uri(uri: &str) -> Result<MigrationAddress, BadUri> {
    let unknown = || BadUri::Protocol(uri.to_owned());
    let (protocol, rest) = uri.split_once(':').ok_or_else(unknown)?;
    Ok(match protocol {
        "fd" => MigrationAddress::Socket(SocketAddress::Fd(FdSocketAddress { str: rest.to_owned() })),
        "unix" => MigrationAddress::Socket(SocketAddress::Unix(UnixSocketAddress {
            path: rest.to_owned(),
            r#abstract: None,
            tight: None,
        })),
        "tcp" => MigrationAddress::Socket(SocketAddress::Inet(inet(rest)?)),
        "exec" => MigrationAddress::Exec(MigrationExecCommand {
            args: ["/bin/sh", "-c", rest].map(str::to_owned).to_vec(),
        }),
        "file" => MigrationAddress::File(file(rest)?),
        _ => return Err(unknown()),
    })
}

fn inet(address: &str) -> Result<InetSocketAddress, BadUri> {
    let bad = || BadUri::Address(address.to_owned());
    let (place, options) = address.split_once(',').map_or((address, None), |(p, o)| (p, Some(o)));
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => place.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    }
    .filter(|(_, port)| !port.is_empty())
    .ok_or_else(bad)?;
    let mut inet = InetSocketAddress {
        host: host.to_owned(),
        port: port.to_owned(),
        to: None,
        ipv4: None,
        ipv6: None,
    };
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        let invalid = || BadUri::Option(option.to_owned(), address.to_owned());
        let (name, value) = option.split_once('=').unwrap_or((option, "on"));
        match name {
            "ipv4" => inet.ipv4 = Some(text::parse_bool(value).ok_or_else(invalid)?),
            "ipv6" => inet.ipv6 = Some(text::parse_bool(value).ok_or_else(invalid)?),
            "to" => inet.to = Some(value.parse().map_err(|_| invalid())?),
            _ => return Err(invalid()),
        }
    }
    Ok(inet)
}

fn file(rest: &str) -> Result<FileMigrationArgs, BadUri> {
    const OFFSET: &str = ",offset=";
    let Some((filename, offset)) = rest.split_once(OFFSET) else {
        return Ok(FileMigrationArgs {
            filename: rest.to_owned(),
            offset: 0,
        });
    };
    let bad = || BadUri::Offset(offset.to_owned());
    let number = match offset.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text::parse_size(offset, 1).ok(),
    };
    Ok(FileMigrationArgs {
        filename: filename.to_owned(),
        offset: number.ok_or_else(bad)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_taken_apart() {
        let inet = |host: &str, port: &str| InetSocketAddress {
            host: host.into(),
            port: port.into(),
            to: None,
            ipv4: None,
            ipv6: None,
        };
        let socket = MigrationAddress::Socket;
        for (uri, expected) in [
            (
                "fd:migrate",
                socket(SocketAddress::Fd(FdSocketAddress { str: "migrate".into() })),
            ),
            ("tcp:[::]:49152", socket(SocketAddress::Inet(inet("::", "49152")))),
            ("tcp:host:1", socket(SocketAddress::Inet(inet("host", "1")))),
            ("tcp::2", socket(SocketAddress::Inet(inet("", "2")))),
            (
                "file:/dev/fdset/3,offset=0x11500",
                MigrationAddress::File(FileMigrationArgs {
                    filename: "/dev/fdset/3".into(),
                    offset: 0x11500,
                }),
            ),
            (
                "exec:cat > a:b",
                MigrationAddress::Exec(MigrationExecCommand {
                    args: vec!["/bin/sh".into(), "-c".into(), "cat > a:b".into()],
                }),
            ),
        ] {
            assert_eq!(parse_uri(uri).unwrap(), expected, "{uri}");
        }
        for (uri, complaint) in [
            ("rdma:host:1", "unknown migration protocol: rdma:host:1"),
            ("nonsense", "unknown migration protocol: nonsense"),
            ("tcp:host", "error parsing address 'host'"),
            ("tcp:::1", "error parsing address '::1'"),
            ("tcp:h:1,frob=on", "invalid option 'frob=on' in address 'h:1,frob=on'"),
            ("file:x,offset=y", "file URI has bad offset y"),
        ] {
            assert_eq!(parse_uri(uri).unwrap_err().to_string(), complaint, "{uri}");
        }
    }
}
