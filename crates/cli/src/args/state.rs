//! `du`, `prune`, `completion`.

use std::time::Duration;

use build::images::{DiskFilter, DiskKind};
use clap::Args;

use bake::quantity::duration;

use super::error::{FlagError, InFlag as _};
use crate::human::disk_size;

/// The entries that a command is about.
#[derive(Args, Clone, Debug, Default)]
pub struct DiskEntryArgs {
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

    /// The entries.
    #[command(flatten)]
    pub entries: DiskEntryArgs,
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

    /// The entries.
    #[command(flatten)]
    pub entries: DiskEntryArgs,
}

/// Reads `--filter`.
///
/// # Errors
/// If a filter is unknown or wrong.
pub fn disk_filter(filters: &[String]) -> Result<DiskFilter, FlagError> {
    let mut filter = DiskFilter::default();
    for text in filters {
        let flag = format!("--filter {text}");
        let wrong = |reason| FlagError::bad(&flag, reason);
        // buildx accepts `==` too.
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
        let value = value.trim_start_matches('=');
        match key {
            "until" | "unused-for" => filter.unused_for = Some(duration(value).in_flag(&flag)?),
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
    fn filters_are_read_or_refused_by_name() {
        let read = |text: &str| disk_filter(&[text.to_owned()]);
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        assert_eq!(read("until=24h").unwrap().unused_for, hours(24));
        assert_eq!(read("unused-for=1d1h30m30m").unwrap().unused_for, hours(26));
        assert_eq!(read("type==exec.cachemount").unwrap().kind, Some(DiskKind::CacheMount));
        for wrong in ["until=24", "until=", "until=h", "type=frontend", "shared=true", "id~=x", "x"]
        {
            assert!(read(wrong).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }
}
