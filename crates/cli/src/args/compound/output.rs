//! `--output`, `--push` and `--load`.

use std::path::{Path, PathBuf};

use build::{
    ArchiveOutput, Destination, EpochChoice, FilesOptions, FolderOutput, ImageFormat, ImageOptions,
    ImageOutput, Output, TarOutput,
};
use oci::Reference;

use super::{Fields, annotation, boolean, fields, image_format};

/// What outputs are read against.
#[derive(Clone, Copy, Debug)]
pub struct OutputContext<'a> {
    /// Relative paths begin here.
    pub directory: &'a Path,
    /// Whether standard output is a terminal, which gets no archive.
    pub stdout_is_terminal: bool,
}

/// Reads a value of `--output`.
///
/// # Errors
/// A sentence that names what is wrong or not there yet.
pub fn output(text: &str, context: OutputContext<'_>) -> Result<Output, String> {
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
        return Err("`type` is missing, as in `type=local,dest=out`".into());
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
                Some(other) => return Err(format!("`mode={other}` is none of copy, delete")),
            };
            let files = files_options(fields, "type=local", &["dest", "mode"])?;
            match dest.as_deref() {
                None => Err("`type=local` needs `dest`, a folder".into()),
                Some("-") => {
                    Err("`type=local` writes a folder; `type=tar,dest=-` writes to standard output"
                        .into())
                }
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
        other => Err(format!(
            "`type={other}` is none of image, registry, oci, docker, local, tar, cacheonly"
        )),
    }
}

fn take_dest(fields: &mut Fields) -> Option<String> {
    fields.take("dest").filter(|dest| !dest.is_empty())
}

/// Options of BuildKit's `local` and `tar`.
fn files_options(mut fields: Fields, of: &str, own: &[&str]) -> Result<FilesOptions, String> {
    let options = FilesOptions {
        platform_split: optional_boolean(&mut fields, "platform-split")?,
        attestation_prefix: fields.take("attestation-prefix").unwrap_or_default(),
        epoch: epoch(&mut fields)?,
    };
    if options.attestation_prefix.contains('/') {
        return Err("`attestation-prefix` is the beginning of a file's name, without `/`".into());
    }
    let known = [own, &["platform-split", "attestation-prefix", "source-date-epoch"]].concat();
    fields.nothing_left(of, &known)?;
    Ok(options)
}

fn optional_boolean(fields: &mut Fields, key: &str) -> Result<Option<bool>, String> {
    let value = fields.take(key).filter(|text| !text.is_empty());
    let read = |text: String| {
        boolean(&text).ok_or_else(|| format!("`{key}={text}` is neither true nor false"))
    };
    value.map(read).transpose()
}

/// `source-date-epoch`: seconds since 1970, or nothing for no epoch.
fn epoch(fields: &mut Fields) -> Result<EpochChoice, String> {
    match fields.take("source-date-epoch") {
        None => Ok(EpochChoice::OfBuild),
        Some(text) if text.is_empty() => Ok(EpochChoice::None),
        Some(text) => text
            .parse()
            .map(EpochChoice::At)
            .map_err(|_| format!("`source-date-epoch={text}` is no number of seconds since 1970")),
    }
}

/// What is written beside and around an image, in all outputs that are images.
fn image_options(
    fields: &mut Fields,
    of: &str,
    oci_mediatypes: bool,
) -> Result<ImageOptions, String> {
    let options = ImageOptions {
        annotations: annotation::of_output(fields)?,
        oci_artifact: optional_boolean(fields, "oci-artifact")?,
        attestation_inline: optional_boolean(fields, "attestation-inline")?,
        rewrite_timestamp: fields.take_boolean("rewrite-timestamp", false)?,
        epoch: epoch(fields)?,
    };
    if options.oci_artifact == Some(true) && !oci_mediatypes {
        return Err("`oci-artifact=true` conflicts with `oci-mediatypes=false`".into());
    }
    // Layers whose bytes may not be passed on are Windows' alone, which kiln does not build.
    fields.not_yet("prefer-nondist-layers", &["", "false", "0"])?;
    for key in ["dangling-name-prefix", "danging-name-empty-only"] {
        if fields.take(key).is_some_and(|value| !matches!(value.as_str(), "" | "false" | "0")) {
            return Err(format!(
                "`{key}` of {of}: kiln keeps images without a name by their digest, under no made-up name; leave it out"
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

fn image(mut fields: Fields, of: &str, push: bool) -> Result<Output, String> {
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
        return Err(format!("`push-by-digest` pushes no tag, but `{tagged}` has one"));
    }
    // An image in the store is always unpacked when it is needed and found by its digest: these
    // two ask for what is the case anyway, or spare what is not done.
    if fields.take_boolean("unpack", false)? && output.options.rewrite_timestamp {
        return Err("`rewrite-timestamp` conflicts with `unpack`".into());
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
) -> Result<ArchiveOutput, String> {
    let is_docker = of == "type=docker";
    let format = image_format(&mut fields, !is_docker)?;
    let names = names(&fields.take("name").unwrap_or_default())?;
    let tar = fields.take_boolean("tar", true)?;
    let dest = take_dest(&mut fields);
    if let Some(name) =
        fields.take("context").filter(|name| !matches!(name.as_str(), "" | "default"))
    {
        return Err(format!(
            "`context={name}`: docker's contexts are not there yet; set DOCKER_HOST"
        ));
    }
    let options = image_options(&mut fields, of, format.oci_mediatypes)?;
    fields.nothing_left(of, &ARCHIVE)?;
    let destination = match (tar, dest) {
        (true, None) if is_docker => None,
        (true, dest) => Some(archive_destination(dest, of, context)?),
        (false, None) => return Err(format!("`{of},tar=false` needs `dest`, a folder")),
        (false, Some(dest)) if dest == "-" => {
            return Err(format!("`{of},tar=false` writes a folder, which standard output is not"));
        }
        (false, Some(dest)) => Some(Destination::Path(local(&dest, context)?)),
    };
    Ok(ArchiveOutput { names, destination, tar, format, options })
}

fn local(path: &str, context: OutputContext<'_>) -> Result<PathBuf, String> {
    let path = context.directory.join(path);
    match path.metadata() {
        Ok(metadata) if !metadata.is_dir() => Err(format!("`{}` is not a folder", path.display())),
        _ => Ok(path),
    }
}

fn archive_destination(
    dest: Option<String>,
    of: &str,
    context: OutputContext<'_>,
) -> Result<Destination, String> {
    match dest.as_deref() {
        None | Some("-") => {
            stdout(context).map_err(|error| format!("`{of}` needs `dest`, a file: {error}"))
        }
        Some(path) => {
            let path = context.directory.join(path);
            match path.is_dir() {
                true => Err(format!("`{}` is a folder; `{of}` writes a file", path.display())),
                false => Ok(Destination::Path(path)),
            }
        }
    }
}

fn stdout(context: OutputContext<'_>) -> Result<Destination, String> {
    match context.stdout_is_terminal {
        true => Err("an archive is not written to a terminal".into()),
        false => Ok(Destination::Stdout),
    }
}

/// Names of an image, separated by commas.
fn names(text: &str) -> Result<Vec<Reference>, String> {
    if text.trim() == "*" {
        return Err("`name=*` is not there yet; say the name".into());
    }
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(tag).collect()
}

/// A name that an image can be given: a reference without a digest.
///
/// # Errors
/// A sentence if it is none.
pub fn tag(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error| format!("{error}"))?;
    match reference.digest() {
        Some(_) => {
            Err(format!("`{text}` names an image by its digest, which a new one does not have yet"))
        }
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
/// A sentence if outputs do not go together.
pub fn complete(
    mut outputs: Vec<Output>,
    push: bool,
    load: bool,
    tagged: bool,
) -> Result<Vec<Output>, String> {
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
            return Err("a name is needed when pushing to a registry: give `--tag`".into());
        }
    }
    if outputs.iter().filter(|output| writes_stdout(output)).count() > 1 {
        return Err("`--output`: only one output can go to standard output".into());
    }
    Ok(outputs)
}

/// Gives the tags to outputs that have names of their own too: whoever names an image twice wants
/// both names. (buildx replaces the names by the tags, without a word.)
///
/// # Errors
/// A sentence if an image is pushed by digest alone, and a name has a tag.
pub fn add_tags(
    outputs: &mut [Output],
    (texts, tags): (&[String], &[Reference]),
) -> Result<(), String> {
    for output in outputs {
        let names = match output {
            Output::Image(image) => {
                let tagged = texts.iter().find(|text| image.push_by_digest && has_tag(text));
                if let Some(tagged) = tagged {
                    return Err(format!("`push-by-digest` pushes no tag, but `{tagged}` has one"));
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

/// Whether an output goes to standard output.
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

    fn read(text: &str) -> Result<Output, String> {
        output(text, OutputContext { directory: Path::new("/w"), stdout_is_terminal: false })
    }

    #[test]
    fn short_forms() {
        assert!(matches!(read("out"), Ok(Output::Local(o)) if o.folder == Path::new("/w/out")));
        assert!(matches!(read("-"), Ok(Output::Tar(o)) if o.destination == Destination::Stdout));
        let terminal = OutputContext { directory: Path::new("/w"), stdout_is_terminal: true };
        assert!(output("-", terminal).unwrap_err().contains("terminal"));
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
    fn what_is_around_an_image() {
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
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("dest=x,name=y", "`type` is missing"),
            ("type=floppy", "`type=floppy`"),
            ("type=local", "`dest`"),
            ("type=local,dest=a,colour=red", "`colour` is not an option of type=local"),
            ("type=image,rewrite-timestamp=true,unpack=true", "conflicts with `unpack`"),
            ("type=image,oci-artifact=true,oci-mediatypes=false", "conflicts with"),
            ("type=image,dangling-name-prefix=x", "`dangling-name-prefix` of type=image"),
            ("type=image,source-date-epoch=noon", "`source-date-epoch=noon`"),
            ("type=image,annotation-x.a=b", "`annotation-x.a`"),
            ("type=tar,annotation.a=b", "`annotation.a` is not an option of type=tar"),
            ("type=tar,attestation-prefix=../a", "without `/`"),
            ("type=image,compression=estargz", "`compression=estargz` is not there yet"),
            ("type=image,compression=lz4", "none of"),
            ("type=image,compression-level=12", "levels 0 to 9"),
            ("type=image,push=perhaps", "neither true nor false"),
            ("type=image,name=a/b:1,push-by-digest=true", "`a/b:1` has one"),
            ("type=image,name=UPPER", "lower case"),
            ("type=oci,tar=false", "needs `dest`"),
            ("type=tar,dest=/", "is a folder"),
            ("type=docker,context=x", "DOCKER_HOST"),
            ("type=local,dest=o,mode=mirror", "`mode=mirror` is none of"),
        ] {
            let error = read(text).unwrap_err();
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
        assert!(complete(Vec::new(), true, false, false).unwrap_err().contains("--tag"));
        let twice = vec![read("-").unwrap(), read("type=oci").unwrap()];
        assert!(complete(twice, false, false, true).unwrap_err().contains("only one"));
    }
}
