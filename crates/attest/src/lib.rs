//! Attestations of an image: its provenance (SLSA) and its packages (an SPDX document).
//!
//! Receives facts about a build, and a tree of files with a reader; hands over the predicates of
//! in-toto statements. Nothing in an image is executed or trusted: files are read up to a limit,
//! numbers are checked, and the document names what could not be read. Invariant: secrets are known
//! here by their names alone.

#![forbid(unsafe_code)]

mod catalog;
mod files;
mod package;
mod provenance;
mod spdx;
mod steps;

pub use catalog::scan;
pub use files::{File, ImageFiles};
pub use package::{Package, ScanResult};
pub use provenance::{Digests, Facts, Material, Provenance, ProvenanceMode, ProvenanceVersion};
pub use spdx::{PREDICATE as SPDX_PREDICATE, SpdxSubject, document};
