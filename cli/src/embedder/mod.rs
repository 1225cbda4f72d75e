// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What turns text into vectors. `docs/embedders.md` tells users which there are and how to bring
//! their own.
//!
//! Adding one: implement [`Embedder`] in a module of its own and name it in [`from_name`].

mod command;
mod lexical;

use std::fmt;
use std::io;

pub use command::{CommandEmbedder, CommandFault, CommandLimits};
pub use lexical::LexicalEmbedder;

/// A vector for each text, in order; `None` where a text has nothing to embed.
pub type Vectors = Vec<Option<Vec<f32>>>;

/// Turns texts into vectors of one model.
pub trait Embedder: Send {
    /// What tells vectors of this embedder from those of others; the model tag of a collection.
    fn model(&self) -> &str;

    /// Components of each vector, 1 to [`vexfs_simd::MAX_DIMENSION`].
    fn dimension(&self) -> usize;

    /// How many texts to hand over at a time for good speed, at least 1. More are allowed.
    fn batch(&self) -> usize;

    /// Whether its components are fractions, which only floats hold. A program need not say.
    fn makes_fractions(&self) -> bool {
        false
    }

    /// One vector of [`Self::dimension`] finite numbers for each text, in order; `None` for a text
    /// that has nothing to embed (no word in it), which the caller passes over.
    ///
    /// # Errors
    /// After an error for which [`EmbedError::is_final`] is false, other texts may be embedded.
    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError>;
}

/// Why there is no embedder or no vector. The commands in it are printable.
#[derive(Debug)]
pub enum EmbedError {
    /// No embedder has this name.
    UnknownName(String),
    /// What follows `cmd:` is no command: empty, or a quote does not end.
    Malformed(String),
    /// The program could not be started.
    Start {
        /// The command.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The program said that it cannot embed these texts.
    Refused {
        /// The command.
        command: String,
        /// Its words, on one line.
        message: String,
    },
    /// The program broke off or broke the protocol, and was ended.
    Failed {
        /// The command.
        command: String,
        /// What it did.
        fault: CommandFault,
        /// The end of what it wrote to standard error, on one line; may be empty.
        stderr: String,
    },
}

impl EmbedError {
    /// Whether the embedder can embed nothing more.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName(name) => {
                write!(f, "no embedder is called '{name}'; there are: lexical, cmd:PROGRAM ARGS")
            }
            Self::Malformed(command) => write!(
                f,
                "'cmd:{command}' names no program: it is empty or a quote in it does not end"
            ),
            Self::Start { command, cause } => {
                write!(f, "embedder '{command}' cannot be started: {cause}")
            }
            Self::Refused { command, message } => {
                write!(f, "embedder '{command}' says: {message}")
            }
            Self::Failed { command, fault, stderr } => {
                write!(f, "embedder '{command}' {fault}")?;
                if stderr.is_empty() { Ok(()) } else { write!(f, "; its last words: {stderr}") }
            }
        }
    }
}

impl std::error::Error for EmbedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// The embedder of this name: `lexical`, or `cmd:` and a program with arguments, quoted as in a
/// shell; `limits` are for the program.
pub fn from_name(name: &str, limits: CommandLimits) -> Result<Box<dyn Embedder>, EmbedError> {
    match name.strip_prefix("cmd:") {
        Some(command) => Ok(Box::new(CommandEmbedder::start(command, limits)?)),
        None if name == "lexical" => Ok(Box::new(LexicalEmbedder::new())),
        None => Err(EmbedError::UnknownName(crate::escape::first_words(name.as_bytes(), 60))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedders_are_found_by_name() {
        let embedder = from_name("lexical", CommandLimits::default()).unwrap();
        assert_eq!(embedder.model(), "vexfs-lexical-256-v1");
        assert_eq!(embedder.dimension(), 256);
        let error = |name| from_name(name, CommandLimits::default()).err().unwrap().to_string();
        assert_eq!(
            error("magic"),
            "no embedder is called 'magic'; there are: lexical, cmd:PROGRAM ARGS"
        );
        assert!(error("cmd:").contains("names no program"));
        assert!(error("cmd:  ").contains("names no program"));
        assert!(error("cmd:program 'open quote").contains("a quote in it does not end"));
        assert!(error("cmd:/does/not/exist --flag").contains("cannot be started"));
    }
}
