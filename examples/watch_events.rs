//! Prints the events of a guest, one a line, until it ends.
//!
//! ```sh
//! cargo run --example watch_events -- /path/to/qmp.sock
//! ```

#[expect(dead_code, reason = "each example uses its part of the client")]
mod qmp;

use std::error::Error;
use std::path::Path;

use qmp::Qmp;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: watch_events QMP-SOCKET")?;
    let mut monitor = Qmp::connect(Path::new(&path))?;
    while let Ok(event) = monitor.event() {
        let time = &event["timestamp"];
        let seconds = time["seconds"].as_u64().unwrap_or(0);
        let microseconds = time["microseconds"].as_u64().unwrap_or(0);
        println!("{seconds}.{microseconds:06} {} {}", event["event"], event["data"]);
    }
    println!("the guest has ended");
    Ok(())
}
