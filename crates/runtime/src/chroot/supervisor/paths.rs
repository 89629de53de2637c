//! The decision if a path leads into the kernel's folders. Pure.

/// Links that lead into the kernel's folders.
#[derive(Debug, Default)]
pub struct Links {
    known: Vec<(Vec<u8>, Vec<u8>)>,
    /// True if devices are served too, because none could be made.
    pub devices: bool,
}

/// Limit of remembered links; an image has two or three.
const MOST_LINKS: usize = 4096;

/// Limit of links in one path, the kernel's (`MAXSYMLINKS`).
const MOST_FOLLOWED: usize = 40;

impl Links {
    /// Takes a link, by its whole path, if its target may lead there.
    pub fn learn(&mut self, path: &[u8], target: &[u8]) {
        let folder =
            path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |end| &path[..end]);
        let leads = clean(folder, target);
        if self.known.len() < MOST_LINKS && (self.is_kernels(&leads) || self.find(&leads).is_some())
        {
            let path = clean(b"", path);
            self.known.retain(|(known, _)| *known != path);
            self.known.push((path, leads));
        }
    }

    /// True for a path whose file is the kernel's and not the image's.
    fn is_kernels(&self, path: &[u8]) -> bool {
        [&b"/proc"[..], b"/sys", b"/dev/pts"].iter().any(|folder| is_at_or_below(path, folder))
            || self.devices && DEVICES.contains(&path)
    }

    /// A known link that a path is or goes through: the link, its target, and the rest of the path.
    fn find<'a>(&'a self, path: &'a [u8]) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let (link, target) = self.known.iter().find(|(link, _)| is_at_or_below(path, link))?;
        Some((link, target, &path[link.len()..]))
    }

    /// The path in the kernel's folders that a path of the container is; none if it is not there. `follow` says
    /// whether a link at its end counts, `is_link` whether a path still is one.
    pub fn resolve(
        &self,
        base: &[u8],
        path: &[u8],
        follow: bool,
        is_link: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let mut leads = clean(base, path);
        for _ in 0..MOST_FOLLOWED {
            if self.is_kernels(&leads) {
                return Some(leads);
            }
            let (link, target, rest) = self.find(&leads)?;
            if rest.is_empty() && !follow || !is_link(link) {
                return None;
            }
            leads = clean(target, rest.strip_prefix(b"/").unwrap_or(rest));
        }
        None
    }
}

/// Devices that are opened for those who could not be given any.
const DEVICES: [&[u8]; 6] =
    [b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom", b"/dev/tty"];

pub fn is_at_or_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A path without superfluous parts; a relative one begins at `base`. `..` goes back by name, which is right wherever
/// no link was on the way.
pub fn clean(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(base.len() + path.len() + 1);
    let bases = if path.first() == Some(&b'/') { &b""[..] } else { base };
    for name in bases.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let mut links = Links::default();
        links.learn(b"/dev/fd", b"/proc/self/fd");
        links.learn(b"/dev/stdout", b"/proc/self/fd/1");
        links.learn(b"/etc/mtab", b"../proc/self/mounts");
        links.learn(b"/var/log/nginx/access.log", b"/dev/stdout");
        links.learn(b"/etc/localtime", b"/usr/share/zoneinfo/UTC");
        links
    }

    fn resolve(base: &str, path: &str, follow: bool) -> Option<String> {
        let found = links().resolve(base.as_bytes(), path.as_bytes(), follow, |_| true)?;
        Some(String::from_utf8(found).unwrap())
    }

    #[test]
    fn paths_and_links_that_lead_to_the_kernels_folders() {
        assert_eq!(links().known.len(), 4);
        for (base, path, expected) in [
            ("/", "/proc", "/proc"),
            ("/", "//proc/./self/../cpuinfo", "/proc/cpuinfo"),
            ("/dev", "fd/63", "/proc/self/fd/63"),
            ("/etc", "mtab", "/proc/self/mounts"),
            ("/proc/self", "../version", "/proc/version"),
            ("/usr/bin", "../../sys/class", "/sys/class"),
            ("/", "/var/log/nginx/access.log", "/proc/self/fd/1"),
            ("/", "/../../proc/1", "/proc/1"),
        ] {
            assert_eq!(resolve(base, path, true).as_deref(), Some(expected), "{base} {path}");
        }
        for (base, path) in
            [("/", "/procfs"), ("/", "/system"), ("/etc", "localtime"), ("/", "proc.txt")]
        {
            assert_eq!(resolve(base, path, true), None, "{base} {path}");
        }
    }

    #[test]
    fn a_link_that_is_one_no_more_leads_nowhere() {
        assert_eq!(links().resolve(b"", b"/etc/mtab", true, |_| false), None);
        assert!(links().resolve(b"", b"/proc/version", true, |_| false).is_some());
    }

    #[test]
    fn a_link_itself_is_the_images() {
        assert_eq!(resolve("/", "/etc/mtab", false), None);
        assert_eq!(resolve("/", "/dev/fd/3", false).as_deref(), Some("/proc/self/fd/3"));
        assert_eq!(resolve("/", "/dev/fd/", true).as_deref(), Some("/proc/self/fd"));
    }
}
