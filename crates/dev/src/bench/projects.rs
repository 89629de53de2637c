//! The benchmarked projects, made in a temporary folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A context, and its benchmarks in order: cold, nothing changed, and for some projects one changed
/// file.
#[derive(Debug)]
pub struct Project {
    name: &'static str,
    folder: PathBuf,
}

/// Four stages, twelve steps. A RUN makes 160 MB, on which later steps depend.
const CHAIN: &str = "\
ARG REGISTRY
FROM ${REGISTRY}/library/busybox:latest AS toolchain
WORKDIR /w
COPY deps.txt ./
RUN mkdir t && for i in $(seq 1 80); do head -c 2097152 /dev/urandom >t/$i; done
FROM toolchain AS build
COPY src/ src/
RUN cat src/* t/1 | sha256sum >out
RUN wc -c <out >size
FROM toolchain AS test
COPY tests/ tests/
RUN ls t | wc -l >count
RUN cat tests/* count >ok
FROM ${REGISTRY}/library/busybox:latest
COPY --from=build /w/out /w/size /srv/
COPY --from=test /w/ok /srv/
RUN ls /srv >/srv/list
";

const FILES: usize = 50_000;
const FILE_SIZE: usize = 3_100;

impl Project {
    /// The names of all projects.
    pub const NAMES: &'static [&'static str] = &["chain", "runs", "files"];

    /// Creates a project.
    pub fn make(name: &str, place: &Path) -> Result<Self> {
        let name = Self::NAMES.iter().find(|known| **known == name).context("no such project")?;
        let project = Self { name, folder: place.join(name) };
        project.write("Dockerfile", project.dockerfile().as_bytes())?;
        if *name == "files" {
            project.make_files()?;
        }
        project.reset()?;
        Ok(project)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its context.
    pub fn context(&self) -> &Path {
        &self.folder
    }

    /// The names of its benchmarks, in order.
    pub fn works(&self) -> &'static [&'static str] {
        match self.name {
            "chain" => &["12 steps, 160 MB, cold", "nothing changed", "one source file changed"],
            "runs" => &["60 trivial RUN, cold", "nothing changed"],
            _ => &["COPY of 50,000 files, cold", "nothing changed"],
        }
    }

    /// Restores its original files.
    pub fn reset(&self) -> Result<()> {
        if self.name != "chain" {
            return Ok(());
        }
        for (file, text) in [
            ("deps.txt", "one\ntwo\n"),
            ("src/main", "main\n"),
            ("src/lib", "lib\n"),
            ("tests/all", "ok\n"),
        ] {
            self.write(file, text.as_bytes())?;
        }
        Ok(())
    }

    /// Changes a source file.
    pub fn change(&self, number: usize) -> Result<()> {
        self.write("src/main", format!("main {number}\n").as_bytes())
    }

    /// Removes its folder.
    pub fn remove(&self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }

    fn dockerfile(&self) -> String {
        let base = "ARG REGISTRY\nFROM ${REGISTRY}/library/busybox:latest\n";
        match self.name {
            "chain" => CHAIN.to_owned(),
            "runs" => (0..60)
                .fold(base.to_owned(), |text, step| format!("{text}RUN echo {step} >/f{step}\n")),
            _ => format!("{base}COPY files/ /files/\n"),
        }
    }

    /// Writes incompressible files, the same on every machine.
    fn make_files(&self) -> Result<()> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = vec![0; FILE_SIZE];
        for number in 0..FILES {
            for chunk in bytes.chunks_mut(8) {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
            }
            self.write(&format!("files/{:03}/{number}", number / 100), &bytes)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let doing = || format!("`{}`", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(doing)?;
        }
        std::fs::write(&path, bytes).with_context(doing)
    }
}
