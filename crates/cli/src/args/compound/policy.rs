//! `--policy`: policies for the sources of a build.

use build::Policy;

use super::{OptionError, boolean, fields};

/// Reads all values of the flag, as buildx puts them together.
///
/// # Errors
/// If a policy is to be evaluated, or the values contradict each other.
pub fn policy(values: &[String]) -> Result<Policy, OptionError> {
    let pair = |field: &String| {
        let (key, text) = field.split_once('=').ok_or_else(|| unknown(field))?;
        Ok((key.to_owned(), text.to_owned()))
    };
    let pairs = |value: &String| fields(value)?.iter().map(pair).collect();
    policy_of(&values.iter().map(pairs).collect::<Result<Vec<_>, OptionError>>()?)
}

fn unknown(field: &str) -> OptionError {
    OptionError::malformed(field, "disabled=, reset=, strict=, filename= or log-level=")
}

/// Reads all values, of which each is a list of keys and texts.
///
/// # Errors
/// The errors of [`policy`], and one for a value that is empty.
pub fn policy_of(values: &[Vec<(String, String)>]) -> Result<Policy, OptionError> {
    let (mut is_disabled, mut is_reset, mut others) = (false, false, 0);
    for value in values {
        if value.is_empty() {
            return Err(unknown(""));
        }
        for (key, text) in value {
            let truth =
                || boolean(text).ok_or_else(|| OptionError::invalid(key, text, "true or false"));
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
                    return Err(OptionError::refused(
                        format!("{key}={text}"),
                        "policies are not evaluated; leave it out, or build with buildx",
                    ));
                }
                _ => return Err(unknown(&format!("{key}={text}"))),
            }
        }
    }
    if is_disabled && (others > 0 || values.len() > 1) {
        let reason = "`disabled=true` allows no other option";
        return Err(OptionError::Unusable(reason.into()));
    }
    // `reset` drops the policy beside the Dockerfile, the only one that is left.
    if is_disabled || is_reset { Ok(Policy::Disabled) } else { Ok(Policy::Enforced) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Policy, OptionError> {
        policy(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn policies_are_off_or_enforced() {
        for values in
            [&["disabled=true"][..], &["disabled=1"], &["reset=true"], &["reset=t", "strict=true"]]
        {
            assert_eq!(read(values).unwrap(), Policy::Disabled, "{values:?}");
        }
        for values in
            [&[][..], &["disabled=false"], &["reset=false,strict=true"], &["log-level=debug"]]
        {
            assert_eq!(read(values).unwrap(), Policy::Enforced, "{values:?}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        for (values, word) in [
            (&["filename=x.rego"][..], "`filename=x.rego`: policies are not evaluated"),
            (&["disabled=true,strict=true"], "no other option"),
            (&["disabled=true", "disabled=true"], "no other option"),
            (&["disabled=maybe"], "expected true or false"),
            (&["colour=red"], "`colour=red`: expected"),
            (&[""], "expected disabled="),
            (&["x"], "`x`: expected"),
        ] {
            let error = read(values).unwrap_err().to_string();
            assert!(error.contains(word), "{values:?}: {error}");
        }
    }
}
