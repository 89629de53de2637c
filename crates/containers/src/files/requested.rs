//! Paths as docker's clients write them.

/// A path in a container: the links of its folder are followed; those of the last name only with a `/` or `/.` after
/// it (moby, `container/archive.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestedPath {
    /// The path without `.` and `..`; empty for the root.
    pub(crate) clean: Vec<u8>,
    /// True if links of the last name are followed too, because it must be a folder.
    pub(crate) is_folder: bool,
    /// The name that stands for it in archives; empty for the root, `.` for the content of a folder.
    pub(crate) name: Vec<u8>,
}

impl RequestedPath {
    pub(crate) fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut names: Vec<&[u8]> = Vec::new();
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let is_content = bytes == b"." || bytes.ends_with(b"/.");
        let name = match names.last() {
            _ if is_content => b".".to_vec(),
            Some(name) => name.to_vec(),
            None => Vec::new(),
        };
        Self {
            is_folder: is_content || bytes.ends_with(b"/") || names.is_empty(),
            clean: names.join(&b'/'),
            name,
        }
    }

    /// The name in the facts about it: `/` for the root.
    pub(crate) fn shown_name(&self) -> String {
        match self.name.as_slice() {
            b"" => "/".to_owned(),
            name => String::from_utf8_lossy(name).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_docker_reads_them() {
        for (text, clean, is_folder, name) in [
            ("/a/b", "a/b", false, "b"),
            ("a/b", "a/b", false, "b"),
            ("/a/b/", "a/b", true, "b"),
            ("/a/b/.", "a/b", true, "."),
            ("/a/../../b//c", "b/c", false, "c"),
            ("/", "", true, ""),
            ("", "", true, ""),
            (".", "", true, "."),
            ("/.", "", true, "."),
            ("/..", "", true, ""),
        ] {
            let path = RequestedPath::parse(text);
            let found = (path.clean.as_slice(), path.is_folder, path.name.as_slice());
            assert_eq!(found, (clean.as_bytes(), is_folder, name.as_bytes()), "{text}");
        }
        assert_eq!(RequestedPath::parse("/").shown_name(), "/");
    }
}
