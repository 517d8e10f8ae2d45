//! Section `kvm-tpr-opt`: the helper that patches guests which write to their task priority all the time, and a ROM of its.

use super::AbsentState;
use crate::vmstate::{Fields, Layout, StateError, VmState};

/// States: nothing is patched; the guest has not come far enough.
const INACTIVE: u32 = 0;

/// The helper. Addresses are the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VapicState {
    /// Where the ROM is and what it patches: seven addresses and numbers.
    pub rom: [u32; 7],
    /// Code for one vCPU, and for several.
    pub handlers: [VapicHandlers; 2],
    /// 0 inactive, 1 active, 2 not before the guest has booted.
    pub state: u32,
    /// Where task priority, the ROM's state and the page of virtual APICs are: four addresses.
    pub addresses: [u32; 4],
}

/// Code that guests are patched to call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VapicHandlers {
    /// To set the priority, from anywhere and from EAX.
    pub set: [u32; 2],
    /// To get it into each register.
    pub get: [u32; 8],
    /// To get it onto the stack.
    pub get_stack: u32,
}

impl VmState for VapicState {
    fn layout(&self) -> Layout {
        Layout::new("kvm-tpr-opt", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("rom_state", &mut Rom(self))?;
        fields.int("state", &mut self.state)?;
        let names = ["real_tpr_addr", "rom_state_vaddr", "vapic_paddr", "rom_state_paddr"];
        for (name, address) in names.into_iter().zip(&mut self.addresses) {
            fields.int(name, address)?;
        }
        Ok(())
    }
}

struct Rom<'a>(&'a mut VapicState);

impl VmState for Rom<'_> {
    fn layout(&self) -> Layout {
        Layout::new("kvmvapic-guest-rom", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.unused("unused", 8)?;
        let names = [
            "vaddr",
            "fixup_start",
            "fixup_end",
            "vapic_vaddr",
            "vapic_size",
            "vcpu_shift",
            "real_tpr_addr",
        ];
        for (name, number) in names.into_iter().zip(&mut self.0.rom) {
            fields.int(name, number)?;
        }
        let [one, several] = &mut self.0.handlers;
        fields.structure("up", one)?;
        fields.structure("mp", several)
    }
}

impl VmState for VapicHandlers {
    fn layout(&self) -> Layout {
        Layout::new("kvmvapic-handlers", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.int("set_tpr", &mut self.set[0])?;
        fields.int("set_tpr_eax", &mut self.set[1])?;
        fields.ints("get_tpr", &mut self.get)?;
        fields.int("get_tpr_stack", &mut self.get_stack)
    }
}

impl AbsentState for VapicState {
    const TYPE: &'static str = "kvmvapic";

    fn at_reset() -> Self {
        Self::default()
    }

    fn obstacle(&self) -> Option<&'static str> {
        // A guest for which all is prepared and that nothing was patched in has no address of a ROM.
        let patched = self.state != INACTIVE && self.rom[0] != 0;
        patched.then_some("the guest's accesses to its task priority have been patched to use a ROM that is not there")
    }
}
