//! A hostile command and the limits of its reach. See `attack.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use runtime::{Container, Isolation, RootSource};

use super::Outcome;
use super::chroot::Plain;
use crate::fixture::{Fixture, tree};

/// The environment of a build in a job: a secret, a listening socket, and a process with a token.
struct Job {
    folder: PathBuf,
    before: (String, fs::Metadata, Vec<String>),
    process: Child,
    _socket: UnixListener,
}

impl Job {
    fn new(fixture: &Fixture) -> Job {
        let folder = fixture.folder();
        let secret = folder.join("secret");
        fs::write(&secret, "s3cret").unwrap();
        fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        let socket = UnixListener::bind(folder.join("secret.sock")).unwrap();
        let process = Command::new("sleep").arg("600").env("TOKEN", "s3cret").spawn().unwrap();
        let before = Job::look(&folder);
        Job { folder, before, process, _socket: socket }
    }

    fn look(folder: &Path) -> (String, fs::Metadata, Vec<String>) {
        let secret = folder.join("secret");
        (fs::read_to_string(&secret).unwrap(), secret.metadata().unwrap(), tree(folder))
    }

    /// The command line of the attack on this job.
    fn attack(&self, more: &[&str]) -> Vec<String> {
        let secret = self.folder.join("secret");
        let (inode, pid) = (self.before.1.ino().to_string(), self.process.id().to_string());
        let mut args = vec!["/attack".to_owned(), crate::ATTACK.to_owned()];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.extend([secret.display().to_string(), inode, pid]);
        args
    }

    fn is_untouched(&self) {
        let (text, found, names) = Job::look(&self.folder);
        let (old_text, old, old_names) = &self.before;
        assert_eq!((&text, &names), (old_text, old_names));
        let facts = |found: &fs::Metadata| {
            (found.mode(), found.uid(), found.nlink(), found.mtime(), found.mtime_nsec())
        };
        assert_eq!(facts(&found), facts(old));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Checks that all attacks ran and failed.
fn all_held(said: &str) {
    let broken: Vec<_> = said.lines().filter(|line| !line.starts_with("held: ")).collect();
    let [last] = broken[..] else { panic!("{said}") };
    let count = said.lines().count() - 1;
    assert_eq!(last, format!("all {count} tried"), "{said}");
}

fn put_attack(folder: &Path) {
    fs::copy("/proc/self/exe", folder.join("attack")).unwrap();
}

fn is_known_machine() -> Outcome {
    match cfg!(target_arch = "x86_64") {
        true => Ok(()),
        false => Err("the attacks are for x86_64".into()),
    }
}

/// A command in a plain folder that attacks a job.
fn in_folder(plain: &Plain, job: &Job, more: &[&str]) -> Container {
    put_attack(&plain.root);
    let args = job.attack(more);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut container = plain.command(&args);
    container.env.push(("ATTACK".into(), "1".into()));
    container
}

pub async fn no_attack_leaves_its_folder(fixture: &Fixture) -> Outcome {
    is_known_machine()?;
    let (plain, job) = (Plain::new(fixture)?, Job::new(fixture));
    all_held(&plain.says(&in_folder(&plain, &job, &[])).await);
    job.is_untouched();
    let left = tree(&plain.root);
    let stolen = left.iter().find(|path| path.contains("stolen") || path.contains("secret"));
    assert_eq!(stolen, None);
    Ok(())
}

pub async fn two_commands_lead_each_other_nowhere(fixture: &Fixture) -> Outcome {
    is_known_machine()?;
    let (one, other) = (Plain::new(fixture)?, Plain::new(fixture)?);
    let Isolation::Chroot(found) = one.runtime.isolation() else { panic!() };
    if found.landlock < 6 {
        return Err(format!(
            "Landlock {} does not keep sockets without a name apart",
            found.landlock
        ));
    }
    let job = Job::new(fixture);
    let (first, second) =
        (in_folder(&one, &job, &["--together"]), in_folder(&other, &job, &["--together"]));
    let (first, second) = tokio::join!(one.says(&first), other.says(&second));
    assert_eq!([&first, &second], ["held: another root\n"; 2]);
    job.is_untouched();
    Ok(())
}

pub async fn a_refused_root_is_told(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    for (script, refused) in [
        ("mkdir /second; chroot /second true", true),
        ("chroot / true; cd /tmp; chroot .. true", false),
        ("mkdir /second; chroot second true || true", true),
    ] {
        let container = plain.command(&["/bin/sh", "-c", script]);
        let finished =
            plain.runtime.run(&container, |_, _| (), std::future::pending()).await.unwrap();
        assert_eq!(finished.refused_root, refused, "{script}");
    }
    let mut container = plain.command(&["/bin/sh", "-c", "chroot / true"]);
    container.user = Some("ann".into());
    assert!(!plain.run(&container).await.2, "not for everybody");
    Ok(())
}

/// A command in namespaces that attacks a job.
fn in_namespaces(fixture: &Fixture, job: &Job, more: &[&str]) -> Container {
    let lower = fixture.folder();
    put_attack(&lower);
    let overlay = fixture.overlay(vec![lower, fixture.base.clone()], Some(&fixture.layer()));
    let mut container = Container::new(RootSource::Overlay(overlay), job.attack(more));
    container.env.push(("ATTACK".into(), "1".into()));
    container
}

pub async fn no_attack_leaves_its_namespaces(fixture: &Fixture) -> Outcome {
    is_known_machine()?;
    let job = Job::new(fixture);
    all_held(&fixture.says(&in_namespaces(fixture, &job, &[])).await);
    job.is_untouched();
    Ok(())
}

pub async fn two_commands_in_namespaces_lead_each_other_nowhere(fixture: &Fixture) -> Outcome {
    is_known_machine()?;
    let job = Job::new(fixture);
    let (first, second) = (
        in_namespaces(fixture, &job, &["--together"]),
        in_namespaces(fixture, &job, &["--together"]),
    );
    let (first, second) = tokio::join!(fixture.says(&first), fixture.says(&second));
    assert_eq!([&first, &second], ["held: another root\n"; 2]);
    job.is_untouched();
    Ok(())
}
