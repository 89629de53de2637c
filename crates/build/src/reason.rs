//! The reasons why steps of a build ran.

use cache::explain::Difference;

/// A step that ran, or would run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The step, as progress shows it.
    pub step: String,
    /// Why.
    pub reason: Reason,
}

/// Why a step ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was to run whatever is known (`--no-cache`).
    Asked,
    /// Nothing like it is known.
    Unknown,
    /// It was made before, and what it made is in none of the caches that were asked.
    NotKept,
    /// It stands on a step that ran.
    StandsOn(String),
    /// Its key differs from the nearest one that is known.
    Differs(Vec<Difference>),
}

impl Reason {
    /// In words, one line for each thing that there is to say.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Asked => vec!["was to run whatever is known (--no-cache)".into()],
            Self::Unknown => vec!["nothing is known of a step like it".into()],
            Self::NotKept => vec![
                "was made before with the same key, but what it made is in none of the caches (mode=min, pruned, or never exported)".into(),
            ],
            Self::StandsOn(step) => vec![format!("stands on {step}, which is not cached")],
            Self::Differs(differences) => differences.iter().map(line).collect(),
        }
    }
}

fn line(difference: &Difference) -> String {
    let Difference { what, before, after } = difference;
    match (before, after) {
        (Some(before), Some(after)) => format!("{what}: {before} → {after}"),
        (Some(before), None) => format!("{what}: {before} → gone"),
        (None, Some(after)) => format!("{what}: new, {after}"),
        (None, None) => format!("{what} differ"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_plain() {
        let difference = |before: Option<&str>, after: Option<&str>| Difference {
            what: "environment variable A".into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let reason = Reason::Differs(vec![
            difference(Some("1"), Some("2")),
            difference(Some("1"), None),
            difference(None, Some("2")),
        ]);
        assert_eq!(
            reason.lines(),
            [
                "environment variable A: 1 → 2",
                "environment variable A: 1 → gone",
                "environment variable A: new, 2",
            ]
        );
    }
}
