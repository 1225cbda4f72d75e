// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Names and text of files, made fit for a terminal and for one line.
//!
//! A file name may hold any byte but `/` and NUL, and text may hold terminal commands. What is
//! printed here holds neither control characters nor characters that are invisible or turn the
//! direction of writing; each of their bytes is written `\xNN`.

use std::fmt::Write;

/// Whether a character would act on the terminal, or hide or reorder what is printed.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_hex(output: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(output, "\\x{byte:02x}");
    }
}

fn push_escaped(output: &mut String, character: char) {
    if is_unprintable(character) {
        push_hex(output, character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        output.push(character);
    }
}

/// A file name or path for printing. Printable UTF-8 stands as it is; a backslash is doubled, and
/// the bytes of control characters and of whatever is not UTF-8 are written `\xNN`, so that no two
/// names print alike.
pub fn escape_name(name: &[u8]) -> String {
    let mut output = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => output.push_str("\\\\"),
                _ => push_escaped(&mut output, character),
            }
        }
        push_hex(&mut output, chunk.invalid());
    }
    output
}

/// The first words of a text on one line, at most `characters_max` characters long: runs of
/// white space become one space, control characters and invalid UTF-8 become `\xNN`. Text that was
/// cut short ends in `...` and, unless its first word is too long, at the end of a word.
pub fn first_words(text: &[u8], characters_max: usize) -> String {
    let mut output = String::new();
    // Where to cut (bytes) so that the mark still fits, and where the last word before that ended.
    let (mut cut, mut word_end) = (0, 0);
    let (mut length, mut space_due) = (0, false);
    let room = characters_max.saturating_sub(3);
    let mut piece = String::with_capacity(16);
    'text: for chunk in text.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some(None);
        for item in chunk.valid().chars().map(Some).chain(invalid) {
            piece.clear();
            match item {
                Some(character) if character.is_whitespace() => {
                    space_due = !output.is_empty();
                    continue;
                }
                Some(character) => push_escaped(&mut piece, character),
                None => push_hex(&mut piece, chunk.invalid()),
            }
            if space_due {
                word_end = if length <= room { output.len() } else { word_end };
                output.push(' ');
                length += 1;
                space_due = false;
            }
            output.push_str(&piece);
            length += piece.chars().count();
            if length <= room {
                cut = output.len();
            }
            if length > characters_max {
                break 'text;
            }
        }
    }
    if length > characters_max {
        output.truncate(if word_end > 0 { word_end } else { cut });
        output.push_str(if characters_max >= 3 { "..." } else { "" });
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn printable_names_stand_as_they_are() {
        assert_eq!(
            escape_name(b"notes/r\xc3\xa9sum\xc3\xa9 2.txt"),
            "notes/r\u{e9}sum\u{e9} 2.txt"
        );
    }

    #[test]
    fn names_with_control_characters_or_broken_utf8_print_their_bytes() {
        assert_eq!(escape_name(b"a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
        assert_eq!(escape_name(b"caf\xe9\xff"), "caf\\xe9\\xff");
        assert_eq!(escape_name("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
        assert_eq!(escape_name("gpj.\u{202e}exe".as_bytes()), "gpj.\\xe2\\x80\\xaeexe");
    }

    #[test]
    fn a_name_that_spells_an_escape_is_not_mistaken_for_one() {
        assert_eq!(escape_name(b"\\x0a"), "\\\\x0a");
        assert_ne!(escape_name(b"\\x0a"), escape_name(b"\n"));
    }

    #[test]
    fn first_words_are_one_line_and_end_at_a_word() {
        assert_eq!(first_words(b"  The  quick\n\tbrown fox ", 40), "The quick brown fox");
        assert_eq!(first_words(b"The quick brown fox", 19), "The quick brown fox");
        assert_eq!(first_words(b"The quick brown fox", 18), "The quick brown...");
        assert_eq!(first_words(b"The quick brown fox", 15), "The quick...");
        assert_eq!(first_words(b"Incomprehensibilities", 10), "Incompr...");
        assert_eq!(first_words(b"", 10), "");
        assert_eq!(first_words(b"abcdef", 2), "");
        assert_eq!(first_words(b"bell\x07 \xff end", 40), "bell\\x07 \\xff end");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: proptest::test_runner::RngSeed::Fixed(3),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_output_acts_on_a_terminal(bytes: Vec<u8>, characters_max in 0usize..60) {
            let name = escape_name(&bytes);
            prop_assert!(!name.chars().any(is_unprintable));
            let words = first_words(&bytes, characters_max);
            prop_assert!(!words.chars().any(is_unprintable));
            prop_assert!(words.chars().count() <= characters_max);
        }

        #[test]
        fn escaped_names_can_be_told_apart(left: Vec<u8>, right: Vec<u8>) {
            prop_assert_eq!(left == right, escape_name(&left) == escape_name(&right));
            prop_assert_eq!(&unescape(&escape_name(&left)), &left);
        }
    }

    fn unescape(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = name.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = tail;
            if first != b'\\' {
                bytes.push(first);
            } else if rest[0] == b'\\' {
                bytes.push(b'\\');
                rest = &rest[1..];
            } else {
                let digits = std::str::from_utf8(&rest[1..3]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[3..];
            }
        }
        bytes
    }
}
