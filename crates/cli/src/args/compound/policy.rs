//! `--policy`: what becomes of policies for the sources of a build.

use build::Policy;

use super::{boolean, fields};

/// Reads all values of the flag, as buildx puts them together.
///
/// # Errors
/// A sentence if a policy is to be evaluated, or what is said contradicts itself.
pub fn policy(values: &[String]) -> Result<Policy, String> {
    let (mut is_disabled, mut is_reset, mut others) = (false, false, 0);
    for value in values {
        for field in fields(value)? {
            let wrong = || {
                format!("`{field}` is none of disabled=, reset=, strict=, filename=, log-level=")
            };
            let (key, text) = field.split_once('=').ok_or_else(wrong)?;
            let truth =
                || boolean(text).ok_or_else(|| format!("`{field}` is neither true nor false"));
            match key.trim().to_lowercase().as_str() {
                "disabled" if truth()? => is_disabled = true,
                "disabled" => {}
                "reset" => {
                    is_reset |= truth()?;
                    others += 1;
                }
                "strict" => {
                    truth()?;
                    others += 1;
                }
                "log-level" => others += 1,
                "filename" => {
                    return Err(format!(
                        "`{field}`: policies are not evaluated; leave it out, or build with buildx"
                    ));
                }
                _ => return Err(wrong()),
            }
        }
    }
    match is_disabled {
        true if others > 0 || values.len() > 1 => {
            Err("`disabled=true` goes with no other option: the policy is off, or it is not".into())
        }
        true => Ok(Policy::Disabled),
        // Without the one beside the Dockerfile, none is left.
        false if is_reset => Ok(Policy::Disabled),
        false => Ok(Policy::Enforced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Policy, String> {
        policy(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_off_is_off() {
        for values in
            [&["disabled=true"][..], &["disabled=1"], &["reset=true"], &["reset=t", "strict=true"]]
        {
            assert_eq!(read(values), Ok(Policy::Disabled), "{values:?}");
        }
        for values in
            [&[][..], &["disabled=false"], &["reset=false,strict=true"], &["log-level=debug"]]
        {
            assert_eq!(read(values), Ok(Policy::Enforced), "{values:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (values, word) in [
            (&["filename=x.rego"][..], "`filename=x.rego`: policies are not evaluated"),
            (&["disabled=true,strict=true"], "no other option"),
            (&["disabled=true", "disabled=true"], "no other option"),
            (&["disabled=maybe"], "neither true nor false"),
            (&["colour=red"], "`colour=red` is none of"),
            (&[""], "is none of"),
            (&["x"], "`x` is none of"),
        ] {
            let error = read(values).unwrap_err();
            assert!(error.contains(word), "{values:?}: {error}");
        }
    }
}
