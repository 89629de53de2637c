//! Mounts and files that no build may leave behind, killed or not.

use std::path::Path;

/// Mounts below a folder, as this process sees them.
pub fn mounts(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter(|line| line.contains(&folder)).map(str::to_owned).collect()
}

/// Files and folders of a root that exist only while kiln runs.
pub fn debris(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let own = |_: &str| false;
    look(root, &|name| name == "v1", &mut found);
    let version = root.join("v1");
    for folder in ["tmp", "run", "runtime/probe", "runtime/scratch", "runtime/empty"] {
        look(&version.join(folder), &own, &mut found);
    }
    look(&version.join("runtime/in-place"), &|name| name == "lock", &mut found);
    for folder in ["blobs/sha256", "layers"] {
        look(&version.join(folder), &is_digest, &mut found);
    }
    found
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn look(folder: &Path, belongs: &dyn Fn(&str) -> bool, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !belongs(&entry.file_name().to_string_lossy()) {
            found.push(entry.path().display().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_is_found() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(root.path().join(path)).unwrap();
        make("v1/tmp");
        make(&format!("v1/layers/{}", "a1".repeat(32)));
        make("v1/runtime/in-place/lock");
        assert_eq!(debris(root.path()), [""; 0]);
        for path in ["v1/tmp/12-ab", "v1/layers/half", ".marks-12", "v1/runtime/in-place/own"] {
            make(path);
            assert_eq!(debris(root.path()), [root.path().join(path).display().to_string()]);
            std::fs::remove_dir(root.path().join(path)).unwrap();
        }
    }
}
