//! One case per promise.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use runtime::{
    Container, Error, Exit, FileContent, Mount, MountKind, Network, RootSource, Security, Ulimit,
};

use crate::fixture::{Fixture, PATH, tree};

/// A case that cannot be tried says why.
type Outcome = Result<(), &'static str>;
type Case = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

macro_rules! cases {
    ($($name:ident)*) => { &[$((stringify!($name), |fixture| Box::pin($name(fixture)))),*] };
}

pub const ALL: &[(&str, Case)] = cases![
    exit_codes_and_signals
    streams_apart
    environment_and_identity
    users_and_groups
    a_user_may_open_its_output
    unknown_users
    programs_that_cannot_run
    default_mounts_and_devices
    masked_and_read_only_kernel_files
    hosts_and_resolver
    working_directory
    changes_and_no_stubs
    stubs_with_content_stay
    parents_keep_their_times
    bind_mounts
    overlays_as_mounts
    missing_sources
    tmpfs
    secrets
    replaced_defaults
    no_network
    limits
    capabilities
    devices_of_the_host
    insecure
    cancel_kills_the_tree
    dropping_kills_the_tree
    a_killed_kiln_takes_the_tree_along
    background_processes_end
    hostile_links
    hostile_kernel_mount_points
    many_layers
    plain_directory
    used_again
    opaque_and_whiteouts
    refusals
    concurrent_runs
    large_output
];

async fn exit_codes_and_signals(fixture: &Fixture) -> Outcome {
    for (script, exit) in [
        ("true", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
    ] {
        assert_eq!(
            fixture.run(&fixture.shell(script)).await.unwrap().finished.exit,
            exit,
            "{script}"
        );
    }
    assert_eq!(Exit::Signal(9).code(), 137);
    // Signals that pid 1 sends itself do not reach it.
    let ran = fixture.run(&fixture.shell("kill -9 $$; echo $$")).await.unwrap();
    assert_eq!(ran.stdout, "1\n");
    Ok(())
}

async fn streams_apart(fixture: &Fixture) -> Outcome {
    let ran = fixture.run(&fixture.shell("echo out; echo err >&2; cat | wc -c")).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n0\n", "err\n"));
    Ok(())
}

async fn environment_and_identity(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell("env | sort");
    container.env.push(("ENVV".into(), "from env".into()));
    container.cwd = "/w".into();
    let expected = format!("ENVV=from env\nHOME=/root\nPATH={PATH}\nPWD=/w\nSHLVL=1\n");
    assert_eq!(fixture.says(&container).await, expected);

    let mut container = fixture.shell("echo $HOME");
    container.env.push(("HOME".into(), "/custom".into()));
    assert_eq!(fixture.says(&container).await, "/custom\n");

    let script =
        "id; pwd; umask; hostname; test -t 0 && echo tty || echo notty; ls /proc/self/fd | wc -l";
    let said = fixture.says(&fixture.shell(script)).await;
    let groups = if fixture.single { "" } else { " groups=0(root)" };
    // Descriptors: three, and the one that lists them.
    assert_eq!(
        said,
        format!("uid=0(root) gid=0(root){groups}\n/\n0022\nbuildkitsandbox\nnotty\n4\n")
    );
    Ok(())
}

async fn users_and_groups(fixture: &Fixture) -> Outcome {
    if fixture.single {
        return Err("there is no other user than root");
    }
    let script = "echo $(id -u; id -g; id -G; echo $HOME)";
    for (user, expected) in [
        ("ann", "500 600 600 700 /home/ann\n"),
        ("500", "500 600 600 700 /home/ann\n"),
        ("ann:solo", "500 800 800 /home/ann\n"),
        ("4242", "4242 0 0 /\n"),
        ("4242:17", "4242 17 17 /\n"),
        (":700", "0 700 700 /root\n"),
        ("", "0 0 0 /root\n"),
    ] {
        let mut container = fixture.shell(script);
        container.user = Some(user.into());
        assert_eq!(fixture.says(&container).await, expected, "{user}");
    }
    let mut container =
        fixture.shell("touch /f 2>/dev/null || echo no; touch x && stat -c '%u %g' x . ..");
    container.user = Some("1000:2000".into());
    container.cwd = "/home/app/sub".into();
    assert_eq!(fixture.says(&container).await, "no\n1000 2000\n1000 2000\n1000 2000\n");
    Ok(())
}

async fn a_user_may_open_its_output(fixture: &Fixture) -> Outcome {
    if fixture.single {
        return Err("there is no other user than root");
    }
    let mut container = fixture.shell("echo o >/dev/stdout; echo e >/dev/stderr");
    container.user = Some("ann".into());
    let ran = fixture.run(&container).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("o\n", "e\n"));
    Ok(())
}

async fn unknown_users(fixture: &Fixture) -> Outcome {
    let run = async |user: &str| {
        let mut container = fixture.shell("true");
        container.user = Some(user.into());
        fixture.run(&container).await.unwrap_err()
    };
    assert!(matches!(run("whoever").await, Error::NoSuchUser { user } if user == "whoever"));
    assert!(matches!(run("0:whatever").await, Error::NoSuchGroup { group } if group == "whatever"));
    Ok(())
}

async fn programs_that_cannot_run(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let script = "mkdir /d; echo hi >/no-mode; echo junk >/junk; chmod 755 /junk; printf '#!/none\\n' >/s; chmod 755 /s";
    fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", script])).await;
    let run = async |program: &str| fixture.run(&fixture.on(&layer, &[program])).await.unwrap_err();
    assert!(
        matches!(run("/no/such/program").await, Error::ProgramNotFound { program } if program == "/no/such/program")
    );
    assert!(matches!(run("no-such-program").await, Error::ProgramNotFound { .. }));
    assert!(matches!(run("/no-mode").await, Error::ProgramDenied { .. }));
    assert!(matches!(run("/d").await, Error::ProgramDenied { .. }));
    assert!(matches!(run("/junk").await, Error::Execute { .. }));
    assert!(matches!(run("/s").await, Error::Execute { .. }));
    let mut container = fixture.on(&layer, &["sh", "-c", "true"]);
    container.env.clear();
    assert!(matches!(fixture.run(&container).await.unwrap_err(), Error::ProgramNotFound { .. }));
    assert!(fixture.run(&fixture.on(&layer, &["sh", "-c", "true"])).await.is_ok());
    Ok(())
}

async fn default_mounts_and_devices(fixture: &Fixture) -> Outcome {
    let script = "for p in null zero full random urandom tty ptmx fd stdin core; do test -e /dev/$p && echo $p; done
        for m in /proc /dev /dev/pts /dev/shm /dev/mqueue; do awk -v m=$m '$2==m{print m, $3}' /proc/mounts; done
        test -d /sys/class && ! touch /sys/x 2>/dev/null && echo sys
        echo x >/dev/null; head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c
        echo x >/dev/shm/x && mkdir /dev/made && echo made; df -k /dev/shm | tail -1 | awk '{print $2}'; echo $$";
    let said = fixture.says(&fixture.shell(script)).await;
    let said = said.replacen("core\n", "", 1);
    assert_eq!(
        said,
        "null\nzero\nfull\nrandom\nurandom\ntty\nptmx\nfd\nstdin\n/proc proc\n/dev tmpfs\n/dev/pts devpts\n\
         /dev/shm tmpfs\n/dev/mqueue mqueue\nsys\n2\n2\nmade\n65536\n1\n"
    );
    Ok(())
}

async fn masked_and_read_only_kernel_files(fixture: &Fixture) -> Outcome {
    let script = "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo x >$f) 2>/dev/null && echo wrote $f; done; true";
    assert_eq!(fixture.says(&fixture.shell(script)).await, "0\n0\n");
    Ok(())
}

async fn hosts_and_resolver(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell(
        "cat /etc/hosts; test -s /etc/resolv.conf && echo dns; echo x >/etc/hosts || echo ro",
    );
    container.extra_hosts.push(("db.example".into(), "10.0.0.7".parse().unwrap()));
    container.hostname = "box".into();
    assert_eq!(
        fixture.says(&container).await,
        "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb.example\ndns\nro\n"
    );
    Ok(())
}

async fn working_directory(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "pwd"]);
    container.cwd = "/gone/there".into();
    assert_eq!(fixture.says(&container).await, "/gone/there\n");
    assert!(layer.upper.join("gone/there").is_dir(), "a made working directory is a change");

    // Below a mount, which hides the one in the root.
    container.cwd = "/m/x".into();
    container.mounts.push(Mount {
        target: "/m".into(),
        kind: MountKind::Tmpfs { size: None, readonly: false },
    });
    assert_eq!(fixture.says(&container).await, "/m/x\n");
    container.cwd = "/bin/sh".into();
    assert!(
        matches!(fixture.run(&container).await, Err(Error::Setup { step, .. }) if step.contains("/bin/sh"))
    );
    Ok(())
}

async fn changes_and_no_stubs(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "echo x >/f"]);
    container.mounts = vec![
        Mount { target: "/p/q/r".into(), kind: MountKind::Tmpfs { size: None, readonly: false } },
        Mount { target: "/run/secrets/tok".into(), kind: secret(b"s") },
    ];
    let ran = fixture.run(&container).await.unwrap();
    // The usual mount points come from below the layers.
    assert_eq!(ran.finished.stubs, ["p", "p/q", "p/q/r", "run", "run/secrets", "run/secrets/tok"]);
    assert_eq!(tree(&layer.upper), ["f"]);

    // An image that has removed one of them gets it back for the run.
    let layer = fixture.layer();
    fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", "rm /etc/passwd"])).await;
    fs::rename(layer.upper.join("etc/passwd"), layer.upper.join("etc/hosts")).unwrap();
    let above = fixture.layer();
    let mut container = fixture.on(&above, &["/bin/sh", "-c", "grep -c localhost /etc/hosts"]);
    container.root =
        RootSource::Overlay(fixture.overlay(vec![layer.upper, fixture.base.clone()], Some(&above)));
    let ran = fixture.run(&container).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.finished.stubs), ("2\n", vec!["etc/hosts".to_owned()]));
    // The folder was copied up; it says nothing new, and what was made on the whiteout is one again.
    assert_eq!(tree(&above.upper), ["etc"]);
    Ok(())
}

async fn stubs_with_content_stay(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container =
        fixture.on(&layer, &["/bin/sh", "-c", "mkdir /a/b/kept && echo x >/a/file"]);
    container.mounts = vec![Mount {
        target: "/a/b/c".into(),
        kind: MountKind::Tmpfs { size: None, readonly: false },
    }];
    fixture.says(&container).await;
    assert_eq!(tree(&layer.upper), ["a", "a/b", "a/b/kept", "a/file"]);
    Ok(())
}

async fn parents_keep_their_times(fixture: &Fixture) -> Outcome {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let lower = fixture.folder();
    fs::create_dir(lower.join("etc")).unwrap();
    fs::File::open(lower.join("etc")).unwrap().set_modified(old).unwrap();
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "stat -c %Y /etc"]);
    container.mounts.push(Mount { target: "/etc/new".into(), kind: secret(b"") });
    container.root =
        RootSource::Overlay(fixture.overlay(vec![lower, fixture.base.clone()], Some(&layer)));
    assert_eq!(fixture.says(&container).await, "1000000\n");
    assert_eq!(layer.upper.join("etc").metadata().unwrap().mtime(), 1_000_000);
    Ok(())
}

async fn bind_mounts(fixture: &Fixture) -> Outcome {
    let source = fixture.folder();
    fs::create_dir(source.join("d")).unwrap();
    fs::write(source.join("d/one"), "1\n").unwrap();
    symlink("/d/one", source.join("l")).unwrap();
    let bind = |target: &str, subpath: &str, readonly| Mount {
        target: target.into(),
        kind: MountKind::Bind { source: source.clone(), subpath: subpath.into(), readonly },
    };
    let script = "cat /m/d/one; touch /m/x 2>/dev/null || echo ro; cat /l; echo 2 >/w/two; cat /tmp/in/d/one";
    let mut container = fixture.shell(script);
    container.mounts = vec![
        bind("/m", "", true),
        bind("/l", "l", true),
        bind("/w", "/d", false),
        bind("/tmp/../tmp/in", "/", true),
    ];
    assert_eq!(fixture.says(&container).await, "1\nro\n1\n1\n");
    assert_eq!(fs::read_to_string(source.join("d/two")).unwrap(), "2\n");

    // A mount in a mount.
    let mut container = fixture.shell("ls /m; ls /m/d");
    let tmpfs =
        Mount { target: "/m".into(), kind: MountKind::Tmpfs { size: None, readonly: false } };
    container.mounts = vec![tmpfs, bind("/m/d", "d", true)];
    assert_eq!(fixture.says(&container).await, "d\none\ntwo\n");
    Ok(())
}

async fn overlays_as_mounts(fixture: &Fixture) -> Outcome {
    let (low, high) = (fixture.folder(), fixture.folder());
    fs::create_dir(low.join("o")).unwrap();
    fs::write(low.join("o/a"), "low a\n").unwrap();
    fs::write(low.join("o/b"), "low b\n").unwrap();
    fs::create_dir(high.join("o")).unwrap();
    fs::write(high.join("o/b"), "high b\n").unwrap();
    let layer = fixture.layer();
    let mount = |target: &str, lowers, layer, readonly| Mount {
        target: target.into(),
        kind: MountKind::Overlay {
            overlay: fixture.overlay(lowers, layer),
            subpath: "/o".into(),
            readonly,
        },
    };
    let script = "cat /both/a /both/b; touch /both/x 2>/dev/null || echo ro
        ls /one; touch /one/x 2>/dev/null || echo ro; rm /rw/a; echo n >/rw/n; ls /rw";
    let mut container = fixture.shell(script);
    container.mounts = vec![
        mount("/both", vec![high.clone(), low.clone()], None, true),
        mount("/one", vec![low.clone()], None, true),
        mount("/rw", vec![high.clone(), low.clone()], Some(&layer), false),
    ];
    assert_eq!(fixture.says(&container).await, "low a\nhigh b\nro\na\nb\nro\nb\nn\n");
    assert!(low.join("o/a").exists() && !low.join("o/n").exists());
    assert_eq!(fs::read_to_string(layer.upper.join("o/n")).unwrap(), "n\n");
    Ok(())
}

async fn missing_sources(fixture: &Fixture) -> Outcome {
    let source = fixture.folder();
    let run = async |source, subpath: &str| {
        let mut container = fixture.shell("true");
        let kind = MountKind::Bind { source, subpath: subpath.into(), readonly: true };
        container.mounts.push(Mount { target: "/m".into(), kind });
        fixture.run(&container).await.unwrap_err()
    };
    let error = run(source.clone(), "nope").await;
    assert!(matches!(&error, Error::MountSourceMissing { path } if path == "/nope"), "{error:?}");
    assert!(matches!(run(source.join("nope"), "").await, Error::MountSourceMissing { .. }));
    let mut container = fixture.shell("true");
    container.root =
        RootSource::Overlay(fixture.overlay(vec![source.join("layer")], Some(&fixture.layer())));
    assert!(matches!(fixture.run(&container).await.unwrap_err(), Error::MountSourceMissing { .. }));
    Ok(())
}

async fn tmpfs(fixture: &Fixture) -> Outcome {
    let script = "awk '$2==\"/t\"{print $3}' /proc/mounts; ls /t | wc -l; df -k /t | tail -1 | awk '{print $2}'
        stat -c %a /t; dd if=/dev/zero of=/t/x bs=1M count=17 2>/dev/null || echo full; touch /ro/x 2>/dev/null || echo ro";
    let layer = fixture.layer();
    fs::create_dir(layer.upper.join("t")).unwrap();
    fs::write(layer.upper.join("t/under"), "").unwrap();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", script]);
    container.mounts = vec![
        Mount {
            target: "/t".into(),
            kind: MountKind::Tmpfs { size: Some(16 << 20), readonly: false },
        },
        Mount { target: "/ro".into(), kind: MountKind::Tmpfs { size: None, readonly: true } },
    ];
    assert_eq!(fixture.says(&container).await, "tmpfs\n0\n16384\n1777\nfull\nro\n");
    assert_eq!(tree(&layer.upper.join("t")), ["under"]);
    Ok(())
}

fn secret(content: &[u8]) -> MountKind {
    MountKind::File { content: FileContent::new(content.to_vec()), mode: 0o400, uid: 0, gid: 0 }
}

async fn secrets(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let script = "stat -c '%a %u %g %s' /run/secrets/tok; cat /run/secrets/tok; echo; echo x >/run/secrets/tok || echo ro";
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", script]);
    container.mounts.push(Mount { target: "/run/secrets/tok".into(), kind: secret(b"s3cr3t") });
    assert_eq!(fixture.says(&container).await, "400 0 0 6\ns3cr3t\nro\n");
    assert!(!tree(&layer.upper).iter().any(|path| path.starts_with("run")));

    let large = vec![b'x'; 3 << 20];
    let mut container =
        fixture.shell("wc -c </s; cat /proc/1/cmdline /proc/1/environ | grep -c 'x\\{64\\}'");
    container.mounts.push(Mount { target: "/s".into(), kind: secret(&large) });
    assert_eq!(fixture.run(&container).await.unwrap().stdout, format!("{}\n0\n", large.len()));

    if !fixture.single {
        let mut container = fixture.shell("stat -c '%a %u %g' /s; cat /s");
        let content = FileContent::new(b"mine".to_vec());
        container.mounts.push(Mount {
            target: "/s".into(),
            kind: MountKind::File { content, mode: 0o440, uid: 500, gid: 700 },
        });
        container.user = Some("ann".into());
        assert_eq!(fixture.says(&container).await, "440 500 700\nmine");
    }
    Ok(())
}

async fn replaced_defaults(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell("df -k /dev/shm | tail -1 | awk '{print $2}'");
    container.mounts = vec![Mount {
        target: "/dev/shm/".into(),
        kind: MountKind::Tmpfs { size: Some(1 << 20), readonly: false },
    }];
    assert_eq!(fixture.says(&container).await, "1024\n");
    Ok(())
}

async fn no_network(fixture: &Fixture) -> Outcome {
    let script = "tail -n +2 /proc/net/route | wc -l; ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo lo";
    let mut container = fixture.shell(script);
    container.network = Network::None;
    let said = fixture.says(&container).await;
    assert!(said.starts_with("0\n") && said.ends_with("lo\nlo\n"), "{said}");
    Ok(())
}

async fn limits(fixture: &Fixture) -> Outcome {
    let mut container = fixture.shell("ulimit -n; ulimit -c");
    container.ulimits = vec![
        Ulimit { name: "nofile".into(), soft: 123, hard: 456 },
        Ulimit { name: "core".into(), soft: 0, hard: 0 },
    ];
    assert_eq!(fixture.says(&container).await, "123\n0\n");
    container.ulimits[0].name = "wishes".into();
    assert!(
        matches!(fixture.run(&container).await, Err(Error::Refused(reason)) if reason.contains("`wishes`"))
    );
    Ok(())
}

async fn capabilities(fixture: &Fixture) -> Outcome {
    let script = "grep -E 'Cap|NoNewPrivs' /proc/self/status | awk '{print $2}' | tr '\\n' ' '";
    let sandbox = "00000000a80425fb";
    let none = "0000000000000000";
    let said = fixture.says(&fixture.shell(script)).await;
    assert_eq!(said, format!("{none} {sandbox} {sandbox} {sandbox} {none} 0 "));
    if !fixture.single {
        let mut container = fixture.shell(script);
        container.user = Some("ann".into());
        assert_eq!(
            fixture.says(&container).await,
            format!("{none} {none} {none} {sandbox} {none} 0 ")
        );
    }
    Ok(())
}

async fn devices_of_the_host(fixture: &Fixture) -> Outcome {
    if fixture.userxattr {
        return Err("no device files in a user namespace");
    }
    // Making device files is allowed, as it is under runc; using the host's devices is not.
    let script = "mknod -m 640 /nul c 1 3 && echo made; mknod /m b 7 0; mknod /k c 1 11; mknod /dev/mm c 1 1
        mknod /tmp/mem c 1 1; for d in /m /k /dev/mm /tmp/mem; do head -c 1 $d >/dev/null 2>&1 && echo read $d; done
        echo end";
    let layer = fixture.layer();
    assert_eq!(fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", script])).await, "made\nend\n");
    assert_eq!(layer.upper.join("nul").metadata().unwrap().rdev(), 0x103);

    let said = fixture.run(&fixture.shell("mknod /n c 1 3 && echo x >/n && rm /dev/random && ln -s urandom /dev/random && echo replaced")).await;
    if said.unwrap().stdout != "replaced\n" {
        return Err(
            "only partly: no writable cgroup v2 here, so device files do not work in containers",
        );
    }
    Ok(())
}

async fn insecure(fixture: &Fixture) -> Outcome {
    let script =
        "grep CapEff /proc/self/status | awk '{print $2}'; mount -t tmpfs none /tmp && echo mounted
        mount | grep -c ' on /proc/sys '; test -e /dev/kmsg && echo kmsg";
    let mut container = fixture.shell(script);
    container.security = Security::Insecure;
    let ran = fixture.run(&container).await.unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let devices = if fixture.userxattr { "" } else { "kmsg\n" };
    assert_eq!(ran.stdout, format!("{own}\nmounted\n0\n{devices}"));
    if !fixture.single {
        let mut container = fixture.shell("grep CapAmb /proc/self/status | awk '{print $2}'");
        container.security = Security::Insecure;
        container.user = Some("ann".into());
        assert_eq!(fixture.says(&container).await, format!("{own}\n"));
    }
    Ok(())
}

/// Starts something that holds on, and waits for its first words.
fn stubborn(fixture: &Fixture) -> (Container, std::path::PathBuf) {
    let source = fixture.folder();
    let script = "trap '' TERM INT HUP; (trap '' TERM; while :; do echo x >>/m/alive; sleep 0.01; done) & \
                  echo started; while :; do sleep 1; done";
    let mut container = fixture.shell(script);
    let kind = MountKind::Bind { source: source.clone(), subpath: String::new(), readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    (container, source)
}

/// Nothing writes any more: the size at the container's end is the size for good.
fn is_over(source: &std::path::Path) -> bool {
    let size = || fs::metadata(source.join("alive")).map_or(0, |found| found.len());
    let before = size();
    std::thread::sleep(Duration::from_millis(60));
    before == size()
}

async fn cancel_kills_the_tree(fixture: &Fixture) -> Outcome {
    let (container, source) = stubborn(fixture);
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let mut cancel = Some(cancel);
    let output = |_, _: &[u8]| drop(cancel.take());
    let result = fixture.runtime.run(&container, output, async { drop(cancelled.await) }).await;
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(is_over(&source));
    Ok(())
}

async fn dropping_kills_the_tree(fixture: &Fixture) -> Outcome {
    let (container, source) = stubborn(fixture);
    let started = tokio::sync::Notify::new();
    let layer = match &container.root {
        RootSource::Overlay(overlay) => overlay.writable.clone().unwrap().upper,
        RootSource::Directory(directory) => directory.clone(),
    };
    {
        let run = fixture.runtime.run(
            &container,
            |_, _: &[u8]| started.notify_one(),
            std::future::pending(),
        );
        tokio::select! {
            result = run => panic!("ended: {result:?}"),
            () = started.notified() => {}
        }
    }
    assert!(is_over(&source));
    assert!(tree(&layer).is_empty(), "the mount points are removed all the same");
    Ok(())
}

/// What the process of the next case does until it is killed.
pub async fn hold(fixture: &Fixture, folder: std::path::PathBuf) {
    let script = "trap '' TERM HUP; exec 3>/m/line; echo up >&3; sleep 1000 & sleep 1000";
    let mut container = fixture.shell(script);
    let kind = MountKind::Bind { source: folder, subpath: String::new(), readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    fixture.says(&container).await;
}

async fn a_killed_kiln_takes_the_tree_along(fixture: &Fixture) -> Outcome {
    use std::io::{BufRead, Read};
    let folder = fixture.folder();
    let line = folder.join("line");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &line,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let mut kiln = std::process::Command::new("/proc/self/exe")
        .arg(crate::HOLD)
        .arg(&folder)
        .env("TMPDIR", fixture.folder())
        .spawn()
        .unwrap();
    let mut line = std::io::BufReader::new(fs::File::open(line).unwrap());
    let mut word = String::new();
    line.read_line(&mut word).unwrap();
    assert_eq!(word, "up\n");
    kiln.kill().unwrap();
    // Ends when the last process of the container has ended.
    line.read_to_string(&mut word).unwrap();
    kiln.wait().unwrap();
    Ok(())
}

async fn background_processes_end(fixture: &Fixture) -> Outcome {
    let start = std::time::Instant::now();
    assert_eq!(fixture.says(&fixture.shell("sleep 300 & echo ok")).await, "ok\n");
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}

async fn hostile_links(fixture: &Fixture) -> Outcome {
    let outside = fixture.folder();
    fs::write(outside.join("target"), "").unwrap();
    let evil = fixture.folder();
    fs::create_dir(evil.join("etc")).unwrap();
    let out = outside.display().to_string();
    symlink(format!("{out}/made-by-hosts"), evil.join("etc/hosts")).unwrap();
    symlink(format!("../../../../../../../..{out}/made-by-resolver"), evil.join("etc/resolv.conf"))
        .unwrap();
    symlink("/proc/1/root/up", evil.join("etc/through")).unwrap();
    symlink(&out, evil.join("out")).unwrap();
    symlink("loop", evil.join("loop")).unwrap();
    let layer = fixture.layer();
    let mut container =
        fixture.on(&layer, &["/bin/sh", "-c", "cat /etc/hosts /out/new | wc -l; pwd"]);
    container.root =
        RootSource::Overlay(fixture.overlay(vec![evil, fixture.base.clone()], Some(&layer)));
    container.cwd = "/out/cwd".into();
    container.mounts.push(Mount { target: "/out/new".into(), kind: secret(b"inside\n") });
    assert_eq!(fixture.says(&container).await, format!("3\n{out}/cwd\n"));
    assert_eq!(tree(&outside), ["target"]);
    // Of the folders that the links lead to inside the root, only the working directory's stay.
    assert!(layer.upper.join(out.trim_start_matches('/')).join("cwd").is_dir());
    assert!(
        !tree(&layer.upper).iter().any(|path| path.contains("made-by") || path.ends_with("/new"))
    );

    let mut looping = container.clone();
    looping.mounts = vec![Mount { target: "/loop/x".into(), kind: secret(b"") }];
    assert!(matches!(fixture.run(&looping).await, Err(Error::Setup { .. })));
    looping.mounts = vec![Mount { target: "/etc/through/x".into(), kind: secret(b"") }];
    // A link of the kernel's is only text, and leads to the container's own root.
    let ran = fixture.run(&looping).await.unwrap();
    assert!(ran.finished.stubs.contains(&"up/x".to_owned()), "{ran:?}");
    Ok(())
}

async fn hostile_kernel_mount_points(fixture: &Fixture) -> Outcome {
    for name in ["proc", "sys", "dev"] {
        let evil = fixture.folder();
        symlink("tmp", evil.join(name)).unwrap();
        let layer = fixture.layer();
        let mut container = fixture.on(&layer, &["true"]);
        container.root =
            RootSource::Overlay(fixture.overlay(vec![evil, fixture.base.clone()], Some(&layer)));
        let error = fixture.run(&container).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(reason) if reason.contains("symbolic link")),
            "{error:?}"
        );
    }
    // A table that is no file is not waited for.
    let evil = fixture.layer();
    fixture
        .says(&fixture.on(&evil, &["/bin/sh", "-c", "rm /etc/passwd && mkfifo /etc/passwd"]))
        .await;
    let mut container = fixture.on(&evil, &["true"]);
    container.user = Some("0".into());
    fixture.says(&container).await;
    Ok(())
}

async fn many_layers(fixture: &Fixture) -> Outcome {
    for count in [130, 499] {
        // Long names, with what separates layers in mount options.
        let deep = fixture.folder().join(format!("{}:a,b\\c", "n".repeat(150)));
        let mut lowers: Vec<_> =
            (0..count).map(|index| deep.join(format!("layer:{index}"))).collect();
        for (index, lower) in lowers.iter().enumerate() {
            fs::create_dir_all(lower.join("l")).unwrap();
            fs::write(lower.join(format!("l/{index}")), "").unwrap();
            fs::write(lower.join("l/top"), index.to_string()).unwrap();
        }
        lowers.push(fixture.base.clone());
        let layer = fixture.layer();
        let mut container = fixture.on(&layer, &["/bin/sh", "-c", "ls /l | wc -l; cat /l/top"]);
        container.root = RootSource::Overlay(fixture.overlay(lowers.clone(), Some(&layer)));
        assert_eq!(fixture.says(&container).await, format!("{}\n0", count + 1));
        if count == 499 {
            lowers.push(fixture.base.clone());
            container.root = RootSource::Overlay(fixture.overlay(lowers, Some(&layer)));
            assert!(matches!(fixture.run(&container).await, Err(Error::Refused(_))));
        }
    }
    Ok(())
}

async fn plain_directory(fixture: &Fixture) -> Outcome {
    let root = fixture.folder();
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(fixture.base.join("bin/busybox"), root.join("bin/sh")).unwrap();
    let mut container = fixture.shell("echo x >/f");
    container.root = RootSource::Directory(root.clone());
    let ran = fixture.run(&container).await.unwrap();
    assert!(ran.finished.exit.is_success());
    assert_eq!(tree(&root), ["bin", "bin/sh", "f"]);
    // No layers at all.
    let layer = fixture.layer();
    container.root = RootSource::Overlay(fixture.overlay(Vec::new(), Some(&layer)));
    assert!(matches!(fixture.run(&container).await, Err(Error::ProgramNotFound { .. })));
    assert!(tree(&layer.upper).is_empty());
    Ok(())
}

async fn used_again(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    for index in 0..3 {
        fixture
            .says(&fixture.on(&layer, &["/bin/sh", "-c", &format!("echo {index} >>/log")]))
            .await;
    }
    assert_eq!(fs::read_to_string(layer.upper.join("log")).unwrap(), "0\n1\n2\n");
    Ok(())
}

async fn opaque_and_whiteouts(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let script = "rm /etc/group; rm -r /root && mkdir /root && echo new >/root/f; mv /tmp /moved; ls -d /root /moved";
    assert_eq!(
        fixture.says(&fixture.on(&layer, &["/bin/sh", "-c", script])).await,
        "/moved\n/root\n"
    );
    let whiteout = layer.upper.join("etc/group").symlink_metadata().unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000));
    let top = fixture.on(&layer, &["/bin/sh", "-c", "ls /root /etc"]);
    assert_eq!(fixture.says(&top).await, "/etc:\nhosts\npasswd\nresolv.conf\n\n/root:\nf\n");
    Ok(())
}

async fn refusals(fixture: &Fixture) -> Outcome {
    let refused = async |change: &dyn Fn(&mut Container)| {
        let mut container = fixture.shell("true");
        change(&mut container);
        match fixture.run(&container).await {
            Err(Error::Refused(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    };
    let tmpfs = |target: &str| Mount {
        target: target.into(),
        kind: MountKind::Tmpfs { size: None, readonly: false },
    };
    assert!(refused(&|container| container.args.clear()).await.contains("empty command"));
    assert!(refused(&|container| container.cwd = "w".into()).await.contains("`w`"));
    assert!(refused(&|container| container.mounts = vec![tmpfs("m")]).await.contains("`m`"));
    assert!(
        refused(&|container| container.mounts = vec![tmpfs("/.")]).await.contains("is the root")
    );
    assert!(refused(&|container| container.args.push("a\0b".into())).await.contains("zero byte"));
    assert!(
        refused(&|container| container.env.push(("A=B".into(), String::new())))
            .await
            .contains("`A=B`")
    );
    Ok(())
}

async fn concurrent_runs(fixture: &Fixture) -> Outcome {
    let containers: Vec<_> = (0..8).map(|index| fixture.shell(&format!("echo {index}"))).collect();
    let said = futures(containers.iter().map(|container| fixture.says(container)).collect()).await;
    assert_eq!(said, (0..8).map(|index| format!("{index}\n")).collect::<Vec<_>>());
    Ok(())
}

/// Polls all at once until all are done.
async fn futures<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if futures.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, result)| result).collect()
}

async fn large_output(fixture: &Fixture) -> Outcome {
    let mut counts = (0_usize, 0_usize);
    let output = |stream, bytes: &[u8]| match stream {
        runtime::Stream::Stdout => counts.0 += bytes.len(),
        runtime::Stream::Stderr => counts.1 += bytes.len(),
    };
    let script = "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2";
    let finished =
        fixture.runtime.run(&fixture.shell(script), output, std::future::pending()).await.unwrap();
    assert!(finished.exit.is_success());
    assert_eq!(counts, (5_000_000, 3_000_000));
    Ok(())
}
