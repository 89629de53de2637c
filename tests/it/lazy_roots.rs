//! Commands whose root comes while they run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixtures::docker_registry::LogLine;
use fixtures::{FaultyProxy, PartAnswer, Run, tar};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::endings::{Running, processes};
use crate::travel::{Job, layer_bytes, noise};
use crate::{context_of, root_or_skip, text};

/// Maximum time for a step of a test, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A large layer that a command made, and a command on top of it that runs when `a.txt` changes.
const DOCKERFILE: &str = "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/busybox:latest AS base\n\
    COPY made /made\n\
    RUN cp -a /made /data && rm -r /made && ln -f /data/other_name /data/other_name.second && \
    cp /bin/busybox /data/cat && printf '#!/data/cat\\nscript\\n' >/data/script && chmod 4755 /data/script && \
    chown 5:6 /data/open && touch -d '2001-02-03 04:05:06' /data/open\n\
    COPY a.txt /\n";

/// The program that reads files, compiled for the root of a command.
fn reader_in(folder: &Path) {
    let source = fixtures::source_tree().join("tests/it/programs/reader.rs");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Copt-level=1", "-o"]);
    let program = folder.join("reader");
    let output = rustc.arg(&program).arg(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Command::new(program).arg(folder).status().unwrap().success());
}

fn context(command: &str) -> TempDir {
    let context =
        context_of(&[("Dockerfile", &format!("{DOCKERFILE}RUN {command}\n")), ("a.txt", "0")]);
    let made = context.path().join("made");
    std::fs::create_dir(&made).unwrap();
    reader_in(&made);
    std::fs::write(made.join("large"), noise(24 << 20)).unwrap();
    context
}

/// Builds, with another `a.txt` than before.
fn changed(job: &Job, context: &Path, more: &[&str]) -> (Run, Vec<LogLine>) {
    let file = context.join("a.txt");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before + "1").unwrap();
    job.build(context, more)
}

#[test]
fn a_file_has_its_contents_however_it_is_read() {
    let test = "a_file_has_its_contents_however_it_is_read";
    if !root_or_skip(test) {
        return;
    }
    let Some(job) = Job::new(test) else { return };
    let context = context(
        "/data/reader && test $(/data/script | wc -l) = 2 && stat -c '%a %u:%g %Y' /data/script /data/open",
    );
    job.build(context.path(), &[]).0.expect_ok();
    let (run, asked) = changed(&job, context.path(), &["--output=type=cacheonly"]);
    let run = run.expect_ok();
    assert!(run.stderr.contains(" 0 wrong"), "{}", run.stderr);
    assert!(run.stderr.contains("4755 0:0 "), "{}", run.stderr);
    assert!(run.stderr.contains("644 5:6 981173106"), "{}", run.stderr);
    let read = layer_bytes(&asked);
    // All but the large file.
    assert!((4 << 20..16 << 20).contains(&read), "{read} {asked:#?}\n{}", run.stderr);
}

#[test]
fn what_is_not_read_is_not_downloaded() {
    let test = "what_is_not_read_is_not_downloaded";
    if !root_or_skip(test) {
        return;
    }
    let Some(job) = Job::new(test) else { return };
    let context = context("cat /data/open /a.txt | md5sum; rm /data/large; mv /data/folder /moved");
    job.build(context.path(), &[]).0.expect_ok();
    let (lazy, asked) = changed(&job, context.path(), &["--output=type=cacheonly"]);
    let lazy = lazy.expect_ok();
    let read = layer_bytes(&asked);
    assert!(read < 4 << 20, "{read} {asked:#?}\n{}", lazy.stderr);
    assert!(lazy.stderr.contains("files of its root"), "{}", lazy.stderr);
    assert!(lazy.stderr.contains("MB of layers not needed"), "{}", lazy.stderr);
    assert!(!job.blobs_beside("reads/").is_empty());

    // The next run of the step begins with what it opened, and opens nothing that is not here.
    let (again, asked) = changed(&job, context.path(), &["--debug", "--output=type=cacheonly"]);
    let again = again.expect_ok();
    let first = again.stderr.find("files fetched first").expect(&again.stderr);
    assert!(first < again.stderr.find("command ended").unwrap(), "{}", again.stderr);
    assert!(layer_bytes(&asked) <= read, "{asked:#?}");
    let opened = again.stderr.lines().filter(|line| line.contains("files filled")).count();
    assert_eq!(opened, 0, "{}", again.stderr);
}

/// A fault in the parts of a layer costs the whole layer, or a run of the step that made it.
#[test]
fn a_layer_that_cannot_be_read_in_parts_is_read_whole() {
    let test = "a_layer_that_cannot_be_read_in_parts_is_read_whole";
    if !root_or_skip(test) {
        return;
    }
    let Some(mut job) = Job::new(test) else { return };
    job.proxy = Some(FaultyProxy::start(job.registry.host()));
    let context = context("/data/reader");
    job.build(context.path(), &[]).0.expect_ok();
    let answers = [PartAnswer::Whole, PartAnswer::Refused, PartAnswer::Garbled, PartAnswer::Lost];
    for answer in answers {
        let proxy = job.proxy.as_ref().unwrap();
        proxy.answer_parts(answer);
        let (run, asked) = changed(&job, context.path(), &["--output=type=cacheonly"]);
        let run = run.expect_ok();
        assert!(proxy.has_failed(), "{answer:?} {}", run.stderr);
        assert!(run.stderr.contains(" 0 wrong"), "{answer:?} {}", run.stderr);
        // The step that made the layer runs once more.
        let is_made_again =
            run.stderr.contains("RUN cp -a /made /data") && run.stderr.contains("1 steps cached");
        assert_eq!(is_made_again, answer == PartAnswer::Lost, "{answer:?} {}", run.stderr);
        let read = layer_bytes(&asked);
        assert!(read > 24 << 20 || answer == PartAnswer::Lost, "{answer:?} {read} {asked:#?}");
    }
}

/// A command that waits for a file ends with its build, however that ends, and never reads zeros.
#[test]
fn a_build_that_is_killed_leaves_no_command() {
    let test = "a_build_that_is_killed_leaves_no_command";
    if !root_or_skip(test) {
        return;
    }
    let Some(mut job) = Job::new(test) else { return };
    job.proxy = Some(FaultyProxy::start(job.registry.host()));
    let mark = format!("waits-for-{}", std::process::id());
    let command = format!(
        "--mount=type=cache,id=kept,target=/kept : {mark}; cat /data/open >/kept/read; echo over"
    );
    let context = context(&command);
    job.build(context.path(), &[]).0.expect_ok();
    for (signal, code) in [(Signal::KILL, None), (Signal::TERM, Some(130))] {
        job.proxy.as_ref().unwrap().answer_parts(PartAnswer::Held);
        std::fs::write(context.path().join("a.txt"), format!("{signal:?}")).unwrap();
        job.kiln.empty_root();
        let arguments = job.arguments(context.path(), &["--output=type=cacheonly"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = Running::start(&job.kiln, &arguments, Stdio::null());
        let started = Instant::now();
        while !job.proxy.as_ref().unwrap().has_failed() {
            assert!(started.elapsed() < PATIENCE, "nothing was opened");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(running.ends_of(signal), code);
        let started = Instant::now();
        // kiln's own command line has the Dockerfile's path only.
        while !processes(&mark).is_empty() {
            assert!(started.elapsed() < PATIENCE, "{:?}", processes(&mark));
            std::thread::sleep(Duration::from_millis(10));
        }
        let kept = find(&job.kiln.root(), "read");
        assert!(kept.iter().all(|file| std::fs::metadata(file).unwrap().len() == 0), "{kept:?}");
    }
}

/// The files of a name below a folder.
fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => find(&entry.path(), name),
        Ok(_) if entry.file_name() == name => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(of).collect()
}

#[test]
fn a_disk_that_is_full_is_said_in_a_sentence() {
    let test = "a_disk_that_is_full_is_said_in_a_sentence";
    if !root_or_skip(test) {
        return;
    }
    let Some(job) = Job::new(test) else { return };
    let context = context("true");
    job.build(context.path(), &[]).0.expect_ok();
    // On a small disk only.
    let fills = format!("{DOCKERFILE}RUN cat /dev/zero >/fill; cat /data/large | md5sum\n");
    std::fs::write(context.path().join("Dockerfile"), fills).unwrap();
    let disk = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    std::fs::write(context.path().join("a.txt"), "full").unwrap();
    let root = format!("--root={}", text(disk.path()));
    let mut arguments = vec![root];
    arguments.extend(job.arguments(context.path(), &["--output=type=cacheonly"]));
    let run = job.kiln.run(arguments);
    assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    let sentence = run.stderr.lines().last().unwrap_or_default();
    let is_said = sentence.contains("No space left on device") || sentence.contains("nearly full");
    assert!(is_said && sentence.starts_with("ERROR: "), "{}", run.stderr);
}

/// A layer that others compressed, in one stream of gzip and with its files in an order of their own: it is read whole once,
/// and in parts by every machine after that.
#[test]
fn a_base_of_others_is_read_in_parts_from_the_second_build_on() {
    let test = "a_base_of_others_is_read_in_parts_from_the_second_build_on";
    if !root_or_skip(test) {
        return;
    }
    let Some(job) = Job::new(test) else { return };
    let file =
        |name: &str, content: Vec<u8>| tar::Entry::new(name, tar::Kind::File(content), 0o644);
    let mut files = vec![tar::Entry::new("z/", tar::Kind::Folder, 0o755)];
    files
        .extend((0..24).rev().map(|number| file(&format!("z/{number}"), text_of(1 << 20, number))));
    files.push(file("a", text_of(300_000, 77)));
    files.push(tar::Entry::new("b", tar::Kind::HardLink("a".into()), 0o644));
    // The last one counts, and its place.
    files.push(file("z/3", text_of(1 << 20, 78)));
    let image = fixtures::base_image::busybox_with(&files, 6).unwrap();
    job.registry.put("library/large", "latest", &image).unwrap();
    let size = image.layers[0].len() as u64;
    assert!(size > 8 << 20, "{size}");
    let dockerfile = "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/large\nCOPY a.txt /\n\
        RUN cat /a.txt >/dev/null; md5sum /a /b /z/3 /z/17\n";
    let context = context_of(&[("Dockerfile", dockerfile), ("a.txt", "0")]);
    let digests = |run: &Run| -> Vec<String> {
        run.stderr
            .lines()
            .filter_map(|line| Some(line.split_once("  /")?.0.rsplit(' ').next()?.to_owned()))
            .collect()
    };
    let (whole, asked) = job.build(context.path(), &[]);
    let whole = whole.expect_ok();
    assert!(layer_bytes(&asked) >= size, "{asked:#?}");
    assert_eq!(digests(&whole).len(), 4, "{}", whole.stderr);
    let (lazy, asked) = changed(&job, context.path(), &[]);
    let lazy = lazy.expect_ok();
    assert_eq!(digests(&lazy), digests(&whole), "{}", lazy.stderr);
    let read = layer_bytes(&asked);
    assert!(read < size * 2 / 3, "{read} of {size}: {asked:#?}\n{}", lazy.stderr);
    // The table is a small part of what it is about.
    let beside: u64 = job
        .blobs_beside("indexes/")
        .iter()
        .map(|digest| job.registry.blob_file(digest).metadata().unwrap().len())
        .sum();
    assert!(beside * 50 < size, "{beside} of {size}");
}

/// Text that compresses.
fn text_of(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut text = String::with_capacity(size + 16);
    while text.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(&format!("{:x} {} ", state >> 12, state % 91));
    }
    text.truncate(size);
    text.into_bytes()
}
