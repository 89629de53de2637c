//! `--annotation`, and `annotation…` of outputs.

use build::{Annotation, AnnotationLevel, Output};
use oci::Platform;

use super::OptionError;
use super::options::{KeyScope, OptionKey, OptionSet};

/// The annotations of an output: `annotation.KEY`, `annotation-LEVEL.KEY`,
/// `annotation-LEVEL[PLATFORM].KEY`.
#[derive(Default)]
pub struct AnnotationOptions(pub Vec<Annotation>);

impl OptionSet for AnnotationOptions {
    fn keys() -> Vec<OptionKey> {
        vec![OptionKey {
            names: &["annotation.<key>"],
            scope: KeyScope::Export,
            #[cfg(test)]
            example: "b",
            #[cfg(test)]
            is_accepted: false,
            #[cfg(test)]
            doc: " An annotation of the image; `annotation-LEVEL.<key>` of its index.",
        }]
    }

    fn set(&mut self, name: &str, value: &str) -> Result<bool, OptionError> {
        let head = name.strip_prefix("annotation").and_then(|rest| rest.split_once('.'));
        let Some((head, key)) = head else { return Ok(false) };
        let (level, platform) =
            level_and_platform(head.trim_start_matches('-')).map_err(|error| error.within(name))?;
        self.0.push(Annotation { level, platform, key: key.into(), value: value.into() });
        Ok(true)
    }
}

/// Reads a value of `--annotation`: `KEY=VALUE`, `LEVEL:KEY=VALUE`, `LEVEL[PLATFORM],…:KEY=VALUE`.
///
/// # Errors
/// If it has no key or value, or an unknown level or platform.
pub fn annotations(text: &str) -> Result<Vec<Annotation>, OptionError> {
    // buildx's message.
    let malformed = || {
        let text = format!("invalid annotation `{text}`, expected key=value");
        OptionError::Unusable(text.into())
    };
    let (name, value) = text.split_once('=').ok_or_else(malformed)?;
    let (heads, key) = name.split_once(':').unwrap_or(("", name));
    if key.is_empty() {
        return Err(malformed());
    }
    let annotation = |head: &str| {
        let (level, platform) = level_and_platform(head)?;
        Ok(Annotation { level, platform, key: key.into(), value: value.into() })
    };
    heads.split(',').map(annotation).collect()
}

/// Reads `LEVEL`, `LEVEL[PLATFORM]` or `[PLATFORM]`; an empty level is the manifest.
fn level_and_platform(text: &str) -> Result<(AnnotationLevel, Option<Platform>), OptionError> {
    let (level, platform) = match text.split_once('[') {
        None => (text, None),
        Some((level, rest)) => {
            let platform = rest
                .strip_suffix(']')
                .ok_or_else(|| OptionError::malformed(text, "a closing bracket"))?;
            (level, Some(platform.parse()?))
        }
    };
    let level = match level {
        "" | "manifest" => AnnotationLevel::Manifest,
        "manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
        "index" => AnnotationLevel::Index,
        "index-descriptor" => AnnotationLevel::IndexDescriptor,
        other => {
            return Err(OptionError::UnknownType {
                what: "annotation",
                name: other.to_owned(),
                expected: "manifest, manifest-descriptor, index or index-descriptor",
            });
        }
    };
    Ok((level, platform))
}

/// Adds annotations to every image output, as buildx does.
///
/// # Errors
/// If no output is an image.
pub fn give(outputs: &mut [Output], annotations: &[Annotation]) -> Result<(), OptionError> {
    if annotations.is_empty() {
        return Ok(());
    }
    let mut given = false;
    for output in outputs {
        let options = match output {
            Output::Image(image) => &mut image.options,
            Output::Oci(archive) | Output::Docker(archive) => &mut archive.options,
            Output::Local(_) | Output::Tar(_) | Output::CacheOnly => continue,
        };
        options.annotations.extend_from_slice(annotations);
        given = true;
    }
    if given {
        Ok(())
    } else {
        Err(OptionError::Unusable("no output is an image, so nothing can be annotated".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_platforms() {
        let read = |text: &str| {
            let shown = |annotation: Annotation| {
                let platform = annotation.platform.map(|platform| platform.to_string());
                let Annotation { level, key, value, .. } = annotation;
                format!("{level:?} {} {key} {value}", platform.unwrap_or_default())
            };
            annotations(text).unwrap().into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(read("a=b=c"), ["Manifest  a b=c"]);
        assert_eq!(
            read("index,manifest-descriptor[linux/arm64]:org.a=b"),
            ["Index  org.a b", "ManifestDescriptor linux/arm64 org.a b"]
        );
        assert_eq!(read("manifest:a="), ["Manifest  a "]);
        for (text, word) in [
            ("a", "expected key=value"),
            ("layer:a=b", "`layer`"),
            ("index[linux:a=b", "bracket"),
            ("index[]:a=b", "platform"),
            ("index:=b", "expected key=value"),
        ] {
            let error = annotations(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
