// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a workload was promised, line by line, and what follows from it.
//!
//! A name has at most one file, whose content follows from its version. Versions are never used twice,
//! and grow for a name. A line is
//!
//! - `has NAME VERSION`: NAME is there, of that version or of a later one (after fsync or sync);
//! - `going NAME`: it is about to be removed, so from now on it may be gone;
//! - `gone NAME VERSION`: neither that version nor an earlier one is there (after fsync of its
//!   directory);
//! - `moving NAME TO VERSION`: it is about to be renamed, over what is there.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Called with the number of each line, from 1, when it is written.
pub type Mark = Box<dyn Fn(usize) + Sync + Send>;

/// Where lines go.
#[derive(Default)]
pub struct Journal {
    lines: Mutex<Vec<String>>,
    /// Nothing is promised any more: what a call that returns now has done may be lost.
    cut: AtomicBool,
    mark: Option<Mark>,
    printed: bool,
}

impl Journal {
    /// One that keeps its lines.
    pub fn kept(mark: Option<Mark>) -> Self {
        Self { mark, ..Self::default() }
    }

    /// One that prints its lines, each before the call that writes it returns.
    pub fn printed() -> Self {
        Self { printed: true, ..Self::default() }
    }

    /// From now on no promise is taken.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Something is durable now.
    pub fn promise(&self, line: String) {
        if !self.cut.load(Ordering::SeqCst) {
            self.announce(line);
        }
    }

    /// Something is about to be done.
    pub fn announce(&self, line: String) {
        let mut lines = self.lines.lock().expect("the lines");
        if self.printed {
            let mut output = std::io::stdout().lock();
            writeln!(output, "{line}").and_then(|()| output.flush()).expect("output");
            if output.is_terminal() {
                rustix::termios::tcdrain(&output).expect("output passed on");
            }
            return;
        }
        lines.push(line);
        if let Some(mark) = &self.mark {
            mark(lines.len());
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("the lines").clone()
    }
}

/// What must be true of a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    /// It must be there.
    pub there: bool,
    /// If it is there, it is not of an earlier version.
    pub least: u64,
    /// Of which it was promised, if it was: only then is a file whole that was made in place.
    pub promised: u64,
}

/// What must be true of a file system.
#[derive(Default)]
pub struct Promises {
    /// By name.
    pub names: BTreeMap<String, Name>,
    /// Renames of which it is not known whether they were done: from, to and version.
    pub moves: Vec<(String, String, u64)>,
}

impl Promises {
    /// What follows from lines; one that was cut off at the end counts for nothing.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["has", name, version] => {
                    let Ok(version) = version.parse() else { continue };
                    all.settle(name);
                    let known = all.names.entry(name.into()).or_default();
                    *known = Name { there: true, least: version, promised: version };
                }
                ["going", name] => {
                    all.settle(name);
                    let known = all.names.entry(name.into()).or_default();
                    *known = Name { there: false, promised: 0, ..*known };
                }
                ["gone", name, version] => {
                    let Ok(version) = version.parse::<u64>() else { continue };
                    all.settle(name);
                    let known = all.names.entry(name.into()).or_default();
                    *known = Name { there: false, least: version + 1, promised: 0 };
                }
                ["moving", name, to, version] => {
                    let Ok(version) = version.parse() else { continue };
                    all.settle(name);
                    // Only what is durable must be at one of the two places.
                    let known = all.names.entry(name.into()).or_default();
                    let durable = known.there && known.promised == version;
                    *known = Name { there: false, promised: 0, ..*known };
                    if durable {
                        all.moves.push((name.into(), to.into(), version));
                    }
                }
                _ => {}
            }
        }
        all
    }

    /// Of a name something new is known, so what was open about it is not any more.
    fn settle(&mut self, name: &str) {
        self.moves.retain(|(from, to, _)| from != name && to != name);
    }
}

#[cfg(test)]
mod tests {
    use super::Promises;

    #[test]
    fn promises_follow_from_lines() {
        let all = Promises::of(["has a 3", "going a", "has b 4", "gone c 9", "has d", "has e x"]);
        assert!(!all.names["a"].there && all.names["a"].least == 3);
        assert!(all.names["b"].there && all.names["b"].promised == 4);
        assert!(!all.names["c"].there && all.names["c"].least == 10);
        assert!(!all.names.contains_key("d") && !all.names.contains_key("e"));
        let all = Promises::of(["has a 3", "moving a b 3"]);
        assert_eq!(all.moves.len(), 1);
        assert!(!all.names["a"].there);
        for last in ["has b 3", "going b", "moving b c 3"] {
            assert!(Promises::of(["has a 3", "moving a b 3", last]).moves.is_empty());
        }
    }
}
