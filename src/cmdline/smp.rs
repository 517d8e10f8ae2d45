//! `-smp`: how many vCPUs, and how they are spread over sockets, dies, modules, cores and threads.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::error::Error;
use crate::machine::config::SmpConfig;
use crate::qapi::text;
use crate::target::Target;

/// What was given of a topology; the rest is to be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmpRequest {
    /// vCPUs present at start.
    pub cpus: Option<u64>,
    /// vCPUs there may ever be.
    pub max_cpus: Option<u64>,
    /// Drawers.
    pub drawers: Option<u64>,
    /// Books in a drawer.
    pub books: Option<u64>,
    /// Sockets in a book.
    pub sockets: Option<u64>,
    /// Dies in a socket.
    pub dies: Option<u64>,
    /// Clusters in a die.
    pub clusters: Option<u64>,
    /// Modules in a cluster.
    pub modules: Option<u64>,
    /// Cores in a module.
    pub cores: Option<u64>,
    /// Threads in a core.
    pub threads: Option<u64>,
}

/// Levels of the topology that a target has beside sockets, cores and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Drawers and books.
    pub drawers_and_books: bool,
    /// Dies and modules.
    pub dies_and_modules: bool,
}

impl Levels {
    /// The levels of the machines of `target`.
    #[must_use]
    pub const fn of(target: Target) -> Self {
        match target {
            Target::X86_64 => Self {
                drawers_and_books: false,
                dies_and_modules: true,
            },
            Target::S390x => Self {
                drawers_and_books: true,
                dies_and_modules: false,
            },
        }
    }
}

impl SmpRequest {
    /// Reads the keys of `-smp`.
    ///
    /// # Errors
    /// Names the key that is unknown or not a number.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, Error> {
        let mut request = Self::default();
        for (key, value) in map {
            let field = match key.as_str() {
                "cpus" => &mut request.cpus,
                "maxcpus" => &mut request.max_cpus,
                "drawers" => &mut request.drawers,
                "books" => &mut request.books,
                "sockets" => &mut request.sockets,
                "dies" => &mut request.dies,
                "clusters" => &mut request.clusters,
                "modules" => &mut request.modules,
                "cores" => &mut request.cores,
                "threads" => &mut request.threads,
                _ => return Err(Error::new(format!("Parameter 'smp.{key}' is unexpected"))),
            };
            let number = value.as_str().and_then(|text| text::parse_uint(text).ok());
            *field = Some(number.ok_or_else(|| Error::expects(&format!("smp.{key}"), "integer"))?);
        }
        Ok(request)
    }

    /// Computes what was left out, cores before sockets as machine types do since 6.2, and checks the whole.
    ///
    /// # Errors
    /// Says which level the target lacks, or how the numbers do not fit together.
    pub fn complete(self, levels: Levels) -> Result<SmpConfig, Error> {
        let all = [
            self.cpus,
            self.max_cpus,
            self.drawers,
            self.books,
            self.sockets,
            self.dies,
            self.clusters,
            self.modules,
            self.cores,
            self.threads,
        ];
        if all.contains(&Some(0)) {
            return Err(invalid("CPU topology parameters must be greater than zero"));
        }
        self.check_levels(levels)?;
        let full = self.fill_in()?;
        let hierarchy = hierarchy(&full, levels);
        if product(&full) != Some(full.max_cpus) {
            return Err(invalid(&format!(
                "product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({})",
                full.max_cpus
            )));
        }
        if full.max_cpus < full.cpus {
            return Err(invalid(&format!(
                "maxcpus must be equal to or greater than smp: {hierarchy} == maxcpus ({}) < smp_cpus ({})",
                full.max_cpus, full.cpus
            )));
        }
        Ok(full)
    }

    /// A level that the target lacks may be given as the one there is in any machine.
    fn check_levels(self, levels: Levels) -> Result<(), Error> {
        let lacking = [
            ("modules", self.modules, levels.dies_and_modules),
            ("clusters", self.clusters, false),
            ("dies", self.dies, levels.dies_and_modules),
            ("books", self.books, levels.drawers_and_books),
            ("drawers", self.drawers, levels.drawers_and_books),
        ];
        for (name, count, supported) in lacking {
            if !supported && count.is_some_and(|count| count > 1) {
                return Err(Error::new(format!(
                    "{name} not supported by this machine's CPU topology"
                )));
            }
        }
        Ok(())
    }

    fn fill_in(self) -> Result<SmpConfig, Error> {
        let upper = [self.drawers, self.books, self.dies, self.clusters, self.modules];
        let upper = upper
            .into_iter()
            .try_fold(1u64, |product, level| product.checked_mul(level.unwrap_or(1)));
        let share = |parts: [u64; 2]| {
            let total = self.max_cpus.or(self.cpus).unwrap_or(1);
            let parts = upper?.checked_mul(parts[0])?.checked_mul(parts[1])?;
            total.checked_div(parts)
        };
        let unset = self.cpus.is_none() && self.max_cpus.is_none();
        let (mut sockets, mut cores, mut threads) = (self.sockets, self.cores, self.threads);
        if unset || cores.is_none() || sockets.is_none() {
            threads = threads.or(Some(1));
        }
        if unset || cores.is_none() {
            sockets = sockets.or(Some(1));
        }
        if unset {
            cores = cores.or(Some(1));
        }
        if let (None, Some(sockets), Some(threads)) = (cores, sockets, threads) {
            cores = share([sockets, threads]);
        }
        if let (None, Some(cores), Some(threads)) = (sockets, cores, threads) {
            sockets = share([cores, threads]);
        }
        if let (None, Some(sockets), Some(cores)) = (threads, sockets, cores) {
            threads = share([sockets, cores]);
        }
        let level = |count: Option<u64>| count.map_or(Ok(1), narrow);
        let mut full = SmpConfig {
            cpus: 0,
            max_cpus: 0,
            drawers: level(self.drawers)?,
            books: level(self.books)?,
            sockets: level(sockets)?,
            dies: level(self.dies)?,
            clusters: level(self.clusters)?,
            modules: level(self.modules)?,
            cores: level(cores)?,
            threads: level(threads)?,
        };
        full.max_cpus = match self.max_cpus.or(self.cpus) {
            Some(count) => narrow(count)?,
            None => product(&full).ok_or_else(too_many)?,
        };
        full.cpus = self.cpus.map_or(Ok(full.max_cpus), narrow)?;
        Ok(full)
    }
}

fn invalid(what: &str) -> Error {
    Error::new(format!("Invalid CPU topology: {what}"))
}

fn too_many() -> Error {
    invalid("CPU topology parameters are too large")
}

fn narrow(count: u64) -> Result<u32, Error> {
    u32::try_from(count).map_err(|_| too_many())
}

fn product(smp: &SmpConfig) -> Option<u32> {
    [
        smp.drawers,
        smp.books,
        smp.sockets,
        smp.dies,
        smp.clusters,
        smp.modules,
        smp.cores,
        smp.threads,
    ]
    .into_iter()
    .try_fold(1u32, u32::checked_mul)
}

fn hierarchy(smp: &SmpConfig, levels: Levels) -> String {
    let mut text = String::new();
    let parts = [
        ("drawers", smp.drawers, levels.drawers_and_books),
        ("books", smp.books, levels.drawers_and_books),
        ("sockets", smp.sockets, true),
        ("dies", smp.dies, levels.dies_and_modules),
        ("modules", smp.modules, levels.dies_and_modules),
        ("cores", smp.cores, true),
        ("threads", smp.threads, true),
    ];
    for (name, count, shown) in parts {
        if shown {
            let separator = if text.is_empty() { "" } else { " * " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}{name} ({count})");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::keyval;

    fn complete(text: &str, target: Target) -> Result<SmpConfig, Error> {
        let map = keyval::parse(text, Some("cpus"))?.0;
        SmpRequest::from_map(&map)?.complete(Levels::of(target))
    }

    /// cpus, maxcpus, sockets, dies, modules, cores, threads.
    fn x86(text: &str) -> [u32; 7] {
        let smp = complete(text, Target::X86_64).unwrap();
        [
            smp.cpus,
            smp.max_cpus,
            smp.sockets,
            smp.dies,
            smp.modules,
            smp.cores,
            smp.threads,
        ]
    }

    fn message(text: &str) -> String {
        complete(text, Target::X86_64).unwrap_err().message
    }

    #[test]
    fn what_is_left_out_is_computed() {
        assert_eq!(x86(""), [1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(x86("8"), [8, 8, 1, 1, 1, 8, 1]);
        assert_eq!(x86("2,maxcpus=8,sockets=2"), [2, 8, 2, 1, 1, 4, 1]);
        assert_eq!(x86("2,maxcpus=8,cores=2"), [2, 8, 4, 1, 1, 2, 1]);
        assert_eq!(x86("8,sockets=2,cores=2"), [8, 8, 2, 1, 1, 2, 2]);
        assert_eq!(x86("cores=2,threads=2,dies=2,modules=3"), [24, 24, 1, 2, 3, 2, 2]);
        assert_eq!(
            x86("2,maxcpus=4,sockets=4,dies=1,cores=1,threads=1"),
            [2, 4, 4, 1, 1, 1, 1]
        );
        let s390x = complete("4,drawers=2,books=2,maxcpus=8", Target::S390x).unwrap();
        assert_eq!((s390x.sockets, s390x.cores, s390x.max_cpus), (1, 2, 8));
    }

    #[test]
    fn what_does_not_fit_is_spelt_out() {
        assert_eq!(
            message("2,sockets=3,cores=1,threads=1,maxcpus=2"),
            "Invalid CPU topology: product of the hierarchy must match maxcpus: \
             sockets (3) * dies (1) * modules (1) * cores (1) * threads (1) != maxcpus (2)"
        );
        assert_eq!(
            message("4,maxcpus=2"),
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: \
             sockets (1) * dies (1) * modules (1) * cores (2) * threads (1) == maxcpus (2) < smp_cpus (4)"
        );
        assert_eq!(
            message("0"),
            "Invalid CPU topology: CPU topology parameters must be greater than zero"
        );
        assert_eq!(
            message("2,clusters=2"),
            "clusters not supported by this machine's CPU topology"
        );
        assert_eq!(
            message("2,drawers=2"),
            "drawers not supported by this machine's CPU topology"
        );
        assert_eq!(message("two"), "Parameter 'smp.cpus' expects integer");
        assert_eq!(message("2,bar=1"), "Parameter 'smp.bar' is unexpected");
        assert_eq!(
            message("cores=4294967295,threads=4294967295"),
            "Invalid CPU topology: CPU topology parameters are too large"
        );
    }

    #[test]
    fn one_of_a_level_that_is_not_there_is_none() {
        for text in ["2,clusters=1", "2,drawers=1,books=1"] {
            assert_eq!(complete(text, Target::X86_64).unwrap().cores, 2, "{text}");
        }
    }
}
