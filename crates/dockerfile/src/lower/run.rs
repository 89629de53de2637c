//! RUN.

use graph::{Network, Operation, RunOp, Security, StepId};

use super::Lowerer;
use super::args::run_text;
use super::config::with_shell;
use super::mounts::Mounts;
use super::names::{heredoc_summary, instruction_text};
use super::stages::{StageInstruction, display_lex};
use super::steps::StepRequest;
use crate::error::Error;
use crate::expand::{Env, Variables};
use crate::heredoc;
use crate::instruction::RunInstruction;
use crate::path;

/// The command of a RUN after its here-documents.
struct LoweredCommand {
    words: Vec<String>,
    /// A here-document with its own interpreter, mounted as a file.
    script: Option<StepId>,
    /// An addition to the display name.
    summary: String,
}

impl Lowerer<'_> {
    pub(super) fn dispatch_run(
        &mut self,
        stage: usize,
        command: &StageInstruction<'_>,
        run: &RunInstruction,
    ) -> Result<(), Error> {
        let prepared = self.prepare(stage, run)?;
        let words = with_shell(&self.states[stage].config, &run.command, prepared.words);
        if words.is_empty() {
            return Err(Error::new("RUN requires a command: arguments are required")
                .word("[]")
                .hint("name a program, as in RUN [\"make\"]"));
        }
        self.note_stage_path(stage, "/");
        let network = self.network(run.network)?;
        self.check_security(run.security)?;

        let mut mounts = Mounts::new(self.states[stage].output);
        if let Some(script) = prepared.script {
            mounts.script(script);
        }
        let secret_env = self.add_mounts(stage, command, run, &mut mounts)?;
        let size = self.request.shm_size;
        if size > 0 {
            mounts.shared_memory(size);
        }

        let env = self.states[stage].env.clone();
        let platform = self.platform_of(stage);
        let mut shown = Masked { env: &env, masked: Vec::new() };
        shown.masked.extend(secret_env.iter().map(|secret| secret.name.as_str()));
        let text = format!("{}{}", command.instruction.text, prepared.summary);
        let text = instruction_text(&display_lex(&self.lex), &text, &shown);
        let name = self.step_name(stage, &text, command.onbuild);

        let mut run_env = env.to_vec();
        if let Some(socket) = mounts.first_agent()
            && env.get("SSH_AUTH_SOCK").is_none()
        {
            run_env.push(("SSH_AUTH_SOCK".into(), socket));
        }
        let (mounts, inputs) = mounts.finish();
        let operation = RunOp {
            args: words.clone(),
            env: run_env,
            cwd: self.states[stage].cwd.clone(),
            user: self.states[stage].user.clone(),
            hostname: self.hostname(),
            extra_hosts: self.request.extra_hosts.clone(),
            ulimits: self.request.ulimits.clone(),
            cgroup_parent: self.request.cgroup_parent.clone(),
            network,
            security: run.security,
            secret_env,
            mounts,
            proxy: self.proxy(),
        };
        let asked = StepRequest {
            platform,
            name,
            lines: Some(command.instruction.lines),
            ignore_cache: self.states[stage].ignore_cache,
        };
        let step = self.add(Operation::Run(Box::new(operation)), inputs, asked);
        self.states[stage].output = Some(step);
        let history = run_text(&self.states[stage], &env, &words);
        self.record(stage, format!("RUN {history} # buildkit"), Some(step));
        Ok(())
    }

    /// Here-documents: one alone is the script, others are the shell's to read.
    fn prepare(&mut self, stage: usize, run: &RunInstruction) -> Result<LoweredCommand, Error> {
        let words = run.command.words.clone();
        let plain = |words| LoweredCommand { words, script: None, summary: String::new() };
        let (Some(first), [line]) = (run.heredocs.first(), &words[..]) else {
            return Ok(plain(words));
        };
        if heredoc::from_word(line).ok().flatten().is_none() {
            let mut text = line.clone();
            for heredoc in &run.heredocs {
                text.push('\n');
                text.push_str(&heredoc.content);
                text.push_str(&heredoc.name);
            }
            return Ok(plain(vec![text]));
        }
        let content = first.text();
        let summary = format!(" ({})", heredoc_summary(&first.content));
        if self.states[stage].config.os == "windows" || !content.starts_with("#!") {
            return Ok(LoweredCommand { words: vec![content], script: None, summary });
        }
        let platform = self.platform_of(stage);
        let script = self.inline_file(&first.name, &content, 0o755, &platform);
        let words = vec![path::join(super::mounts::SCRIPTS, &first.name)];
        Ok(LoweredCommand { words, script: Some(script), summary })
    }

    fn network(&self, asked: Network) -> Result<Network, Error> {
        let network = match asked {
            Network::Default => self.request.network,
            asked => asked,
        };
        if network == Network::Host && !self.request.allow_network_host {
            return Err(Error::new("network.host is not allowed")
                .word("--network=host")
                .hint("grant it with --allow network.host"));
        }
        Ok(network)
    }

    fn check_security(&self, asked: Security) -> Result<(), Error> {
        match asked == Security::Insecure && !self.request.allow_security_insecure {
            true => Err(Error::new("security.insecure is not allowed")
                .word("--security=insecure")
                .hint("grant it with --allow security.insecure")),
            false => Ok(()),
        }
    }

    fn hostname(&mut self) -> String {
        let given = self.behavioural("BUILDKIT_SANDBOX_HOSTNAME");
        given.filter(|name| !name.is_empty()).unwrap_or_else(|| self.request.hostname.clone())
    }
}

/// Variables as they are shown: those that hold secrets are hidden.
struct Masked<'e> {
    env: &'e Env,
    masked: Vec<&'e str>,
}

impl Variables for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match self.masked.contains(&name) {
            true => Some("****"),
            false => self.env.get(name),
        }
    }
}
