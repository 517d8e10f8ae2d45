//! Section `pcie-root-port`.

use crate::devices::pci::{MsixState, PciState};
use crate::vmstate::{Fields, Layout, StateError, StateErrorKind, VmState};

/// Room for errors in the log of advanced error reporting.
const ERROR_LOG: u16 = 8;

/// A root port. Its log of errors is always empty: nothing behind it makes any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootPortState {
    /// Configuration space and interrupt pin.
    pub pci: PciState,
    /// The vector.
    pub msix: MsixState,
}

impl VmState for RootPortState {
    fn layout(&self) -> Layout {
        Layout::new("pcie-root-port", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        fields.structure("parent_obj.parent_obj.parent_obj", &mut self.pci)?;
        fields.structure("parent_obj.parent_obj.parent_obj.exp.aer_log", &mut ErrorLog)?;
        fields.structure("parent_obj.parent_obj.parent_obj.parent_obj", &mut self.msix)
    }
}

struct ErrorLog;

impl VmState for ErrorLog {
    fn layout(&self) -> Layout {
        Layout::new("PCIE_AER_ERROR_LOG", 1)
    }

    fn fields(&mut self, fields: &mut Fields<'_, '_>) -> Result<(), StateError> {
        let mut count = 0_u16;
        fields.int("log_num", &mut count)?;
        fields.equal("log_max", ERROR_LOG, "uint16 equal")?;
        if count != 0 {
            let reason = format!("{count} errors are in the log, which has room for none here");
            return Err(StateError::new(StateErrorKind::Refused(reason)).within("log_num"));
        }
        Ok(())
    }
}
