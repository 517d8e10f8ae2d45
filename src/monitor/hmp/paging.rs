//! `info mem` and `info tlb`: what a vCPU's page tables map (Intel SDM volume 3, chapter 5).
//!
//! The tables are read page by page, so that the worker has other things to do in between, however much they map.

use serde_json::{Map, Value};

use super::{Failure, HmpHost, MonitorState, memory};
use crate::worker::inspect::Inspect;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;

/// Bits of an entry.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// What an entry says of all that is below it.
const RIGHTS: u64 = PRESENT | WRITABLE | USER;
/// Bits 12 to 51 of an entry: where the next table or the page is.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The letters of `info tlb`, each with the bit it stands for.
const FLAGS: [(char, u64); 9] = [
    ('X', NO_EXECUTE),
    ('G', 1 << 8),
    ('P', LARGE),
    ('D', 1 << 6),
    ('A', 1 << 5),
    ('C', 1 << 4),
    ('T', 1 << 3),
    ('U', USER),
    ('W', WRITABLE),
];

/// How a vCPU translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    /// Bytes of an entry.
    entry: u64,
    /// For each level from the root on: the lowest bit of the address that it looks at, and how many entries a table has.
    levels: &'static [(u32, u64)],
    /// Whether an entry that is not of the last level may be a page.
    large: bool,
    /// The root table.
    root: u64,
}

impl Mode {
    /// From the control registers; none while paging is off.
    fn new(registers: &Map<String, Value>) -> Option<Self> {
        let register = |name| registers.get(name).and_then(Value::as_u64).unwrap_or_default();
        let [cr0, cr3, cr4, efer] = ["cr0", "cr3", "cr4", "efer"].map(register);
        let has = |register: u64, bit| register & bit != 0;
        if !has(cr0, CR0_PG) {
            return None;
        }
        let mode = |entry, levels, large, root| Self {
            entry,
            levels,
            large,
            root,
        };
        Some(match (has(efer, EFER_LMA), has(cr4, CR4_PAE)) {
            (true, _) if has(cr4, CR4_LA57) => {
                let levels = &[(48, 512), (39, 512), (30, 512), (21, 512), (12, 512)];
                mode(8, levels, true, cr3 & ADDRESS)
            }
            (true, _) => mode(8, &[(39, 512), (30, 512), (21, 512), (12, 512)], true, cr3 & ADDRESS),
            (false, true) => mode(8, &[(30, 4), (21, 512), (12, 512)], true, cr3 & 0xffff_ffe0),
            (false, false) => mode(4, &[(22, 1024), (12, 1024)], has(cr4, CR4_PSE), cr3 & 0xffff_f000),
        })
    }

    /// Whether this entry maps a page itself.
    fn is_page(self, level: usize, entry: u64) -> bool {
        let (shift, count) = self.levels[level];
        shift == 12 || entry & LARGE != 0 && self.large && shift <= 30 && count != 4
    }

    /// The address as the vCPU writes it: the topmost bit that is translated goes on to the left.
    fn canonical(self, addr: u64) -> u64 {
        let top = match self.levels[0] {
            (48, _) => 56,
            (39, _) => 47,
            _ => return addr,
        };
        if addr & 1 << top == 0 {
            addr
        } else {
            addr | u64::MAX << top
        }
    }
}

/// A page that is mapped.
struct Mapping {
    /// The address, not yet canonical.
    addr: u64,
    /// The entry.
    entry: u64,
    /// Bytes of the page.
    size: u64,
    /// What all entries on the way allow.
    rights: u64,
}

/// `info tlb`: a line for each page.
pub(super) async fn tlb(host: &impl HmpHost, state: &MonitorState) -> Result<String, Failure> {
    let mut shown = String::new();
    let mode = walk(host, state, |mode, mapping| {
        let page = mapping.entry & ADDRESS & !(mapping.size - 1);
        let letters = FLAGS.map(|(letter, bit)| if mapping.entry & bit == 0 { '-' } else { letter });
        let letters: String = letters.into_iter().collect();
        shown += &format!("{:016x}: {page:016x} {letters}\n", mode.canonical(mapping.addr));
    });
    Ok(match mode.await? {
        Some(_) => shown,
        None => "PG disabled\n".to_owned(),
    })
}

/// `info mem`: a line for each range that may be used in the same way.
pub(super) async fn ranges(host: &impl HmpHost, state: &MonitorState) -> Result<String, Failure> {
    let mut shown = String::new();
    let mut range = (0, 0, 0);
    let mode = walk(host, state, |mode, mapping| {
        let (start, end, rights) = range;
        let next = mapping.addr + mapping.size;
        if end == mapping.addr && rights == mapping.rights {
            range.1 = next;
            return;
        }
        shown += &range_line(mode, start, end, rights);
        range = (mapping.addr, next, mapping.rights);
    });
    let Some(mode) = mode.await? else {
        return Ok("PG disabled\n".to_owned());
    };
    let (start, end, rights) = range;
    shown += &range_line(mode, start, end, rights);
    Ok(shown)
}

fn range_line(mode: Mode, start: u64, end: u64, rights: u64) -> String {
    if rights == 0 {
        return String::new();
    }
    let letter = |bit, letter| if rights & bit == 0 { '-' } else { letter };
    format!(
        "{:016x}-{:016x} {:016x} {}r{}\n",
        mode.canonical(start),
        mode.canonical(end),
        end - start,
        letter(USER, 'u'),
        letter(WRITABLE, 'w')
    )
}

/// Tells `visit` of every page that the vCPU's tables map, by address. Returns how it translates; none if it does not.
async fn walk(
    host: &impl HmpHost,
    state: &MonitorState,
    mut visit: impl FnMut(Mode, Mapping),
) -> Result<Option<Mode>, Failure> {
    let registers = host
        .inspect(Inspect::RegisterValues {
            cpu: memory::cpu(state),
        })
        .await?;
    let Some(mode) = registers.as_object().and_then(Mode::new) else {
        return Ok(None);
    };
    // What is to be looked at next: a table with its level, the address where it begins, what is allowed so far, and the
    // index of the next entry.
    let mut open = vec![(table(host, mode, 0, mode.root).await?, 0_u64, RIGHTS, 0_usize)];
    while let Some((entries, base, rights, index)) = open.last_mut() {
        let Some(&entry) = entries.get(*index) else {
            open.pop();
            continue;
        };
        let (base, rights) = (*base, *rights);
        let number = u64::try_from(*index).unwrap_or_default();
        *index += 1;
        if entry & PRESENT == 0 {
            continue;
        }
        let level = open.len() - 1;
        let (shift, count) = mode.levels[level];
        let addr = base + (number << shift);
        // The four entries at the root of PAE's tables allow everything.
        let rights = if count == 4 { rights } else { rights & entry };
        if mode.is_page(level, entry) {
            let size = 1 << shift;
            visit(
                mode,
                Mapping {
                    addr,
                    entry,
                    size,
                    rights,
                },
            );
        } else {
            let entries = table(host, mode, level + 1, entry & ADDRESS).await?;
            open.push((entries, addr, rights, 0));
        }
    }
    Ok(Some(mode))
}

/// The entries of a table; none where there is no memory.
async fn table(host: &impl HmpHost, mode: Mode, level: usize, addr: u64) -> Result<Vec<u64>, Failure> {
    let (_, count) = mode.levels[level];
    let len = count * mode.entry;
    let reply = host.inspect(Inspect::Physical { addr, len }).await?;
    let bytes = memory::bytes(&reply).unwrap_or_default();
    let size = usize::try_from(mode.entry).unwrap_or(8);
    let number = |entry: &[u8]| {
        entry
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    Ok(bytes.chunks_exact(size).map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::message::LogChange;
    use crate::qapi::Error;
    use serde_json::json;
    use std::collections::BTreeMap;

    /// A guest that is registers and words of memory.
    struct Guest {
        registers: Value,
        words: BTreeMap<u64, u64>,
        entry: u64,
    }

    impl HmpHost for Guest {
        async fn qmp(&self, _: &str, _: Map<String, Value>) -> Result<Value, Error> {
            Ok(json!([]))
        }

        async fn inspect(&self, question: Inspect) -> Result<Value, Error> {
            let Inspect::Physical { addr, len } = question else {
                return Ok(self.registers.clone());
            };
            assert!(len <= 4096, "{len} bytes at once");
            if addr >= 1 << 20 {
                return Ok(Value::Null);
            }
            let words = (addr..addr + len).step_by(usize::try_from(self.entry).unwrap());
            let bytes = words.flat_map(|at| {
                let word = self.words.get(&at).copied().unwrap_or_default().to_le_bytes();
                word[..usize::try_from(self.entry).unwrap()].to_vec()
            });
            Ok(json!(bytes.collect::<Vec<u8>>()))
        }

        async fn change_log(&self, _: LogChange) -> Result<(), Error> {
            Ok(())
        }

        async fn log_to(&self, _: &str) -> Result<(), Error> {
            Ok(())
        }

        async fn debugger(&self, _: &str) -> Result<Option<String>, Error> {
            unreachable!("nobody debugs")
        }

        fn devices_help(&self) -> String {
            String::new()
        }
    }

    async fn shown(guest: &Guest) -> [String; 2] {
        let state = MonitorState::default();
        [ranges(guest, &state).await.unwrap(), tlb(guest, &state).await.unwrap()]
    }

    #[tokio::test]
    async fn without_paging_there_is_nothing_to_show() {
        let guest = Guest {
            registers: json!({"cr0": 1}),
            words: BTreeMap::new(),
            entry: 8,
        };
        assert_eq!(shown(&guest).await, ["PG disabled\n", "PG disabled\n"]);
    }

    #[tokio::test]
    async fn four_levels_with_pages_of_each_size() {
        let words = [
            (0x1000, 0x2003),
            (0x1ff8, 0x2007),
            (0x2000, 0x3007),
            (0x2008, 0x4000_0083),
            (0x3000, 0x4007),
            (0x3008, 0x20_00e3),
            // A table where there is no memory.
            (0x3010, 0x1000_0007),
            (0x4000, 0x8000_0000_0000_5067),
            (0x4008, 0x6065),
        ];
        let guest = Guest {
            registers: json!({"cr0": CR0_PG, "cr3": 0x1000, "cr4": CR4_PAE, "efer": EFER_LMA}),
            words: BTreeMap::from(words),
            entry: 8,
        };
        let [ranges, tlb] = shown(&guest).await;
        let expected = "0000000000000000-0000000000001000 0000000000001000 -rw\n\
            0000000000001000-0000000000002000 0000000000001000 -r-\n\
            0000000000200000-0000000000400000 0000000000200000 -rw\n\
            0000000040000000-0000000080000000 0000000040000000 -rw\n\
            ffffff8000000000-ffffff8000001000 0000000000001000 urw\n\
            ffffff8000001000-ffffff8000002000 0000000000001000 ur-\n\
            ffffff8000200000-ffffff8000400000 0000000000200000 -rw\n\
            ffffff8040000000-ffffff8080000000 0000000040000000 -rw\n";
        assert_eq!(ranges, expected);
        let expected = "0000000000000000: 0000000000005000 X--DA--UW\n\
            0000000000001000: 0000000000006000 ---DA--U-\n\
            0000000000200000: 0000000000200000 --PDA---W\n\
            0000000040000000: 0000000040000000 --P-----W\n";
        assert!(tlb.starts_with(expected), "{tlb}");
    }

    #[tokio::test]
    async fn two_levels_with_and_without_large_pages() {
        let words = [
            (0x1000, 0x2007),
            (0x1004, 0x40_00e7),
            (0x2000, 0x5067),
            (0x2ffc, 0x6067),
        ];
        let mut guest = Guest {
            registers: json!({"cr0": CR0_PG, "cr3": 0x1000, "cr4": CR4_PSE}),
            words: BTreeMap::from(words),
            entry: 4,
        };
        let expected = "0000000000000000-0000000000001000 0000000000001000 urw\n\
            00000000003ff000-0000000000800000 0000000000401000 urw\n";
        assert_eq!(shown(&guest).await[0], expected);
        guest.registers["cr4"] = json!(0);
        let expected = "0000000000000000: 0000000000005000 ---DA--UW\n00000000003ff000: 0000000000006000 ---DA--UW\n";
        assert_eq!(shown(&guest).await[1], expected);
    }
}
