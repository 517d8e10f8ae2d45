//! Who opens images for the nodes of a guest: the monitor.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;

use crate::block::{OpenMode, Opener};
use crate::ipc::message::MonitorRequest;
use crate::qapi::Error;

use super::link::Link;

/// Asks the monitor at the other end of a link.
pub(super) struct AskMonitor(pub(super) Rc<Link>);

impl Opener for AskMonitor {
    fn open(&self, path: &str, mode: OpenMode) -> Pin<Box<dyn Future<Output = Result<OwnedFd, Error>> + '_>> {
        let answer = self.0.ask(MonitorRequest::OpenImage {
            path: path.to_owned(),
            write: mode.write,
            or_read: mode.or_read,
            direct: mode.direct,
        });
        Box::pin(async {
            let answered = answer.await.map_err(|_| Error::generic("the monitor did not answer"));
            answered.and_then(|opened| opened)
        })
    }
}
