//! Users and groups: a `USER` in the container's own tables.

use crate::wire::{FailureKind, SetupFailure};

/// A user resolved to numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
}

impl Identity {
    fn new(uid: u32, gid: u32, others: Vec<u32>) -> Identity {
        let mut groups = others;
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        Identity { uid, gid, groups }
    }

    /// Resolves a `USER` as BuildKit does: two ids are taken as they are; else the first entry that matches counts;
    /// a number is an id even where a user has it as a name; supplementary groups only without an explicit group.
    pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, SetupFailure> {
        let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
        if let (Some(uid), Some(gid)) = (plain_id(user_part), plain_id(group_part)) {
            return Ok(Identity::new(uid, gid, Vec::new()));
        }
        // BuildKit ignores the rest after a second colon.
        let group_part = group_part.split(':').next().unwrap_or_default();
        let uid_wanted = number(user_part)?;
        let gid_wanted = number(group_part)?;

        let entry = entries(passwd).find(|entry| match uid_wanted {
            _ if user_part.is_empty() => lenient(entry.get(2)) == 0,
            Some(uid) => lenient(entry.get(2)) == i64::from(uid),
            None => entry[0] == user_part,
        });
        let (uid, mut gid, name) = match (&entry, uid_wanted) {
            (Some(entry), _) => (id(entry.get(2))?, id(entry.get(3))?, Some(entry[0])),
            (None, Some(uid)) => (uid, 0, None),
            (None, None) if user_part.is_empty() => (0, 0, None),
            (None, None) => return Err(SetupFailure::plain(FailureKind::NoSuchUser, user_part)),
        };

        let mut others = Vec::new();
        if !group_part.is_empty() {
            let entry = entries(group).find(|entry| match gid_wanted {
                Some(gid) => lenient(entry.get(2)) == i64::from(gid),
                None => entry[0] == group_part,
            });
            gid = match (entry, gid_wanted) {
                (Some(entry), _) => id(entry.get(2))?,
                (None, Some(gid)) => gid,
                (None, None) => {
                    return Err(SetupFailure::plain(FailureKind::NoSuchGroup, group_part));
                }
            };
        } else if let Some(name) = name.filter(|name| !name.is_empty()) {
            for entry in entries(group) {
                if entry
                    .get(3)
                    .is_some_and(|members| members.split(',').any(|member| member == name))
                {
                    others.push(id(entry.get(2))?);
                }
            }
        }
        Ok(Identity::new(uid, gid, others))
    }
}

/// The home folder of a user id: `/` where the table has none, as runc does it.
pub fn home(uid: u32, passwd: &str) -> &str {
    entries(passwd)
        .find(|entry| lenient(entry.get(2)) == i64::from(uid))
        .and_then(|entry| entry.get(5).copied())
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
}

/// The entries of a table: trimmed lines, comments left out, split at colons.
fn entries(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// An id of a `uid:gid` pair: the whole 32 bits, and `root`.
fn plain_id(text: &str) -> Option<u32> {
    match text {
        "root" => Some(0),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok(),
    }
}

/// An id of any other form: 31 bits. A name gives none.
fn number(text: &str) -> Result<Option<u32>, SetupFailure> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(value) if (0..=i64::from(i32::MAX)).contains(&value) => Ok(Some(value as u32)),
        _ => Err(out_of_range(text)),
    }
}

/// A number in a table: what is none counts as 0, as in BuildKit.
fn lenient(field: Option<&&str>) -> i64 {
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn id(field: Option<&&str>) -> Result<u32, SetupFailure> {
    let value = lenient(field);
    u32::try_from(value).map_err(|_| out_of_range(&value.to_string()))
}

fn out_of_range(text: &str) -> SetupFailure {
    SetupFailure::plain(
        FailureKind::Refused,
        format!("user and group ids must be in the range 0 to 2147483647, not `{text}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# c:x:9:9\n ann:x:500:600:Ann:/home/ann:/bin/sh\n42:x:7:7::/x:/s\n";
    const GROUP: &str =
        "root:x:0:root\nann:x:600:\nextra:x:700:bob,ann\nsolo:x:800:\nwheel:x:10:root\n";

    fn resolve(user: &str) -> (u32, u32, Vec<u32>) {
        let identity = Identity::resolve(user, PASSWD, GROUP).unwrap();
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn names_and_ids_as_buildkit_reads_them() {
        assert_eq!(resolve("0"), (0, 0, vec![0, 10]));
        assert_eq!(resolve("ann"), (500, 600, vec![600, 700]));
        assert_eq!(resolve("500"), (500, 600, vec![600, 700]));
        assert_eq!(resolve("ann:solo"), (500, 800, vec![800]));
        assert_eq!(resolve("4242"), (4242, 0, vec![0]));
        assert_eq!(resolve("4242:17"), (4242, 17, vec![17]));
        assert_eq!(resolve("root:root"), (0, 0, vec![0]));
        assert_eq!(resolve(":700"), (0, 700, vec![700]));
        assert_eq!(resolve("42"), (42, 0, vec![0]));
        assert_eq!(
            resolve("4000000000:4000000000"),
            (4_000_000_000, 4_000_000_000, vec![4_000_000_000])
        );
    }

    #[test]
    fn unknown_names_and_wild_numbers_are_refused() {
        let refused = |user| {
            crate::Error::from(Identity::resolve(user, PASSWD, GROUP).unwrap_err()).to_string()
        };
        assert!(refused("whoever").contains("unable to find user `whoever`"));
        assert!(refused("0:whatever").contains("unable to find group `whatever`"));
        assert!(refused("4000000000").contains("range"));
        assert!(refused("-1").contains("range"));
    }

    #[test]
    fn homes() {
        assert_eq!(home(500, PASSWD), "/home/ann");
        assert_eq!(home(4242, PASSWD), "/");
    }
}
