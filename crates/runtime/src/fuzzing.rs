//! Doors for the fuzzer to readers that are private otherwise.

use crate::id_mapping::IdRange;
use crate::identity::{Identity, home};

/// Resolves a `USER` in the tables of a container.
pub fn identity(user: &str, passwd: &str, group: &str) {
    if let Ok(identity) = Identity::resolve(user, passwd, group) {
        assert!(identity.groups.contains(&identity.gid));
        assert!(!home(identity.uid, passwd).is_empty());
    }
    IdRange::parse_map(passwd);
}
