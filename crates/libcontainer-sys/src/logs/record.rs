//! One record, and what a client gets of it.

use super::LogRequest;
use super::format::{Format, Record, Time};
use crate::clock::fixed;
use std::time::Duration;

/// `2024-05-06T07:08:09.123456789Z`
const TIME_LENGTH: usize = 30;

/// Which records a request wants and how.
pub struct Selection {
    format: Format,
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    details: bool,
    raw: bool,
    since: Option<i128>,
    until: Option<i128>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    Skipped,
    /// This record and all later ones lie behind `until`.
    Past,
}

impl Selection {
    pub fn new(request: &LogRequest) -> Self {
        let nanoseconds = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        Self {
            format: request.driver,
            stdout: request.stdout,
            stderr: request.stderr,
            timestamps: request.timestamps,
            details: request.details,
            raw: request.raw,
            since: nanoseconds(&request.since),
            until: nanoseconds(&request.until),
        }
    }

    pub fn until(&self) -> Option<i128> {
        self.until
    }

    /// Appends what the client gets of one record. A torn one (a full disk, a power cut) is skipped.
    pub fn take(&self, record: &[u8], out: &mut Vec<u8>) -> Verdict {
        let Some(record) = self.format.parse(record) else { return Verdict::Skipped };
        if self.since.is_some() || self.until.is_some() {
            let time = nanoseconds(&record.time);
            if let (Some(time), Some(until)) = (time, self.until)
                && time > until
            {
                return Verdict::Past;
            }
            if let (Some(time), Some(since)) = (time, self.since)
                && time < since
            {
                return Verdict::Skipped;
            }
        }
        let stream = match &*record.stream {
            "stdout" if self.stdout => 1,
            "stderr" if self.stderr => 2,
            _ => return Verdict::Skipped,
        };
        let start = out.len();
        if !self.raw {
            out.extend_from_slice(&[stream, 0, 0, 0, 0, 0, 0, 0]);
        }
        self.prefix(&record, out);
        out.extend_from_slice(&record.text);
        if record.ends_line {
            out.push(b'\n');
        }
        if !self.raw {
            let length = (out.len() - start - 8) as u32;
            out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
        }
        Verdict::Taken
    }

    fn prefix(&self, record: &Record, out: &mut Vec<u8>) {
        if self.timestamps {
            match &record.time {
                Time::Text(text) if text.len() == TIME_LENGTH => out.extend_from_slice(text.as_bytes()),
                time => match nanoseconds(time).and_then(|time| u64::try_from(time).ok()) {
                    Some(time) => out.extend_from_slice(&fixed(Duration::from_nanos(time))),
                    None => out.push(b'-'),
                },
            }
            out.push(b' ');
        }
        if self.details {
            for (index, (key, value)) in record.attrs.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                query_escape(key, out);
                out.push(b'=');
                query_escape(value, out);
            }
            out.push(b' ');
        }
    }
}

/// As Go's url.QueryEscape.
fn query_escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

pub fn nanoseconds(time: &Time) -> Option<i128> {
    match time {
        Time::Text(text) => parse_time(text),
        Time::Nanos(nanos) => Some(i128::from(*nanos)),
    }
}

/// Nanoseconds since the epoch of `2024-05-06T07:08:09.123456789Z`.
fn parse_time(text: &str) -> Option<i128> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i128>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let fraction = match text.get(19..)?.strip_prefix('.') {
        Some(rest) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(9).collect();
            format!("{digits:0<9}").parse().ok()?
        }
        None => 0,
    };
    // days since the epoch of a Gregorian date, the year beginning in March so that leap days come last
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(change: impl FnOnce(&mut LogRequest)) -> Selection {
        let mut request = LogRequest {
            driver: Format::JsonFile,
            path: String::new(),
            stdout: true,
            stderr: true,
            timestamps: false,
            details: false,
            follow: false,
            tail: None,
            since: None,
            until: None,
            raw: false,
            records: None,
        };
        change(&mut request);
        Selection::new(&request)
    }

    const LINE: &[u8] = br#"{"log":"a\u003cb\n","stream":"stderr","attrs":{"k":"v"},"time":"2024-05-06T07:08:09.5Z"}"#;

    #[test]
    fn frames_and_prefixes() {
        let mut out = Vec::new();
        assert_eq!(selection(|_| {}).take(LINE, &mut out), Verdict::Taken);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x04a<b\n");
        out.clear();
        selection(|r| (r.raw, r.timestamps, r.details) = (true, true, true)).take(LINE, &mut out);
        assert_eq!(out, b"2024-05-06T07:08:09.500000000Z k=v a<b\n");
    }

    #[test]
    fn selects_by_stream_and_time() {
        let at = 1_714_979_289_500_000_000i128;
        assert_eq!(parse_time("2024-05-06T07:08:09.5Z"), Some(at));
        assert_eq!(parse_time("1970-01-01T00:00:00.000000001Z"), Some(1));
        let verdict = |change: fn(&mut LogRequest)| selection(change).take(LINE, &mut Vec::new());
        assert_eq!(verdict(|r| r.stderr = false), Verdict::Skipped);
        assert_eq!(verdict(|r| r.since = Some("1714979289500000001".into())), Verdict::Skipped);
        assert_eq!(verdict(|r| r.until = Some("1714979289499999999".into())), Verdict::Past);
        assert_eq!(verdict(|r| r.until = Some("1714979289500000000".into())), Verdict::Taken);
    }

    #[test]
    fn a_torn_line_is_skipped() {
        assert_eq!(selection(|_| {}).take(&LINE[..20], &mut Vec::new()), Verdict::Skipped);
    }
}
