//! Builds with 128 MiB of memory, page cache included.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fixtures::Kiln;

use super::build::{Build, Running, World};
use super::project::VERSIONS;
use super::random::Random;
use super::{Fault, Report, Work};

const LIMIT: u64 = 128 << 20;
/// Size in bytes of a file that is larger than the available memory.
const LARGE: usize = 160 << 20;
/// Size in bytes of the alternating pieces of noise and of constant bytes in it.
const PIECE: usize = 1 << 20;

/// A control group with the limit, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Creates it, if the machine has writable control groups.
    fn new(world: &World) -> Result<Self, Fault> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of = |controller: &str| {
            own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (names, path) = rest.split_once(':')?;
                names.split(',').any(|name| name == controller).then(|| path.to_owned())
            })
        };
        let (top, file, path) = match of("memory") {
            Some(path) => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path),
            None => ("/sys/fs/cgroup", "memory.max", of("").unwrap_or_default()),
        };
        let name = world.mark("memory");
        let folder = Path::new(top).join(path.trim_start_matches('/')).join(name);
        std::fs::create_dir(&folder)
            .with_context(|| format!("no control group `{}`", folder.display()))?;
        let group = Self(folder);
        std::fs::write(group.0.join(file), LIMIT.to_string())
            .context("no limit of memory can be set")?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

/// Builds of the project and of a large file, in the control group.
pub struct Memory<'a> {
    world: &'a World,
    group: Group,
    kiln: Kiln,
    large: PathBuf,
    build: Build,
}

impl<'a> Memory<'a> {
    /// Prepares the large file. It is a [`Fault::Trouble`] if memory cannot be limited.
    pub fn new(world: &'a World) -> Result<Self, Fault> {
        let large = world.place.path().join("large");
        std::fs::create_dir(&large).context("a context")?;
        let dockerfile = format!(
            "FROM {}/library/busybox\nARG SALT\nCOPY file /\nRUN cp /file /copy && echo $SALT\nRUN rm /file\n",
            world.host
        );
        std::fs::write(large.join("Dockerfile"), dockerfile)
            .and_then(|()| write_large(&large.join("file")))
            .context("a context")?;
        let build = Build { version: 0, salt: 0, cache: "memory".into() };
        Ok(Self { world, group: Group::new(world)?, kiln: Kiln::new(&world.binary), large, build })
    }

    fn start(&self, arguments: &[String]) -> Result<super::build::Ended, Fault> {
        let procs = self.group.0.join("cgroup.procs");
        let kiln = self.kiln.command([""; 0]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(procs).arg(kiln.get_program());
        command.args(arguments).env_clear().current_dir(self.kiln.home());
        for (name, value) in kiln.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        Running::start(&mut command, &self.kiln.home().join("log"))?.finish()
    }
}

/// Writes the large file, half of which is compressible.
fn write_large(path: &Path) -> std::io::Result<()> {
    let mut random = Random::new(1, "large");
    let noise: Vec<u8> = (0..PIECE).map(|_| random.below(256) as u8).collect();
    let mut file = std::fs::File::create(path)?;
    for _ in 0..LARGE / PIECE / 2 {
        file.write_all(&noise)?;
        file.write_all(&[b'x'; PIECE])?;
    }
    Ok(())
}

impl Work for Memory<'_> {
    fn round(&mut self, random: &mut Random, report: &Report) -> Result<(), Fault> {
        self.build.salt += 1;
        self.build.version = random.below(VERSIONS);
        let archive = self.kiln.home().join("out.tar");
        let context = self.world.context("memory", self.build.version)?;
        let arguments = self.build.arguments(&self.world.host, &context, &archive);
        self.start(&arguments)?.expect_ok("with 128 MiB")?;
        self.world.compare(&archive, self.build.version)?;
        report.count("128 MiB: compared");
        let compression = random.one_of(&["gzip", "zstd"]);
        let arguments = [
            "build".to_owned(),
            "--progress=plain".into(),
            format!("--build-arg=SALT={}", self.build.salt),
            format!("--output=type=oci,dest={},compression={compression}", archive.display()),
            self.large.display().to_string(),
        ];
        self.start(&arguments)?.expect_ok("160 MiB in 128 MiB")?;
        report.count(&format!("128 MiB: a file of 160 MiB as {compression}"));
        // Removed because of its size; the next round writes it again.
        std::fs::remove_file(&archive).context("an archive")?;
        let prune = ["prune", "--all", "--force"].map(str::to_owned);
        self.start(&prune)?.expect_ok("prune")?;
        Ok(())
    }
}
