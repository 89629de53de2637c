//! The user of a container as a number.

/// An owner of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileOwner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The owner that `user[:group]` means, by the texts of the container's `/etc/passwd` and `/etc/group`. None for no
/// user, and for a name that is not there.
pub(crate) fn find_owner(user: &str, passwd: &str, group: &str) -> Option<FileOwner> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    if user.is_empty() {
        return None;
    }
    let mut rows = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = user.parse::<u32>().ok();
    let row = rows.find(|row| {
        row.first() == Some(&user)
            || number.is_some() && row.get(2).and_then(|id| id.parse().ok()) == number
    });
    let field = |place: usize| row.as_ref()?.get(place)?.parse::<u32>().ok();
    let uid = number.or_else(|| field(2))?;
    let gid = match wanted_group {
        Some(name) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => group
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|row| row.first() == Some(&name))
                .and_then(|row| row.get(2)?.parse().ok())?,
        },
        None => field(3).unwrap_or(0),
    };
    Some(FileOwner { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nme:x:1000:1001::/home:/bin/sh\n";
        let group = "staff:x:50:\n";
        let owner = |uid, gid| Some(FileOwner { uid, gid });
        for (user, expected) in [
            ("", None),
            ("me", owner(1000, 1001)),
            ("1000", owner(1000, 1001)),
            ("7", owner(7, 0)),
            ("7:8", owner(7, 8)),
            ("me:staff", owner(1000, 50)),
            ("nobody", None),
            ("me:none", None),
        ] {
            assert_eq!(find_owner(user, passwd, group), expected, "{user}");
        }
    }
}
