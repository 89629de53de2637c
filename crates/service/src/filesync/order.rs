//! The order of entries: a folder before what is in it, names ascending (fsutil's validator).

use super::FileSyncError;

/// Linux's longest path and longest name.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;

/// The folders that entries may be in: those from the root to the last one that came.
#[derive(Debug)]
pub(super) struct Order<T> {
    open: Vec<OpenFolder<T>>,
}

#[derive(Debug)]
struct OpenFolder<T> {
    /// Its path without `/` at the end; empty for the root.
    path: String,
    /// The last name in it.
    last: String,
    value: T,
}

impl<T> Order<T> {
    pub(super) fn new(root: T) -> Self {
        Self { open: vec![OpenFolder { path: String::new(), last: String::new(), value: root }] }
    }

    /// Takes the path of the next entry, and gives its name. `left` is called for each folder that
    /// is complete now, the innermost first.
    ///
    /// # Errors
    /// If the path is not one, or does not follow the ones before.
    pub(super) fn enter<'p>(
        &mut self,
        path: &'p str,
        mut left: impl FnMut(&str, T) -> Result<(), FileSyncError>,
    ) -> Result<&'p str, FileSyncError> {
        let refused = |reason| FileSyncError::Path { path: shortened(path), reason };
        if path.len() > LONGEST_PATH {
            return Err(refused("it is too long"));
        }
        if path.starts_with('/') {
            return Err(refused("it is absolute"));
        }
        for name in path.split('/') {
            match name {
                ".." => return Err(refused("it leads out of the folder")),
                "" | "." => return Err(refused("it is not clean")),
                _ if name.contains('\0') => return Err(refused("it has a zero byte")),
                _ if name.len() > LONGEST_NAME => return Err(refused("a name is too long")),
                _ => {}
            }
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        while self.open.len() > 1 && self.open.last().is_some_and(|open| open.path != folder) {
            if let Some(open) = self.open.pop() {
                left(&open.path, open.value)?;
            }
        }
        let open = self.open.last_mut().filter(|open| open.path == folder);
        let open = open.ok_or_else(|| refused("its folder did not come before it"))?;
        if *open.last >= *name {
            return Err(refused("it is out of order, or comes twice"));
        }
        name.clone_into(&mut open.last);
        Ok(name)
    }

    /// Opens the folder that was entered last.
    pub(super) fn open(&mut self, path: &str, value: T) {
        self.open.push(OpenFolder { path: path.to_owned(), last: String::new(), value });
    }

    /// The folder of the entry that was entered last.
    pub(super) fn folder(&mut self) -> &mut T {
        let open = self.open.last_mut().expect("the root is never left before the end");
        &mut open.value
    }

    /// Leaves all folders.
    pub(super) fn finish(
        mut self,
        mut left: impl FnMut(&str, T) -> Result<(), FileSyncError>,
    ) -> Result<(), FileSyncError> {
        while let Some(open) = self.open.pop() {
            left(&open.path, open.value)?;
        }
        Ok(())
    }
}

/// The beginning of a path, for messages.
fn shortened(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a list of paths, of which those with `/` at the end are folders.
    fn refusal(paths: &[&str]) -> Option<String> {
        let mut order = Order::new(());
        for path in paths {
            let clean = path.strip_suffix('/').unwrap_or(path);
            if let Err(error) = order.enter(clean, |_, ()| Ok(())) {
                return Some(error.to_string());
            }
            if path.ends_with('/') && *path != "/" {
                order.open(clean, ());
            }
        }
        None
    }

    #[test]
    fn fsutils_order_is_taken() {
        assert_eq!(refusal(&["a", "b/", "b/a", "b/c/", "b/c/x", "b/d", "b.txt", "c"]), None);
    }

    #[test]
    fn hostile_paths_are_named() {
        for (paths, word) in [
            (&["../a"][..], "leads out"),
            (&["a/", "a/../../b"], "leads out"),
            (&["/etc/passwd"], "absolute"),
            (&[""], "not clean"),
            (&["a//b"], "not clean"),
            (&["./a"], "not clean"),
            (&["a\0b"], "zero byte"),
            (&["a", "a"], "twice"),
            (&["b", "a"], "out of order"),
            (&["a", "a/b"], "its folder"),
            (&["x/y"], "its folder"),
            (&["a/", "b", "a/c"], "its folder"),
        ] {
            let error = refusal(paths).unwrap();
            assert!(error.contains(word), "{paths:?}: {error}");
        }
        let long = "x".repeat(300);
        assert!(refusal(&[&long]).unwrap().contains("name is too long"));
    }
}
