//! `--output`, `--push` and `--load`.

use build::{
    ArchiveOutput, Destination, EpochChoice, FilesOptions, FolderOutput, ImageFormat, ImageOptions,
    ImageOutput, Output, TarOutput,
};

use super::destination::{OutputContext, archive_destination, local, stdout};
use super::image_name::{self, has_tag, tag_by_digest};
use super::options::{self, Direction};
use super::output_options::{
    ArchiveOptions, DestinationOptions, FileSet, FolderOptions, ImageOutputOptions, ImageSet,
};
use super::{Fields, OptionError, fields};

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
        names: image_name::names(&names)?,
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
    let archive =
        ArchiveOutput { names: image_name::names(&names)?, destination, tar, format, options };
    Ok(if is_docker { Output::Docker(archive) } else { Output::Oci(archive) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use layer::Compression;

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
}
