//! Features of x86_64 processors that libvirt calls otherwise than QEMU does.

use crate::cpu::x86::canonical_name;
use crate::cpu::x86::tables::{FEATURES, word};

/// libvirt's names and QEMU's.
const DIFFERENT: [(&str, &str); 11] = [
    ("cmp_legacy", "cmp-legacy"),
    ("ds_cpl", "ds-cpl"),
    ("fxsr_opt", "fxsr-opt"),
    ("kvm_pv_eoi", "kvm-pv-eoi"),
    ("kvm_pv_unhalt", "kvm-pv-unhalt"),
    ("lahf_lm", "lahf-lm"),
    ("nodeid_msr", "nodeid-msr"),
    ("pclmuldq", "pclmulqdq"),
    ("perfctr_core", "perfctr-core"),
    ("perfctr_nb", "perfctr-nb"),
    ("tsc_adjust", "tsc-adjust"),
];

/// QEMU's name of a feature that libvirt calls `name`; none if there is no such feature.
pub(super) fn of_libvirt(name: &str) -> Option<String> {
    let told = DIFFERENT
        .iter()
        .find(|(libvirt, _)| *libvirt == name)
        .map(|(_, ours)| *ours);
    let known = |name: &str| FEATURES.iter().any(|(known, _)| *known == name);
    let candidates = [told.unwrap_or(name).to_owned(), name.replace('_', "-")];
    let mut names = candidates.iter().map(|name| canonical_name(name));
    names.find(|name| known(name)).map(str::to_owned)
}

/// libvirt's name of a feature; none for those of KVM, which libvirt leaves to QEMU and does not know.
pub(super) fn to_libvirt(name: &str) -> Option<&str> {
    let feature = FEATURES.iter().find(|(known, _)| *known == name);
    if feature.is_some_and(|(_, feature)| [word::KVM_FEATURES, word::KVM_HINTS].contains(&feature.word)) {
        return None;
    }
    let told = DIFFERENT.iter().find(|(_, ours)| *ours == name);
    Some(told.map_or(name, |(libvirt, _)| libvirt))
}
