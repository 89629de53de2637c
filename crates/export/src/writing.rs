//! The choices of an output that its documents depend on.

use graph::TaskId;
use oci::Reference;

use crate::annotations::Annotation;
use crate::image::Format;

/// The form of a product's documents.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// Layers and media types.
    pub format: Format,
    /// Names that statements call the images by.
    pub names: &'a [Reference],
    /// Annotations.
    pub annotations: &'a [Annotation],
    /// Writes attestation manifests as artifacts (`artifactType`, `subject`); otherwise in the form
    /// of images.
    pub oci_artifact: bool,
    /// Includes statements that are for images alone.
    pub inline: bool,
    /// Limits the times of files in layers of this build to the epoch.
    pub rewrite_timestamp: bool,
    /// The epoch, where it is another one than the build's.
    pub epoch: EpochChoice,
    /// The task that shows it.
    pub task: Option<TaskId>,
}

/// An output's epoch (`source-date-epoch`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpochChoice {
    /// The build's, if it has one.
    #[default]
    OfBuild,
    /// None, whatever the build has.
    None,
    /// This one, in seconds since 1970.
    At(i64),
}

impl EpochChoice {
    /// The epoch of an output of a build.
    pub fn over(self, of_build: Option<i64>) -> Option<i64> {
        match self {
            Self::OfBuild => of_build,
            Self::None => None,
            Self::At(seconds) => Some(seconds),
        }
    }
}
