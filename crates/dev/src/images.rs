//! kiln's own images, built by kiln.

use std::path::PathBuf;

use anyhow::{Result, bail};
use fixtures::{Kiln, ci_image};

use crate::{packages, tools};

/// The targets of `images/Dockerfile`.
const TARGETS: &[&str] = &["kiln", "ci", "executor", "serve"];

/// Makes an archive of each image, for `docker load`, `skopeo copy docker-archive:…` or `kiln load`.
pub fn run(args: &[String]) -> Result<()> {
    packages::need(&[packages::BUSYBOX])?;
    let folder = match args {
        [] => fixtures::source_tree().join("target/images"),
        [folder] => PathBuf::from(folder),
        _ => bail!("it takes one argument at most: the folder for the archives"),
    };
    println!("building kiln (release)");
    let kiln = Kiln::new(tools::release_binary()?);
    for target in TARGETS {
        let archive = ci_image::archive(&kiln, target, &folder)?;
        let size = std::fs::metadata(&archive).map_or(0, |metadata| metadata.len());
        println!(
            "{}  registry.example.com/kiln:{target}  {} MB",
            archive.display(),
            size / 1_000_000
        );
    }
    Ok(())
}
