//! Extended attributes of files on the disk.

use std::path::Path;

use layer::{CAPABILITY, Xattr, shown};
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::folder::is_overlay_attribute;
use crate::{Error, Result};

/// Extended attributes of a file in an upper directory.
#[derive(Default)]
pub(crate) struct Attributes {
    capability: Option<Box<[u8]>>,
    /// Attributes in the `user.` namespace, which programs set.
    user: Vec<Xattr>,
    pub(crate) opaque: bool,
    /// Overlay's attribute, if there is one, that makes the file no plain one (`redirect`,
    /// `metacopy`).
    pub(crate) not_plain: Option<String>,
}

impl Attributes {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut attributes = Self::default();
        let failed = || Error::file::<Errno>("list attributes of", path);
        let mut list = vec![0; 1024];
        let length = match llistxattr(path, &mut list[..]) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => return Ok(attributes),
            Err(Errno::RANGE) => {
                // XATTR_LIST_MAX, the kernel's limit.
                list.resize(64 << 10, 0);
                llistxattr(path, &mut list[..]).map_err(failed())?
            }
            Err(error) => return Err(failed()(error)),
        };
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if is_overlay_attribute(name) {
                let own = name.splitn(3, |byte| *byte == b'.').nth(2).unwrap_or_default();
                match own {
                    b"opaque" => attributes.opaque = value(path, name)? == b"y",
                    b"redirect" | b"metacopy" => attributes.not_plain = Some(shown(name)),
                    // Others (such as `origin` and `impure`) do not change the visible tree.
                    _ => {}
                }
            } else if name == CAPABILITY {
                attributes.capability = Some(value(path, name)?.into());
            } else if name.starts_with(b"user.") {
                attributes.user.push((name.into(), value(path, name)?.into()));
            }
        }
        Ok(attributes)
    }

    pub(crate) fn capability(&self) -> Option<&[u8]> {
        self.capability.as_deref()
    }

    /// Returns the attributes that a layer of an image keeps. Others belong to this machine
    /// (SELinux labels, hashes), or no builder keeps them.
    pub(crate) fn of_layer(self) -> Vec<Xattr> {
        self.capability.map(|value| (CAPABILITY.into(), value)).into_iter().collect()
    }

    /// Returns the attributes of [`of_layer`](Self::of_layer) and those of programs, for files that
    /// only come back to this machine.
    pub(crate) fn of_copy(mut self) -> Vec<Xattr> {
        let mut all = std::mem::take(&mut self.user);
        all.extend(self.of_layer());
        all.sort();
        all
    }
}

fn value(path: &Path, name: &[u8]) -> Result<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = match lgetxattr(path, name, &mut value[..]) {
        Err(Errno::RANGE) => {
            value.resize(64 << 10, 0);
            lgetxattr(path, name, &mut value[..])
        }
        other => other,
    };
    value.truncate(length.map_err(Error::file("read attribute of", path))?);
    Ok(value)
}
