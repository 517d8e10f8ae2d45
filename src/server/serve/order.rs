//! What a client wants for a guest, checked before there is a process for it.

use std::path::PathBuf;

use crate::chardev::FdTable;
use crate::cmdline::{self, Config, Parsed};
use crate::qapi::Error;
use crate::target::Target;

use super::socket;
use crate::server::config_file;

/// What a guest is to be made from.
pub(super) struct Wish {
    /// The architecture.
    pub(super) target: Target,
    /// The identifier.
    pub(super) id: String,
    /// The name, if the client gave one beside the command line.
    pub(super) name: Option<String>,
    /// The command line.
    pub(super) arguments: Vec<String>,
    /// The descriptors it was given.
    pub(super) fds: FdTable,
    /// Where its monitor is to listen.
    pub(super) qmp: PathBuf,
}

/// What a guest is made from.
pub(super) struct Order {
    /// What it is called.
    pub(super) name: String,
    /// Its command line, understood.
    pub(super) config: Config,
    /// Its command line, for the worker.
    pub(super) arguments: Vec<String>,
    /// The descriptors it was given.
    pub(super) fds: FdTable,
}

impl Wish {
    /// Reads the command line, where the files that it names may be slow to come.
    ///
    /// # Errors
    /// Says what of it no guest of a server can have.
    pub(super) async fn understand(self) -> Result<Order, Error> {
        let understood = tokio::task::spawn_blocking(move || self.understand_now()).await;
        understood.unwrap_or_else(|_| Err(Error::generic("the command line could not be read")))
    }

    fn understand_now(mut self) -> Result<Order, Error> {
        if self.arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(Error::generic("Parameter 'arguments' expects texts without zero bytes"));
        }
        socket::check_free(&self.qmp).map_err(Error::generic)?;
        let path = self.qmp.to_str();
        let path = path.ok_or_else(|| Error::generic("the server's directory is not UTF-8"))?;
        self.arguments.extend([
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", path.replace(',', ",,")),
        ]);
        let mut config = self.parse()?;
        let said = config.machine.name.take();
        match (&self.name, &said) {
            (Some(name), Some(said)) if name != said => {
                return Err(Error::generic(format!(
                    "Parameter 'name' contradicts '-name guest={said}' in 'arguments'"
                )));
            }
            (Some(name), None) => {
                self.arguments
                    .extend(["-name".to_owned(), format!("guest={}", name.replace(',', ",,"))]);
            }
            _ => {}
        }
        config.machine.name = self.name.or(said);
        Ok(Order {
            name: config.machine.name.clone().unwrap_or(self.id),
            config,
            arguments: self.arguments,
            fds: self.fds,
        })
    }

    fn parse(&self) -> Result<Config, Error> {
        let words = self.arguments.iter().map(Into::into);
        let parsed = cmdline::parse(self.target, words, &config_file::read_for_guest);
        let config = match parsed {
            Ok(Parsed::Run(config)) => config,
            Ok(Parsed::Help(_)) => return Err(Error::generic("the command line asks for help, not for a guest")),
            Err(error) => return Err(Error::generic(error.to_string())),
        };
        let refused = if config.is_probe() {
            Some("a machine without a guest needs no server")
        } else if config.daemonize {
            Some("-daemonize: makes no sense for a guest of a server")
        } else if config.log.is_asked_for() {
            Some("-D, -d and -trace: the log is the server's")
        } else if !config.fds.is_empty() {
            Some(
                "-add-fd: the numbers are the server's descriptors; give some to the guest with getfd and 'fds', or with add-fd on its own socket",
            )
        } else {
            None
        };
        match refused {
            Some(reason) => Err(Error::generic(reason)),
            None => Ok(*config),
        }
    }
}
