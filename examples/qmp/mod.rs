//! A QMP client in fifty lines: one connection, one command at a time, events kept as they come.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A negotiated connection to a QMP monitor.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects to the socket at `path`, for which it waits up to ten seconds, and negotiates.
    pub fn connect(path: &Path) -> Result<Self, Box<dyn Error>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(2)),
            }
        };
        let mut qmp = Self {
            reader: BufReader::new(stream),
            events: VecDeque::new(),
        };
        qmp.read()?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its value; an error reply is an error with the server's text.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value, Box<dyn Error>> {
        let message = json!({"execute": name, "arguments": arguments});
        self.reader.get_mut().write_all(format!("{message}\n").as_bytes())?;
        loop {
            let mut reply = self.read()?;
            if let Some(error) = reply.get("error") {
                return Err(format!("{name}: {}", error["desc"]).into());
            }
            match reply.get_mut("return") {
                Some(value) => return Ok(value.take()),
                None => self.events.push_back(reply),
            }
        }
    }

    /// The next event, oldest first; waits for one.
    pub fn event(&mut self) -> Result<Value, Box<dyn Error>> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Value, Box<dyn Error>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err("the monitor closed the connection".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
