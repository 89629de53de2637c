//! One build from start to finish
