//! Where a vCPU is in its machine, and the APIC id that tells it.

use super::tables::Level;

/// The topology of a guest. Every count is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Dies in a socket.
    pub dies: u32,
    /// Modules in a die.
    pub modules: u32,
    /// Cores in a module.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
    /// Who shares the caches, where the machine says so (`smp-cache`).
    pub caches: CacheLevels,
}

/// Who shares which cache, where it is not up to the CPU model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheLevels {
    /// First level, data.
    pub l1d: Option<Level>,
    /// First level, instructions.
    pub l1i: Option<Level>,
    /// Second level.
    pub l2: Option<Level>,
    /// Third level.
    pub l3: Option<Level>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            dies: 1,
            modules: 1,
            cores: 1,
            threads: 1,
            caches: CacheLevels::default(),
        }
    }
}

impl Topology {
    /// Cores in a socket.
    #[must_use]
    pub fn cores_per_package(&self) -> u32 {
        self.cores.saturating_mul(self.modules).saturating_mul(self.dies)
    }

    /// Threads in a part of a socket.
    #[must_use]
    pub fn threads_in(&self, level: Level) -> u32 {
        let parts: &[u32] = match level {
            Level::Thread => &[],
            Level::Core => &[self.threads],
            Level::Module => &[self.threads, self.cores],
            Level::Die => &[self.threads, self.cores, self.modules],
            Level::Socket => &[self.threads, self.cores, self.modules, self.dies],
        };
        parts
            .iter()
            .fold(1, |product, count| u32::saturating_mul(product, *count))
    }

    /// Threads in a socket.
    #[must_use]
    pub fn threads_per_package(&self) -> u32 {
        self.threads_in(Level::Socket)
    }

    /// Where the number of a part starts in an APIC id: one more than the last bit that differs within it.
    #[must_use]
    pub fn offset(&self, level: Level) -> u32 {
        let widths: &[u32] = match level {
            Level::Thread => &[],
            Level::Core => &[self.threads],
            Level::Module => &[self.threads, self.cores],
            Level::Die => &[self.threads, self.cores, self.modules],
            Level::Socket => &[self.threads, self.cores, self.modules, self.dies],
        };
        widths.iter().map(|count| width(*count)).sum::<u32>().min(31)
    }

    /// The APIC id, and KVM's id, of a vCPU.
    #[must_use]
    pub fn apic_id(&self, index: u32) -> u32 {
        let mut rest = index;
        let mut id: u32 = 0;
        for (count, level) in [
            (self.threads, Level::Thread),
            (self.cores, Level::Core),
            (self.modules, Level::Module),
            (self.dies, Level::Die),
        ] {
            let count = count.max(1);
            id |= (rest % count) << self.offset(level);
            rest /= count;
        }
        id | rest << self.offset(Level::Socket)
    }

    /// Socket, die, module, core and thread of a vCPU, each counted within what is around it.
    #[must_use]
    pub fn place(&self, index: u32) -> Place {
        let (threads, cores) = (self.threads.max(1), self.cores.max(1));
        let (modules, dies) = (self.modules.max(1), self.dies.max(1));
        let core = index / threads;
        let module = core / cores;
        let die = module / modules;
        Place {
            socket: die / dies,
            die: die % dies,
            module: module % modules,
            core: core % cores,
            thread: index % threads,
        }
    }
}

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Socket.
    pub socket: u32,
    /// Die in the socket.
    pub die: u32,
    /// Module in the die.
    pub module: u32,
    /// Core in the module.
    pub core: u32,
    /// Thread in the core.
    pub thread: u32,
}

/// Bits needed to number `count` things.
fn width(count: u32) -> u32 {
    u32::BITS - count.max(1).saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_whole_bits_of_the_apic_id() {
        let topology = Topology {
            dies: 2,
            modules: 1,
            cores: 3,
            threads: 2,
            ..Topology::default()
        };
        let ids: Vec<u32> = (0..14).map(|index| topology.apic_id(index)).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17]);
        assert_eq!(
            topology.place(13),
            Place {
                socket: 1,
                die: 0,
                module: 0,
                core: 0,
                thread: 1
            }
        );
        assert_eq!(topology.threads_per_package(), 12);
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let topology = Topology {
            dies: u32::MAX,
            modules: u32::MAX,
            cores: u32::MAX,
            threads: u32::MAX,
            ..Topology::default()
        };
        assert_eq!(topology.offset(Level::Socket), 31);
        assert_eq!(topology.threads_per_package(), u32::MAX);
    }
}
