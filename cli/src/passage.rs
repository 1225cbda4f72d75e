// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Cuts text into passages: ranges of bytes, each about as long as one vector can stand for.
//!
//! Short paragraphs are packed together and long ones are cut at the end of a sentence, a line or
//! a word, in this order. Among the places that are as good, the one is taken whose following
//! bytes have the least hash (content-defined chunking, as in Muthitacharoen, Chen and Mazieres,
//! "A low-bandwidth network file system", SOSP 2001, section 3.1): after an edit, the passages
//! behind it soon are what they were before, and their vectors can be used again.
//!
//! The file is read through a window; its length does not matter. Bytes that are not UTF-8 are
//! kept in the ranges and replaced in the text.

use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes at a file's start that tell whether it is text.
pub const HEAD_BYTES: usize = 8192;

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Bytes behind a cut that choose among cuts.
const MARK_BYTES: usize = 32;

/// How long passages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassageLimits {
    target_bytes: usize,
    overlap_bytes: usize,
}

impl PassageLimits {
    /// The shortest target, in bytes.
    pub const TARGET_BYTES_MIN: usize = 64;
    /// The longest target, in bytes.
    pub const TARGET_BYTES_MAX: usize = 1 << 20;

    /// Passages of half to all of `target_bytes` (64 to 1 MiB), where the text allows; a paragraph
    /// that is half as long again is not cut. Each passage may begin with up to `overlap_bytes`
    /// (at most half the target) of the one before, from a word's start. `None` if out of range.
    pub fn new(target_bytes: usize, overlap_bytes: usize) -> Option<Self> {
        ((Self::TARGET_BYTES_MIN..=Self::TARGET_BYTES_MAX).contains(&target_bytes)
            && overlap_bytes <= target_bytes / 2)
            .then_some(Self { target_bytes, overlap_bytes })
    }

    /// No passage is longer than this, in bytes.
    pub fn passage_bytes_max(&self) -> usize {
        self.paragraph_bytes_max() + self.overlap_bytes
    }

    fn paragraph_bytes_max(&self) -> usize {
        self.target_bytes + self.target_bytes / 2
    }
}

impl Default for PassageLimits {
    /// 800 bytes, about 130 words of English, without overlap.
    fn default() -> Self {
        Self { target_bytes: 800, overlap_bytes: 0 }
    }
}

/// A range of a file's bytes that neither begins nor ends with white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its bytes, at least one.
    pub bytes: &'a [u8],
}

/// Bytes of a passage's digest.
pub const DIGEST_BYTES: usize = 16;

impl<'a> Passage<'a> {
    /// The text, with U+FFFD for what is not UTF-8.
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    /// What tells passages apart by their bytes alone: the first 16 bytes of their BLAKE3 hash.
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        let hash = blake3::hash(self.bytes);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&hash.as_bytes()[..DIGEST_BYTES]);
        digest
    }
}

/// Whether a file that begins with `head` is not text in UTF-8 or a code that extends ASCII: it
/// holds a NUL byte (as UTF-16 does), or more than a tenth of it is invalid UTF-8 or control
/// characters. A character that `head` cuts in two does not count.
pub fn is_binary(head: &[u8]) -> bool {
    let mut odd_bytes = 0;
    for chunk in head.utf8_chunks() {
        let unfinished =
            || std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if !unfinished() {
            odd_bytes += chunk.invalid().len();
        }
        odd_bytes += chunk.valid().bytes().filter(|byte| is_odd_control(*byte)).count();
    }
    head.contains(&0) || odd_bytes * 10 > head.len()
}

/// Control characters that text has no use for: all but backspace, tab, line feed, vertical tab,
/// form feed, carriage return and escape.
fn is_odd_control(byte: u8) -> bool {
    matches!(byte, 0..=7 | 14..=26 | 28..=31 | 127)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The length of `bytes` without the white space at its end.
fn trimmed_length(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1)
}

/// Reads a file from its start and cuts it into passages.
#[derive(Debug)]
pub struct Passages<R> {
    source: R,
    limits: PassageLimits,
    /// Part of the file: what was given out already before `next`, then what was not.
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    buffer_offset: u64,
    next: usize,
    ended: bool,
}

impl<R: Read> Passages<R> {
    /// Passages of what `source` gives.
    pub fn new(source: R, limits: PassageLimits) -> Self {
        Self { source, limits, buffer: Vec::new(), buffer_offset: 0, next: 0, ended: false }
    }

    /// Whether the file is binary, by its first [`HEAD_BYTES`]. Asked before the first passage.
    pub fn is_binary(&mut self) -> io::Result<bool> {
        self.fill(HEAD_BYTES)?;
        let head = self.buffer.get(..HEAD_BYTES).unwrap_or(&self.buffer);
        Ok(is_binary(head))
    }

    /// The next passage, or `None` at the end. Passages come in the order of the file; together
    /// they hold all of it but white space.
    pub fn next_passage(&mut self) -> io::Result<Option<Passage<'_>>> {
        let window_bytes = self.limits.paragraph_bytes_max() + MARK_BYTES;
        loop {
            self.fill(window_bytes)?;
            let rest = &self.buffer[self.next..];
            if rest.is_empty() {
                return Ok(None);
            }
            match rest.iter().position(|&byte| !is_space(byte)) {
                Some(0) => {}
                spaces => {
                    self.next += spaces.unwrap_or(rest.len());
                    continue;
                }
            }
            let window = &rest[..rest.len().min(window_bytes)];
            let length = Window { bytes: window, limits: self.limits, ended: self.ended }.cut();
            let start = self.overlapped(self.next);
            let (core_start, core_end) = (self.next, self.next + length);
            self.next = core_end;
            let end = core_start + trimmed_length(&self.buffer[core_start..core_end]);
            let passage = Passage {
                offset: self.buffer_offset + start as u64,
                bytes: &self.buffer[start..end],
            };
            return Ok(Some(passage));
        }
    }

    /// The start of a passage that would begin at `start` without overlap: after the first white
    /// space within the overlap before it.
    fn overlapped(&self, start: usize) -> usize {
        let earliest = start.saturating_sub(self.limits.overlap_bytes);
        let before = &self.buffer[earliest..start];
        let Some(space) = before.iter().position(|&byte| is_space(byte)) else { return start };
        let word = before[space..].iter().position(|&byte| !is_space(byte));
        word.map_or(start, |word| earliest + space + word)
    }

    /// Reads until `wanted` bytes follow `next`, or to the end.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while !self.ended && self.buffer.len() - self.next < wanted {
            if self.next >= READ_BYTES {
                let done = self.next.saturating_sub(self.limits.overlap_bytes);
                self.buffer.drain(..done);
                self.buffer_offset += done as u64;
                self.next -= done;
            }
            let length = self.buffer.len();
            self.buffer.resize(length + READ_BYTES, 0);
            let read = self.source.read(&mut self.buffer[length..]);
            self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The text in which one passage is cut, from its first byte on.
struct Window<'a> {
    bytes: &'a [u8],
    limits: PassageLimits,
    /// Whether the file ends here.
    ended: bool,
}

/// A place to cut, where something begins that could begin a passage.
#[derive(Clone, Copy)]
struct Cut {
    /// Bytes before it.
    at: usize,
    /// Whether a heading begins here.
    heading: bool,
}

impl Window<'_> {
    /// Bytes of the next passage with the white space behind it, at least 1.
    fn cut(&self) -> usize {
        let target = self.limits.target_bytes;
        let paragraphs = self.paragraphs();
        let best = target / 2..=target;
        let headings = paragraphs.iter().filter(|cut| cut.heading).map(|cut| cut.at);
        if let Some(at) = self.least_marked(headings, &best) {
            return at;
        }
        if self.ended && trimmed_length(self.bytes) <= target {
            return self.bytes.len();
        }
        let all = paragraphs.iter().map(|cut| cut.at);
        if let Some(at) = self.least_marked(all.clone(), &best) {
            return at;
        }
        // A heading alone says little; it goes with what it heads, cut or not.
        if let Some(at) = all.clone().rfind(|at| (target / 4..target / 2).contains(at)) {
            return at;
        }
        if let Some(at) =
            all.clone().find(|at| (target..=self.limits.paragraph_bytes_max()).contains(at))
        {
            return at;
        }
        if self.ended && self.bytes.len() <= self.limits.paragraph_bytes_max() {
            return self.bytes.len();
        }
        self.least_marked(self.sentences(), &best)
            .or_else(|| self.least_marked(self.starts_after(|byte| byte == b'\n'), &best))
            .or_else(|| self.starts_after(is_space).filter(|at| best.contains(at)).last())
            .unwrap_or_else(|| self.character_boundary(target))
    }

    /// The one of these cuts within `range` whose following bytes have the least hash.
    fn least_marked(
        &self,
        cuts: impl Iterator<Item = usize>,
        range: &std::ops::RangeInclusive<usize>,
    ) -> Option<usize> {
        cuts.filter(|at| range.contains(at)).min_by_key(|&at| {
            let mark = self.bytes[at..].iter().take(MARK_BYTES);
            // FNV-1a.
            mark.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        })
    }

    /// Where paragraphs and headings begin, but for the window's start.
    fn paragraphs(&self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let mut lines = self.bytes.split_inclusive(|&byte| byte == b'\n').peekable();
        // The line before and the one before that, as if the window followed an empty line.
        let mut previous: &[u8] = b"";
        let mut at = 0;
        while let Some(line) = lines.next() {
            let after_blank = trimmed_length(previous) == 0;
            let next = lines.peek().copied().unwrap_or_default();
            if at > 0 && trimmed_length(line) > 0 {
                let heading = is_marked_heading(line)
                    || (is_adornment(line) && after_blank)
                    || (is_adornment(next) && !is_adornment(line) && !is_adornment(previous));
                if heading || after_blank {
                    // Cuts lie at the first character: what the window begins with never is
                    // white space.
                    let indent = line.iter().take_while(|&&byte| is_space(byte)).count();
                    cuts.push(Cut { at: at + indent, heading });
                }
            }
            at += line.len();
            previous = line;
        }
        cuts
    }

    /// Where sentences begin: after white space behind a full stop, question or exclamation mark
    /// (and closing quotes or brackets), unless a small letter follows; or right behind the full
    /// width marks of Chinese and Japanese.
    fn sentences(&self) -> impl Iterator<Item = usize> + '_ {
        let spaced = self.starts_after(is_space).filter(|&at| {
            let before = &self.bytes[..trimmed_length(&self.bytes[..at])];
            let closing = |byte: &u8| matches!(byte, b'"' | b'\'' | b')' | b']' | b'}');
            let mark = before.iter().rev().find(|byte| !closing(byte));
            matches!(mark, Some(b'.' | b'!' | b'?'))
                && self.bytes.get(at).is_some_and(|byte| !byte.is_ascii_lowercase())
        });
        let full_width = self.bytes.windows(3).enumerate().filter_map(|(at, bytes)| {
            matches!(bytes, [0xe3, 0x80, 0x82] | [0xef, 0xbc, 0x81 | 0x9f]).then_some(at + 3)
        });
        spaced.chain(full_width.filter(|&at| at < self.bytes.len()))
    }

    /// Where something begins after white space that starts with a byte that is `wanted`.
    fn starts_after(&self, wanted: fn(u8) -> bool) -> impl Iterator<Item = usize> + '_ {
        let mut pending = false;
        self.bytes.iter().enumerate().filter_map(move |(at, &byte)| {
            if is_space(byte) {
                pending |= wanted(byte);
                return None;
            }
            std::mem::take(&mut pending).then_some(at)
        })
    }

    /// The last place at or before `at` that cuts no UTF-8 character in two.
    fn character_boundary(&self, at: usize) -> usize {
        let at = at.min(self.bytes.len());
        let is_continuation = |at: usize| matches!(self.bytes.get(at), Some(0x80..=0xbf));
        (at.saturating_sub(3)..=at).rev().find(|&at| at > 0 && !is_continuation(at)).unwrap_or(at)
    }
}

/// A heading of Markdown: one to six number signs and a space.
fn is_marked_heading(line: &[u8]) -> bool {
    let level = line.iter().take_while(|&&byte| byte == b'#').count();
    (1..=6).contains(&level) && line.get(level) == Some(&b' ')
}

/// The line over or under a heading, or between sections: one sign, three times or more.
fn is_adornment(line: &[u8]) -> bool {
    let line = &line[..trimmed_length(line)];
    line.len() >= 3
        && line.first().is_some_and(|first| {
            b"=-~^*+#_".contains(first) && line.iter().all(|byte| byte == first)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn split(text: &[u8], target: usize, overlap: usize) -> Vec<(u64, Vec<u8>)> {
        let limits = PassageLimits::new(target, overlap).unwrap();
        collect(Passages::new(text, limits))
    }

    fn collect<R: Read>(mut passages: Passages<R>) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(passage) = passages.next_passage().unwrap() {
            all.push((passage.offset, passage.bytes.to_vec()));
        }
        all
    }

    fn texts(text: &str, target: usize) -> Vec<String> {
        split(text.as_bytes(), target, 0)
            .into_iter()
            .map(|(_, bytes)| String::from_utf8(bytes).unwrap())
            .collect()
    }

    /// Pseudo-random numbers (xorshift64), so that the texts here are the same everywhere.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn paragraph(&mut self, words: u64) -> String {
            let mut text = String::from("The");
            for _ in 0..words {
                text.push(' ');
                for _ in 0..2 + self.below(8) {
                    text.push(char::from(b'a' + self.below(26) as u8));
                }
                if self.below(9) == 0 {
                    text.push_str(". It");
                }
            }
            text + "."
        }
    }

    #[test]
    fn an_empty_or_blank_file_has_no_passages() {
        assert!(split(b"", 100, 0).is_empty());
        assert!(split(&b" \n\t\r\n\x0b\x0c".repeat(100_000), 100, 0).is_empty());
    }

    #[test]
    fn short_paragraphs_are_packed() {
        let text = "\n\nOne line.\n\nTwo lines\nare here.\n   \nThree.\n";
        let passages = split(text.as_bytes(), 100, 0);
        let packed = b"One line.\n\nTwo lines\nare here.\n   \nThree.".to_vec();
        assert_eq!(passages, [(2, packed)]);
    }

    #[test]
    fn paragraphs_are_not_cut_while_they_fit() {
        let mut random = Random(1);
        let paragraphs: Vec<String> = (0..40).map(|_| random.paragraph(12)).collect();
        let text = paragraphs.join("\r\n\r\n");
        let passages = texts(&text, 400);
        assert!(passages.len() > 5);
        for passage in &passages {
            assert!(passage.len() <= 400);
            assert!(paragraphs.iter().any(|paragraph| passage.starts_with(paragraph.as_str())));
            assert!(paragraphs.iter().any(|paragraph| passage.ends_with(paragraph.as_str())));
        }
    }

    #[test]
    fn a_section_begins_a_passage() {
        let body = "Words of this section fill about half of what a passage may hold. ".repeat(5);
        for heading in ["# Usage\n\n", "Usage\n=====\n\n", "=====\nUsage\n=====\n\n"] {
            let section = format!("{heading}{body}\n\n");
            let passages = texts(&section.repeat(4), 600);
            assert_eq!(passages.len(), 4, "{heading}");
            assert!(passages.iter().all(|passage| passage.starts_with(heading)), "{heading}");
        }
    }

    #[test]
    fn a_heading_stays_with_the_long_paragraph_it_heads() {
        let text = format!("# Usage\n\n{}", "A sentence of the long paragraph. ".repeat(60));
        let passages = texts(&text, 400);
        assert!(passages[0].starts_with("# Usage\n\nA sentence"));
    }

    #[test]
    fn long_paragraphs_are_cut_between_sentences() {
        let text = Random(2).paragraph(1200);
        let passages = texts(&text, 700);
        assert!(passages.len() > 10);
        for passage in &passages {
            assert!(passage.starts_with("The") || passage.starts_with("It"), "{passage}");
            assert!(passage.ends_with('.'), "{passage}");
        }
        assert_eq!(passages.join(" "), text);
        let text = "He left, e.g. on foot. ".repeat(20);
        assert!(texts(&text, 64).iter().all(|passage| passage.starts_with("He left")));
        let text = "\u{5929}\u{6c14}\u{5f88}\u{597d}\u{3002}".repeat(40);
        assert!(texts(&text, 100).iter().all(|passage| passage.ends_with('\u{3002}')));
    }

    #[test]
    fn what_has_no_sentences_is_cut_between_lines_or_words_or_characters() {
        let lines: String = (0..200).map(|number| format!("key {number} = value\n")).collect();
        for passage in texts(&lines, 200) {
            assert!(passage.starts_with("key") && passage.ends_with("value"), "{passage}");
        }
        let words = "word ".repeat(500);
        assert!(texts(&words, 203).iter().all(|passage| passage.ends_with("word")));
        // Each character has three bytes; 100 is not a multiple.
        let characters = "\u{20ac}".repeat(500);
        let passages = texts(&characters, 100);
        assert!(passages.iter().rev().skip(1).all(|passage| passage.len() == 99));
        assert_eq!(passages.concat(), characters);
    }

    #[test]
    fn broken_utf8_is_kept_in_the_bytes_and_replaced_in_the_text() {
        let passages = split(b"caf\xe9 au lait", 100, 0);
        assert_eq!(passages, [(0, b"caf\xe9 au lait".to_vec())]);
        let passage = Passage { offset: 0, bytes: &passages[0].1 };
        assert_eq!(passage.text(), "caf\u{fffd} au lait");
        // Nothing but continuation bytes still comes to an end.
        assert_eq!(split(&[0x80; 1000], 100, 0).iter().map(|(_, b)| b.len()).sum::<usize>(), 1000);
    }

    #[test]
    fn overlap_repeats_the_end_of_the_passage_before() {
        let text = Random(3).paragraph(400);
        let apart = split(text.as_bytes(), 300, 0);
        let overlapped = split(text.as_bytes(), 300, 60);
        assert_eq!(apart.len(), overlapped.len());
        assert_eq!(apart[0], overlapped[0]);
        for ((offset, bytes), (earlier, longer)) in apart.iter().zip(&overlapped).skip(1) {
            assert!((1..=60).contains(&(offset - earlier)), "{offset} {earlier}");
            assert!(longer.ends_with(bytes));
            assert_eq!(text.as_bytes()[*earlier as usize - 1], b' ');
        }
    }

    #[test]
    fn after_an_edit_most_passages_are_the_same() {
        let mut random = Random(4);
        let text: String =
            (0..300).map(|_| random.paragraph(25) + "\n\n").collect::<Vec<_>>().concat();
        let digests = |text: &str| {
            let passages = split(text.as_bytes(), 800, 0);
            passages
                .iter()
                .map(|(offset, bytes)| Passage { offset: *offset, bytes }.digest())
                .collect::<std::collections::HashSet<_>>()
        };
        let before = digests(&text);
        assert!(before.len() > 60);
        for front in ["A new paragraph before all others.\n\n", "One more word, then: "] {
            let after = digests(&format!("{front}{text}"));
            let kept = after.intersection(&before).count();
            assert!(kept * 10 >= before.len() * 9, "{kept} of {}", before.len());
        }
    }

    #[test]
    fn the_digest_is_that_of_blake3() {
        let passage = Passage { offset: 7, bytes: b"abc" };
        let expected = [
            0x64, 0x37, 0xb3, 0xac, 0x38, 0x46, 0x51, 0x33, 0xff, 0xb6, 0x3b, 0x75, 0x27, 0x3a,
            0x8d, 0xb5,
        ];
        assert_eq!(passage.digest(), expected);
    }

    #[test]
    fn binary_files_are_told_from_text() {
        assert!(!is_binary(b""));
        assert!(!is_binary("Gr\u{fc}\u{df}e aus K\u{f6}ln\r\n".as_bytes()));
        assert!(!is_binary(b"Un caf\xe9 noir et de la cr\xe8me fra\xeeche, s'il vous pla\xeet"));
        assert!(!is_binary(b"\x1b[1mNAME\x1b[0m\n  x\x08xy\x08y"));
        assert!(is_binary(b"\x7fELF\x02\x01\x01\x00\x00"));
        assert!(is_binary(&"UTF-16".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()));
        assert!(is_binary(b"\xff\xd8\xff\xe0\x10JFIF\x01\x02\x03"));
        // The last character is cut in two.
        assert!(!is_binary(&"\u{20ac}".as_bytes()[..2]));

        let mut passages = Passages::new(&b"text, and \x00"[..], PassageLimits::default());
        assert!(passages.is_binary().unwrap());
        let late = [&[b'a'; HEAD_BYTES][..], b"\x00"].concat();
        assert!(!Passages::new(&late[..], PassageLimits::default()).is_binary().unwrap());
        let mut text = Passages::new(&b"some text"[..], PassageLimits::default());
        assert!(!text.is_binary().unwrap());
        assert_eq!(text.next_passage().unwrap().unwrap().bytes, b"some text");
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        assert!(PassageLimits::new(63, 0).is_none());
        assert!(PassageLimits::new((1 << 20) + 1, 0).is_none());
        assert!(PassageLimits::new(100, 51).is_none());
        assert!(PassageLimits::new(100, 50).is_some());
    }

    /// Gives few bytes at a time, interruptions, and in the end an error if one is set.
    struct Trickle<'a> {
        bytes: &'a [u8],
        fails: bool,
        turn: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.turn += 1;
            if self.turn.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.bytes.is_empty() && self.fails {
                return Err(io::Error::other("the disk is gone"));
            }
            let length = self.bytes.len().min(buffer.len()).min(self.turn % 7 + 1);
            buffer[..length].copy_from_slice(&self.bytes[..length]);
            self.bytes = &self.bytes[length..];
            Ok(length)
        }
    }

    #[test]
    fn a_slow_source_gives_the_same_passages() {
        let text = Random(5).paragraph(30_000);
        assert!(text.len() > 3 * READ_BYTES);
        let limits = PassageLimits::new(500, 100).unwrap();
        let slow = Trickle { bytes: text.as_bytes(), fails: false, turn: 0 };
        assert_eq!(collect(Passages::new(slow, limits)), split(text.as_bytes(), 500, 100));
    }

    #[test]
    fn an_error_of_the_source_is_passed_on() {
        let slow = Trickle { bytes: b"abc", fails: true, turn: 0 };
        let mut passages = Passages::new(slow, PassageLimits::default());
        assert_eq!(passages.next_passage().unwrap_err().to_string(), "the disk is gone");
    }

    #[test]
    fn memory_is_bounded_by_the_window() {
        let limits = PassageLimits::default();
        let mut passages = Passages::new(io::repeat(b'x').take(20 << 20), limits);
        let mut bytes = 0;
        while let Some(passage) = passages.next_passage().unwrap() {
            bytes += passage.bytes.len();
            assert!(passages.buffer.capacity() < 1 << 20);
        }
        assert_eq!(bytes, 20 << 20);
    }

    fn any_text() -> impl Strategy<Value = Vec<u8>> {
        let pieces = proptest::sample::select(vec![
            "word",
            " ",
            "\n",
            "\n\n",
            ". ",
            "# Head\n",
            "====\n",
            "\u{20ac}",
            "\u{3002}",
            "\t",
            "a much longer run of words without an end ",
        ]);
        let piece = prop_oneof![
            pieces.prop_map(|piece| piece.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..9),
        ];
        proptest::collection::vec(piece, 0..400).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(4),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn passages_hold_all_but_white_space(text in any_text(), target in 64usize..300) {
            let limits = PassageLimits::new(target, 0).unwrap();
            let mut at = 0;
            for (offset, bytes) in split(&text, target, 0) {
                let offset = offset as usize;
                prop_assert!(text[at..offset].iter().all(|&byte| is_space(byte)));
                prop_assert_eq!(&text[offset..offset + bytes.len()], &bytes[..]);
                prop_assert!(!bytes.is_empty() && bytes.len() <= limits.passage_bytes_max());
                prop_assert!(!is_space(bytes[0]) && !is_space(bytes[bytes.len() - 1]));
                at = offset + bytes.len();
            }
            prop_assert!(text[at..].iter().all(|&byte| is_space(byte)));
        }

        #[test]
        fn valid_text_is_cut_into_valid_text(text in "\\PC{0,900}", target in 64usize..100) {
            for (_, bytes) in split(text.as_bytes(), target, target / 4) {
                prop_assert!(std::str::from_utf8(&bytes).is_ok());
            }
        }
    }
}
