//! `kiln cache …`.

use clap::{Args, Subcommand};

use super::BuildArgs;
use super::error::ValueError;

/// Caches in registries and folders.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// List the records of a cache: what they are of, how old, how large
    #[command(alias = "list")]
    Ls(CacheRef),
    /// Show what a cache holds as a whole: who wrote it, its documents, its layers
    Inspect(CacheRef),
    /// Read every blob of a cache and compare digest, size and content
    Verify(CacheRef),
    /// Remove what was not used for long
    Prune(PruneCacheArgs),
    /// Add a cache to another reference, repository or folder
    #[command(alias = "cp")]
    Copy(CopyArgs),
    /// Say which steps of a build would run, and why, without building
    Explain(Box<BuildArgs>),
}

/// A cache.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct CacheRef {
    /// The cache, as registry.example.com/app:cache, or type=registry|local with ref= or src=
    #[arg(value_name = "CACHE")]
    pub cache: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `kiln cache prune`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct PruneCacheArgs {
    /// The cache.
    #[command(flatten)]
    pub cache: CacheRef,

    /// Remove what was not used for so long, as 30d, 12h or 2w
    #[arg(long, value_name = "AGE", value_parser = days)]
    pub older_than: Option<u32>,

    /// Remove what was not used for longest until the layers have this size, as 10gb
    #[arg(long, value_name = "BYTES", value_parser = super::disk_size)]
    pub max_size: Option<u64>,

    /// Keep so many records that were used last; alone, remove all others
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<usize>,
}

/// `kiln cache copy`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct CopyArgs {
    /// The cache.
    #[command(flatten)]
    pub cache: CacheRef,

    /// Where to, as another/repository:cache, or type=registry|local with ref= or dest=
    #[arg(value_name = "TO")]
    pub to: String,
}

/// An age in days. Parts of a day count as a whole one, since uses are recorded by the day.
fn days(text: &str) -> Result<u32, ValueError> {
    let wrong = || ValueError::NotAnAge;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match unit {
        "h" => Ok(number.div_ceil(24)),
        "d" => Ok(number),
        "w" => number.checked_mul(7).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_days() {
        for (text, expected) in [("30d", Some(30)), ("25h", Some(2)), ("2w", Some(14))] {
            assert_eq!(days(text).ok(), expected, "{text}");
        }
        for text in ["", "d", "30", "1.5d", "4m", "99999999999d", "4294967295w"] {
            assert!(days(text).is_err(), "{text}");
        }
    }
}
