//! From the tree to the sorted list of what shows.

use super::{FlatRange, FlatView, PlacedDoorbell, Region, region::Kind};

/// What shows under `root`, which lies at address 0.
pub(super) fn render(root: &Region) -> FlatView {
    let mut canvas = Canvas::default();
    let all = Clip {
        start: 0,
        last: root.0.last.into(),
    };
    canvas.draw(root, 0, all, false);
    FlatView::new(merged(canvas.ranges), canvas.doorbells)
}

/// Addresses that may be drawn on. Wide, as an alias may start before address 0.
#[derive(Clone, Copy)]
struct Clip {
    start: i128,
    last: i128,
}

#[derive(Default)]
struct Canvas {
    /// Sorted, without overlaps.
    ranges: Vec<FlatRange>,
    doorbells: Vec<PlacedDoorbell>,
}

impl Canvas {
    /// Draws `region`, whose offset 0 is at `base`, wherever nothing shows yet.
    fn draw(&mut self, region: &Region, base: i128, clip: Clip, read_only: bool) {
        let node = &region.0;
        let clip = Clip {
            start: clip.start.max(base),
            last: clip.last.min(base + i128::from(node.last)),
        };
        if clip.start > clip.last {
            return;
        }
        match &node.kind {
            Kind::Alias {
                target,
                offset,
                read_only: alias_read_only,
            } => self.draw(target, base - i128::from(*offset), clip, read_only || *alias_read_only),
            Kind::Container(_) => {
                for child in node.children().iter().flat_map(|children| children.iter()) {
                    self.draw(&child.region, base + i128::from(child.addr), clip, read_only);
                }
            }
            Kind::Doorbell(doorbell) => {
                let (Ok(start), Ok(last)) = (u64::try_from(clip.start), u64::try_from(clip.last)) else {
                    return;
                };
                // Half a doorbell does not ring, nor does one that something lies on.
                let is_whole = last - start == node.last;
                if is_whole
                    && !self
                        .ranges
                        .iter()
                        .any(|range| range.start <= last && range.last >= start)
                {
                    self.doorbells.push(PlacedDoorbell {
                        addr: start,
                        doorbell: doorbell.clone(),
                    });
                }
            }
            Kind::Memory { .. } | Kind::Flash { .. } | Kind::Io(_) => self.fill(region, base, clip, read_only),
        }
    }

    /// Fills the holes within `clip`, which is within an address space of 64 bits.
    fn fill(&mut self, region: &Region, base: i128, clip: Clip, read_only: bool) {
        let mut next = clip.start;
        let mut index = self.ranges.partition_point(|range| i128::from(range.last) < clip.start);
        while next <= clip.last {
            let (hole_last, after) = match self.ranges.get(index) {
                Some(range) if i128::from(range.start) <= clip.last => {
                    (i128::from(range.start) - 1, i128::from(range.last) + 1)
                }
                _ => (clip.last, clip.last + 1),
            };
            if let (true, Ok(start), Ok(last), Ok(offset)) = (
                next <= hole_last,
                u64::try_from(next),
                u64::try_from(hole_last),
                u64::try_from(next - base),
            ) {
                self.ranges
                    .insert(index, FlatRange::new(region, start, last, offset, read_only));
                index += 1;
            }
            next = after;
            index += 1;
        }
    }
}

/// Joins neighbours that are one piece of a region.
fn merged(ranges: Vec<FlatRange>) -> Vec<FlatRange> {
    let mut merged: Vec<FlatRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if before.continues_in(&range) => before.last = range.last,
            _ => merged.push(range),
        }
    }
    merged
}
