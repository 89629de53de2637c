//! The process: its start, its user, its privileges, and its end.

use std::fs;

use runtime::{Container, Error, Exit, Mount, MountKind, Network, Security, Stream, Ulimit};

use super::Outcome;
use crate::fixture::{Fixture, PATH};

pub async fn exit_codes_and_signals(fixture: &Fixture) -> Outcome {
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
    // Signals that PID 1 sends to itself are ignored.
    let ran = fixture.run(&fixture.shell("kill -9 $$; echo $$")).await.unwrap();
    assert_eq!(ran.stdout, "1\n");
    Ok(())
}

pub async fn streams_apart(fixture: &Fixture) -> Outcome {
    let ran = fixture.run(&fixture.shell("echo out; echo err >&2; cat | wc -c")).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n0\n", "err\n"));
    Ok(())
}

pub async fn environment_and_identity(fixture: &Fixture) -> Outcome {
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
    // Descriptors: three, and the one of `ls` itself.
    assert_eq!(
        said,
        format!("uid=0(root) gid=0(root){groups}\n/\n0022\nbuildkitsandbox\nnotty\n4\n")
    );
    Ok(())
}

pub async fn users_and_groups(fixture: &Fixture) -> Outcome {
    if fixture.single {
        return Err("there is no other user than root".into());
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

pub async fn a_user_may_open_its_output(fixture: &Fixture) -> Outcome {
    if fixture.single {
        return Err("there is no other user than root".into());
    }
    let mut container = fixture.shell("echo o >/dev/stdout; echo e >/dev/stderr");
    container.user = Some("ann".into());
    let ran = fixture.run(&container).await.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("o\n", "e\n"));
    Ok(())
}

pub async fn unknown_users(fixture: &Fixture) -> Outcome {
    let run = async |user: &str| {
        let mut container = fixture.shell("true");
        container.user = Some(user.into());
        fixture.run(&container).await.unwrap_err()
    };
    assert!(matches!(run("whoever").await, Error::NoSuchUser { user } if user == "whoever"));
    assert!(matches!(run("0:whatever").await, Error::NoSuchGroup { group } if group == "whatever"));
    Ok(())
}

pub async fn programs_that_cannot_run(fixture: &Fixture) -> Outcome {
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

pub async fn hosts_and_resolver(fixture: &Fixture) -> Outcome {
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

pub async fn working_directory(fixture: &Fixture) -> Outcome {
    let layer = fixture.layer();
    let mut container = fixture.on(&layer, &["/bin/sh", "-c", "pwd"]);
    container.cwd = "/gone/there".into();
    assert_eq!(fixture.says(&container).await, "/gone/there\n");
    assert!(layer.upper.join("gone/there").is_dir(), "a made working directory is a change");

    // Below a mount, which hides the root's folder.
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

pub async fn no_network(fixture: &Fixture) -> Outcome {
    let script = "tail -n +2 /proc/net/route | wc -l; ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo lo";
    let mut container = fixture.shell(script);
    container.network = Network::None;
    let said = fixture.says(&container).await;
    assert!(said.starts_with("0\n") && said.ends_with("lo\nlo\n"), "{said}");
    Ok(())
}

pub async fn limits(fixture: &Fixture) -> Outcome {
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

pub async fn capabilities(fixture: &Fixture) -> Outcome {
    let script = "grep -E 'Cap|NoNewPrivs' /proc/self/status | awk '{print $2}' | tr '\\n' ' '";
    let sandbox = "00000000a80425fb";
    let none = "0000000000000000";
    // kiln does not set it, and it cannot be unset: a container has the value of this process.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("NoNewPrivs:")).unwrap().trim();
    let said = fixture.says(&fixture.shell(script)).await;
    assert_eq!(said, format!("{none} {sandbox} {sandbox} {sandbox} {none} {own} "));
    if !fixture.single {
        let mut container = fixture.shell(script);
        container.user = Some("ann".into());
        assert_eq!(
            fixture.says(&container).await,
            format!("{none} {none} {none} {sandbox} {none} {own} ")
        );
    }
    Ok(())
}

pub async fn filtered_calls(fixture: &Fixture) -> Outcome {
    // `NoNewPrivs` is not set, so that set-user-ID programs work.
    let script = "grep Seccomp: /proc/self/status | awk '{print $2}'
        unshare -U true 2>/dev/null || echo refused; mount -t tmpfs none /tmp 2>/dev/null || echo refused";
    assert_eq!(fixture.says(&fixture.shell(script)).await, "2\nrefused\nrefused\n");
    let mut container = fixture.shell("grep Seccomp: /proc/self/status | awk '{print $2}'");
    container.security = Security::Insecure;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).unwrap().trim();
    assert_eq!(fixture.says(&container).await, format!("{own}\n"));
    Ok(())
}

pub async fn insecure(fixture: &Fixture) -> Outcome {
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

pub async fn refusals(fixture: &Fixture) -> Outcome {
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

pub async fn large_output(fixture: &Fixture) -> Outcome {
    let mut counts = (0_usize, 0_usize);
    let output = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => counts.0 += bytes.len(),
        Stream::Stderr => counts.1 += bytes.len(),
    };
    let script = "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2";
    let finished =
        fixture.runtime.run(&fixture.shell(script), output, std::future::pending()).await.unwrap();
    assert!(finished.exit.is_success());
    assert_eq!(counts, (5_000_000, 3_000_000));
    Ok(())
}
