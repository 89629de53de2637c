//! Annotations that a user asks for, and where each of them goes.

use oci::{Annotations, Platform};

use crate::Error;

/// The document or descriptor that carries an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnotationLevel {
    /// The manifest of an image.
    Manifest,
    /// The descriptor of an image's manifest in an index.
    ManifestDescriptor,
    /// The index.
    Index,
    /// The descriptor of the index in a layout.
    IndexDescriptor,
}

/// An annotation (image-spec, annotations.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The place of the annotation.
    pub level: AnnotationLevel,
    /// The only platform whose image gets it; without one, all do.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Those of a level that an image for a platform gets. Those of the platform come over those of
/// all.
pub(crate) fn of(
    annotations: &[Annotation],
    level: AnnotationLevel,
    platform: Option<&Platform>,
) -> Annotations {
    let of_level = |annotation: &&Annotation| annotation.level == level;
    let own = |annotation: &&Annotation| match (&annotation.platform, platform) {
        (None, _) => false,
        // BuildKit gives the index what is said for it under any platform.
        (Some(_), None) => true,
        (Some(wanted), Some(platform)) => wanted.normalize() == platform.normalize(),
    };
    let all =
        annotations.iter().filter(of_level).filter(|annotation| annotation.platform.is_none());
    let own = annotations.iter().filter(of_level).filter(own);
    all.chain(own).map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}

/// Checks that every annotation has its document or descriptor. The message begins with BuildKit's
/// words.
pub(crate) fn check(
    annotations: &[Annotation],
    platforms: &[&Platform],
    is_index: bool,
    oci_mediatypes: bool,
) -> Result<(), Error> {
    for annotation in annotations {
        let on_index =
            matches!(annotation.level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor);
        if let Some(wanted) = &annotation.platform
            && !platforms.iter().any(|platform| platform.normalize() == wanted.normalize())
        {
            let message = format!("invalid annotation: no platform {wanted} found in source");
            return Err(Error::Format(message));
        }
        if !oci_mediatypes {
            let message = "cannot export annotations with `oci-mediatypes=false`: Docker's documents have no place for them";
            return Err(Error::Format(message.into()));
        }
        if on_index && !is_index {
            let message = "index annotations not supported for single platform export: an image for one platform without attestations has no index: annotate the manifest, or add `--provenance=true`, which makes one";
            return Err(Error::Format(message.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(level: AnnotationLevel, platform: Option<&str>, value: &str) -> Annotation {
        let platform = platform.map(|text| text.parse().unwrap());
        Annotation { level, platform, key: "k".into(), value: value.into() }
    }

    #[test]
    fn those_of_a_platform_come_over_those_of_all() {
        let given = [
            annotation(AnnotationLevel::Manifest, Some("linux/arm64"), "arm"),
            annotation(AnnotationLevel::Manifest, None, "all"),
            annotation(AnnotationLevel::Index, None, "index"),
        ];
        let value = |platform: &str| {
            let platform: Platform = platform.parse().unwrap();
            of(&given, AnnotationLevel::Manifest, Some(&platform))["k"].clone()
        };
        assert_eq!([value("linux/arm64/v8"), value("linux/amd64")], ["arm", "all"]);
        assert_eq!(of(&given, AnnotationLevel::Index, None)["k"], "index");
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let refused = |annotation, is_index, oci| {
            check(&[annotation], &[&amd64], is_index, oci).unwrap_err().to_string()
        };
        let index = annotation(AnnotationLevel::Index, None, "v");
        assert!(refused(index.clone(), false, true).contains("single platform"));
        assert!(check(std::slice::from_ref(&index), &[&amd64], true, true).is_ok());
        assert!(refused(index, true, false).contains("oci-mediatypes=false"));
        let foreign = annotation(AnnotationLevel::Manifest, Some("linux/s390x"), "v");
        assert!(refused(foreign, true, true).contains("linux/s390x"));
    }
}
