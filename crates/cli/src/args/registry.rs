//! `login`, `logout`, `push`, `pull`.

use clap::Args;

use super::error::FlagError;

/// `kiln login`.
#[derive(Args, Clone, Debug)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  echo \"$TOKEN\" | kiln login -u \"$USER\" --password-stdin registry.example.com

Credentials go where docker keeps them (~/.docker/config.json, or the credential helper that it
names); a login by docker counts here too."
)]
pub struct LoginArgs {
    /// The registry's host (default: Docker Hub)
    #[arg(value_name = "HOST")]
    pub server: Option<String>,

    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,

    /// The password; others can see it in the process list: better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", allow_hyphen_values = true)]
    pub password: Option<PasswordArg>,

    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// A password on the command line, hidden from debug output.
#[derive(Clone)]
pub struct PasswordArg(pub crate::settings::Hidden);

impl std::str::FromStr for PasswordArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(crate::settings::Hidden::new(text)))
    }
}

impl std::fmt::Debug for PasswordArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordArg(…)")
    }
}

/// `kiln logout`.
#[derive(Args, Clone, Debug)]
pub struct LogoutArgs {
    /// The registry's host (default: Docker Hub)
    #[arg(value_name = "HOST")]
    pub server: Option<String>,
}

/// `kiln push`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct PushArgs {
    /// The image, by a name that says where it goes
    #[arg(value_name = "NAME[:TAG]")]
    pub image: super::NameFilter,

    /// Push every tag of the repository
    #[arg(short, long)]
    pub all_tags: bool,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,

    /// Accept plain HTTP and untrusted certificates
    #[arg(long)]
    pub insecure: bool,

    /// Docker's; content trust is not supported yet.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_content_trust: Option<String>,
}

/// `kiln pull`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct PullArgs {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub image: oci::Reference,

    /// Which of its platforms (default: this machine's)
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<oci::Platform>,

    /// Print the image's name and nothing else
    #[arg(short, long)]
    pub quiet: bool,

    /// Docker's; one tag is pulled at a time.
    #[arg(short, long, hide = true)]
    pub all_tags: bool,

    /// Accept plain HTTP and untrusted certificates
    #[arg(long)]
    pub insecure: bool,

    /// Docker's; content trust is not supported yet.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_content_trust: Option<String>,
}

/// Refuses `--disable-content-trust=false`, which asks for content trust.
///
/// # Errors
/// If content trust is asked for, which is not supported yet.
pub fn judge_content_trust(flag: Option<&str>) -> Result<(), FlagError> {
    match flag.and_then(super::compound::boolean) {
        Some(false) => Err(FlagError::refused(
            "--disable-content-trust=false",
            "content trust is not supported yet",
        )),
        _ => Ok(()),
    }
}
