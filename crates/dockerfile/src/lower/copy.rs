//! COPY and ADD.

use graph::{
    Action, ActionInput, ActionKind, ChmodMode, CopyAction, FilesOp, GitSource, HttpSource,
    LineRange, Operation, Owner, OwnerName, StepId,
};
use oci::{Digest, Platform};

use super::files::{FilesBuilder, chmod, owner};
use super::names::instruction_text;
use super::stages::StageInstruction;
use super::steps::StepRequest;
use super::{Lowerer, git};
use crate::error::Error;
use crate::expand::Lex;
use crate::instruction::CopyInstruction;
use crate::path;

/// A COPY or ADD with its variables resolved.
struct Copy {
    add: bool,
    sources: Vec<String>,
    inline: Vec<(String, String)>,
    destination: String,
    chown: String,
    chmod: String,
    checksum: String,
    mode: Option<ChmodMode>,
}

/// The settings that all actions of an instruction share.
struct Common<'c> {
    destination: String,
    owner: Option<Owner>,
    copy: &'c Copy,
    instruction: &'c CopyInstruction,
    name: &'c str,
    platform: &'c Platform,
    lines: LineRange,
}

impl Lowerer<'_> {
    pub(super) fn dispatch_copy(
        &mut self,
        stage: usize,
        command: &StageInstruction<'_>,
        instruction: &CopyInstruction,
        add: bool,
    ) -> Result<(), Error> {
        let copy = self.resolve_copy(stage, instruction, add)?;
        let from = self.copy_from(stage, command, instruction)?;
        check_checksum(&copy).map_err(|error| error.word(&instruction.checksum))?;
        let env = self.states[stage].env.clone();
        let platform = self.platform_of(stage);
        let shown = instruction_text(&self.lex, &command.instruction.text, &env);
        let name = self.step_name(stage, &shown, command.onbuild);

        // Symbolic or octal, a mode needs the base's folders: BuildKit then makes no merge.
        let link = instruction.link && copy.chmod.is_empty();
        let base = if link { None } else { self.states[stage].output };
        let mut files = FilesBuilder::new(base);
        let common = Common {
            destination: path::destination(&self.states[stage].cwd, &copy.destination),
            owner: copy_owner(&copy.chown, files.base(), link)
                .map_err(|error| error.word(&instruction.chown))?,
            copy: &copy,
            instruction,
            name: &name,
            platform: &platform,
            lines: command.instruction.lines,
        };
        for (source, written) in copy.sources.iter().zip(&instruction.sources) {
            self.copy_source_path(&mut files, &common, source, from)
                .map_err(|error| error.word(written))?;
        }
        for (file, content) in &copy.inline {
            let step = self.inline_file(file, content, 0o644, &platform);
            let input = files.input(Some(step));
            files.copy(common.plain(input, path::join("/", file)));
        }
        for source in copy.sources.iter().filter(|source| !(add && is_http(source))) {
            match command.sources.first() {
                Some(other) => self.note_stage_path(*other, source),
                None => self.note_context_path(source),
            }
        }

        let (operation, inputs) = files.finish();
        let asked = StepRequest {
            platform: platform.clone(),
            name: name.clone(),
            lines: Some(command.instruction.lines),
            ignore_cache: self.states[stage].ignore_cache,
        };
        let copied = self.add(Operation::Files(operation), inputs, asked.clone());
        let output = match (link, self.states[stage].output) {
            (true, Some(below)) => {
                // Both steps have the place of one.
                let state = &mut self.states[stage];
                state.steps_named = state.steps_named.saturating_sub(1);
                let shown = format!("LINK {shown}");
                let name = self.step_name(stage, &shown, command.onbuild);
                let asked = StepRequest { name, ..asked };
                let merged = self.add(Operation::Merge, vec![below, copied], asked);
                self.graph.step_mut(merged).shown_as = Some(copied);
                merged
            }
            _ => copied,
        };
        self.states[stage].output = Some(output);
        self.record(stage, history_text(&copy, instruction), Some(output));
        Ok(())
    }

    fn resolve_copy(
        &self,
        stage: usize,
        instruction: &CopyInstruction,
        add: bool,
    ) -> Result<Copy, Error> {
        let expand = |text: &str| self.expand(stage, text);
        let chown = expand(&instruction.chown)?;
        let mode = expand(&instruction.chmod)?;
        let checksum = expand(&instruction.checksum)?;
        let sources =
            instruction.sources.iter().map(|source| expand(source)).collect::<Result<_, _>>()?;
        let destination = expand(&instruction.destination)?;
        let raw = Lex { skip_quotes: true, ..Lex::new('\\') };
        let inline = instruction.inline.iter().map(|file| {
            let content = match file.expand {
                true => self.expand_with(&raw, stage, &file.content)?,
                false => file.content.clone(),
            };
            Ok((file.name.clone(), content))
        });
        Ok(Copy {
            add,
            sources,
            inline: inline.collect::<Result<_, Error>>()?,
            destination,
            chown,
            mode: match mode.as_str() {
                "" => None,
                text => Some(chmod(text).map_err(|error| error.word(&instruction.chmod))?),
            },
            chmod: mode,
            checksum,
        })
    }

    /// The tree that sources are in; the main context is made a step only where it is read.
    fn copy_from(
        &mut self,
        stage: usize,
        command: &StageInstruction<'_>,
        instruction: &CopyInstruction,
    ) -> Result<Option<usize>, Error> {
        let Some(&source) = command.sources.first() else { return Ok(None) };
        if !self.states[source].dispatched {
            let from = instruction.from.as_deref().unwrap_or_default();
            return Err(Error::new(format!(
                "cannot copy from stage \"{from}\", it needs to be defined before current stage \"{}\"",
                self.states[stage].display
            ))
            .word(from)
            .hint("move that stage up"));
        }
        Ok(Some(source))
    }

    fn copy_source_path(
        &mut self,
        files: &mut FilesBuilder,
        common: &Common<'_>,
        source: &str,
        from: Option<usize>,
    ) -> Result<(), Error> {
        if let Some(address) = git::parse(source)? {
            if !common.copy.add {
                return Err(
                    Error::new("source can't be a git ref for COPY").hint("ADD takes repositories")
                );
            }
            let operation = Operation::Git(git_source(common, address)?);
            let step = self.share(operation, common.asked());
            let input = files.input(Some(step));
            files.copy(common.plain(input, "/".into()));
            return Ok(());
        }
        if is_http(source) {
            if !common.copy.add {
                return Err(
                    Error::new("source can't be a URL for COPY").hint("ADD takes addresses")
                );
            }
            let http = http_source(source, &common.copy.checksum)?;
            let file = path::join("/", &http.filename);
            let operation = Operation::Http(http);
            let step = self.share(operation, common.asked());
            let input = files.input(Some(step));
            let unpack = common.instruction.unpack.unwrap_or_default();
            files.copy(CopyAction { unpack, ..common.plain(input, file) });
            return Ok(());
        }
        let step = match from {
            Some(stage) => self.states[stage].output,
            None => {
                self.checks.check_ignored(source, &self.request.excludes, common.copy.add);
                self.main_context()?
            }
        };
        let input = files.input(step);
        files.copy(common.local(input, source));
        Ok(())
    }

    /// A file whose content is in the Dockerfile, as a step of its own.
    pub(super) fn inline_file(
        &mut self,
        name: &str,
        content: &str,
        mode: u32,
        platform: &Platform,
    ) -> StepId {
        let kind = ActionKind::MakeFile {
            path: path::join("/", name),
            mode,
            data: content.as_bytes().to_vec(),
        };
        let actions = vec![Action { base: ActionInput::Scratch, kind }];
        let name = "[internal] preparing inline document";
        self.share(
            Operation::Files(FilesOp { actions }),
            StepRequest::by_itself(platform.clone(), name),
        )
    }
}

impl Common<'_> {
    fn asked(&self) -> StepRequest {
        let asked = StepRequest::by_itself(self.platform.clone(), self.name);
        StepRequest { lines: Some(self.lines), ..asked }
    }

    /// A copy of something that was made for it.
    fn plain(&self, from: ActionInput, source: String) -> CopyAction {
        CopyAction {
            from,
            source,
            destination: self.destination.clone(),
            owner: self.owner.clone(),
            mode: self.copy.mode.clone(),
            create_destination: true,
            exclude: self.instruction.exclude.clone(),
            ..CopyAction::default()
        }
    }

    /// A copy out of a context or a stage.
    fn local(&self, from: ActionInput, source: &str) -> CopyAction {
        let mut include = Vec::new();
        let mut required = Vec::new();
        let mut source = source;
        if self.instruction.parents {
            let (folder, pattern) = source.split_once("/./").unwrap_or(("/", source));
            let pattern = match pattern.starts_with('/') {
                true => pattern.to_owned(),
                false => path::join("/", pattern),
            };
            if !has_wildcards(folder) && !has_wildcards(&pattern) {
                required.push(path::join("/", &path::join(folder, &pattern)));
            }
            include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
            source = folder;
        }
        CopyAction {
            follow_symlinks: true,
            copy_dir_contents: true,
            unpack: self.instruction.unpack.unwrap_or(self.copy.add),
            wildcard: true,
            empty_wildcard: true,
            include,
            required,
            ..self.plain(from, path::join("/", source))
        }
    }
}

fn copy_owner(chown: &str, base: ActionInput, link: bool) -> Result<Option<Owner>, Error> {
    if chown.is_empty() {
        return Ok(None);
    }
    let owner = owner(chown, base);
    let named = |name: &Option<OwnerName>| matches!(name, Some(OwnerName::Name { .. }));
    if link && (named(&owner.user) || named(&owner.group)) {
        return Err(Error::new(format!(
            "--chown={chown} with --link: there is no base whose users could be asked"
        ))
        .hint("use numbers, or leave --link out"));
    }
    Ok(Some(owner))
}

fn check_checksum(copy: &Copy) -> Result<(), Error> {
    match (copy.checksum.is_empty(), &copy.sources[..]) {
        (true, _) => Ok(()),
        (false, [source]) if is_http(source) || git::parse(source)?.is_some() => Ok(()),
        (false, [_]) => Err(Error::new("checksum requires HTTP(S) or Git sources")
            .hint("leave --checksum out: files of the context are known by their content")),
        (false, _) => Err(Error::new("checksum can't be specified for multiple sources")
            .hint("write one ADD for each")),
    }
}

fn is_http(source: &str) -> bool {
    let web = source.starts_with("http://") || source.starts_with("https://");
    web && !matches!(git::parse(source), Ok(Some(_)))
}

fn http_source(url: &str, checksum: &str) -> Result<HttpSource, Error> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let place = url[..end].split_once("://").map_or("", |(_, rest)| rest);
    let place = place.find('/').map_or(String::new(), |at| git::decode(&place[at..]));
    let file = if place.is_empty() { "" } else { path::base(&place) };
    let checksum = match checksum {
        "" => None,
        text => Some(text.parse::<Digest>().map_err(|error| {
            Error::new(format!("unsupported checksum `{text}`: {error}"))
                .hint("as sha256: and 64 hex digits")
        })?),
    };
    Ok(HttpSource {
        url: url.into(),
        filename: if matches!(file, "" | "/" | ".") { "__unnamed__".into() } else { file.into() },
        checksum,
    })
}

fn git_source(common: &Common<'_>, address: git::GitAddress) -> Result<GitSource, Error> {
    let (flag, query) = (common.instruction.keep_git_dir, address.keep_git_dir);
    if flag.is_some() && query.is_some() && flag != query {
        return Err(Error::new("inconsistent keep-git-dir configuration")
            .hint("the flag and the address say different things: leave one out"));
    }
    let mut source = address.source;
    source.keep_git_dir = query.or(flag).unwrap_or_default();
    source.mtime = address.mtime.unwrap_or_default();
    let given = Some(common.copy.checksum.clone()).filter(|text| !text.is_empty());
    if let (Some(given), Some(query)) = (&given, &source.checksum)
        && given != query
    {
        return Err(Error::new(format!("checksum mismatch \"{given}\" != \"{query}\""))
            .hint("the flag and the address say different things: leave one out"));
    }
    source.checksum = source.checksum.or(given);
    Ok(source)
}

fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

fn history_text(copy: &Copy, instruction: &CopyInstruction) -> String {
    let mut text = String::from(if copy.add { "ADD" } else { "COPY" });
    if instruction.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
        if !value.is_empty() {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &copy.sources {
        text.push_str(&format!(" {source}"));
    }
    for (name, _) in &copy.inline {
        text.push_str(&format!(" <<{name}"));
    }
    format!("{text} {} # buildkit", copy.destination)
}
