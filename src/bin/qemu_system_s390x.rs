//! The drop-in emulator for `Target::S390x` guests.

fn main() -> std::process::ExitCode {
    remuda::server::dropin::main(remuda::target::Target::S390x)
}
