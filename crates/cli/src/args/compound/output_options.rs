//! The options of outputs, as they are declared.

use build::EpochChoice;

use super::annotation::AnnotationOptions;
use super::options::{
    Accepted, accepted, accepted_boolean, boolean, given, optional_boolean, options, text,
};
use super::{FormatOptions, OptionError};

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
        // bollard sends both with each image.
        /// Accepted: BuildKit does not know these spellings, and takes them for other metadata.
        _other_spellings: Accepted = accepted("name_canonical" | "dangling_name_prefix"), "false";
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
