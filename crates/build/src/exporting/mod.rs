//! The result as what was asked for.

mod attestations;
mod folding;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use export::{
    ArchiveKind, ArchiveRequest, Documents, Engine, FilesRequest, FolderTarget, Format, Image,
    PlatformImage, Product, PushRequest, Writing,
};
use graph::{TaskEvent, TaskId};
use layer::Chain;
use oci::Reference;
use tracing::Instrument as _;
use transfer::{LayerFormat, Meter, Transfer};

use self::attestations::Attested;
use crate::caches::write::inline;
use crate::error::failure;
use crate::frontend::bases::{Bases, PlatformTarget};
use crate::request::{
    ArchiveOutput, Destination, FilesOptions, ImageFormat, ImageOptions, ImageOutput, Output,
};
use crate::session::Build;
use crate::solving::SolvedGraph;
use crate::{BuiltImage, Error, image_store};

/// The images of a build: the configs that the Dockerfile asks for, the layers that steps made,
/// their records where an inline cache was asked for, and what is said of them.
///
/// # Errors
/// If what is asked to be said cannot be.
pub(crate) async fn product(
    build: &Build<'_>,
    bases: &Bases,
    solved: &SolvedGraph<'_>,
) -> Result<Product, Error> {
    let mut images = Vec::with_capacity(bases.targets.len());
    for (target, chain) in bases.targets.iter().zip(&solved.chains) {
        let mut image = image(target, chain);
        folding::fold(build.request, bases, solved, (target, chain), &mut image).await?;
        if let Some(cache) = inline(build, &bases.graph, (solved, chain)) {
            image.config.other.insert(cache::INLINE_FIELD.into(), cache.into());
        }
        let attested = Attested { build, bases, solved, target };
        let attestations = attested.attestations(&image.layers).await?;
        images.push(PlatformImage { platform: target.platform.clone(), image, attestations });
    }
    Ok(Product { images, is_index: bases.is_index })
}

fn image(target: &PlatformTarget, chain: &Chain) -> Image {
    let lowered = &target.lowered;
    let layers = chain.layers();
    let of_base = lowered.base.as_ref().map(|base| base.rootfs.diff_ids.as_slice());
    let of_base = of_base.unwrap_or_default().iter().zip(&layers);
    Image {
        config: lowered.config.clone(),
        base_layers: of_base.take_while(|(base, layer)| **base == layer.diff_id).count(),
        rewritten: None,
        layers,
        epoch: lowered.source_date_epoch,
        base_history: lowered.base.as_ref().map_or(0, |base| base.history.len()),
    }
}

/// Makes all outputs, one after the other; hands back the image that was made first.
///
/// # Errors
/// The first output that could not be made.
pub(crate) async fn write(
    build: &Build<'_>,
    product: &Product,
    transfer: &Transfer,
) -> Result<Option<BuiltImage>, Error> {
    let mut built = None;
    for output in &build.request.outputs {
        let name = match output {
            Output::CacheOnly => continue,
            Output::Image(_) => "exporting to image",
            Output::Oci(_) => "exporting to oci image format",
            Output::Docker(_) => "exporting to docker image format",
            Output::Local(_) => "exporting to client directory",
            Output::Tar(_) => "exporting to client tarball",
        };
        let task = build.events.task(name, Vec::new());
        build.events.send(task, TaskEvent::Started);
        let job = ExportJob { build, product, transfer, task };
        let span = tracing::debug_span!("export", output = name);
        match job.write(output).instrument(span).await {
            Ok(made) => {
                build.events.send(task, TaskEvent::Done);
                built = built.or(made);
            }
            Err(error) => {
                let failed = failure(&error.lost_layers(), &transfer::chain_text(&error));
                build.events.send(task, TaskEvent::Failed(failed));
                return Err(error);
            }
        }
    }
    Ok(built)
}

/// One output.
struct ExportJob<'a> {
    build: &'a Build<'a>,
    product: &'a Product,
    transfer: &'a Transfer,
    task: TaskId,
}

impl ExportJob<'_> {
    async fn write(&self, output: &Output) -> Result<Option<BuiltImage>, Error> {
        match output {
            Output::Image(image) => self.image(image).await.map(Some),
            Output::Oci(archive) => self.archive(archive, ArchiveKind::Oci).await.map(Some),
            Output::Docker(archive) => self.archive(archive, ArchiveKind::Docker).await.map(Some),
            Output::Local(output) => {
                export::write_folder(
                    self.transfer,
                    &self.files(&output.files),
                    &FolderTarget { folder: &output.folder, delete: output.delete },
                )
                .await?;
                self.say("copying files");
                Ok(None)
            }
            Output::Tar(output) => {
                let ArchiveSink { stream, pending } = open(&output.destination).await?;
                export::write_tar(self.transfer, &self.files(&output.files), stream).await?;
                ArchiveSink::finish(pending)?;
                self.say("sending tarball");
                Ok(None)
            }
            Output::CacheOnly => Ok(None),
        }
    }

    async fn image(&self, output: &ImageOutput) -> Result<BuiltImage, Error> {
        let names = self.names(&output.names);
        if output.push && names.is_empty() {
            return Err(Error::Request(
                "nothing to push: give the image a name with `--tag`".into(),
            ));
        }
        let writing = self.writing(names, &output.format, &output.options, true);
        let documents = self.product.documents(self.transfer, &writing).await?;
        if output.push {
            let push = PushRequest {
                documents: &documents,
                layers: writing.format.layers,
                names,
                by_digest: output.push_by_digest,
                insecure: output.insecure,
                task: Some(self.task),
            };
            export::push(self.transfer, self.build.events, &push).await?;
        }
        self.say("exporting layers");
        self.say_documents(&documents);
        if output.store {
            // A pushed image has its layers in the registry.
            if !output.push {
                self.bring_remote_layers().await?;
            }
            let mut kept = documents.clone();
            let pushed: &[Reference] = if output.push { names } else { &[] };
            for image in &mut kept.images {
                image.layers = image_store::also_at(&image.layers, pushed, output.insecure);
            }
            image_store::keep(self.build.session.store(), names, &kept)?;
            for name in names {
                self.say(&format!("naming to {name}"));
            }
        }
        let mut image = built(&documents, names);
        if output.push_by_digest {
            // No tag was pushed.
            image.names = names.iter().map(|name| name.repository().to_string()).collect();
        }
        Ok(image)
    }

    fn writing<'w>(
        &self,
        names: &'w [Reference],
        format: &ImageFormat,
        options: &'w ImageOptions,
        inline: bool,
    ) -> Writing<'w> {
        Writing {
            format: self::format(format),
            names,
            annotations: &options.annotations,
            oci_artifact: options.oci_artifact.unwrap_or(format.oci_mediatypes),
            inline: options.attestation_inline.unwrap_or(inline),
            rewrite_timestamp: options.rewrite_timestamp,
            epoch: options.epoch,
            task: Some(self.task),
        }
    }

    fn files<'f>(&'f self, options: &'f FilesOptions) -> FilesRequest<'f> {
        FilesRequest {
            product: self.product,
            platform_split: options.platform_split,
            attestation_prefix: &options.attestation_prefix,
            epoch: options.epoch,
            task: Some(self.task),
        }
    }

    /// Fetches the layers that only a cache has: later users of the image know registries and
    /// folders, and not the cache's credentials.
    async fn bring_remote_layers(&self) -> Result<(), Error> {
        let is_remote = |place: &layer::Place| matches!(place, layer::Place::Remote(_));
        let mut brought = Vec::new();
        for layer in self.product.images.iter().flat_map(|image| &image.image.layers) {
            if !layer.places.is_empty() && layer.places.iter().all(is_remote) {
                brought.push(self.transfer.fetch_blob(layer, Some(self.task)).await);
            }
        }
        Ok(transfer::all(brought).map(drop).map_err(export::Error::from)?)
    }

    async fn archive(
        &self,
        output: &ArchiveOutput,
        kind: ArchiveKind,
    ) -> Result<BuiltImage, Error> {
        let names = self.names(&output.names);
        let writing = self.writing(names, &output.format, &output.options, false);
        let request = ArchiveRequest { product: self.product, writing, kind };
        let documents = match (&output.destination, output.tar) {
            (None, _) if kind == ArchiveKind::Docker => {
                let engine = Engine::parse(&self.build.session.host().engine)?;
                export::load(self.transfer, &request, &engine).await?
            }
            (None, _) => return Err(Error::Request("`--output type=oci` needs `dest=`: a file, a folder with `tar=false`, or `-`".into())),
            (Some(Destination::Path(path)), false) => export::write_layout(self.transfer, &request, path).await?,
            (Some(Destination::Stdout), false) => return Err(Error::Request("a folder cannot be written to standard output: give `dest=`, or leave `tar=false` out".into())),
            (Some(destination), true) => {
                let ArchiveSink { stream, pending } = open(destination).await?;
                let documents = export::write_archive(self.transfer, &request, stream).await?;
                ArchiveSink::finish(pending)?;
                documents
            }
        };
        self.say_documents(&documents);
        self.say("sending tarball");
        Ok(built(&documents, names))
    }

    fn names<'n>(&'n self, own: &'n [Reference]) -> &'n [Reference] {
        if own.is_empty() { &self.build.request.tags } else { own }
    }

    fn say_documents(&self, documents: &Documents) {
        for image in &documents.images {
            self.say(&format!("exporting manifest {}", image.manifest.digest));
            self.say(&format!("exporting config {}", image.config.digest));
        }
        for attestation in documents.manifests.iter().skip(documents.images.len()) {
            let digest = attestation.descriptor.digest;
            self.say(&format!("exporting attestation manifest {digest}"));
        }
        if !documents.manifests.is_empty() {
            self.say(&format!("exporting manifest list {}", documents.root.descriptor.digest));
        }
    }

    fn say(&self, what: &str) {
        Meter::start(self.build.events, Some(self.task), what, 0).finish();
    }
}

fn built(documents: &Documents, names: &[Reference]) -> BuiltImage {
    BuiltImage {
        descriptor: documents.root.descriptor.clone(),
        config: documents.config().map(|config| config.digest),
        names: names.iter().map(ToString::to_string).collect(),
    }
}

fn format(format: &ImageFormat) -> Format {
    Format {
        layers: LayerFormat { compression: format.compression, force: format.force_compression },
        oci_mediatypes: format.oci_mediatypes,
    }
}

/// The stream that an archive is written to.
struct ArchiveSink {
    stream: Box<dyn Write + Send>,
    /// A file that gets its name when it is complete. It is dropped, and so removed, with the
    /// future that waits for the writing.
    pending: Option<(tempfile::TempPath, PathBuf)>,
}

impl ArchiveSink {
    fn finish(pending: Option<(tempfile::TempPath, PathBuf)>) -> Result<(), Error> {
        let Some((file, path)) = pending else { return Ok(()) };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, mode)
            .and_then(|()| file.persist(&path).map_err(|error| error.error))
            .map_err(|source| Error::Export(export::Error::Write { path, source }))
    }
}

/// Opens a destination. It can block: a pipe opens when it has a reader.
async fn open(destination: &Destination) -> Result<ArchiveSink, Error> {
    let path = match destination {
        Destination::Stdout => {
            let stream = Box::new(Named { out: io::stdout(), name: "standard output".into() });
            return Ok(ArchiveSink { stream, pending: None });
        }
        Destination::Path(path) => path.clone(),
    };
    match tokio::task::spawn_blocking(move || open_file(path)).await {
        Ok(target) => target,
        // Cancellation happens only when the runtime shuts down, and then nothing waits here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn open_file(path: PathBuf) -> Result<ArchiveSink, Error> {
    let failed = |source| Error::Export(export::Error::Write { path: path.clone(), source });
    let name = format!("`{}`", path.display());
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if path.exists() && !path.is_file() {
        // A pipe or a device is written as it is.
        let out = File::options().write(true).open(&path).map_err(failed)?;
        return Ok(ArchiveSink { stream: Box::new(Named { out, name }), pending: None });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // The error of a temporary file would name that file.
    folder.metadata().map_err(failed)?;
    let (out, file) = tempfile::NamedTempFile::new_in(folder).map_err(failed)?.into_parts();
    Ok(ArchiveSink { stream: Box::new(Named { out, name }), pending: Some((file, path)) })
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
