//! `tag`, `images`, `rmi`, `inspect`, `history`.

use clap::Args;

use super::compound::image_name::has_tag;
use super::error::FlagError;

/// `kiln tag`.
#[derive(Args, Clone, Debug)]
pub struct TagArgs {
    /// The image: a name, or an ID or its beginning
    #[arg(value_name = "IMAGE")]
    pub source: String,

    /// Its other name
    #[arg(value_name = "NAME[:TAG]")]
    pub target: oci::Reference,
}

/// `kiln images`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct ImagesArgs {
    /// Only this repository, or this image
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<NameFilter>,

    /// Show digests too
    #[arg(long)]
    pub digests: bool,

    /// Show whole IDs
    #[arg(long)]
    pub no_trunc: bool,

    /// Show IDs and nothing else
    #[arg(short, long)]
    pub quiet: bool,

    /// A table, or `json` for one JSON object per image
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,

    /// Docker's; there are no intermediate images to show.
    #[arg(short, long, hide = true)]
    pub all: bool,

    /// Only images that fit: dangling=, reference=, label=, before=, since= or until=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// A repository, or one of its tags.
#[derive(Clone, Debug)]
pub struct NameFilter {
    reference: oci::Reference,
    has_tag: bool,
}

impl std::str::FromStr for NameFilter {
    type Err = oci::ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { reference: text.parse()?, has_tag: has_tag(text) })
    }
}

impl NameFilter {
    /// The name, with the default tag if none was written.
    pub fn reference(&self) -> &oci::Reference {
        &self.reference
    }

    /// True if a tag or digest was written.
    pub fn has_tag(&self) -> bool {
        self.has_tag
    }

    /// True if the filter matches a name: `app` matches all of its tags.
    pub fn means(&self, name: &oci::Reference) -> bool {
        name.repository() == self.reference.repository()
            && (!self.has_tag || name.tag() == self.reference.tag())
    }
}

/// `kiln rmi`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct RmiArgs {
    /// Images: names, or IDs or their beginnings
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,

    /// Remove an image by its ID even if it has several names, and do not fail for one that is
    /// not here
    #[arg(short, long)]
    pub force: bool,

    /// Docker's; layers go with `kiln prune`.
    #[arg(long, hide = true)]
    pub no_prune: bool,
}

/// `kiln inspect`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct InspectArgs {
    /// Images: names, or IDs or their beginnings
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,

    /// `json` for all on one line
    #[arg(short, long, value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,

    /// Docker's; there are images and nothing else.
    #[arg(long, hide = true, value_name = "TYPE", value_parser = ["", "image"])]
    pub r#type: Option<String>,

    /// Docker's; it adds sizes of containers.
    #[arg(short, long, hide = true)]
    pub size: bool,
}

/// `kiln history`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct HistoryArgs {
    /// The image: a name, or an ID or its beginning
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// Show whole commands
    #[arg(long)]
    pub no_trunc: bool,

    /// Show IDs and nothing else
    #[arg(short, long)]
    pub quiet: bool,

    /// Sizes and times for people (`--human=false`: exact)
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub human: Option<bool>,

    /// A table, or `json` for one JSON object per step
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,
}

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListFormat {
    /// Columns.
    #[default]
    Table,
    /// A JSON object per line.
    Json,
}

/// Reads `--format`.
///
/// # Errors
/// If it is neither a table nor JSON: Go templates are not supported yet.
pub fn list_format(text: Option<&str>) -> Result<ListFormat, FlagError> {
    match text {
        None | Some("" | "table") => Ok(ListFormat::Table),
        Some("json" | "{{json .}}") => Ok(ListFormat::Json),
        Some(text) => Err(FlagError::refused(
            format!("--format {text}"),
            "templates are not supported yet; there are table and json",
        )),
    }
}
