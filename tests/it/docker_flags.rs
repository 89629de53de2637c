//! docker commands read their flags before they do anything: a refused command must print nothing
//! that a script could take for a result.

use fixtures::{Kiln, Run};

use crate::kiln;

/// A docker command, as its help lists it.
struct Command {
    words: Vec<String>,
    operand: Option<&'static str>,
    flags: Vec<Flag>,
}

struct Flag {
    name: String,
    is_switch: bool,
}

impl Flag {
    /// The flag, with a value that most flags accept.
    fn given(&self) -> String {
        match self.is_switch {
            true => format!("--{}", self.name),
            false => format!("--{}=json", self.name),
        }
    }
}

fn run(kiln: &Kiln, command: &Command, more: &[String]) -> Run {
    let mut line = vec!["docker".to_owned()];
    line.extend(command.words.iter().cloned());
    line.extend(more.iter().cloned());
    line.extend(command.operand.map(str::to_owned));
    kiln.run_with_input(line, b"")
}

/// All supported commands with their flags.
fn commands(kiln: &Kiln) -> Vec<Command> {
    let help = kiln.run(["docker", "--help"]).expect_ok().stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let mut commands = Vec::new();
    for line in lines {
        let (words, about) = line.trim().split_once("  ").unwrap();
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        // kiln's own commands parse all of their flags at once.
        let is_own = about.trim().starts_with("as `kiln") || words == ["buildx", "bake"];
        let mut command = Command { words, operand: None, flags: Vec::new() };
        if !is_own {
            let help = run(kiln, &command, &["--help".into()]).expect_ok().stdout;
            let usage = help.lines().find(|line| line.starts_with("Usage:")).unwrap();
            // The address of the operand below has no listener.
            let takes = usage
                .rsplit(' ')
                .next()
                .is_some_and(|word| word.contains("..") || word == word.to_uppercase());
            command.operand = takes.then_some("127.0.0.1:1/x");
            for name in help.lines().filter_map(|line| line.trim().split_once("--")) {
                let name = name.1.split(' ').next().unwrap().to_owned();
                let refused = run(kiln, &command, &[format!("--{name}=perhaps")]);
                let is_switch = refused.stderr.contains("neither true nor false");
                command.flags.push(Flag { name, is_switch });
            }
        }
        commands.push(command);
    }
    commands
}

#[track_caller]
fn says_nothing_if_refused(run: &Run, command: &Command, more: &[String]) {
    let line = format!("docker {} {}", command.words.join(" "), more.join(" "));
    // docker prints the list of what was found, and then what was not.
    let is_empty_list = command.words.ends_with(&["inspect".to_owned()]) && run.stdout == "[]\n";
    assert!(
        run.ok() || run.stdout.is_empty() || is_empty_list,
        "`{line}` printed, then failed:\n{}{}",
        run.stdout,
        run.stderr
    );
    assert!(!run.stderr.contains("has no meaning here"), "`{line}`: {}", run.stderr);
}

#[test]
fn docker_reads_its_flags_first() {
    let kiln = kiln();
    let commands = commands(&kiln);
    assert!(commands.len() > 30, "the help has only {} commands", commands.len());
    assert!(commands.iter().map(|command| command.flags.len()).sum::<usize>() > 60);
    for command in &commands {
        let unknown = run(&kiln, command, &["--frob".into()]);
        assert_eq!(unknown.code, Some(125), "{:?}: {}", command.words, unknown.stderr);
        assert!(unknown.stdout.is_empty() && unknown.stderr.contains("unknown flag: --frob"));
        for (at, flag) in command.flags.iter().enumerate() {
            let wrong = match flag.is_switch {
                true => format!("--{}=perhaps", flag.name),
                false => format!("--{}={{{{.Nope", flag.name),
            };
            for more in [vec![wrong], vec![flag.given()]] {
                says_nothing_if_refused(&run(&kiln, command, &more), command, &more);
            }
            for other in &command.flags[at + 1..] {
                let more = [flag.given(), other.given()];
                says_nothing_if_refused(&run(&kiln, command, &more), command, &more);
            }
        }
    }
}
