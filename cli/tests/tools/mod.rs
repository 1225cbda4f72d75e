// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The three tools under their names, run as a user runs them.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with the tools in it; what they work on is made there.
pub struct Tools {
    directory: tempfile::TempDir,
}

impl Tools {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["vexfs", "mkfs.vexfs", "fsck.vexfs"] {
            let link = directory.path().join(name);
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vexfs"), link).unwrap();
        }
        Self { directory }
    }

    /// With an image `a.img` of this size.
    pub fn with_image(size: &str) -> Self {
        let tools = Self::new();
        tools.ok(&["mkfs.vexfs", "-q", "a.img", size]);
        tools
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path(words[0]));
        command.args(&words[1..]).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command that succeeds prints; it says nothing on standard error.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that fails with this exit code.
    pub fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{words:?} says nothing");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The JSON objects that a command prints that ends with this exit code.
    pub fn json(&self, code: i32, words: &[&str]) -> Vec<Value> {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
