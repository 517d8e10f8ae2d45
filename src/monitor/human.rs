//! x
use super::guest::Guest;
use crate::chardev::FrontEnd;
use std::rc::Rc;
/// x
pub async fn serve(_g: Rc<Guest>, _f: FrontEnd) {}
/// x
pub async fn run(_g: &Guest, line: &str, _c: Option<i64>) -> String {
    format!("unknown command: '{line}'\r\n")
}
