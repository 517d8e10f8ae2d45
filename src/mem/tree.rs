//! The trees as text, for people.

use std::fmt::Write;

use super::{AddressSpace, Region, region::Kind};

/// The trees under these address spaces, which have names, and then those of the regions that aliases show parts of. The
/// form is that of QEMU's `info mtree`. The spaces are of one topology, which stands still meanwhile.
#[must_use]
pub fn show_trees(spaces: &[(&str, &AddressSpace)]) -> String {
    let Some((_, first)) = spaces.first() else {
        return String::new();
    };
    first.topology().locked(|| {
        let mut page = Page::default();
        for (name, space) in spaces {
            page.section("address-space", name, space.root());
        }
        let mut next = 0;
        while let Some(target) = page.targets.get(next).cloned() {
            page.section("memory-region", target.name(), &target);
            next += 1;
        }
        page.text
    })
}

#[derive(Default)]
struct Page {
    text: String,
    /// What aliases show parts of, each once.
    targets: Vec<Region>,
}

impl Page {
    fn section(&mut self, kind: &str, name: &str, region: &Region) {
        self.text += &format!("{kind}: {name}\n");
        self.region(region, 0, 0, 1);
        self.text.push('\n');
    }

    fn region(&mut self, region: &Region, base: u64, priority: i32, depth: usize) {
        let node = &region.0;
        let (start, last) = (base, base.saturating_add(node.last));
        let kind = region_type(region);
        let place = format!(
            "{:1$}{start:016x}-{last:016x} (prio {priority}, {kind}): ",
            "",
            2 * depth
        );
        let name = &node.name;
        // Writing to a text does not fail.
        let _ = match &node.kind {
            Kind::Alias { target, offset, .. } => {
                if !self.targets.iter().any(|known| known.is_same(target)) {
                    self.targets.push(target.clone());
                }
                let end = offset.saturating_add(node.last);
                let target = target.name();
                writeln!(self.text, "{place}alias {name} @{target} {offset:016x}-{end:016x}")
            }
            _ => writeln!(self.text, "{place}{name}"),
        };
        let mut children = node.children().map(|children| children.clone()).unwrap_or_default();
        // A doorbell lies over the register that it stands for, and is none itself.
        children.retain(|child| !matches!(child.region.0.kind, Kind::Doorbell(_)));
        children.sort_by_key(|child| (child.addr, -i64::from(child.priority)));
        for child in children {
            self.region(
                &child.region,
                base.saturating_add(child.addr),
                child.priority,
                depth + 1,
            );
        }
    }
}

fn region_type(region: &Region) -> &'static str {
    match &region.0.kind {
        Kind::Memory { read_only: false, .. } => "ram",
        Kind::Memory { read_only: true, .. } => "rom",
        Kind::Flash { .. } if region.0.memory().is_some() => "romd",
        Kind::Alias {
            target,
            read_only: true,
            ..
        } if region_type(target) == "ram" => "rom",
        Kind::Alias { target, .. } => region_type(target),
        Kind::Flash { .. } | Kind::Io(_) | Kind::Container(_) | Kind::Doorbell(_) => "i/o",
    }
}
