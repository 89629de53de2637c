//! A container whose files are moved by `in-place` gets them back, whichever of kiln's processes is
//! killed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fixtures::{Access, Dockerd};

use crate::own_images::dockerd_with;
use crate::{registry, text};

/// Maximum time for an operation of milliseconds, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lists all files that a job would miss, one line each. The totals are left out, because a file's
/// number of blocks can change when the disk writes it back.
const LIST: &str = "ls -lR /bin /etc /home /root /tmp/mine /usr | grep -v '^total '";

fn wait_until(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ask() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A job's container that keeps running.
struct Job<'a> {
    dockerd: &'a Dockerd,
    place: &'a Path,
}

impl Job<'_> {
    fn exec(&self, args: &[&str]) -> fixtures::Run {
        self.dockerd.docker(&[&["exec", "job"], args].concat())
    }

    fn list(&self) -> String {
        self.exec(&["sh", "-c", LIST]).expect_ok().stdout
    }

    fn build(&self, project: &str, more: &[&str]) -> Command {
        let project = format!("/project/{project}");
        let exec = ["--env=KILN_CONTAINER_IS_MINE=1", "--env=HOME=/tmp/home", "job"];
        let kiln = [
            "/usr/local/bin/kiln",
            "--root=/tmp/kiln",
            "build",
            "--isolation=in-place",
            "--progress=plain",
        ];
        self.dockerd.command(&[&["exec"], more, &exec, &kiln, &[&project]].concat())
    }

    /// The processes of the container with their names, by process id on the host.
    fn processes(&self) -> Vec<(String, String)> {
        let top = self.dockerd.docker(&["top", "job", "-eo", "pid,args"]).expect_ok().stdout;
        let lines = top.lines().skip(1).filter_map(|line| line.trim().split_once(' '));
        lines.map(|(pid, args)| (pid.to_owned(), args.trim().to_owned())).collect()
    }

    /// Starts a build, waits until it is in the middle of a RUN, and kills the processes that
    /// `chosen` selects.
    fn kill_in_a_run(&self, chosen: impl Fn(&str) -> bool) {
        let log = self.place.join("out/log");
        let file = std::fs::File::create(&log).unwrap();
        let mut build = self.build("stands", &[]);
        let mut client = build.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        wait_until("the RUN stands", || said().contains("it has stood 42"));
        let mut killed = 0;
        for (pid, _) in self.processes().iter().filter(|(_, args)| chosen(args)) {
            killed +=
                usize::from(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        }
        assert!(killed > 0, "{:?}", self.processes());
        client.wait().unwrap();
    }
}

fn is_kiln(args: &str) -> bool {
    args.starts_with("/usr/local/bin/kiln")
}

fn is_init(args: &str) -> bool {
    args.starts_with("kiln-init")
}

#[test]
fn a_container_gets_its_files_back() {
    let test = "a_container_gets_its_files_back";
    let Some(dockerd) = dockerd_with(test, "ci") else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let base = format!("FROM {}/library/busybox\n", registry.host());
    let stands = "RUN rm -r /etc; mkdir /root/x; (setsid sleep 1000 &) ; echo it has stood $((41 + 1)); sleep 1000\n";
    for (name, run) in [("stands", stands), ("passes", "RUN touch /passed\n")] {
        std::fs::create_dir(place.path().join(name)).unwrap();
        std::fs::write(place.path().join(name).join("Dockerfile"), format!("{base}{run}")).unwrap();
    }
    std::fs::create_dir(place.path().join("out")).unwrap();
    let project = format!("--volume={}:/project:ro", text(place.path()));
    let run = ["run", "--detach", "--name=job", "--network=host", &project];
    let first = "mkdir -m 710 -p /home/one /tmp/mine; while :; do sleep 1000; done";
    let image = ["registry.example.com/kiln:ci", "sh", "-c", first];
    dockerd.docker(&[&run[..], &image].concat()).expect_ok();
    let job = Job { dockerd: &dockerd, place: place.path() };
    wait_until("the job begins", || job.exec(&["test", "-d", "/tmp/mine"]).ok());
    let before = job.list();

    let is_back = || {
        let run = job.exec(&["sh", "-c", LIST]);
        run.ok() && run.stdout == before
    };
    // The remaining process restores them: first the init process, then kiln.
    job.kill_in_a_run(is_kiln);
    wait_until("without kiln", is_back);
    job.kill_in_a_run(is_init);
    wait_until("without init processes", is_back);
    // If no process is left, the next build restores them.
    job.kill_in_a_run(|args| is_kiln(args) || is_init(args));
    fixtures::kiln::finish(job.build("passes", &[]), b"").expect_ok();
    assert_eq!(job.list(), before);
    wait_until("nothing runs any more", || {
        job.processes().iter().all(|(_, args)| args.contains("while :") || args == "sleep 1000")
            && job.processes().len() == 2
    });
}
