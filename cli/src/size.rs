// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Sizes in bytes, as people write them.

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

/// Reads a size: a whole number of bytes, or of KiB, MiB, GiB, TiB or PiB with the suffix K, M, G,
/// T or P (small letters and `iB` or `B` behind them are fine: `64M`, `64MiB`).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let unusable = || {
        format!("'{}' is no size; write bytes, or a number with K, M, G or T", text.escape_debug())
    };
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| unusable())?;
    let mut letters = suffix.chars();
    let shift = match letters.next() {
        None => 0,
        Some(letter) => {
            let unit = UNITS.iter().find(|(unit, _)| *unit == letter.to_ascii_uppercase());
            unit.ok_or_else(unusable)?.1
        }
    };
    if !matches!(letters.as_str(), "" | "B" | "b" | "iB" | "ib") {
        return Err(unusable());
    }
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{}' is more than can be addressed", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("2g", 2 << 30),
            ("16T", 16 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "12X", "1 G", "1GG", "0x10", "18446744073709551616"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_size("99999999P").unwrap_err().contains("more than can be addressed"));
    }
}
