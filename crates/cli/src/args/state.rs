//! `du`, `prune`, `completion`.

use std::time::Duration;

use build::images::{DiskFilter, DiskKind};
use clap::Args;

use bake::quantity::duration;

use super::compound::limits::size;

/// `kiln du`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct DuArgs {
    /// Show more of each entry
    #[arg(long)]
    pub verbose: bool,

    /// A table, or `json` for one JSON object per entry
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,

    /// Only what fits, as until=24h or type=layer (blob, layer, index, cachemount)
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,

    /// buildx'; builds run in this process, whichever builder.
    #[arg(long, hide = true)]
    pub builder: Option<String>,

    /// buildx'; there is nothing to wait for.
    #[arg(long, hide = true)]
    pub timeout: Option<String>,
}

/// `kiln prune`.
#[derive(Args, Clone, Debug, Default)]
#[command(args_override_self = true)]
pub struct PruneArgs {
    /// Remove cache mounts too, and what images can be unpacked again from
    #[arg(short, long)]
    pub all: bool,

    /// Do not ask
    #[arg(short, long)]
    pub force: bool,

    /// Remove until no more than this is left, as 10gb
    #[arg(long, value_name = "BYTES", value_parser = disk_size)]
    pub max_used_space: Option<u64>,

    /// Leave this much, whatever the other two say; alone, remove until this is left
    #[arg(long, value_name = "BYTES", value_parser = disk_size, visible_alias = "keep-storage")]
    pub reserved_space: Option<u64>,

    /// Remove until this much of the disk is free
    #[arg(long, value_name = "BYTES", value_parser = disk_size)]
    pub min_free_space: Option<u64>,

    /// Remove only what was not used for so long, as 24h or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub until: Option<Duration>,

    /// Show each thing that is removed
    #[arg(long)]
    pub verbose: bool,

    /// Only what fits, as until=24h or type=layer (blob, layer, index, cachemount)
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,

    /// buildx'; builds run in this process, whichever builder.
    #[arg(long, hide = true)]
    pub builder: Option<String>,

    /// buildx'; there is nothing to wait for.
    #[arg(long, hide = true)]
    pub timeout: Option<String>,
}

/// A size with binary units, as docker, buildx and BuildKit read those of disks too: `10gb`.
///
/// # Errors
/// If it is not a size.
pub fn disk_size(text: &str) -> Result<u64, String> {
    let size = size(text).ok().and_then(|size| u64::try_from(size).ok());
    size.ok_or_else(|| "it is not a size, as 10gb".to_owned())
}

/// Reads `--filter`.
///
/// # Errors
/// If a filter is unknown or wrong; the text names it.
pub fn disk_filter(filters: &[String]) -> Result<DiskFilter, String> {
    let mut filter = DiskFilter::default();
    for text in filters {
        let wrong = |what: &str| format!("`--filter {text}`: {what}");
        // buildx accepts `==` too.
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
        let value = value.trim_start_matches('=');
        match key {
            "until" | "unused-for" => {
                filter.unused_for =
                    Some(duration(value).map_err(|error| wrong(&error.to_string()))?);
            }
            "type" => {
                filter.kind = Some(match value {
                    "blob" => DiskKind::Blob,
                    "layer" | "regular" => DiskKind::Layer,
                    "index" => DiskKind::Index,
                    "cachemount" | "exec.cachemount" => DiskKind::CacheMount,
                    _ => return Err(wrong("types are blob, layer, index and cachemount")),
                });
            }
            _ => return Err(wrong("there are until=DURATION and type=TYPE")),
        }
    }
    Ok(filter)
}

/// `kiln completion`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kiln completion bash > /etc/bash_completion.d/kiln
  kiln completion zsh > \"${fpath[1]}/_kiln\"
  kiln completion fish > ~/.config/fish/completions/kiln.fish")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_disks_are_binary() {
        for (text, bytes) in [("10gb", 10 << 30), ("1.5K", 1536), ("1MiB", 1 << 20), ("7", 7)] {
            assert_eq!(disk_size(text), Ok(bytes));
        }
        assert!(disk_size("much").is_err() && disk_size("1x").is_err() && disk_size("").is_err());
    }

    #[test]
    fn filters_are_read_or_refused_by_name() {
        let read = |text: &str| disk_filter(&[text.to_owned()]);
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        assert_eq!(read("until=24h").unwrap().unused_for, hours(24));
        assert_eq!(read("unused-for=1d1h30m30m").unwrap().unused_for, hours(26));
        assert_eq!(read("type==exec.cachemount").unwrap().kind, Some(DiskKind::CacheMount));
        for wrong in ["until=24", "until=", "until=h", "type=frontend", "shared=true", "id~=x", "x"]
        {
            assert!(read(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
