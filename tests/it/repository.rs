//! A git repository for tests, and ways to serve it.

use fixtures::WebServer;
use fixtures::web_server::Page;

use crate::text;

/// A repository with two commits, the first of which has an annotated tag.
pub struct Repository {
    place: tempfile::TempDir,
    git: std::path::PathBuf,
}

impl Repository {
    pub fn new(test: &str) -> Option<Self> {
        let repository =
            Self { git: crate::program(test, "git")?, place: tempfile::tempdir().unwrap() };
        repository.run(&["init", "-q", "-b", "main", "."]);
        let work = repository.work();
        std::fs::create_dir(work.join("dir")).unwrap();
        std::fs::write(work.join("dir/a.txt"), "one\n").unwrap();
        std::fs::write(work.join("run.sh"), "#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(work.join("run.sh"), mode).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", work.join("link")).unwrap();
        repository.commit();
        repository.run(&["tag", "-a", "-m", "first", "v1"]);
        std::fs::write(work.join("dir/a.txt"), "two\n").unwrap();
        repository.commit();
        Some(repository)
    }

    pub fn work(&self) -> std::path::PathBuf {
        self.place.path().join("work")
    }

    pub fn commit(&self) {
        self.run(&["add", "."]);
        self.run(&["commit", "-q", "-m", "text"]);
    }

    pub fn run(&self, args: &[&str]) -> String {
        std::fs::create_dir_all(self.work()).unwrap();
        let mut command = std::process::Command::new(&self.git);
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@example.com"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@example.com"),
        ] {
            command.env(name, value);
        }
        let output = command.args(args).current_dir(self.work()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Serves it as plain files.
    pub fn serve(&self, server: &WebServer) {
        let bare = self.place.path().join("bare");
        let _ = std::fs::remove_dir_all(&bare);
        self.run(&["clone", "-q", "--bare", ".", &text(&bare)]);
        self.run(&["--git-dir", &text(&bare), "update-server-info"]);
        let mut open = vec![bare.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let name = path.strip_prefix(&bare).unwrap().display().to_string();
                let body = std::fs::read(&path).unwrap();
                let page = Page { body, ..Page::default() };
                // git requests the list of references with this query, which a plain server
                // ignores.
                server.put(&format!("/r.git/{name}?service=git-upload-pack"), page.clone());
                server.put(&format!("/r.git/{name}"), page);
            }
        }
    }
}
