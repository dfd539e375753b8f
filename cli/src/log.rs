//! Log lines on standard error: one line an event, for people or as JSON.

use ottla::serve::{Level, ServerLog};
use std::{
    fmt::{Display, Write as _},
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-21T14:25:59.123Z INFO message key=value`
    Text,
    /// `{"time":"…","level":"info","message":"…","key":"value"}`
    Json,
}

/// Writes events up to a level to standard error.
pub struct LineLog {
    pub format: Format,
    pub level: Level,
}

impl ServerLog for LineLog {
    fn event(&self, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        if self.wants(level) {
            let line = line(self.format, SystemTime::now(), level, message, fields);
            // One write, so that lines of several threads don't mix. If nobody reads them there is nobody to tell.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn wants(&self, level: Level) -> bool {
        level <= self.level
    }
}

fn line(
    format: Format,
    time: SystemTime,
    level: Level,
    message: &str,
    fields: &[(&str, &dyn Display)],
) -> String {
    let time = timestamp(time);
    let mut line = String::new();
    // Writing to a string does not fail.
    let _ = match format {
        Format::Text => {
            let level = level.to_string().to_uppercase();
            let _ = write!(line, "{time} {level:<5} {message}");
            fields
                .iter()
                .try_for_each(|(name, value)| write!(line, " {name}={}", plain(&value.to_string())))
        }
        Format::Json => {
            let _ = write!(
                line,
                "{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{}",
                crate::quoted(message)
            );
            let result = fields.iter().try_for_each(|(name, value)| {
                write!(
                    line,
                    ",{}:{}",
                    crate::quoted(name),
                    crate::quoted(&value.to_string())
                )
            });
            line.push('}');
            result
        }
    };
    line.push('\n');
    line
}

/// A value that is one word stays as it is; others are quoted, so that a line is one event whatever is in it.
fn plain(value: &str) -> String {
    let is_word = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(is_word) {
        value.into()
    } else {
        crate::quoted(value)
    }
}

/// RFC 3339, UTC, with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 0000-03-01, in eras of 400 years: leap days are at the end of a year that begins in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(second)), text);
        }
    }

    #[test]
    fn a_line_is_one_event() {
        let fields: [(&str, &dyn Display); 2] = [("peer", &"127.0.0.1:1"), ("why", &"two\nlines")];
        let text = line(Format::Text, UNIX_EPOCH, Level::Warn, "closed", &fields);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z WARN  closed peer=127.0.0.1:1 why=\"two\\u000alines\"\n"
        );
        let json = line(Format::Json, UNIX_EPOCH, Level::Info, "up", &fields);
        assert_eq!(
            json,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"message\":\"up\",\
             \"peer\":\"127.0.0.1:1\",\"why\":\"two\\u000alines\"}\n"
        );
    }
}
