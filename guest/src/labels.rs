// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Labels of files and threads, as the security module Smack knows them, and the rules between them.

use rustix::fs::XattrFlags;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use vexfs_simulation::SeededRandom;

/// Where sysfs has a place for its file system, there is Smack.
const SMACKFS: &str = "/sys/fs/smackfs";
const ATTRIBUTE: &str = "security.SMACK64";

/// Labels of threads. The floor, which everybody may read, is that of all that nobody has labelled.
pub const OF_THREADS: [&str; 4] = ["_", "Red", "Green", "Blue"];
/// Labels of files: those, the hat, which nobody may read without a rule, and the star, which everybody may.
const OF_FILES: [&str; 8] = ["_", "_", "Red", "Green", "Blue", "Grey", "^", "*"];

/// Whether the kernel judges by labels that tests can set.
pub fn smack_runs() -> bool {
    Path::new(SMACKFS).exists()
}

/// Whether the kernel judges by labels at all: SELinux does too, but allows everything without a policy.
pub fn are_judged() -> bool {
    smack_runs() || Path::new("/sys/fs/selinux").exists()
}

/// Makes random rules; those that were made before go.
pub fn set_rules(random: &mut SeededRandom) {
    let rules = Path::new(SMACKFS).join("load2");
    if !rules.exists() {
        crate::support::run("mount", &["-t", "smackfs", "smackfs", SMACKFS]);
    }
    for subject in OF_THREADS {
        for object in OF_FILES {
            let access = ["-", "x", "r", "rx", "rwx", "rwx", "rwx"][random.below(7) as usize];
            // Each rule is a write of its own.
            let mut file = OpenOptions::new().write(true).open(&rules).expect("the rules");
            file.write_all(format!("{subject} {object} {access}\n").as_bytes()).expect("a rule");
        }
    }
}

/// Gives a file or directory a random label, or takes it away.
pub fn label_at_random(path: &Path, random: &mut SeededRandom) {
    if random.percent(10) {
        // There may be none.
        let _ = rustix::fs::removexattr(path, ATTRIBUTE);
        return;
    }
    label(path, random.pick(&OF_FILES).expect("a label"));
}

/// Gives a file or directory a label.
pub fn label(path: &Path, label: &str) {
    rustix::fs::setxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()).expect("a label");
}

/// The label that is stored with a file or directory.
pub fn label_of(path: &Path) -> String {
    let mut label = vec![0; 256];
    let length = rustix::fs::getxattr(path, ATTRIBUTE, &mut label).expect("a label");
    String::from_utf8(label[..length].to_vec()).expect("UTF-8")
}

/// Gives the calling thread a label, while it still has the power to.
pub fn become_labelled(label: &str) {
    std::fs::write("/proc/thread-self/attr/current", label).expect("a label of its own");
}
