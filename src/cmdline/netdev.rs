//! `-netdev`: back ends of network cards.

use serde_json::{Map, Value};

use super::builder::Builder;
use super::config::HelpRequest;
use super::error::Error;
use super::objects::{is_json, required_text};
use crate::machine::config::NetdevOption;
use crate::net::NetdevConfig;
use crate::qapi::qmp::Netdev;
use crate::qapi::text;
use crate::qapi::visit::{At, Decode, Mode};

/// `-netdev`.
pub(super) fn apply(builder: &mut Builder, map: Map<String, Value>) -> Result<(), Error> {
    let asks = map.contains_key("help") || required_text(&map, "type").is_ok_and(text::is_help);
    if asks {
        builder.request_help(HelpRequest::Netdevs);
        return Ok(());
    }
    let mode = if is_json(builder) { Mode::Json } else { Mode::Keyval };
    let netdev = Netdev::decode(Value::Object(map), &At::root(mode)).map_err(|error| Error::new(error.desc))?;
    let config = NetdevConfig::new(&netdev).map_err(|error| Error::new(error.to_string()))?;
    let location = builder.location.clone();
    let netdevs = &mut builder.config.machine.netdevs;
    if netdevs.iter().any(|other| other.config.id == config.id) {
        return Err(Error::new(format!("Duplicate ID '{}'", config.id)));
    }
    netdevs.push(NetdevOption { location, config });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cmdline::config::HelpRequest;
    use crate::cmdline::tests::{config, help, message};

    #[test]
    fn back_ends_in_both_spellings() {
        let parsed = config(&[
            "-netdev",
            "tap,id=a,fd=5",
            "-netdev",
            r#"{"type":"tap","id":"b","fds":"6:7","vhost":true,"vhostfds":"8:9"}"#,
            "-netdev",
            "stream,id=c,addr.type=unix,addr.path=/tmp/x,reconnect-ms=100",
            "-netdev",
            "dgram,id=d,local.type=inet,local.host=127.0.0.1,local.port=1,remote.type=inet,remote.host=127.0.0.1,remote.port=2",
            "-netdev",
            "socket,id=e,fd=11",
        ]);
        let netdevs = &parsed.machine.netdevs;
        let ids: Vec<&str> = netdevs.iter().map(|netdev| netdev.config.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "d", "e"]);
        assert_eq!(netdevs[1].config.descriptors(), ["6", "7", "8", "9"]);
        assert_eq!(parsed.monitor_fds(), [5, 6, 7, 8, 9, 11]);
        assert!(matches!(help(&["-netdev", "help"]), HelpRequest::Netdevs));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (argument, complaint) in [
            ("tap", "Parameter 'id' is missing"),
            ("id=a", "Parameter 'type' is missing"),
            ("user,id=a", "Parameter 'type' does not accept value 'user'"),
            (
                "hubport,id=a,hubid=0",
                "Parameter 'type' does not accept value 'hubport'",
            ),
            ("tap,id=1a,fd=3", "Parameter 'id' expects an identifier"),
            ("tap,id=a,frob=1", "Parameter 'frob' is unexpected"),
            (
                "tap,id=a,fd=3,ifname=t",
                "ifname=, script=, downscript=, vnet_hdr= are invalid with fd=/fds=/helper=",
            ),
            ("tap,id=a", "tap: a script cannot be run, only 'script=no' is supported"),
            (
                "tap,id=a,script=no",
                "tap: a downscript cannot be run, only 'downscript=no' is supported",
            ),
            (
                "tap,id=a,script=no,downscript=no,queues=0",
                "Parameter 'queues' expects a number between 1 and 256",
            ),
            (
                "tap,id=a,fd=3,vhost=on,vhostforce=on",
                "tap: vhost-net requested but could not be initialized",
            ),
            (
                "stream,id=a,addr.type=unix,addr.path=/x,server=on,reconnect-ms=1",
                "'reconnect-ms' option is incompatible with socket in server mode",
            ),
            ("dgram,id=a", "dgram requires local= parameter"),
            (
                "socket,id=a",
                "exactly one of listen=, connect=, mcast=, udp=, or fd= is required",
            ),
            (
                "socket,id=a,listen=x",
                "listen ':x' is no address: its port is no number",
            ),
        ] {
            assert_eq!(
                message(&["-netdev", argument]),
                format!("-netdev {argument}: {complaint}")
            );
        }
        let twice = ["-netdev", "tap,id=a,fd=3", "-netdev", "tap,id=a,fd=4"];
        assert_eq!(message(&twice), "-netdev tap,id=a,fd=4: Duplicate ID 'a'");
    }
}
