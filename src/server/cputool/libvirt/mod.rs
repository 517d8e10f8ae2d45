//! libvirt's XML: what `virsh domcapabilities` says as a host, the XML of a domain or its `<cpu>` as a model, and a model as
//! `<cpu>`.

mod host;
mod names;

use std::path::{Path, PathBuf};

use roxmltree::Node;

use crate::accel::hostfile::HostDescription;
use crate::cpu::s390x;
use crate::target::Target;

/// The longest file that is read; what libvirt writes has some ten thousand bytes.
const MAX_BYTES: u64 = 1 << 24;

/// What a file of libvirt's holds.
#[derive(Clone, Debug)]
pub(super) enum Document {
    /// A host, by its host model.
    Host(Box<HostDescription>),
    /// A model.
    Model {
        /// The architecture it is for.
        target: Target,
        /// As for `-cpu`.
        text: String,
    },
}

/// A file of libvirt's that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{path}: cannot read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: not XML")]
    Syntax { path: PathBuf, source: roxmltree::Error },
    #[error("{path}: {problem}")]
    Content { path: PathBuf, problem: String },
}

/// Reads a file of libvirt's.
///
/// # Errors
/// Names the file, and the element that is wrong.
pub(super) fn read(path: &Path) -> Result<Document, Error> {
    use std::io::Read;
    let unreadable = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
    }
    let document = roxmltree::Document::parse(&text).map_err(|source| Error::Syntax {
        path: path.to_owned(),
        source,
    })?;
    understand(document.root_element()).map_err(|problem| Error::Content {
        path: path.to_owned(),
        problem,
    })
}

fn understand(root: Node<'_, '_>) -> Result<Document, String> {
    match root.tag_name().name() {
        "domainCapabilities" => {
            let target = target(child(root, "arch").and_then(|arch| arch.text()))?;
            let modes = child(root, "cpu").into_iter().flat_map(|cpu| elements(cpu, "mode"));
            let mut host_model = modes.filter(|mode| mode.attribute("name") == Some("host-model"));
            let host_model = host_model
                .find(|mode| child(*mode, "model").is_some())
                .ok_or("<mode name='host-model'>: libvirt knows no host model")?;
            host::of_host_model(target, &Cpu::of(host_model, target)?).map(|host| Document::Host(Box::new(host)))
        }
        "domain" => {
            let os_type = child(root, "os").and_then(|os| child(os, "type"));
            let cpu = child(root, "cpu").ok_or("<domain>: has no <cpu>")?;
            model(cpu, target(os_type.and_then(|kind| kind.attribute("arch")))?)
        }
        "cpu" => match child(root, "arch").and_then(|arch| arch.text()) {
            None if names_s390(root) => model(root, Target::S390x),
            arch => model(root, target(arch)?),
        },
        other => Err(format!(
            "<{other}>: neither <domainCapabilities> nor <domain> nor <cpu>"
        )),
    }
}

/// Whether the model is one of s390x: the `<cpu>` of a domain does not tell its architecture.
fn names_s390(cpu: Node<'_, '_>) -> bool {
    let model = child(cpu, "model").and_then(|model| model.text());
    model.is_some_and(|name| s390x::named(name.trim()).is_some())
}

/// Where nobody tells, x86_64, as with libvirt on such a machine.
fn target(name: Option<&str>) -> Result<Target, String> {
    match name.map(str::trim) {
        None | Some("x86_64") => Ok(Target::X86_64),
        Some("s390x") => Ok(Target::S390x),
        Some(other) => Err(format!("<arch>: '{other}' is neither x86_64 nor s390x")),
    }
}

fn model(cpu: Node<'_, '_>, target: Target) -> Result<Document, String> {
    let mut text = match cpu.attribute("mode") {
        Some("host-passthrough") => "host".to_owned(),
        Some("maximum") => "max".to_owned(),
        mode => match Cpu::of(cpu, target) {
            Ok(cpu) => cpu.text(),
            Err(_) if mode == Some("host-model") && child(cpu, "model").is_none() => {
                return Err("<cpu mode='host-model'>: names no model before the domain has been started".to_owned());
            }
            Err(problem) => return Err(problem),
        },
    };
    if let Some(migratable) = cpu.attribute("migratable") {
        text += &format!(",migratable={migratable}");
    }
    Ok(Document::Model { target, text })
}

/// A `<cpu>`, or a `<mode>` that holds the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cpu {
    /// The model.
    model: String,
    /// Features by QEMU's names, and whether they are on.
    features: Vec<(String, bool)>,
    /// Bits of a physical address, or the most of the host's that are taken.
    phys_bits: Option<PhysBits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PhysBits {
    Exactly(u32),
    OfTheHost(Option<u32>),
}

impl Cpu {
    fn of(node: Node<'_, '_>, target: Target) -> Result<Self, String> {
        let model = child(node, "model").and_then(|model| model.text()).map(str::trim);
        let model = model.filter(|model| !model.is_empty()).ok_or("<cpu>: has no <model>")?;
        let mut features = Vec::new();
        for feature in elements(node, "feature") {
            let name = feature.attribute("name").ok_or("<feature>: has no name")?;
            let on = match feature.attribute("policy") {
                None | Some("force" | "require") => true,
                Some("disable" | "forbid") => false,
                // The guest has it where the host does: no part of the model.
                Some("optional") => continue,
                Some(other) => return Err(format!("<feature name='{name}'>: no policy '{other}'")),
            };
            let ours = match target {
                Target::X86_64 => names::of_libvirt(name),
                Target::S390x => Some(name.to_owned()),
            };
            match ours {
                Some(ours) => features.push((ours, on)),
                None if on => return Err(format!("<feature name='{name}'>: no feature of an x86_64 processor")),
                None => {}
            }
        }
        Ok(Self {
            model: model.to_owned(),
            features,
            phys_bits: child(node, "maxphysaddr").map(phys_bits).transpose()?,
        })
    }

    /// As for `-cpu`.
    fn text(&self) -> String {
        let mut text = self.model.clone();
        for (name, on) in &self.features {
            text += &format!(",{name}={}", if *on { "on" } else { "off" });
        }
        match self.phys_bits {
            Some(PhysBits::Exactly(bits)) => text += &format!(",phys-bits={bits}"),
            Some(PhysBits::OfTheHost(limit)) => {
                text += ",host-phys-bits=on";
                if let Some(limit) = limit {
                    text += &format!(",host-phys-bits-limit={limit}");
                }
            }
            None => {}
        }
        text
    }
}

fn phys_bits(node: Node<'_, '_>) -> Result<PhysBits, String> {
    let number = |name: &str| match node.attribute(name) {
        Some(text) => match text.parse::<u32>() {
            Ok(bits) => Ok(Some(bits)),
            Err(_) => Err(format!("<maxphysaddr {name}='{text}'>: not a number of bits")),
        },
        None => Ok(None),
    };
    match (node.attribute("mode"), number("bits")?, number("limit")?) {
        (Some("passthrough"), _, limit) => Ok(PhysBits::OfTheHost(limit)),
        (Some("emulate"), Some(bits), _) => Ok(PhysBits::Exactly(bits)),
        _ => Err("<maxphysaddr>: neither mode='passthrough' nor mode='emulate' with bits".to_owned()),
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    elements(node, name).next()
}

fn elements<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// A model as the `<cpu>` of a domain.
pub(super) fn cpu_xml<'f>(target: Target, model: &str, features: impl IntoIterator<Item = (&'f str, bool)>) -> String {
    let mut text = format!(
        "<cpu mode='custom' match='exact' check='full'>\n  <model fallback='forbid'>{}</model>\n",
        escaped(model)
    );
    for (name, on) in features {
        let name = match target {
            Target::X86_64 => names::to_libvirt(name),
            Target::S390x => Some(name),
        };
        let Some(name) = name else { continue };
        let policy = if on { "require" } else { "disable" };
        text += &format!("  <feature policy='{policy}' name='{}'/>\n", escaped(name));
    }
    text + "</cpu>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, String> {
        understand(roxmltree::Document::parse(text).unwrap().root_element())
    }

    fn model_text(text: &str) -> String {
        match parse(text).unwrap() {
            Document::Model { text, .. } => text,
            Document::Host(_) => panic!("a host: {text}"),
        }
    }

    #[test]
    fn the_cpu_of_a_domain_is_a_model() {
        let domain = "<domain type='kvm'><os><type arch='x86_64' machine='q35'>hvm</type></os>
            <cpu mode='custom' match='exact'><model fallback='forbid'>EPYC-Rome</model>
            <maxphysaddr mode='emulate' bits='42'/>
            <feature policy='require' name='cmp_legacy'/><feature policy='disable' name='pclmuldq'/>
            <feature policy='optional' name='vmx'/></cpu></domain>";
        assert_eq!(model_text(domain), "EPYC-Rome,cmp-legacy=on,pclmulqdq=off,phys-bits=42");
        assert_eq!(
            model_text("<cpu mode='host-passthrough' migratable='off'/>"),
            "host,migratable=off"
        );
    }

    #[test]
    fn what_is_no_model_is_named() {
        let problem = |text: &str| parse(text).unwrap_err();
        assert_eq!(
            problem("<volume/>"),
            "<volume>: neither <domainCapabilities> nor <domain> nor <cpu>"
        );
        assert_eq!(problem("<domain/>"), "<domain>: has no <cpu>");
        assert_eq!(
            problem("<cpu mode='host-model'/>"),
            "<cpu mode='host-model'>: names no model before the domain has been started"
        );
        assert_eq!(
            problem("<cpu><model>EPYC</model><feature policy='require' name='warp'/></cpu>"),
            "<feature name='warp'>: no feature of an x86_64 processor"
        );
        assert_eq!(
            problem("<cpu><arch>ppc64</arch><model>POWER9</model></cpu>"),
            "<arch>: 'ppc64' is neither x86_64 nor s390x"
        );
    }

    #[test]
    fn a_model_that_is_written_is_read_again() {
        let features = [
            ("pclmulqdq", true),
            ("cmp-legacy", false),
            ("sse4.1", true),
            ("kvm-pv-ipi", true),
        ];
        let xml = cpu_xml(Target::X86_64, "EPYC", features);
        assert!(
            xml.contains("name='pclmuldq'") && xml.contains("name='cmp_legacy'"),
            "{xml}"
        );
        assert_eq!(model_text(&xml), "EPYC,pclmulqdq=on,cmp-legacy=off,sse4.1=on");
    }
}
