//! `kiln completion`.

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionArgs};

/// The completion script of a shell.
pub fn text(args: &CompletionArgs) -> String {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    // Lossless: the script is made of this program's own strings.
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let script = text(&CompletionArgs { shell: *shell });
            assert!(script.contains("cache-from"), "{shell}");
        }
    }
}
