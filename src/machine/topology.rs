//! Where a CPU sits, and the APIC id that tells.

use super::config::SmpConfig;
use super::processor;

/// Position of a CPU: numbers within the level above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopologyIds {
    /// Socket in the machine.
    pub socket: u32,
    /// Die in the socket; none where a socket is one die.
    pub die: Option<u32>,
    /// Module in the die; none where a die is one module.
    pub module: Option<u32>,
    /// Core in the module.
    pub core: u32,
    /// Thread in the core.
    pub thread: u32,
}

/// The position of the CPU with this index; CPUs are numbered thread by thread, core by core.
#[must_use]
pub fn ids(index: u32, smp: &SmpConfig) -> TopologyIds {
    let mut rest = index;
    let mut take = |count: u32| {
        let count = count.max(1);
        let id = rest % count;
        rest /= count;
        id
    };
    let thread = take(smp.threads);
    let core = take(smp.cores);
    let module = take(smp.modules);
    let die = take(smp.dies);
    TopologyIds {
        socket: rest,
        die: (smp.dies > 1).then_some(die),
        module: (smp.modules > 1).then_some(module),
        core,
        thread,
    }
}

/// The id of a CPU on one level, if the machine has that level.
pub type Place = fn(u32, &SmpConfig) -> Option<u32>;

/// The levels that may tell where a CPU sits, outermost first, by the names of QMP's `CpuInstanceProperties`.
pub const PLACES: [(&str, Place); 6] = [
    ("socket-id", |index, smp| Some(ids(index, smp).socket)),
    ("die-id", |index, smp| ids(index, smp).die),
    ("cluster-id", |_, _| None),
    ("module-id", |index, smp| ids(index, smp).module),
    ("core-id", |index, smp| Some(ids(index, smp).core)),
    ("thread-id", |index, smp| Some(ids(index, smp).thread)),
];

/// Where a CPU sits, for people: `socket-id: 0, core-id: 1, thread-id: 0`.
#[must_use]
pub fn describe(index: u32, smp: &SmpConfig) -> String {
    let places = PLACES.iter();
    let places = places.filter_map(|(name, of)| Some(format!("{name}: {}", of(index, smp)?)));
    places.collect::<Vec<_>>().join(", ")
}

/// The x86 APIC id of the CPU with this index.
#[must_use]
pub fn apic_id(index: u32, smp: &SmpConfig) -> u32 {
    processor::topology(smp).apic_id(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smp(sockets: u32, dies: u32, cores: u32, threads: u32) -> SmpConfig {
        SmpConfig {
            sockets,
            dies,
            modules: 1,
            cores,
            threads,
            max_cpus: sockets * dies * cores * threads,
            ..SmpConfig::default()
        }
    }

    #[test]
    fn counts_that_are_no_powers_of_two_leave_gaps() {
        let smp = smp(2, 1, 3, 1);
        let ids: Vec<u32> = (0..6).map(|index| apic_id(index, &smp)).collect();
        assert_eq!(ids, [0, 1, 2, 4, 5, 6]);
    }

    #[test]
    fn every_level_counts_within_the_one_above() {
        let smp = smp(2, 2, 2, 2);
        assert_eq!(
            ids(13, &smp),
            TopologyIds {
                socket: 1,
                die: Some(1),
                module: None,
                core: 0,
                thread: 1
            }
        );
        assert_eq!(apic_id(13, &smp), 13);
    }
}
