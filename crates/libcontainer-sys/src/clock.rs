//! Times as text: RFC 3339 in UTC, the fraction without trailing zeros, as Go's RFC3339Nano.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub fn timestamp(since_epoch: Duration) -> String {
    String::from_utf8_lossy(Clock::default().format(since_epoch)).into_owned()
}

/// With all nine digits of the fraction, as `docker logs -t` shows it.
#[cfg(feature = "layer")]
pub fn fixed(since_epoch: Duration) -> [u8; 30] {
    let mut clock = Clock::default();
    clock.format_second(since_epoch.as_secs());
    clock.text[19] = b'.';
    digits(u64::from(since_epoch.subsec_nanos()), &mut clock.text[20..29]);
    clock.text[29] = b'Z';
    clock.text
}

/// Formats one time after the other; most share all down to the second with the one before.
#[derive(Default)]
pub struct Clock {
    second: Option<u64>,
    /// `2024-05-06T07:08:09.123456789Z`
    text: [u8; 30],
}

impl Clock {
    pub fn format(&mut self, since_epoch: Duration) -> &[u8] {
        let second = since_epoch.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.format_second(second);
        }
        let mut end = 19;
        let nanos = since_epoch.subsec_nanos();
        if nanos != 0 {
            self.text[19] = b'.';
            digits(u64::from(nanos), &mut self.text[20..29]);
            end = 29;
            while self.text[end - 1] == b'0' {
                end -= 1;
            }
        }
        self.text[end] = b'Z';
        &self.text[..=end]
    }

    fn format_second(&mut self, second: u64) {
        let (year, month, day) = civil((second / 86400) as i64);
        let of_day = second % 86400;
        self.text[..19].copy_from_slice(b"0000-00-00T00:00:00");
        digits(year as u64, &mut self.text[0..4]);
        digits(month as u64, &mut self.text[5..7]);
        digits(day as u64, &mut self.text[8..10]);
        digits(of_day / 3600, &mut self.text[11..13]);
        digits(of_day / 60 % 60, &mut self.text[14..16]);
        digits(of_day % 60, &mut self.text[17..19]);
    }
}

/// Decimal, with zeros in front.
fn digits(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (eras of 400 years that begin in March).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_times() {
        assert_eq!(timestamp(Duration::new(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(Duration::new(1_709_210_096, 120_000_000)), "2024-02-29T12:34:56.12Z");
        assert_eq!(timestamp(Duration::new(4_102_444_799, 999_999_999)), "2099-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn one_clock_tells_many_times() {
        let mut clock = Clock::default();
        assert_eq!(clock.format(Duration::new(59, 123_456_789)), b"1970-01-01T00:00:59.123456789Z");
        assert_eq!(clock.format(Duration::new(59, 0)), b"1970-01-01T00:00:59Z");
        assert_eq!(clock.format(Duration::new(60, 10)), b"1970-01-01T00:01:00.00000001Z");
    }
}
