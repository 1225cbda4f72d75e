// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Printing: lines, tables with aligned columns, JSON objects one a line, sizes and progress.

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome, output_failure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

/// Prints a line.
pub fn line(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").map_err(output_failure)
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(output_failure)
}

/// Asks on standard error and reads the answer; anything but yes is no. So is silence at a terminal
/// where the question is not seen.
pub fn ask(question: &str) -> Outcome<bool> {
    if std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(format!("standard input: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Prints an object as a line of JSON.
pub fn json(object: &impl Serialize) -> Outcome {
    let text =
        serde_json::to_string(object).map_err(|error| Failure::Failed(format!("JSON: {error}")))?;
    line(&text)
}

/// Which side of a column its cells stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table that is printed whole, its columns as wide as their widest cell.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; empty headings print none.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it.
    pub fn print(&self) -> Outcome {
        let headed = self.columns.iter().any(|(name, _)| !name.is_empty());
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.to_string()).collect();
        let rows = headed.then_some(&heading).into_iter().chain(&self.rows);
        let width = |column: usize| {
            rows.clone().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let last = column + 1 == row.len();
                match self.columns[column].1 {
                    Align::Left if last => text.push_str(cell),
                    Align::Left => text.extend([cell.as_str(), &pad]),
                    Align::Right => text.extend([&pad, cell.as_str()]),
                }
                if !last {
                    text.push_str("  ");
                }
            }
            text.push('\n');
        }
        bytes(text.as_bytes())
    }
}

/// Adds a path or a name to a JSON object: as it is if it is UTF-8. Otherwise as it is printed, for
/// people, and with `_bytes` behind the field its bytes in hexadecimal.
pub fn with_path(mut object: Value, field: &str, path: &[u8]) -> Value {
    match std::str::from_utf8(path) {
        Ok(text) => object[field] = text.into(),
        Err(_) => {
            object[field] = escape_name(path).into();
            object[format!("{field}_bytes")] = hexadecimal(path).into();
        }
    }
    object
}

/// Adds a list of paths or names to a JSON object, as [`with_path`] does with one; the bytes are
/// those of all in the list, if one of them is not UTF-8.
pub fn with_paths(mut object: Value, field: &str, paths: &[impl AsRef<[u8]>]) -> Value {
    let text = |path: &[u8]| match std::str::from_utf8(path) {
        Ok(text) => text.to_owned(),
        Err(_) => escape_name(path),
    };
    object[field] = paths.iter().map(|path| text(path.as_ref())).collect();
    if paths.iter().any(|path| std::str::from_utf8(path.as_ref()).is_err()) {
        object[format!("{field}_bytes")] =
            paths.iter().map(|path| hexadecimal(path.as_ref())).collect();
    }
    object
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of things: `1 file`, `2 files`.
pub fn counted(number: u64, thing: &str) -> String {
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(start)) => format!("{number} {start}ies"),
        _ => format!("{number} {thing}s"),
    }
}

/// A number of bytes for people: `17 B`, `4.0 KiB`, `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration for people: `850 us`, `12.3 ms`, `4.56 s`.
pub fn human_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A bar that shows how far long work has come, on a terminal; nothing elsewhere.
pub fn progress(what: &'static str, total: u64, in_bytes: bool) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let unit =
        if in_bytes { "{bytes}/{total_bytes} {bytes_per_sec}" } else { "{pos}/{len} {per_sec}" };
    let template = format!("{{msg:12}} {{wide_bar}} {unit} {{eta}}");
    let bar = ProgressBar::new(total).with_message(what);
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short_and_right() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB")];
        for (bytes, text) in sizes {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(human_bytes(u64::MAX), "16.0 EiB");
        assert_eq!(human_time(Duration::from_micros(850)), "850 us");
        assert_eq!(human_time(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(human_time(Duration::from_millis(4560)), "4.56 s");
    }
}
