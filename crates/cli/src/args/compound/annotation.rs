//! `--annotation`, and `annotation…` of outputs.

use build::{Annotation, AnnotationLevel, Output};
use oci::Platform;

use super::Fields;

/// Takes the annotations out of an output's fields: `annotation.KEY`, `annotation-LEVEL.KEY`,
/// `annotation-LEVEL[PLATFORM].KEY`.
///
/// # Errors
/// A sentence that names the field whose level or platform is none.
pub fn of_output(fields: &mut Fields) -> Result<Vec<Annotation>, String> {
    let mut annotations = Vec::new();
    for name in fields.names_with("annotation") {
        let Some((head, key)) = name["annotation".len()..].split_once('.') else { continue };
        let wrong = |what: String| format!("`{name}`: {what}");
        let (level, platform) = level_and_platform(head.trim_start_matches('-')).map_err(wrong)?;
        let value = fields.take(&name).unwrap_or_default();
        annotations.push(Annotation { level, platform, key: key.into(), value });
    }
    Ok(annotations)
}

/// Reads a value of `--annotation`: `KEY=VALUE`, `LEVEL:KEY=VALUE`, `LEVEL[PLATFORM],…:KEY=VALUE`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn annotations(text: &str) -> Result<Vec<Annotation>, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid annotation `{text}`, expected key=value"))?;
    let (heads, key) = name.split_once(':').unwrap_or(("", name));
    if key.is_empty() {
        return Err(format!("invalid annotation `{text}`, expected key=value"));
    }
    let annotation = |head: &str| {
        let (level, platform) = level_and_platform(head)?;
        Ok(Annotation { level, platform, key: key.into(), value: value.into() })
    };
    heads.split(',').map(annotation).collect()
}

/// Reads `LEVEL`, `LEVEL[PLATFORM]` or `[PLATFORM]`; empty is the manifest.
fn level_and_platform(text: &str) -> Result<(AnnotationLevel, Option<Platform>), String> {
    let (level, platform) = match text.split_once('[') {
        None => (text, None),
        Some((level, rest)) => {
            let platform = rest
                .strip_suffix(']')
                .ok_or_else(|| format!("`{text}` has a bracket that does not end"))?;
            (level, Some(platform.parse().map_err(|error| format!("{error}"))?))
        }
    };
    let level = match level {
        "" | "manifest" => AnnotationLevel::Manifest,
        "manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
        "index" => AnnotationLevel::Index,
        "index-descriptor" => AnnotationLevel::IndexDescriptor,
        other => {
            return Err(format!(
                "unknown annotation type `{other}`: there are manifest, manifest-descriptor, index and index-descriptor"
            ));
        }
    };
    Ok((level, platform))
}

/// Gives annotations to all outputs that are images, as buildx does.
///
/// # Errors
/// A sentence if no output is an image.
pub fn give(outputs: &mut [Output], annotations: &[Annotation]) -> Result<(), String> {
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
    match given {
        true => Ok(()),
        false => Err("no output is an image, so nothing can be annotated".into()),
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
            let error = annotations(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
