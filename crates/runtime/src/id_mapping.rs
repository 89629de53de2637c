//! The ids of a user namespace.

use serde::{Deserialize, Serialize};

/// The relation between the ids of a user namespace and its parent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMapping {
    /// True if there is one user or one group: every file belongs to root, and no other `USER` can be.
    pub fn is_single(&self) -> bool {
        let one = |ranges: &[IdRange]| {
            ranges.iter().map(|range| u64::from(range.count)).sum::<u64>() <= 1
        };
        one(&self.uids) || one(&self.gids)
    }
}

/// A run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in the parent namespace.
    pub outside: u32,
    /// The length of the range.
    pub count: u32,
}

impl IdRange {
    /// The lines of `/proc/PID/uid_map`.
    pub fn parse_map(text: &str) -> Vec<IdRange> {
        text.lines()
            .filter_map(|line| {
                let mut numbers = line.split_ascii_whitespace().map(str::parse);
                match (numbers.next()?, numbers.next()?, numbers.next()?) {
                    (Ok(inside), Ok(outside), Ok(count)) => {
                        Some(IdRange { inside, outside, count })
                    }
                    _ => None,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_one_id_is_single() {
        let map =
            |text| IdMapping { uids: IdRange::parse_map(text), gids: IdRange::parse_map(text) };
        assert!(map("         0       1000          1\n").is_single());
        assert!(!map("0 1000 1\n1 100000 65536\n").is_single());
    }
}
