//! `info pic` and `info lapic`: interrupt controllers as their registers are now.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::info::{items, number};
use super::{Failure, HmpHost, MonitorState, memory};
use crate::worker::inspect::Inspect;

/// Bits of a redirection entry and of an entry of a local APIC's vector table.
const PENDING: u64 = 1 << 12;
const LOW: u64 = 1 << 13;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const LOGICAL: u64 = 1 << 11;
/// How an interrupt is delivered: a number in bits 8 to 10, and the one of the NMI.
const DELIVERY_SHIFT: u32 = 8;
const NMI: usize = 4;

/// Registers of a local APIC, by offset / 16 (Intel SDM volume 3, table 12-1).
mod register {
    pub(super) const TPR: usize = 0x08;
    pub(super) const APR: usize = 0x09;
    pub(super) const PPR: usize = 0x0a;
    pub(super) const LDR: usize = 0x0d;
    pub(super) const DFR: usize = 0x0e;
    pub(super) const SPURIOUS: usize = 0x0f;
    pub(super) const ISR: usize = 0x10;
    pub(super) const TMR: usize = 0x18;
    pub(super) const IRR: usize = 0x20;
    pub(super) const ESR: usize = 0x28;
    pub(super) const ICR: usize = 0x30;
    pub(super) const ICR_HIGH: usize = 0x31;
    pub(super) const TIMER: usize = 0x32;
    pub(super) const THERMAL: usize = 0x33;
    pub(super) const COUNTERS: usize = 0x34;
    pub(super) const LINT0: usize = 0x35;
    pub(super) const LINT1: usize = 0x36;
    pub(super) const ERROR: usize = 0x37;
    pub(super) const INITIAL_COUNT: usize = 0x38;
    pub(super) const CURRENT_COUNT: usize = 0x39;
    pub(super) const DIVIDE: usize = 0x3e;
}

/// `info pic`.
pub(super) async fn pic(host: &impl HmpHost) -> Result<String, Failure> {
    let controllers = host.inspect(Inspect::InterruptControllers).await?;
    let [first, second] = [0, 1].map(|chip| pic_line(chip, &controllers["pics"][chip]));
    Ok(ioapic(&controllers["ioapic"]) + &second + &first)
}

fn ioapic(ioapic: &Value) -> String {
    let table: Vec<u64> = items(&ioapic["table"]).iter().filter_map(Value::as_u64).collect();
    let select = number(ioapic, "select");
    let mut shown = format!(
        "ioapic0: ver={:#x} id=0x{:02x} sel=0x{select:02x}",
        number(ioapic, "version"),
        number(ioapic, "id")
    );
    if select != 0 {
        shown += &format!(" (redir[{}])", select.saturating_sub(0x10) >> 1);
    }
    shown.push('\n');
    let deliveries = ["fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT"];
    for (pin, entry) in table.iter().enumerate() {
        let is = |bit| entry & bit != 0;
        // Writing to a text does not fail.
        let _ = writeln!(
            shown,
            "  pin {pin:<2} 0x{entry:016x} dest={:x} vec={:<3} {} {:<5} {:<6} {:<6} {}",
            entry >> 56 & if is(LOGICAL) { 0xff } else { 0x0f },
            entry & 0xff,
            if is(LOW) { "active-lo" } else { "active-hi" },
            if is(LEVEL) { "level" } else { "edge" },
            if is(MASKED) { "masked" } else { "" },
            deliveries[delivery(*entry)],
            if is(LOGICAL) { "logical" } else { "physical" },
        );
    }
    let remote = (0..)
        .zip(&table)
        .filter(|(_, entry)| **entry & (LEVEL | REMOTE_IRR) == LEVEL | REMOTE_IRR);
    let remote = remote.fold(0, |mask, (pin, _)| mask | 1_u64 << pin);
    let requests = ioapic["irr"].as_u64().unwrap_or_default();
    for (name, mask) in [("  IRR", requests), ("  Remote IRR", remote)] {
        let pins: String = (0..64)
            .filter(|pin| mask >> pin & 1 != 0)
            .map(|pin| format!("{pin:<2} "))
            .collect();
        let pins = if pins.is_empty() { "(none)" } else { &pins };
        let _ = writeln!(shown, "{name:<10} {pins}");
    }
    shown
}

fn pic_line(chip: usize, pic: &Value) -> String {
    let flag = |name: &str| u8::from(pic[name] == true);
    format!(
        "pic{chip}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}\n",
        number(pic, "irr"),
        number(pic, "imr"),
        number(pic, "isr"),
        number(pic, "first"),
        number(pic, "base"),
        flag("reads_isr"),
        number(pic, "elcr"),
        flag("special_nested")
    )
}

/// `info lapic`: that of the vCPU that was chosen, or of the one with the local APIC id given.
pub(super) async fn local_apic(
    host: &impl HmpHost,
    state: &MonitorState,
    arguments: &Map<String, Value>,
) -> Result<String, Failure> {
    let cpus = host.qmp("query-cpus-fast", Map::new()).await?;
    let wanted = arguments.get("apic-id").and_then(Value::as_i64);
    let wanted = wanted.unwrap_or_else(|| memory::cpu(state).into());
    let cpu = items(&cpus).iter().find(|cpu| number(cpu, "cpu-index") == wanted);
    let cpu = cpu.ok_or_else(|| Failure::Usage("No CPU available\n".into()))?;
    let index = u32::try_from(wanted).unwrap_or_default();
    let registers = host.inspect(Inspect::LocalApic { cpu: index }).await?;
    let property = Map::from_iter([("path", cpu["qom-path"].clone()), ("property", json!("x2apic"))].map(own));
    // A processor without that property has no such mode.
    let is_x2apic = host.qmp("qom-get", property).await.is_ok_and(|value| value == true);
    Ok(local_apic_text(index, &registers, is_x2apic))
}

fn own((name, value): (&str, Value)) -> (String, Value) {
    (name.to_owned(), value)
}

fn local_apic_text(cpu: u32, registers: &Value, is_x2apic: bool) -> String {
    use register::{
        APR, COUNTERS, CURRENT_COUNT, DFR, DIVIDE, ERROR, ESR, ICR, ICR_HIGH, INITIAL_COUNT, IRR, ISR, LDR, LINT0,
        LINT1, PPR, SPURIOUS, THERMAL, TIMER, TPR,
    };
    let register = |at: usize| registers[at].as_u64().unwrap_or_default();
    let mut shown = format!("dumping local APIC state for CPU {cpu:<2}\n\n");
    let vectors = [
        ("LVT0", LINT0),
        ("LVT1", LINT1),
        ("LVTPC", COUNTERS),
        ("LVTERR", ERROR),
        ("LVTTHMR", THERMAL),
        ("LVTT", TIMER),
    ];
    for (name, at) in vectors {
        shown += &vector_line(name, register(at), at == TIMER);
    }
    let divide = register(DIVIDE);
    let power = (divide & 8) >> 1 | divide & 3;
    shown += &format!(
        "Timer\t DCR={divide:#x} (divide by {}) initial_count = {} current_count = {}\n",
        if power == 7 { 1 } else { 2 << power },
        register(INITIAL_COUNT),
        register(CURRENT_COUNT)
    );
    let spurious = register(SPURIOUS);
    shown += &format!(
        "SPIV\t 0x{spurious:08x} APIC {}, focus={}, spurious vec {}\n",
        if spurious & 0x100 == 0 { "disabled" } else { "enabled" },
        if spurious & 0x200 == 0 { "off" } else { "on" },
        spurious & 0xff
    );
    let (model, logical) = (register(DFR) >> 28, register(LDR) >> 24);
    shown += &command(register(ICR), register(ICR_HIGH), model, is_x2apic);
    shown += &format!("ESR\t 0x{:08x}\n", register(ESR));
    let bit = |table: usize, vector: usize| register(table + vector / 32) >> (vector % 32) & 1 != 0;
    for (name, table) in [("ISR", ISR), ("IRR", IRR)] {
        let set = (0..256).filter(|vector| bit(table, *vector));
        let set: String = set
            .map(|vector| format!("{vector}{} ", if bit(register::TMR, vector) { "(level)" } else { "" }))
            .collect();
        shown += &format!("{name}\t {}\n", if set.is_empty() { "(none)" } else { &set });
    }
    let [apr, tpr, ppr] = [APR, TPR, PPR].map(register);
    let cluster = match model {
        0 => format!(" (cluster {}: id {})", logical >> 4, logical & 0xf),
        _ => String::new(),
    };
    shown
        + &format!("\nAPR 0x{apr:02x} TPR 0x{tpr:02x} DFR 0x{model:02x} LDR 0x{logical:02x}{cluster} PPR 0x{ppr:02x}\n")
}

/// A line of the vector table. Only the timer's has a mode.
fn vector_line(name: &str, entry: u64, is_timer: bool) -> String {
    let deliveries = ["Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT"];
    let delivery = delivery(entry);
    let mode = match (is_timer, entry >> 17 & 3) {
        (false, _) => "",
        (true, 0) => "one-shot",
        (true, 1) => "periodic",
        (true, _) => "tsc-deadline",
    };
    let vector = match delivery {
        NMI => String::new(),
        _ => format!(" (vec {})", entry & 0xff),
    };
    format!(
        "{name}\t 0x{entry:08x} {} {:<5} {:<6} {:<7} {mode:<12} {:<6}{vector}\n",
        if entry & LOW == 0 { "active-hi" } else { "active-lo" },
        if entry & LEVEL == 0 { "edge" } else { "level" },
        if entry & MASKED == 0 { "" } else { "masked" },
        if entry & PENDING == 0 { "" } else { "pending" },
        deliveries[delivery]
    )
}

/// The interrupt that was sent last, and to whom.
fn command(low: u64, high: u64, model: u64, is_x2apic: bool) -> String {
    let shorthand = ["no-shorthand", "self", "all-self", "all"][usize::try_from(low >> 18 & 3).unwrap_or_default()];
    let is_logical = low & LOGICAL != 0;
    let sent = format!(
        "ICR\t 0x{low:08x} {} {} {} {shorthand}\nICR2\t 0x{high:08x}",
        if is_logical { "logical" } else { "physical" },
        if low & LEVEL == 0 { "edge" } else { "level" },
        if low & REMOTE_IRR == 0 { "de-assert" } else { "assert" }
    );
    let (to, kind) = if is_x2apic {
        (high, "X2APIC ID")
    } else {
        (high >> 24, "APIC ID")
    };
    let destination = match (shorthand, is_logical, model) {
        ("no-shorthand", false, _) => format!(" cpu {to} ({kind})"),
        ("no-shorthand", true, 0xf) => format!(" mask {:08b} (APIC ID)", high >> 24),
        ("no-shorthand", true, 0) if is_x2apic => format!(" cluster {} mask {:016b} ({kind})", to >> 16, to & 0xffff),
        ("no-shorthand", true, 0) => format!(" cluster {} mask {:04b} ({kind})", to >> 4, to & 0xf),
        _ => String::new(),
    };
    format!("{sent}{destination}\n")
}

/// How an interrupt is delivered, 0 to 7.
fn delivery(entry: u64) -> usize {
    usize::try_from(entry >> DELIVERY_SHIFT & 7).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_table_is_shown_by_pin() {
        let table = [MASKED, 0xff00_0000_0000_ff31_u64];
        let shown = ioapic(&json!({"version": 0x11, "id": 0, "select": 0x12, "irr": 5, "table": table}));
        let expected = [
            "ioapic0: ver=0x11 id=0x00 sel=0x12 (redir[1])",
            "  pin 0  0x0000000000010000 dest=0 vec=0   active-hi edge  masked fixed  physical",
            "  pin 1  0xff0000000000ff31 dest=ff vec=49  active-lo level        extINT logical",
            "  IRR      0  2  ",
            "  Remote IRR 1  ",
            "",
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn a_pic_is_a_line() {
        let pic = json!({"irr": 1, "imr": 0xfb, "isr": 0, "first": 0, "base": 8, "reads_isr": false, "elcr": 0,
            "special_nested": true});
        let expected = "pic0: irr=01 imr=fb isr=00 hprio=0 irq_base=08 rr_sel=0 elcr=00 fnm=1\n";
        assert_eq!(pic_line(0, &pic), expected);
    }

    #[test]
    fn a_local_apic_is_shown_as_firmware_leaves_it() {
        let mut registers = [0_u64; 64];
        let set = [
            (register::LINT0, 0x8700),
            (register::LINT1, 0x8400),
            (register::COUNTERS, MASKED),
            (register::ERROR, MASKED),
            (register::THERMAL, MASKED),
            (register::TIMER, MASKED | 1 << 17 | 0xef),
            (register::SPURIOUS, 0x1ff),
            (register::ICR, 0xc_4610),
            (register::DFR, 0xf000_0000),
            (register::IRR + 1, 1 << 16),
            (register::TMR + 1, 1 << 16),
        ];
        set.into_iter().for_each(|(at, value)| registers[at] = value);
        let shown = local_apic_text(0, &json!(registers.to_vec()), false);
        let expected = [
            "dumping local APIC state for CPU 0 ",
            "",
            "LVT0\t 0x00008700 active-hi level                             ExtINT (vec 0)",
            "LVT1\t 0x00008400 active-hi level                             NMI   ",
            "LVTPC\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)",
            "LVTERR\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)",
            "LVTTHMR\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)",
            "LVTT\t 0x000300ef active-hi edge  masked         periodic     Fixed  (vec 239)",
            "Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0",
            "SPIV\t 0x000001ff APIC enabled, focus=off, spurious vec 255",
            "ICR\t 0x000c4610 physical edge assert all",
            "ICR2\t 0x00000000",
            "ESR\t 0x00000000",
            "ISR\t (none)",
            "IRR\t 48(level) ",
            "",
            "APR 0x00 TPR 0x00 DFR 0x0f LDR 0x00 PPR 0x00",
            "",
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn whom_an_interrupt_was_sent_to() {
        for (low, high, model, is_x2apic, end) in [
            (0, 0x0300_0000, 0xf, false, " cpu 3 (APIC ID)\n"),
            (0, 3, 0xf, true, " cpu 3 (X2APIC ID)\n"),
            (LOGICAL, 0x0500_0000, 0xf, false, " mask 00000101 (APIC ID)\n"),
            (LOGICAL, 0x2500_0000, 0, false, " cluster 2 mask 0101 (APIC ID)\n"),
            (
                LOGICAL,
                0x0002_0005,
                0,
                true,
                " cluster 2 mask 0000000000000101 (X2APIC ID)\n",
            ),
        ] {
            let shown = command(low, high, model, is_x2apic);
            assert!(shown.ends_with(end), "{shown}");
        }
    }
}
