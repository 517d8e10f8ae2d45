//! The pool server and the operator's tools.

fn main() -> std::process::ExitCode {
    remuda::server::tool::main()
}
