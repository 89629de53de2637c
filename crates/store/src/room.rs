//! The free space of the disk that archives are unpacked to.

use std::os::fd::AsFd;

use rustix::fs::fstatvfs;

use crate::{Error, Result};

/// Bytes that are written between two looks at the disk.
const STEP: u64 = 64 << 20;
/// Bytes of a disk that stay free, because others use it too. Of a small disk it is a part.
const RESERVE: u64 = 512 << 20;
const RESERVED_PART: u64 = 50;
/// Bytes that a file takes besides its content.
const OF_FILE: u64 = 4 << 10;

/// Checks that unpacking leaves some of a disk free.
#[derive(Debug, Default)]
pub struct Room {
    /// Bytes that may be written before the next look.
    left: u64,
}

impl Room {
    /// Counts a file that is made on the disk of `on`.
    ///
    /// # Errors
    /// If the disk is nearly full: [`Error::NoRoom`].
    pub fn take_file(&mut self, on: impl AsFd) -> Result<()> {
        self.take(on, OF_FILE)
    }

    /// Counts bytes that are written to the disk of `on`.
    ///
    /// # Errors
    /// If the disk is nearly full: [`Error::NoRoom`].
    pub fn take(&mut self, on: impl AsFd, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                self.left = STEP;
                // A file system that does not tell its size is taken to have room.
                if let Ok(disk) = fstatvfs(on) {
                    check(&Disk {
                        free: disk.f_bavail.saturating_mul(disk.f_frsize),
                        total: disk.f_blocks.saturating_mul(disk.f_frsize),
                        free_files: disk.f_favail,
                        files: disk.f_files,
                    })?;
                }
            }
        }
        Ok(())
    }
}

struct Disk {
    free: u64,
    total: u64,
    free_files: u64,
    /// Zero if the file system does not count files.
    files: u64,
}

fn check(disk: &Disk) -> Result<()> {
    if disk.free < (disk.total / RESERVED_PART).min(RESERVE) {
        return Err(Error::NoRoom { left: disk.free >> 20, unit: "MiB" });
    }
    if disk.free_files < disk.files / RESERVED_PART {
        return Err(Error::NoRoom { left: disk.free_files, unit: "files" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_disk_stays_free() {
        let disk = |free, total, free_files, files| Disk { free, total, free_files, files };
        for ok in [
            disk(RESERVE, 1 << 40, 100, 100),
            disk(3 << 20, 100 << 20, 0, 0),
            disk(1 << 40, 1 << 40, 2, 100),
        ] {
            assert!(check(&ok).is_ok());
        }
        for full in [
            disk(RESERVE - 1, 1 << 40, 100, 100),
            disk(1 << 20, 100 << 20, 0, 0),
            disk(1 << 40, 1 << 40, 1, 100),
        ] {
            assert!(matches!(check(&full), Err(Error::NoRoom { .. })));
        }
    }

    #[test]
    fn the_disk_is_looked_at_from_time_to_time() {
        let file = tempfile::tempfile().unwrap();
        let mut room = Room::default();
        room.take(&file, 1).unwrap();
        assert_eq!(room.left, STEP);
        room.take_file(&file).unwrap();
        assert_eq!(room.left, STEP - OF_FILE);
        room.take(&file, STEP).unwrap();
        assert_eq!(room.left, STEP);
    }
}
