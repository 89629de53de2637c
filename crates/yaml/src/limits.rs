//! Limits of a text.

/// The largest text, in bytes.
pub const MAX_SIZE: usize = 4 << 20;
/// The deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// The most values of a text, with aliases expanded; long texts count as several. It bounds the
/// "billion laughs" of nested aliases.
pub const MAX_VALUES: usize = 200_000;

/// The bytes of text that count as another value.
pub const TEXT_OF_VALUE: usize = 64;
