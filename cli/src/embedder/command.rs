// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! An embedder that is a program of the user's, spoken to in lines of JSON. The protocol is told in
//! `docs/embedders.md`.
//!
//! The program is never trusted to answer, to end, or to keep to the protocol: it is written to and
//! read from by threads of their own, waited for up to a limit, and killed with its whole process
//! group and reaped when it fails or is not needed any more.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};

use super::{EmbedError, Embedder, Vectors};
use crate::escape::first_words;

/// Texts in a request, unless the program asks for another number.
const BATCH_DEFAULT: usize = 32;
/// The most texts that a program can ask for.
const BATCH_MAX: usize = 1024;
/// The longest model tag, in bytes.
const MODEL_BYTES_MAX: usize = 255;
/// The end of standard error that is kept, in bytes.
const STDERR_BYTES_MAX: usize = 4096;
/// How long to wait for the last of standard error after the program was killed.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for a program, and how much to take from it.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// From the start to the first line, which may take the loading of a model.
    pub start_timeout: Duration,
    /// From each request to its reply.
    pub reply_timeout: Duration,
    /// From the end of its input or its output to its own end.
    pub end_timeout: Duration,
    /// The longest line.
    pub line_bytes_max: usize,
}

impl Default for CommandLimits {
    /// Two minutes, five minutes, two seconds, 128 MiB.
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(120),
            reply_timeout: Duration::from_secs(300),
            end_timeout: Duration::from_secs(2),
            line_bytes_max: 128 << 20,
        }
    }
}

/// What a program did that it must not.
#[derive(Clone, Debug)]
pub enum CommandFault {
    /// It ended, or closed its output, before it answered.
    Ended(Option<ExitStatus>),
    /// It did not answer in time.
    Silent(Duration),
    /// It wrote a line that is longer than the limit, in bytes.
    LineTooLong(usize),
    /// It wrote something other than the JSON expected: the line's start, and what is wrong.
    NotReply(String, String),
    /// Its first line has a model tag that is empty, too long, or has control characters.
    Model,
    /// Its first line has a dimension or a batch out of range.
    Range(&'static str, u64, u64),
    /// It answered another request than the one it was sent: found and expected.
    Id(u64, u64),
    /// It gave another number of vectors than it was given texts: found and expected.
    Count(usize, usize),
    /// Vector number .. has another dimension than the first line said: found and expected.
    Dimension(usize, usize, usize),
    /// Vector number .. has a component number .. that is no finite binary32.
    NotFinite(usize, usize),
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(Some(status)) => write!(f, "ended without an answer ({status})"),
            Self::Ended(None) => f.write_str("closed its standard output without an answer"),
            Self::Silent(timeout) => {
                write!(f, "did not answer within {} seconds", timeout.as_secs_f32())
            }
            Self::LineTooLong(limit) => write!(f, "wrote a line of more than {limit} bytes"),
            Self::NotReply(line, what) => write!(
                f,
                "wrote '{line}', which is not the JSON expected ({what}); its messages belong on \
                 standard error"
            ),
            Self::Model => write!(
                f,
                "has a model tag that is empty, has control characters, or is longer than \
                 {MODEL_BYTES_MAX} bytes"
            ),
            Self::Range(what, found, limit) => {
                write!(f, "has a {what} of {found}, possible are 1 to {limit}")
            }
            Self::Id(found, expected) => {
                write!(f, "answered request {found} instead of {expected}")
            }
            Self::Count(found, expected) => {
                write!(f, "gave {found} vectors for {expected} texts")
            }
            Self::Dimension(vector, found, expected) => write!(
                f,
                "gave {found} components in vector {vector} of a reply, its first line said \
                 {expected}"
            ),
            Self::NotFinite(vector, component) => write!(
                f,
                "gave a number too large for f32 in component {component} of vector {vector} of \
                 a reply"
            ),
        }
    }
}

/// The first line of a program.
#[derive(Deserialize)]
struct Hello {
    model: String,
    dimension: u64,
    batch: Option<u64>,
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    texts: &'a [&'a str],
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    vectors: Option<Vectors>,
    error: Option<String>,
}

/// What the program wrote next.
enum Output {
    Line(Vec<u8>),
    TooLong,
    End,
}

/// A program that embeds.
#[derive(Debug)]
pub struct CommandEmbedder {
    program: Program,
    model: String,
    dimension: usize,
    batch: usize,
    /// The number of the last request.
    id: u64,
    /// Why the program was ended, and its last words.
    ended: Option<(CommandFault, String)>,
}

impl CommandEmbedder {
    /// Starts a program and reads its first line. `command` is the program and its arguments,
    /// quoted as in a shell, but run without one.
    pub fn start(command: &str, limits: CommandLimits) -> Result<Self, EmbedError> {
        let name = first_words(command.as_bytes(), 200);
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let Some((path, arguments)) = words.as_deref().and_then(<[String]>::split_first) else {
            return Err(EmbedError::Malformed(name));
        };
        let program = Program::start(name.clone(), path, arguments, limits)
            .map_err(|cause| EmbedError::Start { command: name, cause })?;
        let mut embedder = Self {
            program,
            model: String::new(),
            dimension: 0,
            batch: BATCH_DEFAULT,
            id: 0,
            ended: None,
        };
        match embedder.greet() {
            Ok(()) => Ok(embedder),
            Err(fault) => Err(embedder.fail(fault)),
        }
    }

    fn greet(&mut self) -> Result<(), CommandFault> {
        let hello: Hello = self.program.receive(self.program.limits.start_timeout)?;
        let length = hello.model.len();
        if !(1..=MODEL_BYTES_MAX).contains(&length) || hello.model.chars().any(char::is_control) {
            return Err(CommandFault::Model);
        }
        self.model = hello.model;
        self.dimension =
            in_range("dimension", hello.dimension, vexfs_simd::MAX_DIMENSION as usize)?;
        if let Some(batch) = hello.batch {
            self.batch = in_range("batch", batch, BATCH_MAX)?;
        }
        Ok(())
    }

    /// The vectors of one batch, or the program's own error.
    fn ask(&mut self, texts: &[&str]) -> Result<Result<Vectors, String>, CommandFault> {
        self.id += 1;
        // Strings and numbers always serialise.
        let mut line = serde_json::to_vec(&Request { id: self.id, texts }).unwrap_or_default();
        line.push(b'\n');
        self.program.send(line);
        let reply: Reply = self.program.receive(self.program.limits.reply_timeout)?;
        if reply.id != self.id {
            return Err(CommandFault::Id(reply.id, self.id));
        }
        if let Some(error) = reply.error {
            return Ok(Err(first_words(error.as_bytes(), 400)));
        }
        let vectors = reply.vectors.unwrap_or_default();
        if vectors.len() != texts.len() {
            return Err(CommandFault::Count(vectors.len(), texts.len()));
        }
        for (number, vector) in vectors.iter().enumerate() {
            let Some(vector) = vector else { continue };
            if vector.len() != self.dimension {
                return Err(CommandFault::Dimension(number, vector.len(), self.dimension));
            }
            if let Some(component) = vector.iter().position(|value| !value.is_finite()) {
                return Err(CommandFault::NotFinite(number, component));
            }
        }
        Ok(Ok(vectors))
    }

    /// Ends the program, and tells why.
    fn fail(&mut self, fault: CommandFault) -> EmbedError {
        let (fault, stderr) = match self.ended.clone() {
            Some(ended) => ended,
            None => {
                let grace = match fault {
                    CommandFault::Ended(_) => self.program.limits.end_timeout,
                    _ => Duration::ZERO,
                };
                let status = self.program.end(grace);
                let fault = match fault {
                    CommandFault::Ended(_) => CommandFault::Ended(status),
                    other => other,
                };
                self.ended.insert((fault, self.program.last_words())).clone()
            }
        };
        EmbedError::Failed { command: self.program.name.clone(), fault, stderr }
    }
}

fn in_range(what: &'static str, found: u64, limit: usize) -> Result<usize, CommandFault> {
    usize::try_from(found)
        .ok()
        .filter(|value| (1..=limit).contains(value))
        .ok_or(CommandFault::Range(what, found, limit as u64))
}

impl Embedder for CommandEmbedder {
    fn model(&self) -> &str {
        &self.model
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError> {
        if let Some((fault, _)) = &self.ended {
            let fault = fault.clone();
            return Err(self.fail(fault));
        }
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(self.batch) {
            match self.ask(batch) {
                Ok(Ok(batch)) => vectors.extend(batch),
                Ok(Err(message)) => {
                    return Err(EmbedError::Refused {
                        command: self.program.name.clone(),
                        message,
                    });
                }
                Err(fault) => return Err(self.fail(fault)),
            }
        }
        Ok(vectors)
    }
}

/// A running program with its three pipes.
#[derive(Debug)]
struct Program {
    /// The command, printable.
    name: String,
    child: Child,
    /// To the thread that writes; dropping it closes the program's standard input.
    requests: Option<SyncSender<Vec<u8>>>,
    /// From the thread that reads.
    outputs: Receiver<Output>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Tells by its end that standard error has ended.
    stderr_end: Receiver<()>,
    limits: CommandLimits,
    reaped: bool,
}

impl Program {
    fn start(
        name: String,
        path: &str,
        arguments: &[String],
        limits: CommandLimits,
    ) -> std::io::Result<Self> {
        let mut child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what the program starts can be ended with it.
            .process_group(0)
            .spawn()?;
        // One request and one line at most wait here, so a program that writes without end is
        // stopped by its pipe.
        let (requests, to_write) = mpsc::sync_channel(1);
        let (lines, outputs) = mpsc::sync_channel(1);
        let (stderr_open, stderr_end) = mpsc::channel();
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdin) = child.stdin.take() {
            thread::spawn(move || write_requests(stdin, &to_write));
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, limits.line_bytes_max, &lines));
        }
        if let Some(source) = child.stderr.take() {
            let tail = Arc::clone(&stderr);
            thread::spawn(move || {
                keep_tail(source, &tail);
                drop(stderr_open);
            });
        }
        Ok(Self {
            name,
            child,
            requests: Some(requests),
            outputs,
            stderr,
            stderr_end,
            limits,
            reaped: false,
        })
    }

    /// Sends a line. Whether it arrives shows in the answer.
    fn send(&self, line: Vec<u8>) {
        if let Some(requests) = &self.requests {
            // The thread has ended if the program reads no more; then the answer will be its end.
            let _ = requests.try_send(line);
        }
    }

    /// The next line, understood.
    fn receive<T: for<'a> Deserialize<'a>>(&self, timeout: Duration) -> Result<T, CommandFault> {
        let line = match self.outputs.recv_timeout(timeout) {
            Ok(Output::Line(line)) => line,
            Ok(Output::TooLong) => {
                return Err(CommandFault::LineTooLong(self.limits.line_bytes_max));
            }
            Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => {
                return Err(CommandFault::Ended(None));
            }
            Err(RecvTimeoutError::Timeout) => return Err(CommandFault::Silent(timeout)),
        };
        serde_json::from_slice(&line).map_err(|error| {
            CommandFault::NotReply(
                first_words(&line, 100),
                first_words(error.to_string().as_bytes(), 200),
            )
        })
    }

    /// Closes the program's input, waits for its end up to `grace`, kills it and what it started,
    /// and reaps it. Its status if it ended by itself.
    fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        if self.reaped {
            return None;
        }
        self.requests = None;
        let pid = Pid::from_child(&self.child);
        let deadline = Instant::now() + grace;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let mut ended_itself;
        loop {
            ended_itself = matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)));
            if ended_itself || Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        // Not reaped yet, so the number still is the program's, and names its group. It may have
        // nothing left to kill.
        let _ = kill_process_group(pid, Signal::KILL);
        let status = self.child.wait().ok();
        self.reaped = true;
        status.filter(|_| ended_itself)
    }

    /// The end of what an ended program wrote to standard error, on one line.
    fn last_words(&self) -> String {
        // A program that left its group may hold the pipe open; it is not waited for long.
        let _ = self.stderr_end.recv_timeout(STDERR_TIMEOUT);
        let mut tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: &[u8] = tail.make_contiguous();
        // The last lines say most: Python's traceback ends in the error.
        let start = bytes.len().saturating_sub(400);
        let words = first_words(&bytes[start..], 800);
        if start > 0 { format!("...{words}") } else { words }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end(self.limits.end_timeout);
    }
}

fn write_requests(mut stdin: ChildStdin, requests: &Receiver<Vec<u8>>) {
    for request in requests {
        if stdin.write_all(&request).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, line_bytes_max: usize, lines: &SyncSender<Output>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let limit = line_bytes_max as u64 + 1;
        let output = match stdout.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(1..) if line.last() == Some(&b'\n') => Output::Line(line),
            Ok(_) if line.len() > line_bytes_max => Output::TooLong,
            // A last line without an end may be cut off; JSON tells.
            Ok(1..) => Output::Line(line),
            Ok(0) | Err(_) => Output::End,
        };
        let last = !matches!(output, Output::Line(_));
        if lines.send(output).is_err() || last {
            return;
        }
    }
}

fn keep_tail(mut stderr: ChildStderr, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..length]);
        let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..excess);
    }
}

#[cfg(test)]
mod tests;
