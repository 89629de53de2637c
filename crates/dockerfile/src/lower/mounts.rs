//! The mounts of a RUN, in the order that BuildKit gives them.

use graph::{
    Action, ActionInput, ActionKind, FilesOp, Mount, MountKind, Operation, Owner, OwnerName,
    SecretEnv, StepId,
};

use super::stages::StageInstruction;
use super::steps::StepRequest;
use super::{AgentUse, Lowerer, SecretUse};
use crate::error::Error;
use crate::instruction::RunInstruction;
use crate::instructions::mount::{self, MountOptions, Type};
use crate::path;

/// The folder of scripts with their own interpreter.
pub(super) const SCRIPTS: &str = "/dev/pipes/";

/// Mounts while they are collected.
pub(super) struct Mounts {
    files: Vec<(Option<StepId>, Mount)>,
    secrets: Vec<Mount>,
    agents: Vec<Mount>,
}

impl Mounts {
    pub(super) fn new(root: Option<StepId>) -> Self {
        let mut mount = bind("/".into());
        mount.output = true;
        Self { files: vec![(root, mount)], secrets: Vec::new(), agents: Vec::new() }
    }

    pub(super) fn script(&mut self, step: StepId) {
        let mount = Mount { readonly: true, ..bind(SCRIPTS.into()) };
        self.files.push((Some(step), mount));
    }

    pub(super) fn shared_memory(&mut self, size: i64) {
        let kind = MountKind::Tmpfs { size };
        self.files.push((None, Mount { kind, ..bind("/dev/shm".into()) }));
    }

    /// The socket of the first agent.
    pub(super) fn first_agent(&self) -> Option<String> {
        self.agents.first().map(|mount| mount.target.clone())
    }

    /// All mounts in order, and the inputs that they number.
    pub(super) fn finish(mut self) -> (Vec<Mount>, Vec<StepId>) {
        self.files.sort_by(|one, other| one.1.target.cmp(&other.1.target));
        let mut inputs: Vec<StepId> = Vec::new();
        let mut mounts = Vec::new();
        for (step, mut mount) in self.files {
            mount.input = step.map(|step| {
                inputs.iter().position(|known| *known == step).unwrap_or_else(|| {
                    inputs.push(step);
                    inputs.len() - 1
                })
            });
            mounts.push(mount);
        }
        mounts.append(&mut self.secrets);
        mounts.append(&mut self.agents);
        (mounts, inputs)
    }
}

fn bind(target: String) -> Mount {
    Mount {
        target,
        input: None,
        selector: "/".into(),
        readonly: false,
        output: false,
        kind: MountKind::Bind,
    }
}

impl Lowerer<'_> {
    /// Adds what `--mount` asks for; secrets that become variables are handed back.
    pub(super) fn add_mounts(
        &mut self,
        stage: usize,
        command: &StageInstruction<'_>,
        run: &RunInstruction,
        mounts: &mut Mounts,
    ) -> Result<Vec<SecretEnv>, Error> {
        let mut secret_env = Vec::new();
        for (index, text) in run.mounts.iter().enumerate() {
            let options = mount::resolve(&text.text, &mut |value| self.expand(stage, value))?;
            let source = command.sources[index];
            if !options.from.is_empty() && !self.states[source].dispatched {
                return Err(Error::new(format!(
                    "cannot mount from stage \"{}\" to \"{}\", stage needs to be defined before current command",
                    options.from, options.target
                ))
                .word(options.from)
                .hint("move that stage up"));
            }
            let has_default = matches!(options.kind, Type::Secret | Type::Ssh);
            if !(has_default && options.target.is_empty())
                && path::clean(&self.mount_target(stage, &options)) == "/"
            {
                return Err(Error::new("invalid mount target \"/\"")
                    .word(&text.text)
                    .hint("name a folder with target="));
            }
            let added = match options.kind {
                Type::Secret => self.add_secret(command, options, mounts),
                Type::Ssh => {
                    self.add_agent(command, options, mounts);
                    Ok(None)
                }
                Type::Bind | Type::Cache | Type::Tmpfs => {
                    self.add_files(stage, source, options, mounts).map(|()| None)
                }
            };
            secret_env.extend(added.map_err(|error| error.word(&text.text))?);
        }
        Ok(secret_env)
    }

    /// A mount's absolute target; unchanged if it is absolute already.
    fn mount_target(&self, stage: usize, options: &MountOptions) -> String {
        match options.target.starts_with('/') {
            true => options.target.clone(),
            false => path::join(&self.states[stage].cwd, &options.target),
        }
    }

    fn add_files(
        &mut self,
        stage: usize,
        source: usize,
        options: MountOptions,
        mounts: &mut Mounts,
    ) -> Result<(), Error> {
        let context = options.from.is_empty() && options.kind != Type::Cache;
        let mut step = match options.kind {
            Type::Tmpfs => None,
            _ if context => self.main_context()?,
            _ => self.states[source].output,
        };
        let kind = match options.kind {
            Type::Tmpfs => MountKind::Tmpfs { size: options.size },
            Type::Cache => self.cache_kind(&options),
            _ => MountKind::Bind,
        };
        let selected = path::join("/", &options.source);
        if options.kind == Type::Tmpfs && selected != "/" {
            return Err(Error::new(format!("a tmpfs begins empty: `{selected}` is not in it"))
                .hint("leave source= out, or write type=bind"));
        }
        let mut selector = selected.clone();
        if selected == "/" && options.has_attributes() {
            step = Some(self.cache_folder(stage, &options, step));
            selector = "/cache".into();
        }
        match (options.kind, context) {
            (Type::Tmpfs, true) => {}
            (_, true) => self.note_context_path(&selected),
            _ => self.note_stage_path(source, &selected),
        }
        let target = self.mount_target(stage, &options);
        let mount = Mount { selector, readonly: options.readonly, kind, ..bind(target) };
        mounts.files.push((step, mount));
        Ok(())
    }

    fn cache_kind(&mut self, options: &MountOptions) -> MountKind {
        let namespace = self.behavioural("BUILDKIT_CACHE_MOUNT_NS").unwrap_or_default();
        let id = match options.id.as_str() {
            "" => path::clean(&options.target),
            id => id.into(),
        };
        MountKind::Cache {
            id: format!("{namespace}/{id}"),
            sharing: options.sharing.unwrap_or_default(),
        }
    }

    /// The folder with which a cache with an owner or a mode begins.
    fn cache_folder(
        &mut self,
        stage: usize,
        options: &MountOptions,
        below: Option<StepId>,
    ) -> StepId {
        let id = |id: Option<u32>| Some(OwnerName::Id(id.unwrap_or_default()));
        let kind = ActionKind::MakeDir {
            path: "/cache".into(),
            // Bits above these get lost in BuildKit too.
            mode: options.mode.unwrap_or(0o755) & 0o777,
            make_parents: false,
            owner: Some(Owner { user: id(options.uid), group: id(options.gid) }),
            timestamp: None,
        };
        let base = if below.is_some() { ActionInput::Input(0) } else { ActionInput::Scratch };
        let operation = Operation::Files(FilesOp { actions: vec![Action { base, kind }] });
        let name = "[internal] setting cache mount permissions";
        let asked = StepRequest::by_itself(self.platform_of(stage), name);
        match below {
            None => self.share(operation, asked),
            Some(below) => self.add(operation, vec![below], asked),
        }
    }

    fn add_secret(
        &mut self,
        command: &StageInstruction<'_>,
        options: MountOptions,
        mounts: &mut Mounts,
    ) -> Result<Option<SecretEnv>, Error> {
        let id = [&options.source, &options.id].into_iter().find(|id| !id.is_empty());
        let id = match id {
            Some(id) => id.clone(),
            None => path::base(&options.target).to_owned(),
        };
        if options.env.as_deref() == Some("") {
            return Err(Error::new("env of a secret mount needs a name").hint("write env=NAME"));
        }
        let target = match (options.target.as_str(), &options.env) {
            ("", None) => Some(format!("/run/secrets/{}", path::base(&id))),
            ("", Some(_)) => None,
            (target, _) => Some(target.to_owned()),
        };
        if let Some(target) = target {
            let kind = MountKind::Secret {
                id: id.clone(),
                uid: options.uid.unwrap_or_default(),
                gid: options.gid.unwrap_or_default(),
                mode: options.mode.unwrap_or(0o400),
                optional: !options.required,
            };
            mounts.secrets.push(Mount { kind, ..bind(target) });
        }
        let lines = command.instruction.lines;
        self.secrets.push(SecretUse { id: id.clone(), required: options.required, lines });
        let optional = !options.required;
        Ok(options.env.map(|name| SecretEnv { id, name, optional }))
    }

    fn add_agent(
        &mut self,
        command: &StageInstruction<'_>,
        options: MountOptions,
        mounts: &mut Mounts,
    ) {
        let target = match options.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{}", mounts.agents.len()),
            target => target.to_owned(),
        };
        let id = match options.id.as_str() {
            "" => "default".to_owned(),
            id => id.to_owned(),
        };
        let lines = command.instruction.lines;
        self.agents.push(AgentUse { id, required: options.required, lines });
        let kind = MountKind::Ssh {
            // The id as written: the default is not part of the key.
            id: options.id,
            uid: options.uid.unwrap_or_default(),
            gid: options.gid.unwrap_or_default(),
            mode: options.mode.unwrap_or(0o600),
            optional: !options.required,
        };
        mounts.agents.push(Mount { kind, ..bind(target) });
    }
}
