//! The image config and the instructions that change nothing else.

use oci::ImageConfig;
use serde_json::{Map, Value};

use super::Lowerer;
use super::stages::State;
use crate::error::Error;
use crate::go;
use crate::instruction::{CommandLine, Instruction};

pub(super) fn key_value(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

/// The command with its shell, where it needs one.
pub(super) fn with_shell(
    image: &ImageConfig,
    line: &CommandLine,
    words: Vec<String>,
) -> Vec<String> {
    if !line.shell {
        return words;
    }
    let mut shell = match (image.config.shell.is_empty(), image.os.as_str()) {
        (false, _) => image.config.shell.clone(),
        (true, "windows") => ["cmd", "/S", "/C"].map(Into::into).to_vec(),
        (true, _) => ["/bin/sh", "-c"].map(Into::into).to_vec(),
    };
    shell.push(words.join(" "));
    shell
}

impl Lowerer<'_> {
    /// The target's config with what the request says of it.
    pub(super) fn result_config(&self, state: &State<'_>) -> ImageConfig {
        let mut image = state.config.clone();
        image.config.labels.extend(self.request.labels.iter().cloned());
        let wanted = &self.request.platform;
        if self.request.platform_explicit {
            let same = wanted.os == image.os && wanted.architecture == image.architecture;
            image.os.clone_from(&wanted.os);
            image.architecture.clone_from(&wanted.architecture);
            if !wanted.variant.is_empty() || !same {
                image.variant.clone_from(&wanted.variant);
            }
            if !wanted.os_version.is_empty() || !same {
                image.os_version.clone_from(&wanted.os_version);
            }
            if !wanted.os_features.is_empty() {
                image.os_features.clone_from(&wanted.os_features);
            }
        }
        let platform = image.platform().normalize();
        image.os = platform.os;
        image.architecture = platform.architecture;
        image.variant = platform.variant;
        image.created = self.epoch.map(go::rfc3339);
        image
    }

    pub(super) fn dispatch_env(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        pairs: &[(String, String)],
    ) -> Result<(), Error> {
        let mut text = String::from("ENV");
        let pairs = self.expand_pairs(stage, pairs)?;
        self.checks.check_pairs(&instruction.text, self.lex.escape);
        let state = &mut self.states[stage];
        for (name, value) in pairs {
            self.checks.check_secret("ENV", &name);
            let entry = format!("{name}={value}");
            text.push_str(&format!(" {entry}"));
            state.env.set(&name, &value);
            let env = &mut state.config.config.env;
            let is_same = |known: &&mut String| {
                known
                    .strip_prefix(&*name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            match env.iter_mut().find(is_same) {
                Some(known) => *known = entry,
                None => env.push(entry),
            }
        }
        self.record(stage, text, None);
        Ok(())
    }

    pub(super) fn dispatch_label(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        pairs: &[(String, String)],
    ) -> Result<(), Error> {
        let mut text = String::from("LABEL");
        let pairs = self.expand_pairs(stage, pairs)?;
        self.checks.check_pairs(&instruction.text, self.lex.escape);
        for (name, value) in pairs {
            text.push_str(&format!(" {name}={value}"));
            self.states[stage].config.config.labels.insert(name, value);
        }
        self.record(stage, text, None);
        Ok(())
    }

    fn expand_pairs(
        &self,
        stage: usize,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Error> {
        let expand = |text| self.expand(stage, text);
        pairs.iter().map(|(name, value)| Ok((expand(name)?, expand(value)?))).collect()
    }

    pub(super) fn dispatch_cmd(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        line: &CommandLine,
    ) {
        let state = &mut self.states[stage];
        self.checks.check_once(&instruction.keyword, state.cmd_lines);
        if line.shell && state.config.config.shell.is_empty() {
            self.checks.check_exec_form(&instruction.keyword);
        }
        let words = with_shell(&state.config, line, line.words.clone());
        let text = format!("CMD {}", go::quote_list(&words));
        state.config.config.cmd = Some(words).filter(|words| !words.is_empty());
        state.config.config.args_escaped = true;
        state.cmd_lines = Some(instruction.lines);
        self.record(stage, text, None);
    }

    pub(super) fn dispatch_entrypoint(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        line: &CommandLine,
    ) {
        let state = &mut self.states[stage];
        self.checks.check_once(&instruction.keyword, state.entrypoint_lines);
        state.entrypoint_lines = Some(instruction.lines);
        if line.shell && state.config.config.shell.is_empty() {
            self.checks.check_exec_form(&instruction.keyword);
        }
        let words = with_shell(&state.config, line, line.words.clone());
        let text = format!("ENTRYPOINT {}", go::quote_list(&words));
        state.config.config.entrypoint = Some(words).filter(|words| !words.is_empty());
        if state.cmd_lines.is_none() {
            state.config.config.cmd = None;
        }
        self.record(stage, text, None);
    }

    pub(super) fn dispatch_healthcheck(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        check: &oci::Healthcheck,
    ) {
        let state = &mut self.states[stage];
        self.checks.check_once(&instruction.keyword, state.healthcheck_lines);
        state.healthcheck_lines = Some(instruction.lines);
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            go::list(&check.test),
            go::duration(check.interval),
            go::duration(check.timeout),
            go::duration(check.start_period),
            go::duration(check.start_interval),
            check.retries,
        );
        self.states[stage].config.config.healthcheck = Some(check.clone());
        self.record(stage, text, None);
    }

    pub(super) fn dispatch_user(&mut self, stage: usize, user: &str) -> Result<(), Error> {
        let user = self.expand(stage, user)?;
        let state = &mut self.states[stage];
        state.user.clone_from(&user);
        state.config.config.user.clone_from(&user);
        self.record(stage, format!("USER {user}"), None);
        Ok(())
    }

    pub(super) fn dispatch_volume(
        &mut self,
        stage: usize,
        volumes: &[String],
    ) -> Result<(), Error> {
        let expand = |volume: &String| self.expand(stage, volume);
        let volumes = volumes.iter().map(expand).collect::<Result<Vec<_>, _>>()?;
        for volume in &volumes {
            if volume.is_empty() {
                return Err(Error::new("VOLUME specified can not be an empty string")
                    .hint("a variable in it has no value here"));
            }
            let known = &mut self.states[stage].config.config.volumes;
            known.insert(volume.clone(), Value::Object(Map::new()));
        }
        self.record(stage, format!("VOLUME {}", go::list(&volumes)), None);
        Ok(())
    }

    pub(super) fn dispatch_stop_signal(
        &mut self,
        stage: usize,
        written: &str,
    ) -> Result<(), Error> {
        let signal = self.expand(stage, written)?;
        if !is_signal(&signal) {
            return Err(Error::new(format!("invalid signal: {signal}"))
                .word(written)
                .hint("a signal is a number or a name as SIGTERM"));
        }
        self.states[stage].config.config.stop_signal.clone_from(&signal);
        self.record(stage, format!("STOPSIGNAL {signal}"), None);
        Ok(())
    }

    pub(super) fn dispatch_shell(&mut self, stage: usize, shell: &[String]) {
        self.states[stage].config.config.shell = shell.to_vec();
        self.record(stage, format!("SHELL {}", go::list(shell)), None);
    }

    pub(super) fn dispatch_maintainer(&mut self, stage: usize, name: &str) {
        self.states[stage].config.author = name.into();
        self.record(stage, format!("MAINTAINER {name}"), None);
    }
}

const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix, most: u8| {
        name.strip_prefix(prefix)
            .filter(|digits: &&str| !digits.starts_with('0'))
            .and_then(|digits| digits.parse::<u8>().ok())
            .is_some_and(|number| number <= most)
    };
    SIGNALS.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "rtmax-14"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "SIG7", "a b", "RTMIN+16", "RTMIN+0", "SIGFOO"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
