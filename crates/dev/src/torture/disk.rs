//! Full disks and read-only disks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use fixtures::Kiln;

use super::build::{Build, Ended, Running, World};
use super::kill::expect_clean;
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work};
use crate::tools;

/// Size of a disk in bytes: little more than the project needs.
const SIZE: u64 = 40 << 20;
/// Maximum size of kiln's root of the project, in bytes.
const NEEDED: u64 = 5 << 20;

/// A small disk with kiln's root on it, unmounted when dropped.
struct Disk<'a> {
    world: &'a World,
    name: &'static str,
    kiln: Kiln,
    folder: PathBuf,
    build: Build,
}

impl<'a> Disk<'a> {
    fn mount(world: &'a World, name: &'static str) -> Result<Self, Fault> {
        let folder = world.place.path().join(format!("disk-{name}"));
        std::fs::create_dir(&folder).context("a mount point")?;
        let mut mount = Command::new("mount");
        if name == "ext4" {
            let image = world.place.path().join("ext4.image");
            let file = std::fs::File::create(&image).context("a disk")?;
            file.set_len(SIZE).context("a disk")?;
            tools::quietly(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
            mount.args(["-o", "loop"]).arg(&image);
        } else {
            mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"]);
        }
        tools::quietly(mount.arg(&folder))?;
        let build = Build { version: 0, salt: 0, cache: format!("disk-{name}") };
        Ok(Self { world, name, kiln: Kiln::new(&world.binary), folder, build })
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn archive(&self) -> PathBuf {
        self.kiln.home().join("out.tar")
    }

    fn build(&self) -> Result<Ended, Fault> {
        let context = self.world.context("disk", self.build.version)?;
        let arguments = self.build.arguments(&self.world.host, &context, &self.archive());
        let mut command = self.kiln.command(arguments);
        command.env("KILN_ROOT", self.root());
        Running::start(&mut command, &self.kiln.home().join("log"))?.finish()
    }

    /// Builds again, undisturbed.
    fn passes(&self) -> Result<(), Fault> {
        self.build()?.expect_ok("the same build again")?;
        self.world.compare(&self.archive(), self.build.version)?;
        expect_clean(&self.root())
    }

    fn forget(&self) -> Result<(), Fault> {
        match std::fs::remove_dir_all(self.root()) {
            Err(error) if self.root().exists() => {
                Err(Fault::Lie(format!("the root cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, random: &mut Random) -> Result<(), Fault> {
        self.build.salt += 1;
        self.build.version = random.below(VERSIONS);
        if random.below(2) == 0 { self.forget() } else { Ok(()) }
    }

    fn remount(&self, how: &str) -> Result<(), Fault> {
        let options = format!("remount,{how}");
        tools::quietly(Command::new("mount").args(["-o", &options]).arg(&self.folder))?;
        Ok(())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        drop(tools::quietly(Command::new("umount").arg("--lazy").arg(&self.folder)));
    }
}

/// Builds on disks that become full.
pub struct Disks<'a>(Vec<Disk<'a>>);

impl<'a> Disks<'a> {
    pub fn new(world: &'a World) -> Result<Self, Fault> {
        Ok(Self(vec![Disk::mount(world, "tmpfs")?, Disk::mount(world, "ext4")?]))
    }
}

impl Work for Disks<'_> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        for disk in &mut self.0 {
            disk.change(random)?;
            let filler = disk.folder.join("filler");
            let left = random.below(NEEDED);
            fill(&filler, &disk.folder, left)?;
            let ended = disk.build()?;
            let what = format!("{}: {left} bytes were left", disk.name);
            let tell = |fault: Fault| fault.during(&what);
            if ended.code == Some(0) {
                disk.world.compare(&disk.archive(), disk.build.version).map_err(tell)?;
                report.count(&format!("full disk ({}): enough, compared", disk.name));
            } else {
                ended.expect_refused(&["no space left", "is full", "nearly full"]).map_err(tell)?;
                report.count(&format!("full disk ({}): refused", disk.name));
            }
            std::fs::remove_file(&filler).context("the filler")?;
            disk.passes().map_err(tell)?;
            report.count(&format!("full disk ({}): the same with space, compared", disk.name));
        }
        Ok(())
    }
}

/// Fills a disk up to `left` bytes.
fn fill(filler: &Path, disk: &Path, left: u64) -> Result<(), Fault> {
    let found = rustix::fs::statvfs(disk).context("the disk")?;
    let free = found.f_bavail * found.f_frsize;
    let file = std::fs::File::create(filler).context("the filler")?;
    if free > left {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free - left).context("filling the disk")?;
    }
    Ok(())
}

/// Builds with a read-only root.
pub struct ReadOnly<'a>(Disk<'a>);

impl<'a> ReadOnly<'a> {
    pub fn new(world: &'a World) -> Result<Self, Fault> {
        Ok(Self(Disk::mount(world, "read-only")?))
    }
}

impl Work for ReadOnly<'_> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        let disk = &mut self.0;
        disk.change(random)?;
        disk.remount("ro")?;
        let ended = disk.build();
        disk.remount("rw")?;
        ended?.expect_refused(&["read-only file system"])?;
        report.count("read-only root: refused");
        disk.passes()?;
        report.count("read-only root: the same when it is not, compared");
        Ok(())
    }
}
