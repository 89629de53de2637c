//! Further commands in a container that runs.

use std::path::PathBuf;

use runtime::{
    ContainerProcess, Error, ExecCommand, Exit, Mount, MountKind, Network, RunningContainer,
    Security, Streams, Ulimit,
};
use tokio::io::AsyncWriteExt;

use super::Outcome;
use super::lifetime::{Alive, futures, kill_a_holder};
use super::started::{Ground, SILENT, TALKING, all, in_both, lines_until};
use crate::fixture::{Fixture, PATH};

in_both! {
    another_command_sees_the_container
    another_command_has_streams_and_an_end
    another_command_that_cannot_run
    another_command_ends_with_the_container
    a_dropped_command_ends_alone
    what_is_left_in_the_background_holds_no_output
    many_commands_at_once
    a_working_folder_is_inside_the_root
    kilns_program_is_not_to_be_had
}

/// A shell's command.
pub fn shell(script: &str) -> ExecCommand {
    ExecCommand {
        args: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        env: vec![("PATH".into(), PATH.into()), ("GIVEN".into(), "value".into())],
        cwd: "/".into(),
        user: None,
    }
}

async fn exec(process: &ContainerProcess, script: &str, streams: Streams) -> RunningContainer {
    process.exec(shell(script), streams).await.unwrap()
}

/// The output of a command that must succeed.
pub async fn says(process: &ContainerProcess, script: &str) -> String {
    says_as(process, shell(script)).await
}

async fn says_as(process: &ContainerProcess, command: ExecCommand) -> String {
    let mut running = process.exec(command, SILENT).await.unwrap();
    let said = all(&mut running.output).await;
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(0), "{said}");
    said
}

/// Checks that the container's own command, `sleep`, runs.
pub async fn is_asleep(process: &ContainerProcess) {
    let script = "until grep -q sleep /proc/1/comm; do sleep 0.01; done; echo asleep";
    assert_eq!(says(process, script).await, "asleep\n");
}

/// A container that does nothing for long.
async fn idle(ground: &Ground<'_>) -> RunningContainer {
    ground.ready(ground.shell("echo ready; exec sleep 1000"), SILENT).await
}

async fn another_command_sees_the_container(ground: &Ground<'_>) -> Outcome {
    let script = "echo kept >/m/file; echo own >/etc/own; echo ready; exec sleep 1000";
    let mut container = ground.shell(script);
    container.hostname = "box".into();
    let kind = MountKind::Tmpfs { size: None, readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    container.ulimits.push(Ulimit { name: "nofile".into(), soft: 123, hard: 456 });
    let running = ground.ready(container, SILENT).await;
    let mut command = shell(
        "cat /m/file /etc/own; hostname; id -u; pwd; umask; ulimit -n; ulimit -Hn
         echo $GIVEN $HOME; test -e /proc/self/fd/3 || echo alone; test -t 0 || echo plain",
    );
    command.cwd = "/etc".into();
    let expected =
        ["kept", "own", "box", "0", "/etc", "0022", "123", "456", "value /root", "alone", "plain"];
    let said = says_as(&running.process, command.clone()).await;
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    if !ground.fixture().single {
        command.args[2] = "id -u; id -g; echo $HOME; echo x >/dev/stdout".into();
        command.user = Some("ann".into());
        assert_eq!(says_as(&running.process, command).await, "500\n600\n/home/ann\nx\n");
    }
    is_asleep(&running.process).await;
    // Its files are the container's.
    says(&running.process, "echo new >/etc/new").await;
    assert_eq!(says(&running.process, "cat /etc/new").await, "new\n");
    running.process.kill();
    running.process.wait().await.unwrap();
    let error = running.process.exec(shell("true"), SILENT).await.err().unwrap();
    assert!(matches!(error, Error::ContainerEnded), "{error:?}");
    Ok(())
}

async fn another_command_has_streams_and_an_end(ground: &Ground<'_>) -> Outcome {
    let running = idle(ground).await;
    let mut command = exec(&running.process, "cat; echo end >&2; exit 9", TALKING).await;
    let mut stdin = command.stdin.take().unwrap();
    stdin.write_all(b"one\n").await.unwrap();
    assert_eq!(lines_until(&mut command.output, "one").await, "one\n");
    drop(stdin);
    assert_eq!(all(&mut command.output).await, "end\n");
    assert_eq!(command.process.wait().await.unwrap().exit, Exit::Code(9));
    assert!(matches!(command.process.signal(15).await, Err(Error::ContainerEnded)));

    // It is no first process, so signals have their usual meaning.
    let mut command = exec(&running.process, "echo up; exec sleep 1000", SILENT).await;
    lines_until(&mut command.output, "up").await;
    command.process.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(command.process.wait().await.unwrap().exit, Exit::Signal(libc::SIGTERM));

    let command = exec(&running.process, "exec sleep 1000", SILENT).await;
    assert!(running.process.processes().contains(&command.process.pid()));
    command.process.kill();
    assert_eq!(command.process.wait().await.unwrap().exit, Exit::Signal(libc::SIGKILL));
    is_asleep(&running.process).await;
    Ok(())
}

async fn another_command_that_cannot_run(ground: &Ground<'_>) -> Outcome {
    let running = idle(ground).await;
    let fails = async |change: &dyn Fn(&mut ExecCommand)| {
        let mut command = shell("true");
        change(&mut command);
        running.process.exec(command, TALKING).await.err().unwrap()
    };
    let error = fails(&|command| command.args = vec!["no-such".into()]).await;
    assert!(matches!(error, Error::ProgramNotFound { .. }), "{error:?}");
    let error = fails(&|command| command.user = Some("whoever".into())).await;
    assert!(matches!(error, Error::NoSuchUser { .. }), "{error:?}");
    let error = fails(&|command| command.cwd = "/no/such".into()).await;
    assert!(matches!(&error, Error::Setup { step, .. } if step.contains("/no/such")), "{error:?}");
    let error = fails(&|command| command.cwd = "relative".into()).await;
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(says(&running.process, "test -e /no || echo none").await, "none\n");
    Ok(())
}

async fn another_command_ends_with_the_container(ground: &Ground<'_>) -> Outcome {
    for kills in [true, false] {
        let alive = Alive::new(ground.fixture());
        let mut container = ground.shell("echo ready; read line");
        container.mounts.push(alive.mount());
        let mut running = ground.ready(container, TALKING).await;
        let script = "trap '' TERM; exec 3>/m/line; echo up; while :; do sleep 1; done";
        let mut command = exec(&running.process, script, SILENT).await;
        lines_until(&mut command.output, "up").await;
        if kills {
            running.process.kill();
        } else {
            drop(running.stdin.take());
        }
        running.process.wait().await.unwrap();
        assert!(alive.is_over(), "nothing is left of it");
        let finished = command.process.wait().await.unwrap();
        assert_eq!(finished.exit, Exit::Signal(libc::SIGKILL));
        assert_eq!(all(&mut command.output).await, "");
    }
    Ok(())
}

async fn a_dropped_command_ends_alone(ground: &Ground<'_>) -> Outcome {
    let alive = Alive::new(ground.fixture());
    let mut container = ground.shell("echo ready; exec sleep 1000");
    container.mounts.push(alive.mount());
    let running = ground.ready(container, SILENT).await;
    let mut command =
        exec(&running.process, "exec 3>/m/line; echo up; exec sleep 1000", SILENT).await;
    lines_until(&mut command.output, "up").await;
    drop(command);
    alive.ended().await;
    is_asleep(&running.process).await;
    Ok(())
}

async fn what_is_left_in_the_background_holds_no_output(ground: &Ground<'_>) -> Outcome {
    let running = idle(ground).await;
    assert_eq!(says(&running.process, "sleep 1000 & echo said").await, "said\n");
    // It goes on in the container.
    let script = "until test $(grep -l '^sleep' /proc/[0-9]*/comm | wc -l) = 2; do sleep 0.01; done
                  echo both";
    assert_eq!(says(&running.process, script).await, "both\n");
    Ok(())
}

async fn many_commands_at_once(ground: &Ground<'_>) -> Outcome {
    let running = idle(ground).await;
    let scripts: Vec<_> =
        (0..12).map(|number| format!("sleep 0.0{number}; echo {number}")).collect();
    let process = &running.process;
    let said = futures(scripts.iter().map(|script| says(process, script)).collect()).await;
    assert_eq!(said, (0..12).map(|number| format!("{number}\n")).collect::<Vec<_>>());
    assert_eq!(running.process.processes().len(), 1, "all are reaped");
    Ok(())
}

/// Descriptors that kiln has open when it enters a working folder are no way out of the container.
async fn a_working_folder_is_inside_the_root(ground: &Ground<'_>) -> Outcome {
    let script = "ln -s /proc/self/fd /fds; ln -s /etc /folder; echo ready; exec sleep 1000";
    let running = ground.ready(ground.shell(script), SILENT).await;
    for number in 3..24 {
        for folder in ["/proc/self/fd", "/fds", "/proc/thread-self/fd"] {
            let mut command = shell("pwd");
            command.cwd = format!("{folder}/{number}");
            let result = running.process.exec(command, SILENT).await;
            assert!(result.is_err(), "{folder}/{number}");
        }
    }
    let mut command = shell("pwd -P");
    command.cwd = "/folder".into();
    assert_eq!(says_as(&running.process, command).await, "/etc\n");
    Ok(())
}

pub async fn another_command_has_the_same_rights(fixture: &Fixture) -> Outcome {
    let facts = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status
                 for name in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$name; done
                 tail -n +2 /proc/net/route | wc -l; cat /proc/self/cgroup
                 unshare -U true 2>/dev/null || echo refused
                 mount -t tmpfs none /tmp 2>/dev/null || echo refused";
    for (security, network) in
        [(Security::Sandbox, Network::None), (Security::Insecure, Network::Host)]
    {
        let ground = Ground::Namespaces(fixture);
        let facts = match security {
            Security::Sandbox => facts,
            Security::Insecure => &facts[..facts.find("unshare").unwrap()],
        };
        let mut container = ground.shell(&format!("{facts}\necho ready; exec sleep 1000"));
        container.security = security;
        container.network = network;
        let runtime = ground.runtime();
        let mut running = runtime.start_container(container, SILENT).await.unwrap();
        let own = lines_until(&mut running.output, "ready").await;
        let said = says(&running.process, facts).await;
        assert_eq!(own, format!("{said}ready\n"));
    }
    Ok(())
}

/// The root of a container is that of its namespace, whatever its first process calls its root.
pub async fn a_moved_root_is_not_the_containers(fixture: &Fixture) -> Outcome {
    let ground = Ground::Namespaces(fixture);
    let script =
        "mkdir -p /jail/bin; cp /bin/busybox /jail/bin; echo jailed >/jail/file; echo out >/file
                  exec chroot /jail /bin/busybox sh -c 'echo ready; exec /bin/busybox sleep 1000'";
    let running = ground.ready(ground.shell(script), SILENT).await;
    assert_eq!(says(&running.process, "cat /file").await, "out\n");
    let mut text = String::new();
    let mut file = running.process.root().await.unwrap().read("/file").unwrap();
    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
    assert_eq!(text, "out\n");
    Ok(())
}

/// A container that may mount puts its own files in the place of `/proc`.
pub async fn a_replaced_proc_deceives_nobody(fixture: &Fixture) -> Outcome {
    let ground = Ground::Namespaces(fixture);
    let script = "echo 'ann:x:0:0::/:/bin/sh' >/fake
        mount -t tmpfs none /proc && mkdir -p /proc/self/fd /proc/thread-self /proc/1
        for number in $(seq 0 40); do ln -s /fake /proc/self/fd/$number; done
        ln -s / /proc/1/root; ln -s / /proc/self/ns; echo ready; exec sleep 1000";
    let mut container = ground.shell(script);
    container.security = Security::Insecure;
    let running = ground.ready(container, SILENT).await;
    let mut command = shell("id -u; cat /fake | wc -l");
    assert_eq!(says_as(&running.process, command.clone()).await, "0\n1\n");
    if !fixture.single {
        command.user = Some("ann".into());
        assert_eq!(says_as(&running.process, command).await, "500\n1\n");
    }
    assert!(running.process.root().await.unwrap().read("/fake").is_ok());
    Ok(())
}

/// Processes of a container look for the program and the files of kiln's process that joins them.
async fn kilns_program_is_not_to_be_had(ground: &Ground<'_>) -> Outcome {
    let script = "own=$(stat -c %i /)
    echo ready; while :; do
        for process in /proc/[0-9]*; do
            case $(readlink $process/exe) in
                /bin/busybox | '') ;;
                *) echo $process $(readlink $process/exe) >>/found ;;
            esac
            case $(stat -L -c %i $process/root) in
                $own | '') ;;
                *) echo $process has another root >>/found ;;
            esac
            if ls -l $process/fd | grep -q -e ' /home' -e ' /tmp/' -e '-> /$'; then
                echo $process has a file >>/found
            fi
        done
    done 2>/dev/null";
    for init in [false, true] {
        let mut container = ground.shell(script);
        container.init = init;
        let running = ground.ready(container, SILENT).await;
        for _ in 0..25 {
            says(&running.process, "true").await;
            running.process.root().await.unwrap();
        }
        let found = says(&running.process, "cat /found 2>/dev/null || echo nothing").await;
        assert_eq!(found, "nothing\n", "init: {init}");
        running.process.kill();
        running.process.wait().await.unwrap();
    }
    Ok(())
}

/// Starts the container of the next case, and a command in it.
pub async fn hold(fixture: &Fixture, folder: PathBuf) {
    let script = "trap '' TERM HUP; exec 3>/m/line; echo up >&3; sleep 1000 & sleep 1000";
    let mut container = fixture.shell(script);
    let kind = MountKind::Bind { source: folder, subpath: String::new(), readonly: false };
    container.mounts.push(Mount { target: "/m".into(), kind });
    let running = fixture.runtime.start_container(container, SILENT).await.unwrap();
    let script = "trap '' TERM HUP; exec 3>/m/line; echo joined >&3; sleep 1000 & sleep 1000";
    let command = running.process.exec(shell(script), SILENT).await.unwrap();
    command.process.wait().await.unwrap();
}

pub async fn a_killed_kiln_takes_joined_commands_along(fixture: &Fixture) -> Outcome {
    kill_a_holder(fixture, crate::HOLD_STARTED, &["joined", "up"])
}
