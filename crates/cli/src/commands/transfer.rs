//! `kiln push` and `kiln pull`: the lines at the end.

use oci::{Descriptor, Reference};

/// What `push` prints for each tag.
pub fn pushed(name: &Reference, manifest: &Descriptor) -> String {
    let target = name.tag().map_or_else(|| name.target(), str::to_owned);
    format!("{target}: digest: {} size: {}\n", manifest.digest, manifest.size)
}

/// What `pull` prints; with `--quiet`, the name alone.
pub fn pulled(name: &Reference, manifest: &Descriptor, is_new: bool, quiet: bool) -> String {
    if quiet {
        return format!("{name}\n");
    }
    let status = match is_new {
        true => "Downloaded newer image for",
        false => "Image is up to date for",
    };
    format!("Digest: {}\nStatus: {status} {}\n{name}\n", manifest.digest, name.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let name: Reference = "app:1".parse().unwrap();
        let manifest = Descriptor::of("m", b"");
        assert!(pushed(&name, &manifest).starts_with("1: digest: sha256:e3b0"));
        assert_eq!(pulled(&name, &manifest, true, true), "docker.io/library/app:1\n");
        let text = pulled(&name, &manifest, false, false);
        assert!(text.ends_with("Status: Image is up to date for app:1\ndocker.io/library/app:1\n"));
    }
}
