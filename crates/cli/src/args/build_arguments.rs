//! Build arguments (`--build-arg`).

use crate::settings::{Environment, Proxies};

/// The argument that sets the time of the image's files.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Build arguments in the order in which they were given. The last value of a name wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildArguments(Vec<BuildArgument>);

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BuildArgument {
    name: String,
    /// None if the argument was given without a value and the environment has no such variable: it
    /// is not passed on, and gets no default either.
    value: Option<String>,
}

impl BuildArguments {
    /// Sets an argument; `None` keeps an earlier value.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let known = self.0.iter_mut().find(|argument| argument.name == name);
        match (known, value) {
            (Some(BuildArgument { value: Some(known), .. }), Some(value)) => {
                *known = value.to_owned();
            }
            (Some(_), None) => {}
            (unset, value) => {
                if unset.is_some() {
                    self.0.retain(|argument| argument.name != name);
                }
                let value = value.map(str::to_owned);
                self.0.push(BuildArgument { name: name.to_owned(), value });
            }
        }
    }

    /// Returns the arguments with values, followed by the defaults of the environment and of
    /// docker's configuration: the proxies, and `SOURCE_DATE_EPOCH`.
    pub fn resolve(&self, environment: &Environment, proxies: &Proxies) -> Vec<(String, String)> {
        let given = self.0.iter();
        let given = given
            .filter_map(|argument| Some((argument.name.clone(), argument.value.as_ref()?.clone())));
        let epoch = environment.get(SOURCE_DATE_EPOCH).map(|value| (SOURCE_DATE_EPOCH, value));
        let defaults = proxies.build_args().chain(epoch);
        let defaults =
            defaults.filter(|(name, _)| !self.0.iter().any(|argument| argument.name == *name));
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        given.chain(defaults).collect()
    }
}
