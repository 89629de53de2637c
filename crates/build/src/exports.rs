//! The result as what was asked for.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use export::{ArchiveKind, ArchiveRequest, Engine, Format, Image, Manifested, PushRequest};
use graph::{Failure, TaskEvent, TaskId};
use oci::{Digest, Reference};
use transfer::{LayerFormat, Meter, Transfer};

use crate::bases::Bases;
use crate::request::{ArchiveOutput, Destination, ImageFormat, ImageOutput, Output};
use crate::solving::Solved;
use crate::{BuiltImage, Error, Host, Request, caches, shelf};

/// The image of a build: the config that the Dockerfile asks for, the layers that steps made, and
/// their records where an inline cache was asked for.
pub(crate) fn image(host: &Host, request: &Request, bases: &Bases, solved: &Solved) -> Image {
    let base_history = bases.lowered.base.as_ref().map_or(0, |base| base.history.len());
    let mut config = bases.lowered.config.clone();
    if let Some(cache) = caches::inline(host, request, &bases.lowered.graph, solved) {
        config.other.insert(cache::INLINE_FIELD.into(), cache.into());
    }
    Image {
        config,
        layers: solved.chain.layers(),
        epoch: bases.lowered.source_date_epoch,
        base_history,
    }
}

/// Makes all outputs, one after the other; hands back the image that was made first.
///
/// # Errors
/// The first output that could not be made.
pub(crate) async fn write(
    host: &Host,
    request: &Request,
    image: &Image,
    transfer: &Transfer,
) -> Result<Option<BuiltImage>, Error> {
    let mut built = None;
    for output in &request.outputs {
        let name = match output {
            Output::CacheOnly => continue,
            Output::Image(_) => "exporting to image",
            Output::Oci(_) => "exporting to oci image format",
            Output::Docker(_) => "exporting to docker image format",
            Output::Local(_) => "exporting to client directory",
            Output::Tar(_) => "exporting to client tarball",
        };
        let task = host.events.task(name, Vec::new());
        host.events.send(task, TaskEvent::Started);
        let job = Job { host, request, image, transfer, task };
        match job.write(output).await {
            Ok(made) => {
                host.events.send(task, TaskEvent::Done);
                built = built.or(made);
            }
            Err(error) => {
                host.events.send(
                    task,
                    TaskEvent::Failed(Failure::Error(transfer::chain_text(&error).into())),
                );
                return Err(error);
            }
        }
    }
    Ok(built)
}

/// The layer that an export could not find anywhere.
pub(crate) fn lost_layer(error: &Error) -> Option<Digest> {
    match error {
        Error::Export(export::Error::Layer(error)) => transfer::lost_layer(error),
        Error::Export(error) => transfer::lost_layer(error),
        Error::CacheExport { lost, .. } => *lost,
        _ => None,
    }
}

/// Says that steps run again for an export.
pub(crate) fn warn_lost(host: &Host, error: &Error) {
    let task = host.events.task("[internal] layers that are gone", Vec::new());
    host.events.send(task, TaskEvent::Started);
    let text = format!("what was cached is gone, its steps run: {}", transfer::chain_text(error));
    host.events.send(task, TaskEvent::Warning(text.into()));
    host.events.send(task, TaskEvent::Done);
}

/// One output.
struct Job<'a> {
    host: &'a Host,
    request: &'a Request,
    image: &'a Image,
    transfer: &'a Transfer,
    task: TaskId,
}

impl Job<'_> {
    async fn write(&self, output: &Output) -> Result<Option<BuiltImage>, Error> {
        match output {
            Output::Image(image) => self.image(image).await.map(Some),
            Output::Oci(archive) => self.archive(archive, ArchiveKind::Oci).await.map(Some),
            Output::Docker(archive) => self.archive(archive, ArchiveKind::Docker).await.map(Some),
            Output::Local(folder) => {
                export::write_folder(self.transfer, &self.image.layers, folder, Some(self.task))
                    .await?;
                self.say("copying files");
                Ok(None)
            }
            Output::Tar(destination) => {
                let Target { stream, pending } = open(destination).await?;
                let layers = &self.image.layers;
                export::write_tar(self.transfer, layers, stream, Some(self.task)).await?;
                Target::finish(pending)?;
                self.say("sending tarball");
                Ok(None)
            }
            Output::CacheOnly => Ok(None),
        }
    }

    async fn image(&self, output: &ImageOutput) -> Result<BuiltImage, Error> {
        let names = self.names(&output.names);
        let format = format(&output.format);
        if output.push && names.is_empty() {
            return Err(Error::Request(
                "nothing to push: give the image a name with `--tag`".into(),
            ));
        }
        let documents = match output.push {
            true => {
                let push = PushRequest {
                    image: self.image,
                    format,
                    names,
                    by_digest: output.push_by_digest,
                    insecure: output.insecure,
                    task: Some(self.task),
                };
                export::push(self.transfer, &self.host.events, &push).await?
            }
            false => self
                .image
                .manifest(self.transfer, format, Some(self.task))
                .await
                .map_err(Error::Export)?,
        };
        self.say("exporting layers");
        self.say(&format!("exporting manifest {}", documents.descriptor.digest));
        self.say(&format!("exporting config {}", documents.config_descriptor.digest));
        if output.store {
            let pushed: &[Reference] = if output.push { names } else { &[] };
            let layers = shelf::also_at(&self.image.layers, pushed, output.insecure);
            shelf::keep(&self.host.store, names, &documents, &layers)?;
            for name in names {
                self.say(&format!("naming to {name}"));
            }
        }
        Ok(built(&documents, names))
    }

    async fn archive(
        &self,
        output: &ArchiveOutput,
        kind: ArchiveKind,
    ) -> Result<BuiltImage, Error> {
        let names = self.names(&output.names);
        let request = ArchiveRequest {
            image: self.image,
            format: format(&output.format),
            names,
            kind,
            task: Some(self.task),
        };
        let documents = match (&output.destination, output.tar) {
            (None, _) if kind == ArchiveKind::Docker => {
                let engine = Engine::parse(&self.host.engine)?;
                export::load(self.transfer, &request, &engine).await?
            }
            (None, _) => return Err(Error::Request("`--output type=oci` needs `dest=`: a file, a folder with `tar=false`, or `-`".into())),
            (Some(Destination::Path(path)), false) => export::write_layout(self.transfer, &request, path).await?,
            (Some(Destination::Stdout), false) => return Err(Error::Request("a folder cannot be written to standard output: give `dest=`, or leave `tar=false` out".into())),
            (Some(destination), true) => {
                let Target { stream, pending } = open(destination).await?;
                let documents = export::write_archive(self.transfer, &request, stream).await?;
                Target::finish(pending)?;
                documents
            }
        };
        self.say(&format!("exporting manifest {}", documents.descriptor.digest));
        self.say(&format!("exporting config {}", documents.config_descriptor.digest));
        self.say("sending tarball");
        Ok(built(&documents, names))
    }

    fn names<'n>(&'n self, own: &'n [Reference]) -> &'n [Reference] {
        if own.is_empty() { &self.request.tags } else { own }
    }

    fn say(&self, what: &str) {
        Meter::start(&self.host.events, Some(self.task), what, 0).finish();
    }
}

fn built(documents: &Manifested, names: &[Reference]) -> BuiltImage {
    BuiltImage {
        descriptor: documents.descriptor.clone(),
        config: documents.config_descriptor.digest,
        names: names.iter().map(ToString::to_string).collect(),
    }
}

fn format(format: &ImageFormat) -> Format {
    Format {
        layers: LayerFormat { compression: format.compression, force: format.force_compression },
        oci_mediatypes: format.oci_mediatypes,
    }
}

/// What an archive is written to.
struct Target {
    stream: Box<dyn Write + Send>,
    /// A file that gets its name when it is complete. Whoever waits for the writing holds it, so
    /// that it goes when the wait is given up.
    pending: Option<(tempfile::TempPath, PathBuf)>,
}

impl Target {
    fn finish(pending: Option<(tempfile::TempPath, PathBuf)>) -> Result<(), Error> {
        let Some((file, path)) = pending else { return Ok(()) };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, mode)
            .and_then(|()| file.persist(&path).map_err(|error| error.error))
            .map_err(|source| Error::Export(export::Error::Write { path, source }))
    }
}

/// Opens a destination. That can take long: a pipe opens when somebody reads it.
async fn open(destination: &Destination) -> Result<Target, Error> {
    let path = match destination {
        Destination::Stdout => {
            let stream = Box::new(Named { out: io::stdout(), name: "standard output".into() });
            return Ok(Target { stream, pending: None });
        }
        Destination::Path(path) => path.clone(),
    };
    match tokio::task::spawn_blocking(move || open_file(path)).await {
        Ok(target) => target,
        // Cancellation happens only when the runtime shuts down, and then nobody waits here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn open_file(path: PathBuf) -> Result<Target, Error> {
    let failed = |source| Error::Export(export::Error::Write { path: path.clone(), source });
    let name = format!("`{}`", path.display());
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if path.exists() && !path.is_file() {
        // A pipe or a device is written as it is.
        let out = File::options().write(true).open(&path).map_err(failed)?;
        return Ok(Target { stream: Box::new(Named { out, name }), pending: None });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // The error of a temporary file would name that file.
    folder.metadata().map_err(failed)?;
    let (out, file) = tempfile::NamedTempFile::new_in(folder).map_err(failed)?.into_parts();
    Ok(Target { stream: Box::new(Named { out, name }), pending: Some((file, path)) })
}

/// A stream whose errors say what it is.
struct Named<W> {
    out: W,
    name: String,
}

impl<W> Named<W> {
    fn failed(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.name))
    }
}

impl<W: Write> Write for Named<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| self.failed(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|error| self.failed(&error))
    }
}
