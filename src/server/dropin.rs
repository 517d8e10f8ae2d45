//! x
use crate::target::Target;
/// x
pub fn main(_t: Target) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
