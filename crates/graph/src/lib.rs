//! The vocabulary of a build, data only: operations, steps, source map, events
