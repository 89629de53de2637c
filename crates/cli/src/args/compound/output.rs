//! `--output`, `--push` and `--load`.

use std::path::{Path, PathBuf};

use build::{
    ArchiveOutput, Destination, EpochChoice, FilesOptions, FolderOutput, ImageFormat, ImageOptions,
    ImageOutput, Output, TarOutput,
};
use oci::Reference;

use super::{Fields, OptionError, annotation, boolean, fields, image_format};

/// The surroundings that outputs are read in.
#[derive(Clone, Copy, Debug)]
pub struct OutputContext<'a> {
    /// Relative paths begin here.
    pub directory: &'a Path,
    /// True if standard output is a terminal, which gets no archive.
    pub stdout_is_terminal: bool,
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
        return match only.as_str() {
            "-" => Ok(Output::Tar(TarOutput {
                destination: stdout(context)?,
                files: FilesOptions::default(),
            })),
            path => Ok(Output::Local(FolderOutput {
                folder: local(path, context)?,
                delete: false,
                files: FilesOptions::default(),
            })),
        };
    }
    let mut fields = Fields::of(&parts)?;
    let Some(kind) = fields.take("type") else {
        return Err(missing("an output", "type", ", as in `type=local,dest=out`"));
    };
    match kind.as_str() {
        "image" => image(fields, "type=image", false),
        "registry" => image(fields, "type=registry", true),
        "oci" => Ok(Output::Oci(archive(fields, "type=oci", context)?)),
        "docker" => Ok(Output::Docker(archive(fields, "type=docker", context)?)),
        "local" => {
            let dest = take_dest(&mut fields);
            let delete = match fields.take("mode").as_deref() {
                None | Some("" | "copy") => false,
                Some("delete") => true,
                Some(other) => return Err(OptionError::invalid("mode", other, "copy or delete")),
            };
            let files = files_options(fields, "type=local", &["dest", "mode"])?;
            match dest.as_deref() {
                None => Err(missing("type=local", "dest", ", a folder")),
                Some("-") => Err(OptionError::refused(
                    "type=local",
                    "it writes a folder; `type=tar,dest=-` writes to standard output",
                )),
                Some(path) => {
                    Ok(Output::Local(FolderOutput { folder: local(path, context)?, delete, files }))
                }
            }
        }
        "tar" => {
            let dest = take_dest(&mut fields);
            let files = files_options(fields, "type=tar", &["dest"])?;
            let destination = archive_destination(dest, "type=tar", context)?;
            Ok(Output::Tar(TarOutput { destination, files }))
        }
        "cacheonly" => {
            fields.nothing_left("type=cacheonly", &["no options"])?;
            Ok(Output::CacheOnly)
        }
        other => Err(OptionError::invalid(
            "type",
            other,
            "one of image, registry, oci, docker, local, tar, cacheonly",
        )),
    }
}

/// Reads a value of `--output` for a tool without an engine: `type=docker` without a destination,
/// which an engine would load, is an image in kiln's root.
///
/// # Errors
/// As [`output`].
pub fn kept_output(text: &str, context: OutputContext<'_>) -> Result<Output, OptionError> {
    if let Ok(mut fields) = Fields::of(&fields(text)?)
        && fields.take("type").as_deref() == Some("docker")
        && fields.take("dest").is_none()
    {
        fields.take("context");
        return image(fields, "type=image", false);
    }
    output(text, context)
}

fn take_dest(fields: &mut Fields) -> Option<String> {
    fields.take("dest").filter(|dest| !dest.is_empty())
}

/// Options of BuildKit's `local` and `tar`.
fn files_options(
    mut fields: Fields,
    of: &str,
    own: &[&'static str],
) -> Result<FilesOptions, OptionError> {
    let options = FilesOptions {
        platform_split: optional_boolean(&mut fields, "platform-split")?,
        attestation_prefix: fields.take("attestation-prefix").unwrap_or_default(),
        epoch: epoch(&mut fields)?,
    };
    if options.attestation_prefix.contains('/') {
        return Err(OptionError::invalid(
            "attestation-prefix",
            options.attestation_prefix,
            "the beginning of a file name, without `/`",
        ));
    }
    let known = [own, &["platform-split", "attestation-prefix", "source-date-epoch"]].concat();
    fields.nothing_left(of, &known)?;
    Ok(options)
}

fn optional_boolean(fields: &mut Fields, key: &str) -> Result<Option<bool>, OptionError> {
    let value = fields.take(key).filter(|text| !text.is_empty());
    let read = |text: String| {
        boolean(&text).ok_or_else(|| OptionError::invalid(key, text, "true or false"))
    };
    value.map(read).transpose()
}

/// `source-date-epoch`: seconds since 1970, or nothing for no epoch.
fn epoch(fields: &mut Fields) -> Result<EpochChoice, OptionError> {
    match fields.take("source-date-epoch") {
        None => Ok(EpochChoice::OfBuild),
        Some(text) if text.is_empty() => Ok(EpochChoice::None),
        Some(text) => text.parse().map(EpochChoice::At).map_err(|_| {
            OptionError::invalid("source-date-epoch", text, "a number of seconds since 1970")
        }),
    }
}

/// What is written beside and around an image, in all outputs that are images.
fn image_options(
    fields: &mut Fields,
    of: &str,
    oci_mediatypes: bool,
) -> Result<ImageOptions, OptionError> {
    let options = ImageOptions {
        annotations: annotation::of_output(fields)?,
        oci_artifact: optional_boolean(fields, "oci-artifact")?,
        attestation_inline: optional_boolean(fields, "attestation-inline")?,
        rewrite_timestamp: fields.take_boolean("rewrite-timestamp", false)?,
        epoch: epoch(fields)?,
    };
    if options.oci_artifact == Some(true) && !oci_mediatypes {
        return Err(OptionError::together("oci-artifact=true", "oci-mediatypes=false"));
    }
    // Layers whose bytes may not be passed on are Windows' alone, which kiln does not build.
    fields.not_yet("prefer-nondist-layers", &["", "false", "0"])?;
    for key in ["dangling-name-prefix", "danging-name-empty-only"] {
        if fields.take(key).is_some_and(|value| !matches!(value.as_str(), "" | "false" | "0")) {
            return Err(OptionError::refused(
                key,
                format!(
                    "kiln keeps an image of {of} without a name by its digest, never under a made-up name; leave it out"
                ),
            ));
        }
    }
    Ok(options)
}

const IMAGE: [&str; 17] = [
    "name",
    "push",
    "push-by-digest",
    "store",
    "registry.insecure",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "annotation.<key>",
    "unpack",
    "name-canonical",
    "oci-artifact",
    "attestation-inline",
    "rewrite-timestamp",
    "source-date-epoch",
    "prefer-nondist-layers",
];

fn image(mut fields: Fields, of: &str, push: bool) -> Result<Output, OptionError> {
    let format = image_format(&mut fields, true)?;
    let names = fields.take("name").unwrap_or_default();
    let push_by_digest = fields.take_boolean("push-by-digest", false)?;
    let options = image_options(&mut fields, of, format.oci_mediatypes)?;
    let output = ImageOutput {
        names: self::names(&names)?,
        push: fields.take_boolean("push", push)?,
        push_by_digest,
        insecure: fields.take_boolean("registry.insecure", false)?,
        store: fields.take_boolean("store", true)?,
        format,
        options,
    };
    if push_by_digest && let Some(tagged) = names.split(',').find(|name| has_tag(name)) {
        return Err(tag_by_digest(tagged));
    }
    // An image in the store is always unpacked when it is needed and found by its digest: these
    // two ask for what is the case anyway, or spare what is not done.
    if fields.take_boolean("unpack", false)? && output.options.rewrite_timestamp {
        return Err(OptionError::together("rewrite-timestamp", "unpack"));
    }
    fields.take_boolean("name-canonical", false)?;
    fields.nothing_left(of, &IMAGE)?;
    Ok(Output::Image(output))
}

const ARCHIVE: [&str; 12] = [
    "dest",
    "name",
    "tar",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "annotation.<key>",
    "oci-artifact",
    "attestation-inline",
    "rewrite-timestamp",
    "source-date-epoch",
];

fn archive(
    mut fields: Fields,
    of: &str,
    context: OutputContext<'_>,
) -> Result<ArchiveOutput, OptionError> {
    let is_docker = of == "type=docker";
    let format = image_format(&mut fields, !is_docker)?;
    let names = names(&fields.take("name").unwrap_or_default())?;
    let tar = fields.take_boolean("tar", true)?;
    let dest = take_dest(&mut fields);
    if let Some(name) =
        fields.take("context").filter(|name| !matches!(name.as_str(), "" | "default"))
    {
        return Err(OptionError::NotSupported {
            option: format!("context={name}"),
            hint: "; set DOCKER_HOST",
        });
    }
    let options = image_options(&mut fields, of, format.oci_mediatypes)?;
    fields.nothing_left(of, &ARCHIVE)?;
    let destination = match (tar, dest) {
        (true, None) if is_docker => None,
        (true, dest) => Some(archive_destination(dest, of, context)?),
        (false, None) => return Err(missing(format!("{of},tar=false"), "dest", ", a folder")),
        (false, Some(dest)) if dest == "-" => {
            return Err(OptionError::refused(
                format!("{of},tar=false"),
                "it writes a folder, which standard output is not",
            ));
        }
        (false, Some(dest)) => Some(Destination::Path(local(&dest, context)?)),
    };
    Ok(ArchiveOutput { names, destination, tar, format, options })
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
        None | Some("-") => stdout(context)
            .map_err(|_| missing(of, "dest", ", a file: an archive is not written to a terminal")),
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

fn missing(of: impl Into<String>, key: &'static str, hint: &'static str) -> OptionError {
    OptionError::Missing { of: of.into(), key, hint }
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

/// Adds what `--push` and `--load` ask for, as buildx does: `--push` pushes the image outputs or
/// adds one, `--load` adds a `docker` output if there is none. Without any output, the image is
/// kept in the store.
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

/// Adds the tags to outputs that have names of their own: an image that is named twice gets both
/// names. (buildx silently replaces the names by the tags.)
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
        // Without names of its own an output has the tags in any case.
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
            (
                "type=image,dangling-name-prefix=x",
                "`dangling-name-prefix`: kiln keeps an image of type=image",
            ),
            ("type=image,source-date-epoch=noon", "`source-date-epoch=noon`"),
            ("type=image,annotation-x.a=b", "`annotation-x.a`"),
            ("type=tar,annotation.a=b", "`annotation.a` is not an option of type=tar"),
            ("type=tar,attestation-prefix=../a", "without `/`"),
            ("type=image,compression=estargz", "`compression=estargz` is not supported yet"),
            ("type=image,compression=lz4", "expected gzip, zstd or"),
            ("type=image,compression-level=12", "expected from 0 to 9"),
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
