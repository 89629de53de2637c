//! Folders and files of the machine in a container: which may be bound, and how they get there.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use runtime::MountKind;
use serde::{Deserialize, Serialize};

/// A folder or file of the machine in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Its path on the machine.
    pub source: PathBuf,
    /// Its place in the container.
    pub target: String,
    /// True if it cannot be written.
    pub readonly: bool,
    /// True if a folder is made where there is none.
    pub creates: bool,
}

/// The paths of the machine that may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindPolicy {
    /// Those in these folders, links included.
    Granted(Vec<GrantedFolder>),
    /// All but kiln's own root: the user's own files, for the user.
    Own {
        /// kiln's root.
        root: PathBuf,
    },
}

/// A folder whose content may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedFolder {
    /// Its path as it was given.
    named: PathBuf,
    /// Its path without links.
    real: PathBuf,
}

/// A folder that may not be bound, or cannot be granted.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No folder was granted that contains it.
    #[error(
        "`{}` may not be bound: the service grants {granted}; `kiln serve --allow-bind FOLDER` grants a folder of its \
         own file system",
        path.display()
    )]
    NotGranted {
        /// The path.
        path: PathBuf,
        /// The granted folders, as a part of the sentence.
        granted: String,
    },
    /// It is in kiln's root.
    #[error("`{}` may not be bound: it is in kiln's root", .0.display())]
    OwnRoot(PathBuf),
    /// A grant with kiln's root in it would give the stores of all clients to each.
    #[error(
        "`{}` cannot be granted: it has kiln's root `{}` in it, or is in it; put the root elsewhere (`--root`)",
        folder.display(), root.display()
    )]
    GrantsRoot {
        /// The folder.
        folder: PathBuf,
        /// kiln's root.
        root: PathBuf,
    },
    /// The path is not absolute.
    #[error("`{}` may not be bound: it is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// It does not exist, or cannot be made.
    #[error("bind source path does not exist: {}: {source}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl BindPolicy {
    /// Grants folders, of which none may have kiln's root in it: a client that can write in a granted folder could
    /// otherwise reach the root by a link, whatever is compared.
    ///
    /// # Errors
    /// If a folder does not exist, or has the root in it.
    pub fn granting(folders: &[PathBuf], root: &Path) -> Result<Self, BindError> {
        let real = |path: &Path| {
            let missing = |source| BindError::Missing { path: path.to_owned(), source };
            fs::canonicalize(path).map_err(missing)
        };
        let root = real(root)?;
        let grant = |folder: &PathBuf| {
            let granted = GrantedFolder { named: folder.clone(), real: real(folder)? };
            if root.starts_with(&granted.real) || granted.real.starts_with(&root) {
                return Err(BindError::GrantsRoot { folder: folder.clone(), root: root.clone() });
            }
            Ok(granted)
        };
        Ok(Self::Granted(folders.iter().map(grant).collect::<Result<_, _>>()?))
    }

    /// Checks a bind, before a container with it is kept.
    ///
    /// # Errors
    /// If it may not be bound.
    pub fn check(&self, bind: &BindMount) -> Result<(), BindError> {
        match self {
            Self::Granted(folders) => place(folders, &bind.source).map(drop),
            Self::Own { root } => {
                absolute(&bind.source)?;
                match fs::canonicalize(&bind.source) {
                    Ok(real) if is_in(&real, root) => Err(BindError::OwnRoot(bind.source.clone())),
                    _ => Ok(()),
                }
            }
        }
    }

    /// The source of a bind for the runtime. What is granted is resolved by the runtime inside the granted folder, when
    /// it is mounted, so that a link that is made meanwhile leads to no other place.
    ///
    /// # Errors
    /// If it may not be bound, or does not exist.
    pub(crate) fn mount(&self, bind: &BindMount) -> Result<MountKind, BindError> {
        let missing = |source| BindError::Missing { path: bind.source.clone(), source };
        let (source, subpath) = match self {
            Self::Granted(folders) => {
                let (folder, subpath) = place(folders, &bind.source)?;
                let text = subpath.to_string_lossy().into_owned();
                if bind.creates && is_missing(&folder.join(&subpath)) {
                    runtime::make_folders(folder, &text).map_err(missing)?;
                }
                (folder.to_owned(), text)
            }
            Self::Own { root } => {
                absolute(&bind.source)?;
                if bind.creates && is_missing(&bind.source) {
                    fs::create_dir_all(&bind.source).map_err(missing)?;
                }
                let real = fs::canonicalize(&bind.source).map_err(missing)?;
                if is_in(&real, root) {
                    return Err(BindError::OwnRoot(bind.source.clone()));
                }
                (real, String::new())
            }
        };
        Ok(MountKind::Bind { source, subpath, readonly: bind.readonly })
    }
}

fn is_missing(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn is_in(real: &Path, root: &Path) -> bool {
    fs::canonicalize(root).is_ok_and(|root| real.starts_with(root))
}

/// The granted folder that a path is in, and the path below it. Only the text is looked at.
fn place<'a>(
    folders: &'a [GrantedFolder],
    source: &Path,
) -> Result<(&'a Path, PathBuf), BindError> {
    let clean = absolute(source)?;
    folders
        .iter()
        .find_map(|folder| {
            let below =
                clean.strip_prefix(&folder.named).or_else(|_| clean.strip_prefix(&folder.real));
            below.ok().map(|below| (folder.real.as_path(), below.to_owned()))
        })
        .ok_or_else(|| BindError::NotGranted {
            path: source.to_owned(),
            granted: match folders {
                [] => "no folder".to_owned(),
                some => {
                    let names = some.iter().map(|folder| format!("`{}`", folder.named.display()));
                    names.collect::<Vec<_>>().join(", ")
                }
            },
        })
}

/// An absolute path without `.` and `..`, which takes away the name before it, as in docker.
fn absolute(path: &Path) -> Result<PathBuf, BindError> {
    if !path.is_absolute() {
        return Err(BindError::Relative(path.to_owned()));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: impl Into<PathBuf>, creates: bool) -> BindMount {
        BindMount { source: source.into(), target: "/w".into(), readonly: false, creates }
    }

    #[test]
    fn only_what_is_granted_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let (granted, root) = (folder.path().join("granted"), folder.path().join("root"));
        fs::create_dir_all(granted.join("in")).unwrap();
        fs::create_dir(&root).unwrap();
        let named = folder.path().join("named");
        std::os::unix::fs::symlink(&granted, &named).unwrap();
        let policy = BindPolicy::granting(std::slice::from_ref(&named), &root).unwrap();
        let real = fs::canonicalize(&granted).unwrap();
        for (source, expected) in [
            (named.join("in"), "in"),
            (real.join("in"), "in"),
            (named.join("x/../in/./"), "in"),
            (named.clone(), ""),
        ] {
            match policy.mount(&bind(&source, false)).unwrap() {
                MountKind::Bind { source: folder, subpath, readonly: false } => {
                    assert_eq!((folder, subpath.as_str()), (real.clone(), expected));
                }
                other => panic!("{other:?}"),
            }
        }
        for source in ["/etc".into(), named.join("../root"), folder.path().join("namedx")] {
            let error = policy.check(&bind(&source, false)).unwrap_err();
            assert!(matches!(error, BindError::NotGranted { .. }), "{}", source.display());
        }
        assert!(matches!(policy.check(&bind("in", false)), Err(BindError::Relative(_))));
        let none = BindPolicy::Granted(Vec::new());
        assert!(none.check(&bind("/", false)).unwrap_err().to_string().contains("no folder"));
    }

    #[test]
    fn missing_folders_are_made_inside_the_grant() {
        let folder = tempfile::tempdir().unwrap();
        let (granted, root) = (folder.path().join("granted"), folder.path().join("root"));
        fs::create_dir(&granted).unwrap();
        fs::create_dir(&root).unwrap();
        // A link to the outside is resolved inside.
        std::os::unix::fs::symlink("/", granted.join("out")).unwrap();
        let policy = BindPolicy::granting(std::slice::from_ref(&granted), &root).unwrap();
        policy.mount(&bind(granted.join("out/kiln-made/x"), true)).unwrap();
        assert!(granted.join("kiln-made/x").is_dir());
        assert!(!Path::new("/kiln-made").exists());
    }

    #[test]
    fn the_root_is_neither_granted_nor_bound() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/root");
        fs::create_dir_all(root.join("v1")).unwrap();
        for grant in [folder.path().to_owned(), root.clone(), root.join("v1")] {
            let error = BindPolicy::granting(&[grant], &root).unwrap_err();
            assert!(matches!(error, BindError::GrantsRoot { .. }));
        }
        let own = BindPolicy::Own { root: root.clone() };
        for source in [root.clone(), root.join("v1")] {
            assert!(matches!(own.check(&bind(&source, false)), Err(BindError::OwnRoot(_))));
            assert!(matches!(own.mount(&bind(&source, false)), Err(BindError::OwnRoot(_))));
        }
        assert!(own.mount(&bind(folder.path(), false)).is_ok());
        let missing = folder.path().join("no");
        assert!(matches!(own.mount(&bind(&missing, false)), Err(BindError::Missing { .. })));
        assert!(own.mount(&bind(&missing, true)).is_ok() && missing.is_dir());
    }
}
