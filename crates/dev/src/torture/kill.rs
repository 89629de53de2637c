//! Builds that are killed at random points, and the same build again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::build::{Build, Ended, Running, World};
use super::processes::{self, Process, wait_for};
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work, traces};

/// How long what is killed, or is to clear up after it, may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where builds run.
pub trait Ground {
    fn name(&self) -> &'static str;
    /// Starts a build whose archive is at [`Ground::archive`].
    fn start(&mut self, build: &Build) -> Result<Running, Fault>;
    /// The process of a build that is kiln.
    fn kiln(&self, running: &Running) -> Option<Process>;
    /// Empties kiln's root.
    fn forget(&mut self) -> Result<(), Fault>;
    /// kiln's root, as it is seen from here.
    fn root(&self) -> PathBuf;
    /// The archive, as it is seen from here.
    fn archive(&self) -> PathBuf;
    /// Processes that are left of a build.
    fn strays(&self) -> Vec<Process>;
    /// Waits for what must come about without another kiln, when not all were killed.
    fn settle(&mut self, _: Victims, _: &Report) -> Result<(), Fault> {
        Ok(())
    }
    /// Checks what else holds when a build has ended well.
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

/// A kill that is to come.
#[derive(Clone, Copy, Debug)]
struct Blow {
    victims: Victims,
    /// From the start of kiln.
    delay: Duration,
}

/// The state that a build starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// An empty root, and nothing in the cache.
    Cold,
    /// An empty root and a full cache.
    Remote,
    /// Nothing changed.
    Warm,
    /// Another version of the files.
    Changed,
    /// Steps that were not run yet.
    Salted,
}

/// Kills on one ground.
pub struct Kill<'a, G> {
    world: &'a World,
    ground: G,
    build: Build,
    /// How long a build takes that is left alone.
    times: BTreeMap<Start, Duration>,
    /// The processes below kiln when it was last struck.
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

    /// Kills, unless the build was faster; who was killed.
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
            // There is one only while a RUN runs, or is tried.
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

    /// The same build once more, in peace.
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

/// No mounts below a root, and nothing in it that belongs to a build.
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
        let tell = |fault| match fault {
            Fault::Lie(text) => Fault::Lie(format!("{story}: {text}")),
            trouble => trouble,
        };
        self.prepare(start, random)?;
        let mut running = self.ground.start(&self.build)?;
        let Some(kiln) = wait_for(PATIENCE, || match running.has_ended() {
            true => Some(None),
            false => self.ground.kiln(&running).map(Some),
        })
        .flatten() else {
            let log = running.finish()?.log;
            return Err(Fault::Trouble(format!("kiln was not seen\n{log}")));
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
        // Where nobody is left to clear up, a later build does.
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
