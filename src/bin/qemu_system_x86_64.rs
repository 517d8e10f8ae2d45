//! The drop-in emulator for `Target::X86_64` guests.

fn main() -> std::process::ExitCode {
    remuda::server::dropin::main(remuda::target::Target::X86_64)
}
