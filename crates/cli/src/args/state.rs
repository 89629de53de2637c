//! `du`, `prune`, `completion`.

use clap::Args;

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

    /// buildx'; not there yet.
    #[arg(long, hide = true)]
    pub filter: Vec<String>,
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

    /// Keep what was used last, up to this size, as 10gb
    #[arg(long, value_name = "BYTES", value_parser = disk_size, alias = "reserved-space", alias = "keep-storage")]
    pub max_used_space: Option<u64>,

    /// Remove until this much of the disk is free
    #[arg(long, value_name = "BYTES", value_parser = disk_size)]
    pub min_free_space: Option<u64>,

    /// Show each thing that is removed
    #[arg(long)]
    pub verbose: bool,

    /// buildx'; not there yet.
    #[arg(long, hide = true)]
    pub filter: Vec<String>,
}

/// A size; sizes of disks are decimal, as buildx reads them.
///
/// # Errors
/// If it is none.
pub fn disk_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "it is not a size, as 10gb".to_owned())?;
    let factor: f64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("it is not a size, as 10gb".into()),
    };
    Ok((number * factor) as u64)
}

/// Refuses filters.
///
/// # Errors
/// A sentence that names the filter.
pub fn refuse_filters(filters: &[String]) -> Result<(), String> {
    match filters.first() {
        Some(filter) => Err(format!("`--filter {filter}`: filters are not there yet")),
        None => Ok(()),
    }
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
    fn sizes_of_disks_are_decimal() {
        for (text, bytes) in [("10gb", 10_000_000_000), ("1.5K", 1500), ("1MiB", 1 << 20), ("7", 7)]
        {
            assert_eq!(disk_size(text), Ok(bytes));
        }
        assert!(disk_size("much").is_err() && disk_size("1x").is_err() && disk_size("").is_err());
    }
}
