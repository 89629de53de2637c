//! `kiln completion`.

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionArgs};

/// A script for the shell.
pub fn text(args: &CompletionArgs) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let script = String::from_utf8(text(&CompletionArgs { shell: *shell })).unwrap();
            assert!(script.contains("cache-from"), "{shell}");
        }
    }
}
