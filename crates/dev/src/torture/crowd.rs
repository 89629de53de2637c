//! Eight concurrent builds with one root and one cache, some of which are killed.

use anyhow::Context as _;
use fixtures::Kiln;

use super::build::{Build, Running, World};
use super::kill::expect_clean;
use super::processes::{self, MARK, wait_for};
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work};

const SIZE: usize = 8;

pub struct Crowd<'a> {
    world: &'a World,
    kiln: Kiln,
    salt: u64,
}

impl<'a> Crowd<'a> {
    pub fn new(world: &'a World) -> Result<Self, Fault> {
        Ok(Self { world, kiln: Kiln::new(&world.binary), salt: 0 })
    }

    fn start(&self, build: &Build, number: usize) -> Result<Running, Fault> {
        let context = self.world.context_path("crowd", build.version);
        let arguments = build.arguments(&self.world.host, &context, &self.archive(number));
        let mut command = self.kiln.command(arguments);
        command.env(MARK, self.world.mark("crowd"));
        Running::start(&mut command, &self.kiln.home().join(format!("log-{number}")))
    }

    fn archive(&self, number: usize) -> std::path::PathBuf {
        self.kiln.home().join(format!("out-{number}.tar"))
    }
}

impl Work for Crowd<'_> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        self.salt += 1;
        if random.below(3) == 0 {
            std::fs::remove_dir_all(self.kiln.root()).context("the root")?;
            std::fs::create_dir(self.kiln.root()).context("the root")?;
        }
        for version in 0..VERSIONS {
            self.world.context("crowd", version)?;
        }
        let builds: Vec<Build> = (0..SIZE)
            .map(|_| Build {
                version: random.below(VERSIONS),
                salt: self.salt,
                cache: "crowd".into(),
            })
            .collect();
        let mut running = Vec::new();
        for (number, build) in builds.iter().enumerate() {
            running.push(self.start(build, number)?);
        }
        let mut killed = Vec::new();
        for _ in 0..3 {
            std::thread::sleep(random.part_of(std::time::Duration::from_secs(1)));
            let number = random.below(SIZE as u64) as usize;
            if !running[number].has_ended()
                && processes::Process::read(running[number].pid()).is_some_and(|one| one.kill())
            {
                killed.push(number);
                report.count("eight at once: one killed");
            }
        }
        for (number, running) in running.into_iter().enumerate() {
            let ended = running.finish()?;
            if !killed.contains(&number) {
                ended.expect_ok("one of eight")?;
                self.world.compare(&self.archive(number), builds[number].version)?;
                report.count("eight at once: one that was left alone, compared");
            }
        }
        for number in killed {
            self.start(&builds[number], number)?.finish()?.expect_ok("one of eight, again")?;
            self.world.compare(&self.archive(number), builds[number].version)?;
            report.count("eight at once: a killed one again, compared");
        }
        let mark = self.world.mark("crowd");
        let gone = wait_for(std::time::Duration::from_secs(20), || {
            processes::marked(&mark).is_empty().then_some(())
        });
        if gone.is_none() {
            return Err(Fault::Lie(format!("left: {:#?}", processes::marked(&mark))));
        }
        // A later build removes the remains of killed ones. If there was none, this command does.
        let mut again = self.kiln.command(["du"]);
        Running::start(&mut again, &self.kiln.home().join("log"))?.finish()?.expect_ok("du")?;
        expect_clean(&self.kiln.root())
    }
}
