//! Interrupt controllers, timer and clock in the kernel in the form of saved states, and back.

use std::io;

use kvm_bindings::{
    KVM_CLOCK_TSC_STABLE, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_FLAGS_HPET_LEGACY,
    KVM_PIT_FLAGS_SPEAKER_DATA_ON, kvm_clock_data, kvm_pit_channel_state,
};
use kvm_ioctls::VmFd;
use nix::time::{ClockId, clock_gettime};

use super::ioctls;
use crate::accel::x86_64::ChipStates;
use crate::vmstate::pc::{IOAPIC_PINS, IoApicState, KvmClockState, PicState, PitChannelState, PitState};

/// Which of the 8259As has which number.
const PICS: [u32; 2] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE];

/// The mode of a counter that no control word has reached.
const INITIAL_MODE: u8 = 3;

// `struct kvm_pic_state`.
const ELCR: usize = 14;
// `struct kvm_ioapic_state`.
const SELECT: usize = 8;
const ID: usize = 12;
const IRR: usize = 16;
const TABLE: usize = 24;

/// What the kernel has of the chips of a PC. `guest_time` is the guest's clock now, in nanoseconds.
pub(super) fn save(fd: &VmFd, guest_time: u64) -> io::Result<ChipStates> {
    let pics = [ioctls::irqchip(fd, PICS[0])?, ioctls::irqchip(fd, PICS[1])?];
    let ioapic = ioctls::irqchip(fd, KVM_IRQCHIP_IOAPIC)?;
    let (pit, speaker_on) = save_timer(fd, guest_time)?;
    Ok(ChipStates {
        pics: pics.map(|bytes| pic(&bytes)),
        ioapic: io_apic(&ioapic),
        pit,
        speaker_on,
    })
}

/// Gives the kernel's chips these registers.
pub(super) fn load(fd: &VmFd, states: &ChipStates, guest_time: u64) -> io::Result<()> {
    for (chip, state) in PICS.into_iter().zip(&states.pics) {
        let mut bytes = ioctls::irqchip(fd, chip)?;
        put_pic(state, &mut bytes);
        ioctls::set_irqchip(fd, chip, &bytes)?;
    }
    let mut bytes = ioctls::irqchip(fd, KVM_IRQCHIP_IOAPIC)?;
    put_io_apic(&states.ioapic, &mut bytes);
    ioctls::set_irqchip(fd, KVM_IRQCHIP_IOAPIC, &bytes)?;
    load_timer(fd, states, guest_time)
}

/// The paravirtual clock.
pub(super) fn clock(fd: &VmFd) -> io::Result<KvmClockState> {
    let data = fd.get_clock()?;
    Ok(KvmClockState {
        clock: data.clock,
        is_reliable: data.flags & KVM_CLOCK_TSC_STABLE != 0,
    })
}

/// Sets the paravirtual clock.
pub(super) fn set_clock(fd: &VmFd, nanoseconds: u64) -> io::Result<()> {
    let data = kvm_clock_data {
        clock: nanoseconds,
        ..kvm_clock_data::default()
    };
    fd.set_clock(&data).map_err(io::Error::from)
}

/// The kernel has no place for `single_mode` and `ltim`.
fn pic(bytes: &[u8; 512]) -> PicState {
    let [
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select,
        poll,
        special_mask,
        init_state,
        auto_eoi,
        rotate_on_auto_eoi,
        special_fully_nested_mode,
        init4,
        elcr,
        ..,
    ] = *bytes;
    PicState {
        last_irr,
        irr,
        imr,
        isr,
        priority_add,
        irq_base,
        read_reg_select: read_reg_select != 0,
        poll: poll != 0,
        special_mask: special_mask != 0,
        init_state,
        auto_eoi: auto_eoi != 0,
        rotate_on_auto_eoi: rotate_on_auto_eoi != 0,
        special_fully_nested_mode: special_fully_nested_mode != 0,
        init4: init4 != 0,
        single_mode: false,
        elcr,
        ltim: false,
    }
}

fn put_pic(state: &PicState, bytes: &mut [u8; 512]) {
    let registers = [
        state.last_irr,
        state.irr,
        state.imr,
        state.isr,
        state.priority_add,
        state.irq_base,
        state.read_reg_select.into(),
        state.poll.into(),
        state.special_mask.into(),
        state.init_state,
        state.auto_eoi.into(),
        state.rotate_on_auto_eoi.into(),
        state.special_fully_nested_mode.into(),
        state.init4.into(),
        state.elcr,
    ];
    bytes[..=ELCR].copy_from_slice(&registers);
}

fn io_apic(bytes: &[u8; 512]) -> IoApicState {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut ioredtbl = [0; IOAPIC_PINS];
    for (pin, entry) in ioredtbl.iter_mut().enumerate() {
        let at = TABLE + 8 * pin;
        *entry = u64::from(word(at + 4)) << 32 | u64::from(word(at));
    }
    IoApicState {
        id: bytes[ID],
        ioregsel: bytes[SELECT],
        irr: word(IRR),
        ioredtbl,
    }
}

fn put_io_apic(state: &IoApicState, bytes: &mut [u8; 512]) {
    bytes[ID] = state.id;
    bytes[SELECT] = state.ioregsel;
    bytes[IRR..IRR + 4].copy_from_slice(&state.irr.to_le_bytes());
    for (pin, entry) in state.ioredtbl.iter().enumerate() {
        let at = TABLE + 8 * pin;
        bytes[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    }
}

/// How far the clock that the kernel's timer counts by is ahead of the guest's.
fn ahead_of(guest_time: u64) -> io::Result<i64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
    Ok(now - i64::try_from(guest_time).unwrap_or(i64::MAX))
}

fn save_timer(fd: &VmFd, guest_time: u64) -> io::Result<(PitState, bool)> {
    let state = fd.get_pit2()?;
    let ahead = ahead_of(guest_time)?;
    let channels = state.channels.map(|channel| PitChannelState {
        // At most 65536.
        count: channel.count as i32,
        latched_count: channel.latched_count,
        count_latched: channel.count_latched,
        status_latched: channel.status_latched != 0,
        status: channel.status,
        read_state: channel.read_state,
        write_state: channel.write_state,
        write_latch: channel.write_latch,
        rw_mode: channel.rw_mode,
        // Until a guest chooses one the kernel has none, and QEMU this one.
        mode: if channel.mode > 5 { INITIAL_MODE } else { channel.mode },
        bcd: channel.bcd != 0,
        gate: channel.gate != 0,
        count_load_time: channel.count_load_time.saturating_sub(ahead),
        next_transition_time: 0,
    });
    let pit = PitState {
        irq_disabled: state.flags & KVM_PIT_FLAGS_HPET_LEGACY != 0,
        channels,
    };
    Ok((pit, state.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON != 0))
}

fn load_timer(fd: &VmFd, states: &ChipStates, guest_time: u64) -> io::Result<()> {
    let mut state = fd.get_pit2()?;
    let ahead = ahead_of(guest_time)?;
    for (place, channel) in state.channels.iter_mut().zip(&states.pit.channels) {
        let untouched = channel.rw_mode == 0 && place.mode > 5;
        *place = kvm_pit_channel_state {
            // `PitChannelState` has checked it.
            count: channel.count as u32,
            latched_count: channel.latched_count,
            count_latched: channel.count_latched,
            status_latched: channel.status_latched.into(),
            status: channel.status,
            read_state: channel.read_state,
            write_state: channel.write_state,
            write_latch: channel.write_latch,
            rw_mode: channel.rw_mode,
            mode: if untouched { place.mode } else { channel.mode },
            bcd: channel.bcd.into(),
            gate: channel.gate.into(),
            count_load_time: channel.count_load_time.saturating_add(ahead),
        };
    }
    state.flags = 0;
    if states.pit.irq_disabled {
        state.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
    }
    if states.speaker_on {
        state.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    }
    fd.set_pit2(&state).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::kvm::x86_64::System;

    /// A VM whose interrupt controllers and timer are in the kernel.
    fn vm(test: &str) -> Option<VmFd> {
        let system = match System::open() {
            Ok(system) => system,
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                return None;
            }
        };
        let vm = system.kvm().create_vm().unwrap();
        vm.create_irq_chip().unwrap();
        vm.create_pit2(kvm_bindings::kvm_pit_config::default()).unwrap();
        Some(vm)
    }

    #[test]
    fn chips_start_as_they_do_in_qemu_and_survive() {
        let Some(one) = vm("chips_start_as_they_do_in_qemu_and_survive") else {
            return;
        };
        let mut states = save(&one, 0).unwrap();
        assert_eq!(states.ioapic, IoApicState::default());
        assert_eq!(states.pics, [PicState::default(); 2]);
        states.pics[0].imr = 0xfa;
        states.pics[1].irq_base = 0x70;
        states.pics[1].elcr = 0x0c;
        states.ioapic.ioredtbl[5] = 0x0300_0000_0001_8041;
        states.ioapic.id = 2;
        states.speaker_on = true;
        states.pit.channels[2].count = 0x1234;
        (states.pit.channels[2].mode, states.pit.channels[2].rw_mode) = (2, 3);
        states.pit.channels[2].gate = true;
        let other = vm("").unwrap();
        load(&other, &states, 5_000_000_000).unwrap();
        let mut moved = save(&other, 5_000_000_000).unwrap();
        let [timer, others @ ..] = &mut moved.pit.channels;
        let late = timer.count_load_time.abs_diff(states.pit.channels[0].count_load_time);
        assert!(late < 5_000_000_000, "the counter that interrupts goes on: {late} ns");
        timer.count_load_time = states.pit.channels[0].count_load_time;
        for (moved, before) in others.iter_mut().zip(&states.pit.channels[1..]) {
            // The kernel lets these begin anew.
            moved.count_load_time = before.count_load_time;
        }
        assert_eq!(moved, states);
    }

    #[test]
    fn the_clock_goes_on_where_it_was() {
        let Some(vm) = vm("the_clock_goes_on_where_it_was") else {
            return;
        };
        set_clock(&vm, 77_000_000_000).unwrap();
        assert!(clock(&vm).unwrap().clock >= 77_000_000_000);
    }
}
