//! Build arguments: defaults, global ones, those of stages.

use std::collections::HashMap;

use graph::ProxyEnv;

use super::Lowerer;
use super::stages::State;
use crate::check::{Argument, check_defaults};
use crate::error::Error;
use crate::expand::{Env, Lex, Variables};
use crate::instruction::{Instruction, InstructionKind};

/// Arguments that never become environment.
pub(super) const NO_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Arguments that BuildKit's frontends and clients read themselves.
const BEHAVIOURAL: [&str; 9] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_INLINE_BUILDINFO_ATTRS",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_DOCKERFILE_CHECK",
    "SOURCE_DATE_EPOCH",
];

impl Lowerer<'_> {
    /// A text with the stage's variables resolved.
    pub(super) fn expand(&self, stage: usize, text: &str) -> Result<String, Error> {
        self.expand_with(&self.lex, stage, text)
    }

    pub(super) fn expand_with(&self, lex: &Lex, stage: usize, text: &str) -> Result<String, Error> {
        let state = &self.states[stage];
        let mut word = lex.resolve(text, &state.env)?;
        // A variable that ARG declares without a value is not a mistake.
        let declared = |name: &String| {
            NO_ENV.contains(&name.as_str()) || state.args.iter().any(|(known, _)| known == name)
        };
        word.unset.retain(|name| !declared(name));
        self.checks.check_unset(&word.unset, state.env.iter().map(|(name, _)| name));
        Ok(word.text)
    }

    /// Platform arguments and those in front of the first FROM.
    pub(super) fn define_global_args(&mut self) -> Result<(), Error> {
        let mut global = self.automatic_args();
        check_defaults(self.file, &self.lex, &global, &self.checks);
        for instruction in &self.file.global_args {
            let InstructionKind::Arg(arguments) = &instruction.kind else { continue };
            for (name, default) in arguments {
                let mut reads = Vec::new();
                let value = match (self.build_args.get(name), default) {
                    (Some(given), _) => {
                        self.used_args.insert(name.clone());
                        Some(given.clone())
                    }
                    (None, Some(default)) => {
                        let word = self.lex.resolve(default, &global);
                        let word = word.map_err(|error| error.at(instruction.lines))?;
                        reads = word.set;
                        Some(word.text)
                    }
                    (None, None) => None,
                };
                self.global_arguments.declare(argument(instruction, name, value.as_deref()), reads);
                if let Some(value) = value {
                    global.set(name, &value);
                }
            }
        }
        let used = self.build_args.keys().filter(|name| {
            BEHAVIOURAL.contains(&name.as_str())
                || name.starts_with("BUILDKIT_ATTEST_")
                || proxy_field(&mut ProxyEnv::default(), name).is_some()
        });
        self.used_args.extend(used.cloned());
        self.global = global;
        Ok(())
    }

    fn automatic_args(&mut self) -> Env {
        let (build, target) = (&self.request.build_platform, &self.request.platform);
        let last = self.file.stages.last().and_then(|stage| stage.name.as_deref());
        let stage = self.request.target.as_deref().filter(|name| !name.is_empty()).or(last);
        let values = [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", build.os_version.clone()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", target.os_version.clone()),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage.unwrap_or("default").to_owned()),
        ];
        let mut env = Env::default();
        for (name, value) in values {
            let given = self.build_args.get(name);
            if given.is_some() {
                self.used_args.insert(name.into());
            }
            env.set(name, given.unwrap_or(&value));
        }
        env
    }

    /// `SOURCE_DATE_EPOCH`, from a build argument or a global ARG's default.
    pub(super) fn read_epoch(&mut self) -> Result<(), Error> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let given = self.build_args.get(NAME).cloned();
        let value = given
            .or_else(|| self.global.get(NAME).filter(|value| !value.is_empty()).map(Into::into));
        match value.as_deref() {
            None => {}
            Some("") => {
                self.build_args.remove(NAME);
                self.global.remove(NAME);
            }
            Some(value) => {
                let seconds = value.parse().map_err(|_| {
                    Error::new(format!("invalid SOURCE_DATE_EPOCH: {value}"))
                        .hint("it is a number of seconds since 1970; contexts and stages cannot stand for it")
                })?;
                self.epoch = Some(seconds);
            }
        }
        Ok(())
    }

    /// ARG in a stage.
    pub(super) fn dispatch_arg(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        arguments: &[(String, Option<String>)],
    ) -> Result<(), Error> {
        let mut texts = Vec::new();
        for (name, default) in arguments {
            self.checks.check_secret("ARG", name);
            let mut is_own = true;
            let value = match (self.build_args.get(name), default) {
                (Some(given), _) => {
                    self.used_args.insert(name.clone());
                    Some(given.clone())
                }
                (None, Some(default)) => Some(self.expand(stage, default)?),
                (None, None) => {
                    let global = self.global.get(name);
                    is_own = global.is_none();
                    global.map(Into::into)
                }
            };
            let state = &mut self.states[stage];
            if is_own {
                state.notes.declare(argument(instruction, name, value.as_deref()), Vec::new());
            }
            state.notes.used.insert(name.clone());
            if let Some(value) = &value
                && !NO_ENV.contains(&name.as_str())
            {
                state.env.set(name, value);
            }
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            match state.args.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = value,
                None => state.args.push((name.clone(), value)),
            }
        }
        self.record(stage, format!("ARG {}", texts.join(" ")), None);
        Ok(())
    }

    /// Proxy settings among the build arguments, whatever the case of their names.
    pub(super) fn proxy(&self) -> ProxyEnv {
        let mut proxy = ProxyEnv::default();
        for (name, value) in &self.build_args {
            if let Some(field) = proxy_field(&mut proxy, name) {
                field.clone_from(value);
            }
        }
        proxy
    }
}

/// An argument as outlines show it.
fn argument(instruction: &Instruction, name: &str, value: Option<&str>) -> Argument {
    Argument {
        name: name.into(),
        value: value.unwrap_or_default().into(),
        description: instruction.description(name).unwrap_or_default().into(),
        lines: instruction.lines,
    }
}

fn proxy_field<'p>(proxy: &'p mut ProxyEnv, name: &str) -> Option<&'p mut String> {
    match name.to_ascii_lowercase().as_str() {
        "http_proxy" => Some(&mut proxy.http),
        "https_proxy" => Some(&mut proxy.https),
        "ftp_proxy" => Some(&mut proxy.ftp),
        "no_proxy" => Some(&mut proxy.no),
        "all_proxy" => Some(&mut proxy.all),
        _ => None,
    }
}

/// The text of a RUN in the history: declared arguments with their values, then the command.
pub(super) fn run_text(state: &State<'_>, env: &Env, words: &[String]) -> String {
    // A map is worth its making for many arguments only.
    let many = state.args.len() > 16;
    let values: HashMap<&str, &str> = if many { env.iter().collect() } else { HashMap::new() };
    let value_of = |name| if many { values.get(name).copied() } else { env.get(name) };
    let mut parts = Vec::new();
    if !state.args.is_empty() {
        parts.push(format!("|{}", state.args.len()));
    }
    for (name, value) in &state.args {
        let value = value_of(name.as_str()).or(value.as_deref()).unwrap_or_default();
        parts.push(format!("{name}={value}"));
    }
    parts.extend_from_slice(words);
    parts.join(" ")
}
