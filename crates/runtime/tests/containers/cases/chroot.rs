//! Commands in a plain folder, without namespaces or mounts.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{
    Container, Error, FileContent, Isolation, Mount, MountKind, RootSource, Runtime,
    RuntimeOptions, Stream,
};

use super::Outcome;
use super::lifetime::Alive;
use crate::fixture::{Fixture, PATH, tree};

/// A runtime without namespaces, and a folder for it.
pub struct Plain {
    pub runtime: Arc<Runtime>,
    pub root: PathBuf,
    aside: PathBuf,
}

impl Plain {
    pub fn new(fixture: &Fixture) -> Result<Plain, String> {
        let options = RuntimeOptions {
            init_exe: "/proc/self/exe".into(),
            state_dir: fixture.folder(),
            kept: Vec::new(),
        };
        let runtime = Runtime::new(options).unwrap();
        let found = runtime.probe_chroot().unwrap().map_err(|reason| reason.to_string())?;
        found.supervised.clone().map_err(|reason| reason.to_string())?;
        let folder = fixture.folder();
        // kiln's own root can be inaccessible to other users too.
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        let (root, aside) = (folder.join("root"), folder.join("aside"));
        let copied = Command::new("cp").arg("-a").args([&fixture.base, &root]).status().unwrap();
        assert!(copied.success());
        fs::create_dir(&aside).unwrap();
        let runtime = Arc::new(runtime.with_isolation(Isolation::Chroot(found)));
        Ok(Plain { runtime, root, aside })
    }

    fn shell(&self, script: &str) -> Container {
        self.command(&["/bin/sh", "-ec", script])
    }

    pub fn command(&self, args: &[&str]) -> Container {
        // Removes files that an earlier command left; one whose handles were dropped may still be at its end.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = fs::remove_dir_all(&self.aside) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::create_dir(&self.aside).unwrap();
        let root = RootSource::Directory(self.root.clone());
        let mut container =
            Container::new(root, args.iter().map(|arg| (*arg).to_owned()).collect());
        container.aside = Some(self.aside.clone());
        container.env.push(("PATH".into(), PATH.into()));
        container
    }

    pub async fn run(&self, container: &Container) -> (String, String, bool) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let output = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        };
        let finished = self.runtime.run(container, output, std::future::pending()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(stdout), text(stderr), finished.exit.is_success())
    }

    pub async fn says(&self, container: &Container) -> String {
        let (stdout, stderr, good) = self.run(container).await;
        assert!(good, "{stdout}\n{stderr}");
        stdout
    }
}

fn mount(container: &mut Container, target: &str, kind: MountKind) {
    container.mounts.push(Mount { target: target.into(), kind });
}

pub async fn a_folder_has_the_kernels_files(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let script = "
        grep -q '^Pid:' /proc/self/status
        test $(readlink /proc/self) -gt 0
        test $(readlink /proc/self/exe) = /bin/busybox
        test $(readlink /proc/self/cwd) = /
        ls /proc | grep -qx cpuinfo
        ls /proc | grep -qx $$
        ls -l /proc/self/fd >/dev/null
        test ! -e /proc/$PPID/status
        test \"$(stat -L -c %i /proc/1/root)\" = \"$(stat -c %i /)\" && grep -q ^sh /proc/1/comm
        test -d /proc/self/task && test -r /proc/cpuinfo && test ! -e /proc/nothing
        (cd /proc && cat version) | grep -q Linux
        test $(cat ../proc/self/comm) = cat
        ls /sys | grep -qx kernel
        test -d /sys/kernel
        echo lost >/dev/null && test $(head -c 3 /dev/zero | wc -c) = 3
        echo found >/dev/stdout
        echo given | cat /dev/stdin /dev/fd/0
        hostname
        grep -c buildkitsandbox /etc/hosts
        ln -s /proc/self/comm /tmp/link && cat /tmp/link
    ";
    let said = plain.says(&plain.shell(script)).await;
    assert_eq!(said, "found\ngiven\nbuildkitsandbox\n1\ncat\n");
    // The kernel executes the file behind the link: busybox, which has no applet of that name.
    let (_, stderr, _) = plain.run(&plain.shell("/proc/self/exe || true")).await;
    assert!(stderr.contains("applet not found"), "{stderr}");
    Ok(())
}

pub async fn another_user_has_them_too(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let mut container = plain.shell(
        "id -u; grep '^Uid:' /proc/self/status; ls /proc/self/fd >/dev/null
         (cd /proc/self && true); cd /proc && cat self/comm
         if cat /proc/$PPID/environ 2>/dev/null; then exit 1; fi
         tr '\\0' '\\n' </proc/1/environ | grep -c PATH=",
    );
    container.user = Some("ann".into());
    assert_eq!(plain.says(&container).await, "500\nUid:\t500\t500\t500\t500\ncat\n1\n");
    Ok(())
}

pub async fn links_of_processes_lead_where_they_say(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    // A trailing slash follows a link; without one, `stat` shows the link itself.
    let script = "
        cd /tmp
        readlink /proc/self/cwd
        realpath /proc/self/exe
        stat -c %F /proc/self /proc/self/
        ls /proc/self/ | grep -x status
        echo text >file; exec 5<file; rm file
        readlink /proc/self/fd/5; cat /proc/self/fd/5
        exec 6</etc; head -n1 /proc/self/fd/6/passwd | cut -d: -f1
        echo made >/proc/self/root/tmp/made; stat -c %a made; cat /proc/self/root/tmp/made; rm made
        cat /proc/sys/kernel/hostname
        exec 7</bin/busybox; /proc/self/fd/7 2>&1 | grep -o 'applet not'
        cp /bin/busybox gone; exec 8<gone; rm gone; /dev/fd/8 2>&1 | grep -o 'applet not'
        cd /sys/kernel && ls | grep -x mm && cd ../../proc/self && cat comm && cd fd && ls | grep -x 0
    ";
    let expected = [
        "/tmp",
        "/bin/busybox",
        "symbolic link",
        "directory",
        "status",
        "/tmp/file (deleted)",
        "text",
        "root",
        "644",
        "made",
        "buildkitsandbox",
        // busybox's message for an unknown applet.
        "applet not",
        "applet not",
        "mm",
        "cat",
        "0",
    ];
    for user in ["root", "ann"] {
        let mut container = plain.shell(script);
        container.user = Some(user.into());
        let said = plain.says(&container).await;
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{user}");
    }
    Ok(())
}

pub async fn a_command_signals_nobody_outside(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let Isolation::Chroot(found) = plain.runtime.isolation() else { panic!() };
    if found.landlock < 6 {
        return Err(format!("Landlock {} does not keep signals in", found.landlock));
    }
    // Signal 0 only tests for the process.
    let script =
        "sleep 1000 & kill -0 $! && echo own; kill -0 $PPID 2>/dev/null && echo others; true";
    assert_eq!(plain.says(&plain.shell(script)).await, "own\n");
    Ok(())
}

pub async fn a_link_gives_no_rights(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let secret = plain.root.join("etc/secret");
    fs::write(&secret, "s3cret").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let mut container = plain.shell(
        "for file in /proc/self/root/etc/secret /proc/self/cwd/etc/secret; do
            if cat $file; then exit 1; fi
            if chmod 666 $file; then exit 2; fi
            if chown ann $file; then exit 3; fi
            if echo x >$file; then exit 4; fi
         done 2>/dev/null
         if touch /proc/self/root/etc/new 2>/dev/null; then exit 5; fi
         if chmod 777 /proc/version 2>/dev/null; then exit 6; fi",
    );
    container.user = Some("ann".into());
    plain.says(&container).await;
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    Ok(())
}

pub async fn what_a_descriptor_is_of_can_be_changed(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let script = "
        chmod 666 /dev/stdout; chown ann /dev/stdout
        echo x >/tmp/file; exec 5</tmp/file
        chmod 4711 /proc/self/fd/5; chown 500:600 /proc/self/fd/5; stat -c '%a %u:%g' /tmp/file
        chmod 4711 /dev/fd/5; stat -c '%a %u:%g' /tmp/file
    ";
    assert_eq!(plain.says(&plain.shell(script)).await, "711 500:600\n4711 500:600\n");
    Ok(())
}

pub async fn what_is_moved_in_is_moved_out(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let before = tree(&plain.root);
    let source = fixture.folder();
    fs::write(source.join("old"), "old").unwrap();
    let mut container = plain.shell(
        "cat /cache/old; echo new >/cache/new
         cat /run/secrets/s; stat -c %a /run/secrets/s
         touch /scratch/x; stat -c %a /scratch
         rm /etc/hosts; mv /cache/old /root/old",
    );
    let bind = MountKind::Bind { source: source.clone(), subpath: String::new(), readonly: false };
    mount(&mut container, "/cache", bind);
    let content = FileContent::new(b"s3cret".to_vec());
    let secret = MountKind::File { content, mode: 0o400, uid: 0, gid: 0 };
    mount(&mut container, "/run/secrets/s", secret);
    mount(&mut container, "/scratch", MountKind::Tmpfs { size: None, readonly: false });
    assert_eq!(plain.says(&container).await, "olds3cret400\n1777\n");

    assert_eq!(tree(&source), ["new"], "the command moved the other one");
    let after: Vec<_> =
        tree(&plain.root).into_iter().filter(|path| !before.contains(path)).collect();
    assert_eq!(after, ["root/old"], "mount points and what was mounted are gone");
    Ok(())
}

pub async fn a_folder_that_was_moved_away_comes_back(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let source = fixture.folder();
    fs::write(source.join("kept"), "").unwrap();
    let mut container = plain.shell("mv /cache /elsewhere && mkdir /cache && touch /cache/other");
    let bind = MountKind::Bind { source: source.clone(), subpath: String::new(), readonly: false };
    mount(&mut container, "/cache", bind);
    plain.says(&container).await;
    assert_eq!(tree(&source), ["kept"]);
    assert!(!plain.root.join("elsewhere").exists() && !plain.root.join("cache").exists());
    Ok(())
}

/// Files outside stay unchanged, whatever the command does to a mount and to names like the mount's.
pub async fn what_comes_back_is_known_by_what_it_is(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let outer = fixture.folder();
    fs::write(outer.join("credentials"), "s3cret").unwrap();
    let before = tree(&outer);
    let outer_path = outer.display();
    for (what, script) in [
        ("a link of the name that a removed folder has", "rm -r /c && ln -s OUTER '/c (deleted)'"),
        (
            "a folder of that name",
            "rm -r /c && mkdir '/c (deleted)' && ln -s OUTER '/c (deleted)/x'",
        ),
        ("a link in its place", "rm -r /c && ln -s OUTER /c"),
        ("a link where it was moved to", "mkdir /d && mv /c /d/c && mv /d /e && ln -s OUTER /d"),
        (
            "a link in place of the folder around",
            "mkdir /d && mv /c /d/c && rm -r /d/c && rmdir /d && ln -s OUTER /d",
        ),
        ("a file in its place", "rm -r /c && echo x >/c"),
        ("a pipe in its place", "rm -r /c && mkfifo /c"),
    ] {
        let home = fixture.folder();
        let source = home.join("mount");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("kept"), "").unwrap();
        let mut container = plain.shell(&script.replace("OUTER", &outer_path.to_string()));
        let bind = MountKind::Bind { source, subpath: String::new(), readonly: false };
        mount(&mut container, "/c", bind);
        plain.says(&container).await;
        assert_eq!(tree(&outer), before, "{what}");
        // The mount itself, or nothing.
        let left = tree(&home);
        assert!(left.is_empty() || left == ["mount", "mount/kept"], "{what}: {left:?}");
        assert!(
            plain.root.join("c").symlink_metadata().is_err(),
            "{what}: the mount point is gone"
        );
        for made in ["c (deleted)", "d", "e"] {
            let path = plain.root.join(made);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    Ok(())
}

pub async fn a_file_that_was_moved_away_comes_back(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let outer = fixture.folder();
    fs::write(outer.join("other"), "outer").unwrap();
    for (script, expected) in [
        ("mkdir /d && mv /f /d/g", "kept"),
        ("rm /f && ln -s OUTER/other '/f (deleted)'", "gone"),
        ("rm /f && ln -s OUTER/other /f", "gone"),
        ("mkdir -p /d && mv /f /d/g && mv /d /e && ln -s OUTER /d", "kept"),
    ] {
        let source = fixture.folder().join("file");
        fs::write(&source, "kept").unwrap();
        let mut container = plain.shell(&script.replace("OUTER", &outer.display().to_string()));
        let bind =
            MountKind::Bind { source: source.clone(), subpath: String::new(), readonly: false };
        mount(&mut container, "/f", bind);
        plain.says(&container).await;
        let found = fs::symlink_metadata(&source).map(|found| {
            assert!(found.is_file(), "{script}");
            fs::read_to_string(&source).unwrap()
        });
        assert_eq!(found.unwrap_or_else(|_| "gone".into()), expected, "{script}");
        assert_eq!(fs::read_to_string(outer.join("other")).unwrap(), "outer", "{script}");
        for made in ["f (deleted)", "d", "e"] {
            let path = plain.root.join(made);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    Ok(())
}

/// A link in place of a folder of kiln's must have been made by another program.
pub async fn a_link_is_no_mount_source(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let (outer, folder) = (fixture.folder(), fixture.folder());
    fs::create_dir(outer.join("below")).unwrap();
    std::os::unix::fs::symlink(&outer, folder.join("link")).unwrap();
    for subpath in ["", "below"] {
        let mut container = plain.shell("true");
        let bind = MountKind::Bind {
            source: folder.join("link"),
            subpath: subpath.into(),
            readonly: false,
        };
        mount(&mut container, "/c", bind);
        let ran = plain.runtime.run(&container, |_, _| (), std::future::pending()).await;
        assert!(matches!(ran, Err(Error::MountSourceMissing { .. })), "`{subpath}`: {ran:?}");
    }
    Ok(())
}

/// Walks the whole root, as some programs do.
pub async fn the_kernels_folders_can_be_walked(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let before = tree(&plain.root);
    // Control groups of concurrent containers come and go, and `find` fails if a folder disappears.
    let script = "
        find / -path /sys/fs/cgroup -prune -o -name no-such-file -print
        find /sys/kernel -maxdepth 2 -type d | grep -x /sys/kernel/mm
        find /proc/self/ -maxdepth 1 -name status
        ls /proc/self/fd | grep -x 1
        ls -l /proc/self/fd | grep -c pipe:
        exec 9</etc/passwd; ls /proc/$$/fd | grep -x 9; readlink /proc/$$/fd/9
        exec 9<&-; ls /proc/$$/fd | grep -x 9 || echo closed
        cd /sys/kernel && ls -d mm && cd mm && cd .. && pwd
        (sleep 0.01 & wait; ls /proc/$!/ 2>&1 | grep -o 'No such')
        stat -c %d:%i /sys/kernel >/tmp/one; cd /sys/kernel; stat -c %d:%i . >/tmp/two; cmp /tmp/one /tmp/two; rm /tmp/one /tmp/two
        for file in /sys/kernel/notes /proc/self/fd/../status; do test -r $file; done
        if ls -la /dev/pts | grep -q ptmx; then echo terminals; fi
    ";
    let expected = [
        "/sys/kernel/mm",
        "/proc/self/status",
        "1",
        "2",
        "9",
        "/etc/passwd",
        "closed",
        "mm",
        "/sys/kernel",
        "No such",
        "terminals",
    ];
    let said = plain.says(&plain.shell(script)).await;
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(tree(&plain.root), before, "nothing of it stays in the root");
    Ok(())
}

/// Opens a terminal of this process, and returns its master and its path.
fn terminal() -> Option<(OwnedFd, String)> {
    // SAFETY: the calls take a descriptor, which is owned at once, and write a string into a buffer of the given size.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if master < 0 {
            return None;
        }
        let owned = OwnedFd::from_raw_fd(master);
        let mut name = [0; 64];
        let good = libc::grantpt(master) == 0
            && libc::unlockpt(master) == 0
            && libc::ptsname_r(master, name.as_mut_ptr(), name.len()) == 0;
        let name = std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap();
        good.then(|| (owned, name.to_owned()))
    }
}

/// A command cannot use the job's terminal, but can use its own.
pub async fn terminals_of_others_are_not_there(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let Some((_master, theirs)) = terminal() else {
        return Err("no terminal can be made here".into());
    };
    let script = format!(
        "if test -e {theirs} || (echo x >{theirs}) 2>/dev/null; then exit 3; fi
         ls /dev/pts | grep -vx ptmx || echo none
         /terminal --terminal"
    );
    fs::copy("/proc/self/exe", plain.root.join("terminal")).unwrap();
    assert_eq!(plain.says(&plain.shell(&script)).await, "none\nown\n");
    Ok(())
}

/// Opens a terminal and uses it by its path.
pub fn use_terminal() {
    let (_master, path) = terminal().unwrap();
    let names = fs::read_dir("/dev/pts").unwrap().map(|entry| entry.unwrap().path());
    assert!(names.into_iter().any(|name| name.display().to_string() == path), "{path} is listed");
    fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    println!("own");
}

/// Opening a pipe without a writer through a process's link must not block other commands.
pub async fn a_pipe_in_the_root_stops_nobody(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let script =
        "mkfifo /tmp/pipe; (cat /proc/self/root/tmp/pipe &) ; cat /proc/self/comm; rm /tmp/pipe";
    assert_eq!(plain.says(&plain.shell(script)).await, "cat\n");
    Ok(())
}

pub async fn a_cancelled_command_in_a_folder_leaves_nothing(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let alive = Alive::new(fixture);
    let mut container = plain.shell(
        "trap '' TERM INT HUP; exec 3>/m/line
         (setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" &)
         echo started; while :; do sleep 1; done",
    );
    container.mounts.push(alive.mount());
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let mut cancel = Some(cancel);
    let output = |_, _: &[u8]| drop(cancel.take());
    let result = plain.runtime.run(&container, output, async { drop(cancelled.await) }).await;
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(alive.is_over());
    assert!(!plain.root.join("m").exists(), "the mount point is gone");
    Ok(())
}

pub async fn a_folders_command_leaves_no_process(fixture: &Fixture) -> Outcome {
    let plain = Plain::new(fixture)?;
    let alive = Alive::new(fixture);
    let mut container = plain.shell(
        "exec 3>/m/line; (setsid sh -c 'touch /m/alive; while :; do sleep 1; done' >/dev/null 2>&1 &)
         while ! test -e /m/alive; do sleep 0.01; done",
    );
    container.mounts.push(alive.mount());
    plain.says(&container).await;
    assert!(alive.is_over());
    Ok(())
}
