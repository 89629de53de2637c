//! Builds on this machine.

use std::path::PathBuf;

use anyhow::Context as _;
use fixtures::Kiln;

use super::Fault;
use super::build::{Build, Running, World};
use super::kill::Ground;
use super::processes::{self, MARK, Process};
use super::project::VERSIONS;

/// A kiln with its own home, in one isolation.
pub struct Host<'a> {
    world: &'a World,
    name: &'static str,
    kiln: Kiln,
    mark: String,
}

impl<'a> Host<'a> {
    pub fn new(world: &'a World, name: &'static str) -> Result<Self, Fault> {
        for version in 0..VERSIONS {
            world.context(name, version)?;
        }
        Ok(Self { world, name, kiln: Kiln::new(&world.binary), mark: world.mark(name) })
    }
}

impl Ground for Host<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&mut self, build: &Build) -> Result<Running, Fault> {
        let context = self.world.context(self.name, build.version)?;
        let arguments = build.arguments(&self.world.host, &context, &self.archive());
        let mut command = self.kiln.command(arguments);
        command.env("KILN_ISOLATION", self.name).env(MARK, &self.mark);
        Running::start(&mut command, &self.kiln.home().join("log"))
    }

    fn kiln(&self, running: &Running) -> Option<Process> {
        Process::read(running.pid())
    }

    fn forget(&mut self) -> Result<(), Fault> {
        let root = self.root();
        std::fs::remove_dir_all(&root)
            .or_else(|error| if root.exists() { Err(error) } else { Ok(()) })
            .map_err(|error| Fault::Lie(format!("the root cannot be removed: {error}")))?;
        Ok(std::fs::create_dir(&root).context("kiln's root")?)
    }

    fn root(&self) -> PathBuf {
        self.kiln.root()
    }

    fn archive(&self) -> PathBuf {
        self.kiln.home().join("out.tar")
    }

    fn strays(&self) -> Vec<Process> {
        processes::marked(&self.mark)
    }

    fn check(&self) -> Result<(), Fault> {
        let left: Vec<_> = std::fs::read_dir(self.kiln.home().join("tmp"))
            .context("the folder for temporary files")?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        if !left.is_empty() {
            return Err(Fault::Lie(format!("temporary files are left: {left:?}")));
        }
        Ok(())
    }
}
