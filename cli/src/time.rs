// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Times, as they are written and read by people: in the local time zone.

use jiff::tz::TimeZone;
use vexfs_engine::Timestamp;

/// A time as `2024-05-01 13:37:00`, in the local time zone; seconds since 1970 outside the years
/// that a calendar has.
pub fn format_time(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.seconds) {
        Ok(stamp) => stamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{}", time.seconds),
    }
}

/// A time for machines: RFC 3339 in UTC with nanoseconds, seconds since 1970 outside its years.
pub fn format_time_exact(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.seconds, time.nanoseconds as i32) {
        Ok(stamp) => format!("{stamp:.9}"),
        Err(_) => format!("@{}.{:09}", time.seconds, time.nanoseconds),
    }
}

/// Reads a time: `2024-05-01`, `2024-05-01 13:37[:00]` (local), `2024-05-01T11:37:00Z`, `@SECONDS`
/// since 1970, or how long ago: `3 days`, `90min`.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let unusable = || {
        format!(
            "'{}' is no time; write 2024-05-01, '2024-05-01 13:37', @SECONDS, or how long ago, such \
             as '3 days'",
            text.escape_debug()
        )
    };
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds = seconds.parse().map_err(|_| unusable())?;
        return Ok(Timestamp { seconds, nanoseconds: 0 });
    }
    let stamp = if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        stamp
    } else if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        local.to_zoned(TimeZone::system()).map_err(|_| unusable())?.timestamp()
    } else {
        let span: jiff::Span = text.parse().map_err(|_| unusable())?;
        let now = jiff::Zoned::now();
        now.checked_sub(span.abs()).map_err(|_| unusable())?.timestamp()
    };
    // Nanoseconds of times before 1970 count down in one form and up in the other.
    let nanoseconds = i64::from(stamp.subsec_nanosecond());
    Ok(Timestamp {
        seconds: stamp.as_second() - i64::from(nanoseconds < 0),
        nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form() {
        let at = |text: &str| parse_time(text).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(at("@1700000000"), Ok((1_700_000_000, 0)));
        assert_eq!(at("2023-11-14T22:13:20Z"), Ok((1_700_000_000, 0)));
        assert_eq!(at("1969-12-31T23:59:59.25Z"), Ok((-1, 250_000_000)));
        assert!(at("2024-05-01").is_ok() && at("2024-05-01 13:37").is_ok());
        let now = vexfs_engine::now().seconds;
        for text in ["2 hours", "2h", "120min"] {
            let (ago, _) = at(text).unwrap();
            assert!((now - 7200..=now - 7200 + 60).contains(&ago), "{text}: {ago}, now {now}");
        }
        for text in ["", "yesterday", "2024-13-01", "@x"] {
            assert!(at(text).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn times_are_printed_exactly() {
        let time = |seconds, nanoseconds| format_time_exact(Timestamp { seconds, nanoseconds });
        assert_eq!(time(1_700_000_000, 5), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(time(i64::MAX, 0), "@9223372036854775807.000000000");
        assert_eq!(
            format_time(Timestamp { seconds: i64::MIN, nanoseconds: 0 }),
            format!("@{}", i64::MIN)
        );
    }
}
