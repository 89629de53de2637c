//! `--output`, `--push` and `--load`.

use std::path::{Path, PathBuf};

use build::{
    ArchiveOutput, Destination, EpochChoice, FilesOptions, FolderOutput, ImageFormat, ImageOptions,
    ImageOutput, Output, TarOutput,
};
use oci::Reference;

use super::annotation::AnnotationOptions;
use super::options::{
    self, Accepted, Direction, accepted_boolean, boolean, given, optional_boolean, options, text,
};
use super::{Fields, FormatOptions, OptionError, fields};

/// The context in which outputs are read.
#[derive(Clone, Copy, Debug)]
pub struct OutputContext<'a> {
    /// The folder that relative paths are resolved against.
    pub directory: &'a Path,
    /// True if standard output is a terminal, to which no archive is written.
    pub stdout_is_terminal: bool,
}

/// A kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputKind {
    Image,
    Registry,
    Oci,
    Docker,
    Local,
    Tar,
    CacheOnly,
}

/// The kinds by their names.
const KINDS: [(&str, OutputKind); 7] = [
    ("image", OutputKind::Image),
    ("registry", OutputKind::Registry),
    ("oci", OutputKind::Oci),
    ("docker", OutputKind::Docker),
    ("local", OutputKind::Local),
    ("tar", OutputKind::Tar),
    ("cacheonly", OutputKind::CacheOnly),
];

options! {
    /// Names of an image, in all outputs that are images.
    pub struct NameOptions {
        /// Names of the image, separated by commas.
        names: String = text("name"), "other";
    }
}

options! {
    /// `type=image` and `type=registry`.
    pub struct ImageOutputOptions {
        /// Pushes the image.
        push: bool = boolean("push"), "true";
        /// Pushes the image by its digest, without a tag.
        push_by_digest: bool = boolean("push-by-digest"), "true";
        /// Keeps the image in kiln's store.
        store: bool = boolean("store"), "false";
        /// Accepts plain HTTP or an untrusted certificate.
        insecure: bool = boolean("registry.insecure"), "true";
        // An image in the store is unpacked when it is needed, and found by its digest.
        /// Accepted: an image is unpacked when it is needed.
        unpack: bool = boolean("unpack"), "true";
        /// Accepted: an image is always found by its digest.
        _name_canonical: Accepted = accepted_boolean("name-canonical"), "true";
    }
}

options! {
    /// Everything about an image except its layers, in all outputs that are images.
    pub struct DescriptionOptions {
        /// Writes attestations as artifacts of OCI.
        oci_artifact: bool = optional_boolean("oci-artifact"), "true";
        /// Adds attestations to the image's index.
        attestation_inline: bool = optional_boolean("attestation-inline"), "false";
        /// Sets files to the time of `source-date-epoch`.
        rewrite_timestamp: bool = boolean("rewrite-timestamp"), "true";
        // Layers that may not be passed on are Windows' alone, which kiln does not build.
        /// Only with its off value: kiln builds no layers that may not be distributed.
        _nondist: Accepted = off("prefer-nondist-layers") for Off, "false";
        /// Only with its off value: an image without a name is kept by its digest.
        _dangling: Accepted = off_dangling("dangling-name-prefix" | "danging-name-empty-only") for Off,
            "false";
    }
}

options! {
    /// The time of an image or of files.
    pub struct EpochOptions {
        /// Seconds since 1970; empty for no time.
        epoch: EpochChoice = epoch("source-date-epoch"), "7";
    }
}

options! {
    /// `type=oci` and `type=docker`.
    pub struct ArchiveOptions {
        /// Writes an archive instead of a folder.
        tar: bool = boolean("tar"), "false";
        /// Only with the value default: `DOCKER_HOST` names another engine.
        _context: Accepted = default_context("context") for Off, "default";
    }
}

options! {
    /// The destination of outputs that are files.
    pub struct DestinationOptions {
        /// File or folder; `-` is standard output.
        dest: String = given("dest"), "other";
    }
}

options! {
    /// `type=local`.
    pub struct FolderOptions {
        /// Treatment of other files in the folder: copy leaves them, delete removes them.
        delete: bool = folder_mode("mode"), "delete";
    }
}

options! {
    /// `type=local` and `type=tar`.
    pub struct FileOptions {
        /// Writes each platform to a folder of its own.
        platform_split: bool = optional_boolean("platform-split"), "true";
        /// Beginning of the file names of attestations.
        attestation_prefix: String = attestation_prefix("attestation-prefix"), "p-";
    }
}

/// All options of outputs that are images, except their destinations.
pub type ImageSet =
    (NameOptions, FormatOptions, (DescriptionOptions, EpochOptions), AnnotationOptions);
/// All options of outputs that are files, except their destinations.
pub type FileSet = (FileOptions, EpochOptions);

fn off(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    match text {
        "" | "false" | "0" => Ok(None),
        _ => Err(OptionError::NotSupported { option: format!("{key}={text}"), hint: "" }),
    }
}

fn off_dangling(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    off(key, text).map_err(|_| {
        let reason = "kiln keeps an image without a name by its digest, never under a made-up \
            name; leave it out";
        OptionError::refused(key, reason)
    })
}

fn default_context(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    match text {
        "" | "default" => Ok(None),
        _ => Err(OptionError::NotSupported {
            option: format!("{key}={text}"),
            hint: "; set DOCKER_HOST",
        }),
    }
}

fn folder_mode(key: &str, text: &str) -> Result<Option<bool>, OptionError> {
    match text {
        "" | "copy" => Ok(Some(false)),
        "delete" => Ok(Some(true)),
        other => Err(OptionError::invalid(key, other, "copy or delete")),
    }
}

fn attestation_prefix(key: &str, text: &str) -> Result<Option<String>, OptionError> {
    if text.contains('/') {
        let expected = "the beginning of a file name, without `/`";
        return Err(OptionError::invalid(key, text, expected));
    }
    Ok(Some(text.to_owned()))
}

fn epoch(key: &str, text: &str) -> Result<Option<EpochChoice>, OptionError> {
    match text.parse() {
        Ok(seconds) => Ok(Some(EpochChoice::At(seconds))),
        Err(_) if text.is_empty() => Ok(Some(EpochChoice::None)),
        Err(_) => Err(OptionError::invalid(key, text, "a number of seconds since 1970")),
    }
}

/// Reads a value of `--output`.
///
/// # Errors
/// If an option is unknown, missing, wrong or not supported.
pub fn output(text: &str, context: OutputContext<'_>) -> Result<Output, OptionError> {
    let parts = fields(text)?;
    if let [only] = parts.as_slice()
        && only == text
        && !only.starts_with("type=")
    {
        return short(only, context);
    }
    output_of(Fields::of(&parts)?, context)
}

fn output_of(mut fields: Fields, context: OutputContext<'_>) -> Result<Output, OptionError> {
    let hint = ", as in `type=local,dest=out`";
    let name =
        fields.take("type").ok_or_else(|| OptionError::missing("an output", "type", hint))?;
    let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
        let names = KINDS.map(|(name, _)| name).join(", ");
        return Err(OptionError::invalid("type", name, format!("one of {names}")));
    };
    let of = format!("type={name}");
    match kind {
        OutputKind::Image => image(fields, &of, false),
        OutputKind::Registry => image(fields, &of, true),
        OutputKind::Oci | OutputKind::Docker => archive(fields, *kind, context),
        OutputKind::Local => local_output(options::read(&of, fields, Direction::Export)?, context),
        OutputKind::Tar => {
            let (to, files): (DestinationOptions, FileSet) =
                options::read(&of, fields, Direction::Export)?;
            let destination = archive_destination(to.dest, &of, context)?;
            Ok(Output::Tar(TarOutput { destination, files: files_of(files) }))
        }
        OutputKind::CacheOnly => {
            let () = options::read(&of, fields, Direction::Export)?;
            Ok(Output::CacheOnly)
        }
    }
}

/// Reads a value of `--output` for a tool without an engine: `type=docker` without a destination,
/// which an engine would load, is an image in kiln's root.
///
/// # Errors
/// The errors of [`output`].
pub fn kept_output(text: &str, context: OutputContext<'_>) -> Result<Output, OptionError> {
    match Fields::of(&fields(text)?) {
        Ok(fields) if is_for_engine(&fields) => kept_output_of(fields, context),
        _ => output(text, context),
    }
}

/// Reads an output for a tool without an engine by its fields.
///
/// # Errors
/// Those of [`output`].
pub fn kept_output_of(
    mut fields: Fields,
    context: OutputContext<'_>,
) -> Result<Output, OptionError> {
    if !is_for_engine(&fields) {
        return output_of(fields, context);
    }
    // `context` names an engine, and there is none.
    for key in ["type", "context"] {
        fields.take(key);
    }
    image(fields, "type=image", false)
}

/// True for `type=docker` without a destination, which an engine loads.
fn is_for_engine(fields: &Fields) -> bool {
    let mut fields = fields.clone();
    fields.take("type").as_deref() == Some("docker") && fields.take("dest").is_none()
}

/// `--output DEST`.
fn short(dest: &str, context: OutputContext<'_>) -> Result<Output, OptionError> {
    let files = FilesOptions::default();
    match dest {
        "-" => Ok(Output::Tar(TarOutput { destination: stdout(context)?, files })),
        path => {
            let folder = local(path, context)?;
            Ok(Output::Local(FolderOutput { folder, delete: false, files }))
        }
    }
}

fn local_output(
    (to, folder, files): (DestinationOptions, FolderOptions, FileSet),
    context: OutputContext<'_>,
) -> Result<Output, OptionError> {
    match to.dest.as_deref() {
        None => Err(OptionError::missing("type=local", "dest", ", a folder")),
        Some("-") => Err(OptionError::refused(
            "type=local",
            "it writes a folder; `type=tar,dest=-` writes to standard output",
        )),
        Some(path) => Ok(Output::Local(FolderOutput {
            folder: local(path, context)?,
            delete: folder.delete.unwrap_or(false),
            files: files_of(files),
        })),
    }
}

fn files_of((files, epoch): FileSet) -> FilesOptions {
    FilesOptions {
        platform_split: files.platform_split,
        attestation_prefix: files.attestation_prefix.unwrap_or_default(),
        epoch: epoch.epoch.unwrap_or(EpochChoice::OfBuild),
    }
}

/// The names, format and description of an image.
struct ImageContent {
    names: String,
    format: ImageFormat,
    options: ImageOptions,
}

impl ImageContent {
    fn of(
        (names, format, (description, epoch), annotations): ImageSet,
        oci_mediatypes: bool,
    ) -> Result<Self, OptionError> {
        let format = format.format(oci_mediatypes)?;
        if description.oci_artifact == Some(true) && !format.oci_mediatypes {
            return Err(OptionError::together("oci-artifact=true", "oci-mediatypes=false"));
        }
        let options = ImageOptions {
            annotations: annotations.0,
            oci_artifact: description.oci_artifact,
            attestation_inline: description.attestation_inline,
            rewrite_timestamp: description.rewrite_timestamp.unwrap_or(false),
            epoch: epoch.epoch.unwrap_or(EpochChoice::OfBuild),
        };
        Ok(Self { names: names.names.unwrap_or_default(), format, options })
    }
}

fn image(fields: Fields, of: &str, push: bool) -> Result<Output, OptionError> {
    let (own, content): (ImageOutputOptions, ImageSet) =
        options::read(of, fields, Direction::Export)?;
    let ImageContent { names, format, options } = ImageContent::of(content, true)?;
    let push_by_digest = own.push_by_digest.unwrap_or(false);
    if push_by_digest && let Some(tagged) = names.split(',').find(|name| has_tag(name)) {
        return Err(tag_by_digest(tagged));
    }
    if own.unpack == Some(true) && options.rewrite_timestamp {
        return Err(OptionError::together("rewrite-timestamp", "unpack"));
    }
    Ok(Output::Image(ImageOutput {
        names: self::names(&names)?,
        push: own.push.unwrap_or(push),
        push_by_digest,
        insecure: own.insecure.unwrap_or(false),
        store: own.store.unwrap_or(true),
        format,
        options,
    }))
}

fn archive(
    fields: Fields,
    kind: OutputKind,
    context: OutputContext<'_>,
) -> Result<Output, OptionError> {
    let is_docker = kind == OutputKind::Docker;
    let of = if is_docker { "type=docker" } else { "type=oci" };
    let (to, own, content): (DestinationOptions, ArchiveOptions, ImageSet) =
        options::read(of, fields, Direction::Export)?;
    let ImageContent { names, format, options } = ImageContent::of(content, !is_docker)?;
    let tar = own.tar.unwrap_or(true);
    let destination = match (tar, to.dest) {
        (true, None) if is_docker => None,
        (true, dest) => Some(archive_destination(dest, of, context)?),
        (false, None) => {
            return Err(OptionError::missing(format!("{of},tar=false"), "dest", ", a folder"));
        }
        (false, Some(dest)) if dest == "-" => {
            return Err(OptionError::refused(
                format!("{of},tar=false"),
                "it writes a folder, which standard output is not",
            ));
        }
        (false, Some(dest)) => Some(Destination::Path(local(&dest, context)?)),
    };
    let archive = ArchiveOutput { names: self::names(&names)?, destination, tar, format, options };
    Ok(if is_docker { Output::Docker(archive) } else { Output::Oci(archive) })
}

fn local(path: &str, context: OutputContext<'_>) -> Result<PathBuf, OptionError> {
    let path = context.directory.join(path);
    match path.metadata() {
        Ok(metadata) if !metadata.is_dir() => {
            Err(OptionError::malformed(path.display().to_string(), "a folder"))
        }
        _ => Ok(path),
    }
}

fn archive_destination(
    dest: Option<String>,
    of: &str,
    context: OutputContext<'_>,
) -> Result<Destination, OptionError> {
    match dest.as_deref() {
        None | Some("-") => stdout(context).map_err(|_| {
            OptionError::missing(of, "dest", ", a file: an archive is not written to a terminal")
        }),
        Some(path) => {
            let path = context.directory.join(path);
            if path.is_dir() {
                let reason = format!("it is a folder; `{of}` writes a file");
                Err(OptionError::refused(path.display().to_string(), reason))
            } else {
                Ok(Destination::Path(path))
            }
        }
    }
}

/// The file that an archive is written to; `-` is standard output.
///
/// # Errors
/// If it is a folder or a terminal.
pub fn file(path: &str, context: OutputContext<'_>) -> Result<Destination, OptionError> {
    archive_destination(Some(path.to_owned()), "an archive", context)
}

/// The folder that a layout is written to.
///
/// # Errors
/// If it is a file, or standard output.
pub fn folder(path: &str, context: OutputContext<'_>) -> Result<Destination, OptionError> {
    if path == "-" {
        let reason = "a layout is a folder, which standard output is not";
        return Err(OptionError::Unusable(reason.into()));
    }
    Ok(Destination::Path(local(path, context)?))
}

fn stdout(context: OutputContext<'_>) -> Result<Destination, OptionError> {
    if context.stdout_is_terminal {
        return Err(OptionError::Unusable("an archive is not written to a terminal".into()));
    }
    Ok(Destination::Stdout)
}

fn tag_by_digest(name: &str) -> OptionError {
    OptionError::Unusable(format!("`push-by-digest` pushes no tag, but `{name}` has one").into())
}

/// Names of an image, separated by commas.
fn names(text: &str) -> Result<Vec<Reference>, OptionError> {
    if text.trim() == "*" {
        return Err(OptionError::NotSupported {
            option: "name=*".into(),
            hint: "; write the name",
        });
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(tag).collect()
}

/// A name that an image can be given: a reference without a digest.
///
/// # Errors
/// If it is not a reference, or has a digest.
pub fn tag(text: &str) -> Result<Reference, OptionError> {
    let reference: Reference = text.parse()?;
    match reference.digest() {
        Some(_) => Err(OptionError::refused(
            text,
            "it names an image by its digest, which a new image does not have yet",
        )),
        None => Ok(reference),
    }
}

fn has_tag(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Applies `--push` and `--load` as buildx does: `--push` pushes the image outputs or adds one,
/// `--load` adds a `docker` output if there is none. Without any output, the image is kept in the
/// store.
///
/// # Errors
/// If outputs cannot be used together, or an image to be pushed has no name.
pub fn complete(
    mut outputs: Vec<Output>,
    push: bool,
    load: bool,
    tagged: bool,
) -> Result<Vec<Output>, OptionError> {
    if push {
        let mut pushed = false;
        for output in &mut outputs {
            if let Output::Image(image) = output {
                image.push = true;
                pushed = true;
            }
        }
        if !pushed {
            outputs.push(Output::Image(stored(true)));
        }
    }
    let loads = |output: &Output| matches!(output, Output::Docker(archive) if archive.destination.is_none());
    if load && !outputs.iter().any(loads) {
        outputs.push(Output::Docker(ArchiveOutput {
            names: Vec::new(),
            destination: None,
            tar: true,
            format: ImageFormat { oci_mediatypes: false, ..ImageFormat::default() },
            options: ImageOptions::default(),
        }));
    }
    if outputs.is_empty() {
        outputs.push(Output::Image(stored(false)));
    }
    for output in &outputs {
        if let Output::Image(image) = output
            && image.push
            && image.names.is_empty()
            && !tagged
        {
            let reason = "a name is needed when pushing to a registry: give `--tag`";
            return Err(OptionError::Unusable(reason.into()));
        }
    }
    if outputs.iter().filter(|output| writes_stdout(output)).count() > 1 {
        let reason = "only one output can go to standard output";
        return Err(OptionError::refused("--output", reason));
    }
    Ok(outputs)
}

/// Adds the tags to outputs with names of their own: an image that is named twice gets both names.
/// (buildx silently replaces the names by the tags.)
///
/// # Errors
/// If an image is pushed by digest, and a name has a tag.
pub fn add_tags(
    outputs: &mut [Output],
    (texts, tags): (&[String], &[Reference]),
) -> Result<(), OptionError> {
    for output in outputs {
        let names = match output {
            Output::Image(image) => {
                let tagged = texts.iter().find(|text| image.push_by_digest && has_tag(text));
                if let Some(tagged) = tagged {
                    return Err(tag_by_digest(tagged));
                }
                &mut image.names
            }
            Output::Oci(archive) | Output::Docker(archive) => &mut archive.names,
            Output::Local(_) | Output::Tar(_) | Output::CacheOnly => continue,
        };
        // An output without names of its own gets the tags in any case.
        if !names.is_empty() {
            let new: Vec<_> = tags.iter().filter(|tag| !names.contains(tag)).cloned().collect();
            names.extend(new);
        }
    }
    Ok(())
}

fn stored(push: bool) -> ImageOutput {
    ImageOutput {
        names: Vec::new(),
        push,
        push_by_digest: false,
        insecure: false,
        store: true,
        format: ImageFormat::default(),
        options: ImageOptions::default(),
    }
}

/// True if an output goes to standard output.
pub fn writes_stdout(output: &Output) -> bool {
    let destination = match output {
        Output::Tar(tar) => Some(&tar.destination),
        Output::Oci(archive) | Output::Docker(archive) => archive.destination.as_ref(),
        _ => None,
    };
    destination == Some(&Destination::Stdout)
}

#[cfg(test)]
mod tests {
    use store::Compression;

    use super::*;

    fn read(text: &str) -> Result<Output, OptionError> {
        output(text, OutputContext { directory: Path::new("/w"), stdout_is_terminal: false })
    }

    #[test]
    fn short_forms() {
        assert!(matches!(read("out"), Ok(Output::Local(o)) if o.folder == Path::new("/w/out")));
        assert!(matches!(read("-"), Ok(Output::Tar(o)) if o.destination == Destination::Stdout));
        let terminal = OutputContext { directory: Path::new("/w"), stdout_is_terminal: true };
        assert!(output("-", terminal).unwrap_err().to_string().contains("terminal"));
    }

    #[test]
    fn images() {
        let Output::Image(image) =
            read("type=registry,\"name=a/b:1,c/d\",compression=zstd,compression-level=3,force-compression=true")
                .unwrap()
        else {
            panic!("an image");
        };
        assert!(image.push && image.store && image.format.force_compression);
        assert_eq!(image.names.len(), 2);
        assert_eq!(image.format.compression, Compression::Zstd(Some(3)));
        assert!(
            matches!(read("type=image,unpack=false,store=false"), Ok(Output::Image(i)) if !i.push && !i.store)
        );
        assert!(
            read("type=image,name=a/b,push-by-digest=true,name-canonical=true,push=true").is_ok()
        );
    }

    #[test]
    fn options_of_images() {
        let Output::Oci(archive) = read(
            "type=oci,dest=a.tar,annotation.a=b,annotation-index.c=d,annotation-manifest-descriptor[linux/arm64].e=f,rewrite-timestamp=true,source-date-epoch=,oci-artifact=false",
        )
        .unwrap() else {
            panic!("an archive");
        };
        let options = archive.options;
        let keys: Vec<&str> =
            options.annotations.iter().map(|annotation| annotation.key.as_str()).collect();
        assert_eq!(keys, ["a", "c", "e"]);
        assert_eq!(options.annotations[2].platform, Some("linux/arm64".parse().unwrap()));
        assert!(options.rewrite_timestamp && options.oci_artifact == Some(false));
        assert_eq!(options.epoch, EpochChoice::None);
    }

    #[test]
    fn without_an_engine_loading_is_keeping() {
        let kept = |text: &str| {
            kept_output(
                text,
                OutputContext { directory: Path::new("/w"), stdout_is_terminal: false },
            )
        };
        let Output::Image(image) =
            kept("type=docker,name=a,context=x,\"annotation.a=b,c\"").unwrap()
        else {
            panic!("an image");
        };
        assert!(image.store && !image.push && image.format.oci_mediatypes);
        assert_eq!((image.names.len(), image.options.annotations[0].value.as_str()), (1, "b,c"));
        assert!(matches!(kept("type=docker,dest=a.tar"), Ok(Output::Docker(_))));
        assert!(matches!(kept("out"), Ok(Output::Local(_))));
    }

    #[test]
    fn archives_and_trees() {
        assert!(
            matches!(read("type=docker"), Ok(Output::Docker(a)) if a.destination.is_none() && !a.format.oci_mediatypes)
        );
        assert!(matches!(read("type=oci,dest=a.tar"), Ok(Output::Oci(a))
            if a.destination == Some(Destination::Path("/w/a.tar".into())) && a.tar));
        assert!(matches!(read("type=oci,dest=d,tar=false"), Ok(Output::Oci(a)) if !a.tar));
        assert!(matches!(read("type=tar,dest=-"), Ok(Output::Tar(_))));
        let Output::Local(local) =
            read("type=local,dest=/o,mode=delete,platform-split=false,attestation-prefix=a-,source-date-epoch=7")
                .unwrap()
        else {
            panic!("a folder");
        };
        assert!(local.delete && local.files.platform_split == Some(false));
        assert_eq!(local.files.attestation_prefix, "a-");
        assert_eq!(local.files.epoch, EpochChoice::At(7));
        assert_eq!(read("type=cacheonly").unwrap(), Output::CacheOnly);
    }

    #[test]
    fn wrong_options_are_named() {
        for (text, word) in [
            ("dest=x,name=y", "needs `type`"),
            ("type=floppy", "`type=floppy`"),
            ("type=local", "`dest`"),
            ("type=local,dest=a,colour=red", "`colour` is not an option of type=local"),
            (
                "type=image,rewrite-timestamp=true,unpack=true",
                "`rewrite-timestamp` and `unpack` cannot",
            ),
            ("type=image,oci-artifact=true,oci-mediatypes=false", "cannot be used together"),
            ("type=image,dangling-name-prefix=x", "`dangling-name-prefix`: kiln keeps an image"),
            ("type=image,source-date-epoch=noon", "`source-date-epoch=noon`"),
            ("type=image,annotation-x.a=b", "`annotation-x.a`"),
            ("type=tar,annotation.a=b", "`annotation.a` is not an option of type=tar"),
            ("type=tar,attestation-prefix=../a", "without `/`"),
            ("type=image,compression=estargz", "`compression=estargz` is not supported yet"),
            ("type=image,compression=lz4", "expected gzip, zstd or"),
            ("type=image,compression-level=12", "expected from 0 to 9"),
            ("type=image,compression-level=", "expected a number"),
            ("type=image,push=perhaps", "expected true or false"),
            ("type=image,name=a/b:1,push-by-digest=true", "`a/b:1` has one"),
            ("type=image,name=UPPER", "lower case"),
            ("type=oci,tar=false", "needs `dest`"),
            ("type=tar,dest=/", "is a folder"),
            ("type=docker,context=x", "DOCKER_HOST"),
            ("type=local,dest=o,mode=mirror", "`mode=mirror`: expected copy or delete"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn push_and_load_complete_the_outputs() {
        let outputs = complete(Vec::new(), false, false, false).unwrap();
        assert!(matches!(&outputs[..], [Output::Image(image)] if !image.push && image.store));
        let outputs = complete(vec![Output::CacheOnly], true, true, true).unwrap();
        assert!(
            matches!(&outputs[..], [Output::CacheOnly, Output::Image(i), Output::Docker(_)] if i.push)
        );
        let outputs =
            complete(vec![read("type=image,name=a/b").unwrap()], true, false, false).unwrap();
        assert!(matches!(&outputs[..], [Output::Image(i)] if i.push));
        assert!(
            complete(Vec::new(), true, false, false).unwrap_err().to_string().contains("--tag")
        );
        let twice = vec![read("-").unwrap(), read("type=oci").unwrap()];
        assert!(complete(twice, false, false, true).unwrap_err().to_string().contains("only one"));
    }
}
