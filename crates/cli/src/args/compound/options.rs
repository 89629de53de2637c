//! Option sets: the keys of a compound value, each declared once with its parser, the directions
//! that take it, an example and its documentation.
//!
//! Sets are joined as tuples: `type=s3` has the options of S3, of all buckets and of all caches.
//! Reading a value, refusing an unknown key and listing the known ones come from the same
//! declaration.

use std::str::FromStr;

use oci::parse_bool as truth;

use super::csv::Fields;
use super::error::OptionError;
use crate::settings::Hidden;

/// The direction that a value is read for. Outputs are exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `--cache-from`.
    Import,
    /// `--cache-to`, `--output`.
    Export,
}

/// The directions that take a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Imports and exports.
    Both,
    /// Imports alone.
    Import,
    /// Exports alone.
    Export,
    /// Both, but only with the value that turns it off, so messages do not offer it.
    Off,
}

impl KeyScope {
    /// True if the key is read in a direction.
    pub fn includes(self, direction: Direction) -> bool {
        match self {
            Self::Both | Self::Off => true,
            Self::Import => direction == Direction::Import,
            Self::Export => direction == Direction::Export,
        }
    }
}

/// A declared key.
#[derive(Clone, Copy, Debug)]
pub struct OptionKey {
    /// The key, then its aliases.
    pub names: &'static [&'static str],
    /// The directions that take it.
    pub scope: KeyScope,
    /// An example value.
    #[cfg(test)]
    pub example: &'static str,
    /// True if the key is read and changes nothing.
    #[cfg(test)]
    pub is_accepted: bool,
    /// Its meaning.
    #[cfg(test)]
    pub doc: &'static str,
}

/// Declared options.
pub trait OptionSet: Default {
    /// The keys, in the order of messages.
    fn keys() -> Vec<OptionKey>;

    /// Sets the option of a key. Returns false if there is none.
    ///
    /// # Errors
    /// If the text is not a value of the option.
    fn set(&mut self, key: &str, text: &str) -> Result<bool, OptionError>;
}

/// Declares an option set: a struct whose fields are optional values.
///
/// `/// Meaning.  field: Type = parser("key" | "alias") for Import, "example";`, where the parser is
/// a `fn(key: &str, text: &str) -> Result<Option<Type>, OptionError>`. A field whose name begins
/// with `_` is accepted and changes nothing.
macro_rules! options {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $parse:ident($($key:literal)|+) $(for $scope:ident)?,
                $example:literal;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Default)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: Option<$type>, )+
        }

        impl $crate::args::compound::options::OptionSet for $name {
            fn keys() -> Vec<$crate::args::compound::options::OptionKey> {
                use $crate::args::compound::options::OptionKey;
                vec![$( OptionKey {
                    names: &[$($key),+],
                    scope: $crate::args::compound::options::scope!($($scope)?),
                    #[cfg(test)]
                    example: $example,
                    #[cfg(test)]
                    is_accepted: stringify!($field).starts_with('_'),
                    #[cfg(test)]
                    doc: concat!($($doc),+),
                }, )+]
            }

            fn set(
                &mut self,
                key: &str,
                text: &str,
            ) -> Result<bool, $crate::args::compound::OptionError> {
                match key {
                    $( $($key)|+ => {
                        if let Some(value) = $parse(key, text)? {
                            self.$field = Some(value);
                        }
                    } )+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

/// The scope of a declaration; both directions where it names none.
macro_rules! scope {
    () => {
        $crate::args::compound::options::KeyScope::Both
    };
    ($scope:ident) => {
        $crate::args::compound::options::KeyScope::$scope
    };
}

pub(super) use options;
pub(super) use scope;

/// The empty option set.
impl OptionSet for () {
    fn keys() -> Vec<OptionKey> {
        Vec::new()
    }

    fn set(&mut self, _: &str, _: &str) -> Result<bool, OptionError> {
        Ok(false)
    }
}

macro_rules! joined {
    ($($set:ident $at:tt),+) => {
        impl<$($set: OptionSet),+> OptionSet for ($($set,)+) {
            fn keys() -> Vec<OptionKey> {
                [$($set::keys()),+].concat()
            }

            fn set(&mut self, key: &str, text: &str) -> Result<bool, OptionError> {
                Ok($(self.$at.set(key, text)?)||+)
            }
        }
    };
}

joined!(A 0, B 1);
joined!(A 0, B 1, C 2);
joined!(A 0, B 1, C 2, D 3);

/// Reads all fields of a value of a kind (`of`).
///
/// # Errors
/// If a key is unknown in this direction, or a value is wrong.
pub fn read<O: OptionSet>(
    of: &str,
    fields: Fields,
    direction: Direction,
) -> Result<O, OptionError> {
    let keys = O::keys();
    let mut options = O::default();
    for (key, text) in fields {
        let declared = keys.iter().find(|declared| declared.names.contains(&key.as_str()));
        let is_taken = declared.is_none_or(|declared| declared.scope.includes(direction));
        if !is_taken || !options.set(&key, &text)? {
            let known = keys
                .iter()
                .filter(|known| known.scope.includes(direction) && known.scope != KeyScope::Off);
            let known = known.filter_map(|known| known.names.first().copied()).collect();
            return Err(OptionError::Unknown { key, of: of.to_owned(), known });
        }
    }
    Ok(options)
}

/// The options that can be read; an unknown or wrong field counts as missing.
pub fn readable<O: OptionSet>(fields: Fields) -> O {
    let mut options = O::default();
    for (key, text) in fields {
        let _ = options.set(&key, &text);
    }
    options
}

/// The value of an option without effect: it asks for what kiln always does.
pub struct Accepted;

/// Any text.
pub fn text(_: &str, text: &str) -> Result<Option<String>, OptionError> {
    Ok(Some(text.to_owned()))
}

/// A text that is not empty.
pub fn given(_: &str, text: &str) -> Result<Option<String>, OptionError> {
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// A secret that is not empty.
pub fn secret(_: &str, text: &str) -> Result<Option<Hidden>, OptionError> {
    Ok((!text.is_empty()).then(|| Hidden::new(text)))
}

/// A truth value.
pub fn boolean(key: &str, text: &str) -> Result<Option<bool>, OptionError> {
    match truth(text) {
        None => Err(OptionError::invalid(key, text, "true or false")),
        value => Ok(value),
    }
}

/// A truth value; none if the text is empty.
pub fn optional_boolean(key: &str, text: &str) -> Result<Option<bool>, OptionError> {
    if text.is_empty() { Ok(None) } else { boolean(key, text) }
}

/// A number; none if the text is empty.
pub fn number<T: FromStr>(key: &str, text: &str) -> Result<Option<T>, OptionError> {
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) if text.is_empty() => Ok(None),
        Err(_) => Err(OptionError::invalid(key, text, "a number")),
    }
}

/// Any text, which changes nothing.
pub fn accepted(_: &str, _: &str) -> Result<Option<Accepted>, OptionError> {
    Ok(Some(Accepted))
}

/// A truth value that changes nothing.
pub fn accepted_boolean(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    boolean(key, text).map(|_| Some(Accepted))
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;

    options! {
        /// A set for this test.
        pub struct Sample {
            /// A name.
            name: String = given("name" | "title"), "a";
            /// An import's.
            source: String = text("src") for Import, "b";
            /// Kept for pipelines.
            _old: Accepted = accepted("old"), "x";
        }
    }

    fn sample(text: &str, direction: Direction) -> Result<(Sample, ()), OptionError> {
        read("a sample", Fields::of(&fields(text)?)?, direction)
    }

    #[test]
    fn keys_are_read_by_name_and_alias() {
        let (options, ()) = sample("title=t,src=,old=1", Direction::Import).unwrap();
        assert_eq!((options.name.as_deref(), options.source.as_deref()), (Some("t"), Some("")));
        assert!(sample("name=", Direction::Export).unwrap().0.name.is_none());
        for (text, known) in [("src=a", "name, old"), ("colour=red", "name, old")] {
            let Err(error) = sample(text, Direction::Export) else { panic!("{text}") };
            let key = text.split('=').next().unwrap();
            let text = format!("`{key}` is not an option of a sample; it has {known}");
            assert_eq!(error.to_string(), text);
        }
    }
}
