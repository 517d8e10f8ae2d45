//! Creates two guests on a `remuda serve`, asks each on its own monitor, destroys one, and lets the other end by itself.
//!
//! ```sh
//! remuda serve --directory /tmp/pool &
//! cargo run --example pool -- /tmp/pool/control.sock
//! ```

mod qmp;

use std::error::Error;
use std::path::Path;

use qmp::Qmp;
use serde_json::{Value, json};

/// The command line of a guest, as for the emulator.
const GUEST: [&str; 8] = [
    "-machine",
    "q35,accel=kvm",
    "-m",
    "16",
    "-nodefaults",
    "-display",
    "none",
    "-S",
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: pool CONTROL-SOCKET")?;
    let mut server = Qmp::connect(Path::new(&path))?;
    // With an identifier of its own, or one that the server chooses.
    let web = server.command(
        "guest-create",
        &json!({"id": "web", "name": "web server", "arguments": GUEST}),
    )?;
    let other = server.command("guest-create", &json!({"arguments": GUEST}))?;
    for guest in [&web, &other] {
        let socket = guest["qmp"].as_str().ok_or("a guest without a socket")?;
        let status = Qmp::connect(Path::new(socket))?.command("query-status", &json!({}))?;
        println!("{}: process {}, {}", guest["id"], guest["pid"], status["status"]);
    }
    // Once this returns, nothing is left of the guest.
    server.command("guest-destroy", &json!({"id": "web"}))?;
    println!("destroyed: {}", ending(&mut server, &web)?);
    let socket = other["qmp"].as_str().ok_or("a guest without a socket")?;
    Qmp::connect(Path::new(socket))?.command("quit", &json!({}))?;
    println!("ended by itself: {}", ending(&mut server, &other)?);
    println!("left: {}", server.command("query-guests", &json!({}))?);
    Ok(())
}

/// What the server says of a guest's end.
fn ending(server: &mut Qmp, guest: &Value) -> Result<Value, Box<dyn Error>> {
    loop {
        let mut event = server.event()?;
        if event["event"] == "GUEST_EXITED" && event["data"]["id"] == guest["id"] {
            return Ok(event["data"].take());
        }
    }
}
