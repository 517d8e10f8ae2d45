//! The order in which QEMU walks the members of a JSON object.
//!
//! QEMU keeps them in 512 buckets chosen by a hash of the name, and puts a new member in front of its bucket. Which of
//! two contradicting switches wins, and which of several errors is told, depends on it.

/// Buckets of the table.
const BUCKETS: u32 = 512;

/// `members` in the order QEMU would walk an object they were put into one after another.
pub(super) fn walk<'a, V>(members: impl Iterator<Item = (&'a str, V)>) -> Vec<(&'a str, V)> {
    let mut walk: Vec<_> = members.collect();
    walk.reverse();
    walk.sort_by_key(|(name, _)| bucket(name));
    walk
}

/// The bucket of a name.
fn bucket(name: &str) -> u32 {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let hash = name
        .bytes()
        .enumerate()
        .fold(length.wrapping_mul(0x238f_13af), |hash, (place, byte)| {
            hash.wrapping_add(u32::from(byte) << (place * 5 % 24))
        });
    hash.wrapping_mul(1_103_515_243).wrapping_add(12_345) % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_the_order_of_recorded_replies() {
        // The order of a static expansion of z13 as QEMU 7.2 and 10.0 print it.
        let recorded = [
            "aen",
            "aefsi",
            "msa5",
            "msa4",
            "msa3",
            "msa2",
            "msa1",
            "sthyi",
            "edat",
            "ri",
            "edat2",
            "vx",
            "ipter",
            "esop",
            "cte",
            "bpb",
            "ppa15",
            "zpci",
            "sea_esop2",
            "te",
            "cmm",
        ];
        let mut sorted = recorded;
        sorted.sort_unstable();
        let walked: Vec<&str> = walk(sorted.iter().map(|name| (*name, ())))
            .into_iter()
            .map(|(name, ())| name)
            .collect();
        assert_eq!(walked, recorded);
    }

    #[test]
    fn the_newest_comes_first_inside_a_bucket() {
        let names: Vec<String> = (0..2000).map(|number| format!("p{number}")).collect();
        let (first, second) = names
            .iter()
            .enumerate()
            .find_map(|(place, a)| {
                names[place + 1..]
                    .iter()
                    .find(|b| bucket(a) == bucket(b))
                    .map(|b| (a, b))
            })
            .unwrap();
        let walked = walk([(first.as_str(), 1), (second.as_str(), 2)].into_iter());
        assert_eq!(walked, [(second.as_str(), 2), (first.as_str(), 1)]);
    }
}
