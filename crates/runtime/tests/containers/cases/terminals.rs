//! Commands with a terminal.

use runtime::{Error, Exit, RunningContainer, Streams, TerminalSize};
use tokio::io::AsyncWriteExt;

use super::Outcome;
use super::joined::shell;
use super::started::{Ground, SILENT, all, in_both, lines_until};

in_both! {
    a_terminal_has_a_size
    a_terminal_passes_what_is_typed
    another_command_has_a_terminal
}

const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 25 };
const TERMINAL: Streams = Streams::Terminal { size: SIZE };

/// The output of a terminal with the line ends of a file.
async fn printed(running: &mut RunningContainer) -> String {
    all(&mut running.output).await.replace("\r\n", "\n")
}

/// Tells about the terminal of a command.
const FACTS: &str = "test -t 0 && test -t 1 && test -t 2 && echo all
    tty | sed 's/[0-9]*$//'; test $(tty) = $(readlink /proc/self/fd/0) && echo same
    stty size; echo there >/dev/tty; ps >/dev/null; echo err >&2";
const TOLD: &str = "all\n/dev/pts/\nsame\n25 80\nthere\nerr\n";

async fn a_terminal_has_a_size(ground: &Ground<'_>) -> Outcome {
    let mut running = ground.start(FACTS, TERMINAL).await;
    assert_eq!(printed(&mut running).await, TOLD);
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(0));

    let script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut running = ground.start(script, TERMINAL).await;
    lines_until(&mut running.output, "ready").await;
    running.process.resize(TerminalSize { columns: 100, rows: 40 }).unwrap();
    assert_eq!(printed(&mut running).await, "40 100\n");
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(5));

    if !ground.is_folder() {
        let mut running = ground.start("echo on the console >/dev/console", TERMINAL).await;
        assert_eq!(printed(&mut running).await, "on the console\n");
    }
    if !ground.fixture().single {
        let mut container = ground.shell(FACTS);
        container.user = Some("ann".into());
        let mut running = ground.runtime().start_container(container, TERMINAL).await.unwrap();
        assert_eq!(printed(&mut running).await, TOLD);
        running.process.wait().await.unwrap();
    }
    let running = ground.start("true", SILENT).await;
    assert!(matches!(running.process.resize(SIZE), Err(Error::Refused(_))));
    Ok(())
}

async fn a_terminal_passes_what_is_typed(ground: &Ground<'_>) -> Outcome {
    let script = "stty -echo; echo ready; read line; echo got $line
                  trap 'echo interrupted; exit 4' INT; echo set; while :; do sleep 0.02; done";
    let mut running = ground.start(script, TERMINAL).await;
    let mut stdin = running.stdin.take().unwrap();
    lines_until(&mut running.output, "ready").await;
    stdin.write_all(b"a line\n").await.unwrap();
    let said = lines_until(&mut running.output, "set").await;
    assert_eq!(said, "got a line\r\nset\r\n");
    // Ctrl-C.
    stdin.write_all(&[3]).await.unwrap();
    assert_eq!(printed(&mut running).await, "interrupted\n");
    assert_eq!(running.process.wait().await.unwrap().exit, Exit::Code(4));

    // Many bytes, as they are.
    let mut running = ground.start("stty raw; head -c 200000 /dev/zero", TERMINAL).await;
    assert_eq!(all(&mut running.output).await.len(), 200_000);
    Ok(())
}

async fn another_command_has_a_terminal(ground: &Ground<'_>) -> Outcome {
    let container = ground.shell("echo ready; exec sleep 1000");
    let running = ground.ready(container, SILENT).await;
    let mut command = running.process.exec(shell(FACTS), TERMINAL).await.unwrap();
    assert_eq!(printed(&mut command).await, TOLD);
    let script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut command = running.process.exec(shell(script), TERMINAL).await.unwrap();
    lines_until(&mut command.output, "ready").await;
    command.process.resize(TerminalSize { columns: 7, rows: 3 }).unwrap();
    assert_eq!(printed(&mut command).await, "3 7\n");
    assert_eq!(command.process.wait().await.unwrap().exit, Exit::Code(5));
    // The container goes on without a terminal.
    assert!(matches!(running.process.resize(SIZE), Err(Error::Refused(_))));
    Ok(())
}
