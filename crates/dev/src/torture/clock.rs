//! A clock that jumps. The machine's clock is shared, so only the effect of a jump is made: a root with files, records
//! and locks of another decade.

use std::fs::FileTimes;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use fixtures::Kiln;

use super::build::{Build, Running, World};
use super::kill::expect_clean;
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work};
use crate::tools;

const DECADE: u64 = 10 * 365 * 24 * 3600;

/// A Python program that shifts the times in all databases below a folder by some seconds.
const SHIFT: &str = r#"
import glob, sqlite3, sys
for name in glob.glob(sys.argv[1] + "/v1/*.db") + glob.glob(sys.argv[1] + "/v1/*.sqlite*"):
    if name.endswith(("-wal", "-shm")):
        continue
    with sqlite3.connect(name) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            for column in database.execute(f"PRAGMA table_info({table})").fetchall():
                if column[1] in ("last_use", "created") and column[2] == "INTEGER":
                    database.execute(f"UPDATE {table} SET {column[1]} = {column[1]} + ?", (int(sys.argv[2]),))
                    print(table, column[1])
"#;

pub struct Clock<'a> {
    world: &'a World,
    kiln: Kiln,
    salt: u64,
}

impl<'a> Clock<'a> {
    pub fn new(world: &'a World) -> Result<Self, Fault> {
        Ok(Self { world, kiln: Kiln::new(&world.binary), salt: 0 })
    }

    fn build(&self, version: u64) -> Result<(), Fault> {
        let context = self.world.context("clock", version)?;
        let archive = self.kiln.home().join("out.tar");
        let build = Build { version, salt: self.salt, cache: "clock".into() };
        let mut command = self.kiln.command(build.arguments(&self.world.host, &context, &archive));
        Running::start(&mut command, &self.kiln.home().join("log"))?
            .finish()?
            .expect_ok("a build")?;
        self.world.compare(&archive, version)
    }
}

impl Work for Clock<'_> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        self.salt += random.below(2);
        self.build(random.below(VERSIONS))?;
        let forward = random.below(2) == 0;
        let now = SystemTime::now();
        let span = Duration::from_secs(1 + random.below(DECADE));
        let time = if forward { now + span } else { now - span };
        touch(&self.kiln.root(), time, random);
        let seconds = if forward { span.as_secs() as i64 } else { -(span.as_secs() as i64) };
        let moved = tools::quietly(
            Command::new("python3")
                .args(["-c", SHIFT])
                .arg(self.kiln.root())
                .arg(seconds.to_string()),
        );
        match moved {
            Ok(tables) if tables.is_empty() => {
                return Err(Fault::Trouble(anyhow!("no database has times to be moved")));
            }
            Ok(_) => {}
            Err(error) => report.leave_out("records of another time", &format!("{error:#}")),
        }
        self.build(random.below(VERSIONS))?;
        let mut prune = self.kiln.command(["prune", "--force", "--until=24h"]);
        Running::start(&mut prune, &self.kiln.home().join("log"))?.finish()?.expect_ok("prune")?;
        self.build(random.below(VERSIONS))?;
        report.count("another clock: two builds, compared");
        expect_clean(&self.kiln.root())
    }
}

/// Sets the times of files and folders, except those of unpacked layers, whose times are the image's.
fn touch(folder: &Path, time: SystemTime, random: &mut Random) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() || path.ends_with("fs") {
            continue;
        }
        if kind.is_dir() {
            touch(&path, time, random);
        }
        if random.below(3) > 0
            && let Ok(file) = std::fs::File::open(&path)
        {
            // If the time cannot be set, the file keeps its real one.
            let _ = file.set_times(FileTimes::new().set_accessed(time).set_modified(time));
        }
    }
}
