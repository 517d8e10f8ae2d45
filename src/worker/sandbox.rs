//! `-sandbox`: system calls that a process gives up for itself and its later threads.
//!
//! The kernel ends a process that makes one of them all the same. Two are answered with an error instead, since the C
//! library and drivers make them and know what to do without: `clone3`, whose flags a filter cannot see, and
//! `sched_setscheduler`.

use crate::cmdline::Sandbox;

/// Confines this process. To be called while it has a single thread.
///
/// # Errors
/// The kernel takes no filter, or the host's architecture has none.
pub fn enter(sandbox: &Sandbox) -> Result<(), String> {
    if !sandbox.enabled {
        return Ok(());
    }
    filter::install(sandbox).map_err(|reason| format!("-sandbox on: {reason}"))
}

#[cfg(not(target_arch = "x86_64"))]
mod filter {
    use crate::cmdline::Sandbox;

    pub(super) fn install(_: &Sandbox) -> Result<(), String> {
        Err("there is no system call filter for this host's architecture".to_owned())
    }
}

#[cfg(target_arch = "x86_64")]
mod filter {
    use std::collections::BTreeMap;

    use nix::libc;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch, apply_filter,
    };

    use crate::cmdline::{ElevatePrivileges, Sandbox};

    /// Rules for each number of a system call; none for a call means always.
    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// What no emulator needs.
    const ALWAYS: &[i64] = &[
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_syslog,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_afs_syscall,
        libc::SYS_getpmsg,
        libc::SYS_putpmsg,
        libc::SYS_security,
        libc::SYS_tuxcall,
        libc::SYS_vserver,
    ];
    /// Calls that Linux 2.6 took out (asm/unistd_64.h).
    const CREATE_MODULE: i64 = 174;
    const GET_KERNEL_SYMS: i64 = 177;
    const QUERY_MODULE: i64 = 178;
    const OBSOLETE: &[i64] = &[
        libc::SYS__sysctl,
        CREATE_MODULE,
        GET_KERNEL_SYMS,
        QUERY_MODULE,
        libc::SYS_sysfs,
        libc::SYS_uselib,
        libc::SYS_ustat,
    ];
    const ELEVATE_PRIVILEGES: &[i64] = &[
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setpgid,
        libc::SYS_setsid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
    ];
    const SPAWN: &[i64] = &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_execve, libc::SYS_execveat];
    const RESOURCE_CONTROL: &[i64] = &[
        libc::SYS_setpriority,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setaffinity,
    ];
    /// `__X32_SYSCALL_BIT` (asm/unistd.h): the same calls by the numbers of the x32 ABI.
    const X32: i64 = 0x4000_0000;

    /// Installs what `sandbox` asks for. `elevateprivileges=children` needs no rule: a process with a filter never gains
    /// privileges by executing a file.
    pub(super) fn install(sandbox: &Sandbox) -> Result<(), String> {
        let mut killed = ALWAYS.to_vec();
        if sandbox.deny_obsolete {
            killed.extend(OBSOLETE);
        }
        if sandbox.elevate_privileges == ElevatePrivileges::Deny {
            killed.extend(ELEVATE_PRIVILEGES);
        }
        if sandbox.deny_spawn {
            killed.extend(SPAWN);
        }
        if sandbox.deny_resource_control {
            killed.extend(RESOURCE_CONTROL);
        }
        let mut killed = rules(&killed);
        let mut programs = Vec::new();
        if sandbox.deny_spawn {
            let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
            let no_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0);
            let rule = no_thread.and_then(|condition| SeccompRule::new(vec![condition]));
            let rule = rule.map_err(|error| error.to_string())?;
            for number in [libc::SYS_clone, libc::SYS_clone | X32] {
                killed.insert(number, vec![rule.clone()]);
            }
            programs.push(program(rules(&[libc::SYS_clone3]), errno(libc::ENOSYS))?);
        }
        if sandbox.deny_resource_control {
            programs.push(program(rules(&[libc::SYS_sched_setscheduler]), errno(libc::EPERM))?);
        }
        programs.push(program(killed, SeccompAction::KillProcess)?);
        programs
            .iter()
            .try_for_each(|program| apply_filter(program).map_err(|error| error.to_string()))
    }

    fn rules(numbers: &[i64]) -> Rules {
        let both = numbers.iter().flat_map(|number| [*number, number | X32]);
        both.map(|number| (number, Vec::new())).collect()
    }

    fn errno(number: i32) -> SeccompAction {
        SeccompAction::Errno(number.unsigned_abs())
    }

    fn program(rules: Rules, action: SeccompAction) -> Result<BpfProgram, String> {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64);
        filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::sys::signal::Signal;

    use super::*;
    use crate::cmdline::ElevatePrivileges;

    /// Set in the process that is to make the call named in it.
    const CALL: &str = "REMUDA_TEST_SANDBOX_CALL";

    fn strict() -> Sandbox {
        Sandbox {
            enabled: true,
            deny_obsolete: true,
            elevate_privileges: ElevatePrivileges::Deny,
            deny_spawn: true,
            deny_resource_control: true,
        }
    }

    /// Makes a call in a sandbox.
    fn call(name: &str) {
        enter(&strict()).unwrap();
        match name {
            "spawn" => drop(Command::new("/bin/true").status()),
            "setsid" => drop(nix::unistd::setsid()),
            "setuid" => drop(nix::unistd::setuid(nix::unistd::getuid())),
            "affinity" => {
                let cpus = nix::sched::CpuSet::new();
                let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus);
            }
            "thread" => std::thread::spawn(|| ()).join().unwrap(),
            other => panic!("no such call {other}"),
        }
    }

    #[test]
    fn a_denied_call_ends_the_process() {
        if let Ok(name) = std::env::var(CALL) {
            return call(&name);
        }
        let own_name = std::thread::current().name().unwrap().to_owned();
        for (name, denied) in [
            ("spawn", true),
            ("setsid", true),
            ("setuid", true),
            ("affinity", true),
            ("thread", false),
        ] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &own_name, "--test-threads=1"])
                .env(CALL, name)
                .status()
                .unwrap();
            let signal = denied.then_some(Signal::SIGSYS as i32);
            assert_eq!(status.signal(), signal, "{name}: {status}");
        }
    }

    #[test]
    fn nothing_is_denied_unless_asked_for() {
        enter(&Sandbox::default()).unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
}
