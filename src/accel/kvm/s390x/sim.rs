//! A simulated kernel: the rules of Linux `arch/s390/kvm/kvm-s390.c` for capabilities and CPU model attributes.

use std::cell::RefCell;
use std::io;

use nix::errno::Errno;

use super::control::VmControl;
use super::uapi::{Attr, Be64, Cap, Feat, Machine, Payload, Processor, Subfunc, UvFeat, attr, cap};
use crate::cpu::s390x::feature::Capability;
use crate::cpu::s390x::{FacilityList, MachineProps};

/// A VM on a simulated host.
pub(super) struct SimVm {
    /// What the host offers with every capability enabled.
    host: MachineProps,
    state: RefCell<State>,
}

struct State {
    enabled: Vec<Cap>,
    vcpus: u32,
    processor: Processor,
    feat: Feat,
    subfunc: Subfunc,
    uv: UvFeat,
    /// What was written and enabled, in order.
    log: Vec<&'static str>,
}

impl SimVm {
    pub(super) fn new(host: MachineProps) -> Self {
        let mut processor = Processor::zeroed();
        processor.cpuid = Be64::new(host.cpuid);
        processor.ibc = (host.ibc as u16 & 0xfff).to_be_bytes();
        let state = State {
            enabled: Vec::new(),
            vcpus: 0,
            processor: *processor,
            feat: *Feat::zeroed(),
            subfunc: *Subfunc::zeroed(),
            uv: *UvFeat::zeroed(),
            log: Vec::new(),
        };
        Self {
            host,
            state: RefCell::new(state),
        }
    }

    pub(super) fn create_vcpu(&self) {
        self.state.borrow_mut().vcpus += 1;
    }

    pub(super) fn log(&self) -> Vec<&'static str> {
        self.state.borrow().log.clone()
    }

    /// The capability of the kernel's number that widens the facilities.
    fn widening(cap: Cap) -> Option<Capability> {
        Capability::ALL
            .into_iter()
            .find(|(_, name)| *name == cap.1)
            .map(|(capability, _)| capability)
    }

    fn fac_mask(&self) -> FacilityList {
        let mut mask = self.host.fac_mask.clone();
        let state = self.state.borrow();
        for (capability, name) in Capability::ALL {
            if !state.enabled.iter().any(|cap| cap.1 == name) {
                FacilityList::of_capability(capability)
                    .iter()
                    .for_each(|number| mask.remove(number));
            }
        }
        mask
    }
}

impl VmControl for SimVm {
    fn check_extension(&self, cap: Cap) -> io::Result<i32> {
        let always = [
            cap::DEVICE_CTRL,
            cap::SYNC_REGS,
            cap::S390_COW,
            cap::VM_ATTRIBUTES,
            cap::S390_USER_SIGP,
            cap::S390_USER_STSI,
        ];
        let has = always.contains(&cap)
            || cap == cap::S390_AIS_MIGRATION && self.host.has(Capability::Ais)
            || Self::widening(cap).is_some_and(|capability| self.host.has(capability));
        Ok(i32::from(has))
    }

    fn enable_cap(&self, cap: Cap) -> io::Result<()> {
        if self.check_extension(cap)? == 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut state = self.state.borrow_mut();
        if Self::widening(cap).is_some() && state.vcpus > 0 {
            return Err(Errno::EBUSY.into());
        }
        state.enabled.push(cap);
        state.log.push(cap.1);
        Ok(())
    }

    fn has_attr(&self, attr: Attr) -> bool {
        match attr {
            attr::ENABLE_CMMA => self.host.cmma,
            attr::ENABLE_APIE => self.host.apie,
            attr::PROCESSOR_UV_FEAT | attr::MACHINE_UV_FEAT => self.host.uv_feat != 0,
            _ => attr.group == 3 && attr.attr <= 7,
        }
    }

    fn get_attr(&self, attr: Attr, payload: &mut [u8]) -> io::Result<()> {
        let state = self.state.borrow();
        let bytes = match attr {
            attr::PROCESSOR => state.processor.as_bytes().to_vec(),
            attr::PROCESSOR_FEAT => state.feat.as_bytes().to_vec(),
            attr::PROCESSOR_SUBFUNC => state.subfunc.as_bytes().to_vec(),
            attr::PROCESSOR_UV_FEAT => state.uv.as_bytes().to_vec(),
            attr::MACHINE => {
                let mut machine = Machine::zeroed();
                machine.cpuid = Be64::new(self.host.cpuid);
                machine.ibc = self.host.ibc.to_be_bytes();
                machine.fac_mask = self.fac_mask().0.map(Be64::new);
                machine.fac_list = self.host.fac_list.0.map(Be64::new);
                machine.as_bytes().to_vec()
            }
            attr::MACHINE_FEAT => Feat {
                feat: self.host.feat.map(Be64::new),
            }
            .as_bytes()
            .to_vec(),
            attr::MACHINE_SUBFUNC => self.host.subfunctions.0.to_vec(),
            attr::MACHINE_UV_FEAT => self.host.uv_feat.to_be_bytes().to_vec(),
            _ => return Err(Errno::ENXIO.into()),
        };
        assert_eq!(
            payload.len(),
            bytes.len(),
            "{}: the kernel writes as much as it has",
            attr.name
        );
        payload.copy_from_slice(&bytes);
        Ok(())
    }

    fn set_attr(&self, attr: Attr, payload: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if state.vcpus > 0 {
            return Err(Errno::EBUSY.into());
        }
        match attr {
            attr::PROCESSOR => {
                state.processor.as_bytes_mut().copy_from_slice(payload);
                let lowest = (self.host.ibc >> 16) as u16 & 0xfff;
                let unblocked = self.host.ibc as u16 & 0xfff;
                let asked = u16::from_be_bytes(state.processor.ibc);
                let ibc = match asked {
                    0 => unblocked,
                    asked if lowest == 0 => asked,
                    asked => asked.clamp(lowest, unblocked),
                };
                state.processor.ibc = ibc.to_be_bytes();
            }
            attr::PROCESSOR_FEAT => {
                let mut feat = Feat::zeroed();
                feat.as_bytes_mut().copy_from_slice(payload);
                if feat
                    .feat
                    .iter()
                    .zip(self.host.feat)
                    .any(|(asked, has)| asked.get() & !has != 0)
                {
                    return Err(Errno::EINVAL.into());
                }
                state.feat = *feat;
            }
            attr::PROCESSOR_SUBFUNC => state.subfunc.as_bytes_mut().copy_from_slice(payload),
            attr::PROCESSOR_UV_FEAT => {
                let mut uv = UvFeat::zeroed();
                uv.as_bytes_mut().copy_from_slice(payload);
                if uv.feat.get() & !self.host.uv_feat != 0 {
                    return Err(Errno::EINVAL.into());
                }
                state.uv = *uv;
            }
            attr::ENABLE_CMMA | attr::ENABLE_APIE => assert!(payload.is_empty()),
            _ => return Err(Errno::ENXIO.into()),
        }
        state.log.push(attr.name);
        Ok(())
    }
}

mod tests {
    use super::*;
    use crate::accel::hostfile::s390x::machine_props;
    use crate::accel::kvm::s390x::{ControlError, apply, host, prepare};
    use crate::cpu::s390x::{Compat, Cpus, ProcessorProps};

    fn z16() -> MachineProps {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/vectors/s390x/hosts/9.2.0/sim_host.json"
        );
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        machine_props(value.as_object().unwrap()).unwrap()
    }

    fn props(vm: &SimVm, cpu: &str) -> ProcessorProps {
        let host = host(prepare(vm).unwrap().as_ref()).unwrap();
        let cpus = Cpus::new(Compat::newest(), Some(&host));
        cpus.parse(Some(cpu))
            .unwrap()
            .processor_props(&host.model.unwrap().identity)
    }

    fn errno<T>(result: Result<T, ControlError>) -> Option<i32> {
        match result {
            Err(ControlError::Refused { source, .. }) => source.raw_os_error(),
            _ => None,
        }
    }

    #[test]
    fn the_model_is_set_in_the_kernels_order() {
        let vm = SimVm::new(z16());
        let asked = props(&vm, "host");
        assert_eq!(apply(&vm, &asked).unwrap().ibc, 0x061);
        assert_eq!(
            vm.log(),
            [
                "KVM_CAP_S390_USER_SIGP",
                "KVM_CAP_S390_VECTOR_REGISTERS",
                "KVM_CAP_S390_USER_STSI",
                "KVM_CAP_S390_CPU_TOPOLOGY",
                "KVM_CAP_S390_GS",
                "KVM_CAP_S390_RI",
                "KVM_CAP_S390_AIS",
                "KVM_S390_VM_CPU_PROCESSOR",
                "KVM_S390_VM_CPU_PROCESSOR_FEAT",
                "KVM_S390_VM_CPU_PROCESSOR_SUBFUNC",
                "KVM_S390_VM_MEM_ENABLE_CMMA",
                "KVM_S390_VM_CRYPTO_ENABLE_APIE",
                "KVM_S390_VM_CPU_PROCESSOR_UV_FEAT_GUEST",
            ]
        );
    }

    #[test]
    fn what_is_read_after_enabling_is_the_whole_offer() {
        let described = z16();
        let vm = SimVm::new(described.clone());
        assert_eq!(prepare(&vm).unwrap().unwrap(), described);
        let late = SimVm::new(described);
        assert!(!late.fac_mask().contains(129), "nothing was enabled");
    }

    #[test]
    fn nothing_can_be_set_after_the_first_vcpu() {
        let vm = SimVm::new(z16());
        let asked = props(&vm, "z13");
        vm.create_vcpu();
        assert_eq!(errno(apply(&vm, &asked)), Some(Errno::EBUSY as i32));
        assert_eq!(errno(prepare(&vm)), Some(Errno::EBUSY as i32));
    }

    #[test]
    fn features_the_machine_lacks_are_refused() {
        let vm = SimVm::new(z16());
        let mut asked = props(&vm, "z13");
        asked.feat[0] |= 1 << 62;
        assert_eq!(errno(apply(&vm, &asked)), Some(Errno::EINVAL as i32));
    }

    #[test]
    fn a_clamped_instruction_level_is_noticed() {
        let mut machine = z16();
        machine.ibc = 0x0041_0061;
        let vm = SimVm::new(machine);
        let mut asked = props(&vm, "z13");
        assert_eq!(asked.ibc, 0, "the host cannot be held to a z13");
        let applied = apply(&vm, &asked).unwrap();
        assert_eq!((applied.ibc, applied.is_clamped()), (0x061, false));
        asked.ibc = 0x031;
        let applied = apply(&vm, &asked).unwrap();
        assert_eq!((applied.ibc, applied.is_clamped()), (0x041, true));
    }

    #[test]
    fn the_payload_of_a_z13_is_that_of_a_z13() {
        let vm = SimVm::new(z16());
        let asked = props(&vm, "z13,te=off");
        apply(&vm, &asked).unwrap();
        let mut payload = Processor::zeroed();
        vm.get_attr(attr::PROCESSOR, payload.as_bytes_mut()).unwrap();
        assert_eq!(
            payload.as_bytes()[..10],
            [0, 0x12, 0x34, 0x56, 0x29, 0x64, 0x80, 0, 0, 0x31]
        );
        let list = FacilityList(payload.fac_list.map(Be64::get));
        for (number, on) in [
            (0, true),
            (2, true),
            (73, false),
            (129, true),
            (135, false),
            (138, true),
        ] {
            assert_eq!(list.contains(number), on, "facility {number}");
        }
        let mut subfunc = Subfunc::zeroed();
        vm.get_attr(attr::PROCESSOR_SUBFUNC, subfunc.as_bytes_mut()).unwrap();
        assert_eq!(subfunc.blocks[..4], [0xff, 0xff, 0xff, 0]);
        assert_eq!(subfunc.blocks[48] & 0x80, 0x80, "KMAC can be asked");
    }
}
