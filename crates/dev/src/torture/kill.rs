//! Builds that are killed at random points and then repeated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::build::{Build, Ended, Running, World};
use super::processes::{self, Process, wait_for};
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work, traces};

/// Maximum time until killed processes have ended and others have cleaned up, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An environment of builds.
pub trait Ground {
    fn name(&self) -> &'static str;
    /// Starts a build whose archive is at [`Ground::archive`].
    fn start(&mut self, build: &Build) -> Result<Running, Fault>;
    /// The kiln process of a build.
    fn kiln(&self, running: &Running) -> Option<Process>;
    /// Empties kiln's root.
    fn forget(&mut self) -> Result<(), Fault>;
    /// kiln's root, as the host sees it.
    fn root(&self) -> PathBuf;
    /// The archive, as the host sees it.
    fn archive(&self) -> PathBuf;
    /// The processes that a build left.
    fn strays(&self) -> Vec<Process>;
    /// Waits for the work of processes that were not killed, without another kiln.
    fn settle(&mut self, _: Victims, _: &Report) -> Result<(), Fault> {
        Ok(())
    }
    /// Checks further conditions after a successful build.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The processes that are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    Kiln,
    /// One of its init processes.
    Init,
    /// kiln and one of them.
    Both,
    /// kiln and all of them.
    All,
}

/// A planned kill.
#[derive(Clone, Copy, Debug)]
struct Blow {
    victims: Victims,
    /// The time since the start of kiln.
    delay: Duration,
}

/// The state that a build starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// An empty root, and nothing in the cache.
    Cold,
    /// An empty root and a full cache.
    Remote,
    /// An unchanged project.
    Warm,
    /// Another version of the files.
    Changed,
    /// Steps that are not cached.
    Salted,
}

/// Kills in one environment.
pub struct Kill<'a, G> {
    world: &'a World,
    ground: G,
    build: Build,
    /// The durations of undisturbed builds.
    times: BTreeMap<Start, Duration>,
    /// The descendants of kiln at the last kill.
    seen: Vec<Process>,
}

impl<'a, G: Ground> Kill<'a, G> {
    pub fn new(world: &'a World, ground: G) -> Self {
        let cache = format!("{}-0", ground.name());
        Self {
            world,
            ground,
            build: Build { version: 0, salt: 0, cache },
            times: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    fn prepare(&mut self, start: Start, random: &mut Random) -> Result<(), Fault> {
        match start {
            Start::Cold => {
                self.build.salt += 1;
                self.build.cache = format!("{}-{}", self.ground.name(), self.build.salt);
                self.ground.forget()?;
            }
            Start::Remote => self.ground.forget()?,
            Start::Warm => {}
            Start::Changed => self.build.version = random.below(VERSIONS),
            Start::Salted => self.build.salt += 1,
        }
        let _ = std::fs::remove_file(self.ground.archive());
        Ok(())
    }

    /// Kills the chosen processes unless the build ends first, and returns those that were killed.
    fn strike(
        &mut self,
        running: &mut Running,
        kiln: &Process,
        Blow { victims, delay }: Blow,
        random: &mut Random,
    ) -> Vec<Process> {
        let at = Instant::now() + delay;
        while Instant::now() < at && !running.has_ended() {
            std::thread::sleep(Duration::from_micros(500));
        }
        let inits = || -> Vec<Process> {
            processes::below(kiln.pid).into_iter().filter(Process::is_init).collect()
        };
        let mut chosen = inits();
        if victims != Victims::Kiln {
            // An init process exists only while a RUN runs or is probed.
            while chosen.is_empty() && !running.has_ended() {
                chosen = inits();
            }
        }
        match victims {
            Victims::Kiln => chosen.clear(),
            Victims::All => {}
            Victims::Init | Victims::Both => {
                let one = random.below(chosen.len() as u64) as usize;
                chosen = chosen.into_iter().skip(one).take(1).collect();
            }
        }
        self.seen = processes::below(kiln.pid);
        if victims != Victims::Init {
            let place = if random.below(2) == 0 { 0 } else { chosen.len() };
            chosen.insert(place, kiln.clone());
        }
        chosen.retain(Process::kill);
        chosen
    }

    fn expect_no_strays(&self, when: &str) -> Result<(), Fault> {
        let left = || -> Vec<Process> {
            let seen = self.seen.iter().filter(|process| process.lives()).cloned();
            seen.chain(self.ground.strays()).collect()
        };
        match wait_for(PATIENCE, || left().is_empty().then_some(())) {
            Some(()) => Ok(()),
            None => Err(Fault::Lie(format!("{when}: processes are left: {:#?}", left()))),
        }
    }

    /// Repeats the build, undisturbed.
    fn rebuild(&mut self) -> Result<Ended, Fault> {
        let ended = self.ground.start(&self.build)?.finish()?;
        ended.expect_ok("the same build again")?;
        self.world.compare(&self.ground.archive(), self.build.version)?;
        self.expect_no_strays("after the same build again")?;
        expect_clean(&self.ground.root())?;
        self.ground.check()?;
        Ok(ended)
    }
}

/// Checks that there are no mounts below a root, and no files of a running build in it.
pub fn expect_clean(root: &Path) -> Result<(), Fault> {
    let left = [traces::mounts(root), traces::debris(root)].concat();
    if left.is_empty() { Ok(()) } else { Err(Fault::Lie(format!("it is left: {left:#?}"))) }
}

impl<G: Ground> Work for Kill<'_, G> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        let name = self.ground.name();
        let starts = [
            Start::Cold,
            Start::Cold,
            Start::Remote,
            Start::Warm,
            Start::Changed,
            Start::Salted,
            Start::Salted,
        ];
        let start = random.one_of(&starts);
        let victims = random.one_of(&[
            Victims::Kiln,
            Victims::Kiln,
            Victims::Init,
            Victims::Both,
            Victims::All,
        ]);
        let usual = self.times.get(&start).copied().unwrap_or(Duration::from_secs(1));
        let delay = random.part_of(usual);
        let story = format!("{start:?} build, {victims:?} killed after {} ms", delay.as_millis());
        let tell = |fault: Fault| fault.during(&story);
        self.prepare(start, random)?;
        let mut running = self.ground.start(&self.build)?;
        let Some(kiln) = wait_for(PATIENCE, || match running.has_ended() {
            true => Some(None),
            false => self.ground.kiln(&running).map(Some),
        })
        .flatten() else {
            let log = running.finish()?.log;
            return Err(Fault::Trouble(anyhow!("kiln was not seen\n{log}")));
        };
        let killed = self.strike(&mut running, &kiln, Blow { victims, delay }, random);
        let ended = running.finish().map_err(tell)?;
        if ended.log.contains("panicked at") {
            return Err(tell(Fault::Lie(format!("it panicked\n{}", ended.log))));
        }
        if ended.code == Some(0) {
            self.world.compare(&self.ground.archive(), self.build.version).map_err(tell)?;
        }
        match (killed.is_empty(), ended.code) {
            (true, Some(0)) => {
                report.count(&format!("{name}: too fast to be killed, and compared"))
            }
            (true, code) => {
                let log = ended.log;
                return Err(tell(Fault::Lie(format!("it failed unharmed ({code:?})\n{log}"))));
            }
            (false, _) => report.count(&format!("{name}: {victims:?} killed").to_lowercase()),
        }
        // If all processes were killed, the next build cleans up.
        if victims != Victims::All {
            self.expect_no_strays("after the kill").map_err(tell)?;
            self.ground.settle(victims, report).map_err(tell)?;
        }
        let again = self.rebuild().map_err(tell)?;
        report.count(&format!("{name}: the same build again, compared"));
        let times = self.times.entry(start).or_insert(again.time);
        *times = (*times * 3 + again.time) / 4;
        Ok(())
    }
}
