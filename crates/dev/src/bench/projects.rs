//! The benchmarked projects, made in a temporary folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fixtures::base_image::{RawImage, busybox_with};
use fixtures::tar::{Entry, Kind};

/// A context, and its benchmarks in order: cold, nothing changed, and for some projects one changed
/// file.
#[derive(Debug)]
pub struct Project {
    name: &'static str,
    folder: PathBuf,
    /// A base image of its own, `library/large`.
    base: Option<RawImage>,
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

/// A RUN that reads a hundredth of its base.
const LARGE: &str = "\
ARG REGISTRY
FROM ${REGISTRY}/library/large:latest
COPY src/ /src/
RUN cat /src/* /packages/42/* | sha256sum >/out
";

/// The packages of the large base, their files, and the size of a file: 1 GB in all.
const PACKAGES: usize = 100;
const FILES_OF_PACKAGE: usize = 100;
const SIZE_OF_PACKAGED: usize = 100_000;

const FILES: usize = 50_000;
const FILE_SIZE: usize = 3_100;
const MANY_FILES: usize = 200_000;
const SIZE_OF_MANY: usize = 300;

impl Project {
    /// The names of all projects.
    pub const NAMES: &'static [&'static str] =
        &["chain", "runs", "files", "base", "100-steps", "1000-steps", "many-files"];

    /// The names of those that take minutes, and are benchmarked when they are named.
    pub const LONG: &'static [&'static str] = &["100-steps", "1000-steps", "many-files"];

    /// Creates a project.
    pub fn make(name: &str, place: &Path) -> Result<Self> {
        let name = Self::NAMES.iter().find(|known| **known == name).context("no such project")?;
        let base = if *name == "base" { Some(large_base()?) } else { None };
        let project = Self { name, folder: place.join(name), base };
        project.write("Dockerfile", project.dockerfile().as_bytes())?;
        match *name {
            "files" => project.make_files(FILES, FILE_SIZE)?,
            "many-files" => project.make_files(MANY_FILES, SIZE_OF_MANY)?,
            _ => {}
        }
        project.reset()?;
        Ok(project)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its own base image, in `library/large`.
    pub fn base(&self) -> Option<&RawImage> {
        self.base.as_ref()
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
            "base" => {
                &["RUN on a base of 1 GB, cold", "nothing changed", "one source file changed"]
            }
            "100-steps" => &["100 RUN, cold", "nothing changed"],
            "1000-steps" => &["1,000 RUN, cold", "nothing changed"],
            "many-files" => &["COPY of 200,000 files, cold", "nothing changed"],
            _ => &["COPY of 50,000 files, cold", "nothing changed"],
        }
    }

    /// Restores its original files.
    pub fn reset(&self) -> Result<()> {
        if !["chain", "base"].contains(&self.name) {
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
        let steps = |count: usize| {
            (0..count)
                .fold(base.to_owned(), |text, step| format!("{text}RUN echo {step} >/f{step}\n"))
        };
        match self.name {
            "chain" => CHAIN.to_owned(),
            "base" => LARGE.to_owned(),
            "runs" => steps(60),
            "100-steps" => steps(100),
            "1000-steps" => steps(1_000),
            _ => format!("{base}COPY files/ /files/\n"),
        }
    }

    /// Writes incompressible files, the same on every machine.
    fn make_files(&self, count: usize, size: usize) -> Result<()> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = vec![0; size];
        for number in 0..count {
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

/// A base as public registries have them: one layer of gzip. Its bytes shrink to two fifths.
fn large_base() -> Result<RawImage> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state
    };
    let mut files = vec![Entry::new("packages/", Kind::Folder, 0o755)];
    for package in 0..PACKAGES {
        files.push(Entry::new(&format!("packages/{package}/"), Kind::Folder, 0o755));
        for file in 0..FILES_OF_PACKAGE {
            let mut text = Vec::with_capacity(SIZE_OF_PACKAGED + 16);
            while text.len() < SIZE_OF_PACKAGED {
                let number = next();
                text.extend_from_slice(format!("{:x} {} ", number >> 12, number % 91).as_bytes());
            }
            text.truncate(SIZE_OF_PACKAGED);
            files.push(Entry::new(&format!("packages/{package}/{file}"), Kind::File(text), 0o644));
        }
    }
    busybox_with(&files, 6)
}
