//! Contexts that are no folder: repositories, downloads, archives.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use cache::{Caches, LocalRecords};
use execute::{Executor, Images, Sources, StepOutput};
use graph::{GitMtime, Graph, HttpSource, Operation, StepId};
use oci::{Digest, Platform, shown_text};
use solve::Solver;

use super::files::policy_of;
use super::{TEXT_LIMIT, download_of, show, text_of};
use crate::Error;
use crate::context::archive::{LONGEST_HEAD, is_archive};
use crate::executor::{ExecutorInputs, executor};
use crate::request::{Context, ContextStream, GitContext, Policy};
use crate::session::Build;

/// The largest archive that is taken, in bytes: what is larger is a mistake, not a context.
const UPLOAD_LIMIT: u64 = 64 << 30;

/// The address of an archive that came without one; it is never requested.
const UPLOADED: &str = "upload:context";

/// Loads contexts, and shows it.
pub(super) struct Loader<'a> {
    build: &'a Build<'a>,
    pub(super) sources: Arc<Sources>,
    pub(super) shown: Vec<Operation>,
}

/// A context that is no folder.
pub(super) struct RemoteContext {
    /// The context of COPY and ADD.
    pub(super) context: dockerfile::Context,
    /// Its files, where they were wanted.
    files: Option<ContextFiles>,
    /// Its only file, where it is a Dockerfile and no more.
    only: Option<String>,
}

/// The files that the steps of a context made.
struct ContextFiles {
    output: StepOutput,
    executor: Executor,
}

impl ContextFiles {
    /// The first `limit` bytes of a file; none where there is no such file.
    async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        self.executor.read_file(&self.output, path, limit).await.map_err(Error::Context)
    }
}

impl<'a> Loader<'a> {
    pub(super) fn new(build: &'a Build<'a>) -> Self {
        Self { build, sources: Arc::default(), shown: Vec::new() }
    }

    /// The main context, if it is no folder; with its files, if they are wanted.
    pub(super) async fn context(&mut self, wanted: bool) -> Result<Option<RemoteContext>, Error> {
        let request = self.build.request;
        let source = match &request.context {
            Context::Folder(_) | Context::Client(_) | Context::Empty => return Ok(None),
            Context::Git(git) => {
                let context = dockerfile::Context::Git(repository(git, &request.build_args));
                let files = if wanted { Some(self.load(&context).await?) } else { None };
                return Ok(Some(RemoteContext { context, files, only: None }));
            }
            Context::Http(url) => download_of(url),
            Context::Archive(upload) => self.upload(upload).await?,
        };
        let file = dockerfile::Context::Http(source.clone());
        let files = self.load(&file).await?;
        let head = files.read(&source.filename, LONGEST_HEAD as u64).await?;
        if is_archive(&head.unwrap_or_default()) {
            let context = dockerfile::Context::Archive(source);
            let files = if wanted { Some(self.load(&context).await?) } else { None };
            return Ok(Some(RemoteContext { context, files, only: None }));
        }
        if matches!(request.context, Context::Archive(_)) {
            return Err(Error::Request(
                "the context is no archive that kiln knows: a tar, plain \
                 or under gzip, bzip2, xz or zstd"
                    .into(),
            ));
        }
        Ok(Some(RemoteContext { context: file, files: Some(files), only: Some(source.filename) }))
    }

    /// The Dockerfile of a context, and its name: `name`, else `Dockerfile` or `dockerfile`.
    pub(super) async fn text(
        &mut self,
        loaded: &RemoteContext,
        name: Option<&str>,
    ) -> Result<(String, String), Error> {
        let files = loaded.files.as_ref();
        let files = files.ok_or_else(|| Error::Request("the context was not loaded".into()))?;
        let names = match (&loaded.only, name) {
            (Some(only), None) => vec![only.clone()],
            (Some(_), Some(name)) => {
                return Err(Error::Request(format!(
                    "the context is a Dockerfile alone, and `--file {name}` names another one in it"
                )));
            }
            (None, name) => names(name.unwrap_or("Dockerfile")),
        };
        for name in &names {
            if let Some(bytes) = files.read(name, TEXT_LIMIT + 1).await? {
                let text = text_of(bytes)
                    .map_err(|source| Error::NoDockerfile { path: name.into(), source })?;
                self.no_policy_beside(loaded, files, name).await?;
                return Ok((name.clone(), text));
            }
        }
        let source = io::Error::new(io::ErrorKind::NotFound, "the context has no such file");
        Err(Error::NoDockerfile { path: names[0].clone().into(), source })
    }

    /// Refuses a build that has a policy beside its Dockerfile, where buildx looks for one: in
    /// repositories and in archives that a server has, not in those that come with the request.
    async fn no_policy_beside(
        &self,
        loaded: &RemoteContext,
        files: &ContextFiles,
        dockerfile: &str,
    ) -> Result<(), Error> {
        let is_upload = matches!(self.build.request.context, Context::Archive(_));
        if self.build.request.policy == Policy::Disabled || is_upload || loaded.only.is_some() {
            return Ok(());
        }
        let file = policy_of(dockerfile);
        match files.read(&file, 1).await? {
            Some(_) => Err(Error::Policy { file }),
            None => Ok(()),
        }
    }

    /// A Dockerfile that a server has.
    pub(super) async fn download(&mut self, url: &str) -> Result<String, Error> {
        let source = HttpSource { filename: "Dockerfile".into(), ..download_of(url) };
        let files = self.load(&dockerfile::Context::Http(source)).await?;
        let bytes = files.read("Dockerfile", TEXT_LIMIT + 1).await?;
        text_of(bytes.unwrap_or_default())
            .map_err(|source| Error::NoDockerfile { path: shown_text(url).into(), source })
    }

    /// Brings an archive that comes once into the store.
    async fn upload(&mut self, upload: &ContextStream) -> Result<HttpSource, Error> {
        let reader = upload.take();
        let mut reader = reader
            .ok_or_else(|| Error::Request("the context was read before; it comes once".into()))?;
        let store = self.build.session.store().clone();
        let receive = move || -> Result<(Digest, u64, std::fs::File), Error> {
            let mut writer = store.blob_writer()?;
            let failed = |error: io::Error| Error::Request(format!("reading the context: {error}"));
            let mut limited = (&mut reader).take(UPLOAD_LIMIT + 1);
            let size = io::copy(&mut limited, &mut writer).map_err(failed)?;
            if size > UPLOAD_LIMIT {
                let limit = UPLOAD_LIMIT >> 30;
                return Err(Error::Request(format!("the context is larger than {limit} GiB")));
            }
            writer.flush().map_err(failed)?;
            let (digest, size) = writer.commit(None)?;
            Ok((digest, size, store.open_blob(&digest)?))
        };
        let (digest, size, file) = transfer::blocking(receive).await?;
        show(
            self.build.events,
            "[internal] load remote build context",
            "transferring context:",
            size,
        );
        let source = HttpSource { checksum: Some(digest), ..download_of(UPLOADED) };
        self.sources.lend(&source, digest, size, file);
        self.shown.push(Operation::Http(source.clone()));
        Ok(source)
    }

    /// Runs the steps of a context, as far as no record of this machine knows what they make.
    async fn load(&mut self, context: &dockerfile::Context) -> Result<ContextFiles, Error> {
        let platform = Platform::host();
        let Some((graph, last)) = context.graph(&platform) else {
            return Err(Error::Request("the context has no files".into()));
        };
        let files = self.solve(&graph, last).await?;
        self.shown.extend(graph.steps().map(|(_, step)| step.operation.clone()));
        Ok(files)
    }

    async fn solve(&self, graph: &Graph, last: StepId) -> Result<ContextFiles, Error> {
        let (executor, tasks) = executor(self.build, &self.parts(graph));
        let caches = Caches::new(LocalRecords::open(self.build.session.store())?, Vec::new());
        let solver = Solver::new(graph, &executor, &caches, &tasks, Executor::parallelism());
        let solved = solver.solve(last).await;
        let solved = solved.map_err(|error| Error::Context(error.source))?;
        drop(solver);
        Ok(ContextFiles { output: solved.output, executor })
    }

    fn parts<'g>(&'g self, graph: &'g Graph) -> ExecutorInputs<'g> {
        ExecutorInputs {
            graph,
            images: Arc::new(Images::new(self.build.session.client().clone())),
            folders: Default::default(),
            epoch: self.build.request.source_date_epoch,
            sources: self.sources.clone(),
            shown: &self.shown,
            required: Default::default(),
        }
    }
}

/// A repository, with what build arguments say of it.
fn repository(git: &GitContext, build_args: &[(String, String)]) -> graph::GitSource {
    let argument = |wanted: &str| {
        let mut given = build_args.iter().rev();
        given.find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let mut source = git.source.clone();
    source.keep_git_dir |= argument("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
        .is_some_and(|text| oci::parse_bool(text) == Some(true));
    if !git.has_mtime && argument("SOURCE_DATE_EPOCH").is_some_and(|value| !value.is_empty()) {
        source.mtime = GitMtime::Commit;
    }
    source
}

/// The names that a Dockerfile can have: BuildKit knows `dockerfile` for `Dockerfile` too.
fn names(name: &str) -> Vec<String> {
    let (folder, base) = match name.rfind('/') {
        Some(at) => name.split_at(at + 1),
        None => ("", name),
    };
    let lower = (base == "Dockerfile").then(|| format!("{folder}dockerfile"));
    [name.to_owned()].into_iter().chain(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_arguments_of_repositories() {
        let read = |address: &str, arguments: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let arguments: Vec<_> = arguments.iter().map(pair).collect();
            repository(&GitContext::parse(address).unwrap().unwrap(), &arguments)
        };
        let keep = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
        assert!(read("git://h/r", &[(keep, "0"), (keep, "1")]).keep_git_dir);
        assert!(!read("git://h/r", &[(keep, "1"), (keep, "no")]).keep_git_dir);
        assert!(read("git://h/r?keep-git-dir=1", &[]).keep_git_dir);
        let epoch = [("SOURCE_DATE_EPOCH", "5")];
        assert_eq!(read("git://h/r", &[]).mtime, GitMtime::Checkout);
        assert_eq!(read("git://h/r", &epoch).mtime, GitMtime::Commit);
        assert_eq!(read("git://h/r?mtime=checkout", &epoch).mtime, GitMtime::Checkout);
    }

    #[test]
    fn a_dockerfile_can_be_in_lower_case() {
        for (name, expected) in [
            ("Dockerfile", &["Dockerfile", "dockerfile"][..]),
            ("a/Dockerfile", &["a/Dockerfile", "a/dockerfile"]),
            ("a/Dockerfile.x", &["a/Dockerfile.x"]),
            ("x", &["x"]),
        ] {
            assert_eq!(names(name), expected);
        }
    }
}
