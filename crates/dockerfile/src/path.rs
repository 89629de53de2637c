//! Slash-separated paths as Go's `path` package treats them.

/// The shortest path that means the same; never empty.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// Both paths one after the other, cleaned.
pub(crate) fn join(one: &str, other: &str) -> String {
    match (one.is_empty(), other.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(other),
        (false, true) => clean(one),
        (false, false) => clean(&format!("{one}/{other}")),
    }
}

/// The last part.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        (false, false) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// A destination as COPY takes it: absolute, a final `/` or `/.` kept.
pub(crate) fn destination(cwd: &str, path: &str) -> String {
    let path = if path.is_empty() || path == "." { "./" } else { path };
    let mut full = if path.starts_with('/') { clean(path) } else { join(&rooted(cwd), path) };
    if path.ends_with('/') && !full.ends_with('/') {
        full.push('/');
    } else if path.ends_with("/.") {
        if full != "/" {
            full.push('/');
        }
        full.push('.');
    }
    full
}

/// A working directory: relative ones continue the current one, absolute ones stay as written.
pub(crate) fn workdir(current: &str, path: &str) -> String {
    let parent = rooted(current);
    match path {
        "" => parent,
        path if path.starts_with('/') => path.into(),
        path => join(&parent, path),
    }
}

fn rooted(path: &str) -> String {
    match path {
        "" => "/".into(),
        path if path.starts_with('/') => path.into(),
        path => join("/", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, cleaned) in
            [("", "."), ("/", "/"), ("/a/../..", "/"), ("a/./b//c/", "a/b/c"), ("../a/..", "..")]
        {
            assert_eq!(clean(path), cleaned);
        }
        assert_eq!(base("/a/b/"), "b");
        assert_eq!(base("/"), "/");
    }

    #[test]
    fn destinations_keep_what_says_folder() {
        for (cwd, path, full) in [
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/", "./", "/"),
            ("/app", "x/", "/app/x/"),
            ("/app", "/y/.", "/y/."),
            ("/app", "x/.", "/app/x/."),
            ("/app", "/", "/"),
            ("/app", "../z", "/z"),
        ] {
            assert_eq!(destination(cwd, path), full, "{path} in {cwd}");
        }
    }
}
