//! Records of the json-file format, byte for byte as Docker writes them:
//! `{"log":"…\n","stream":"stdout","attrs":{…},"time":"2024-05-06T07:08:09.123456789Z"}` and a newline.

use std::collections::BTreeMap;
use std::time::Duration;

/// A longer line is cut into records of this size; only the last of them ends with a newline.
pub const MAX_LINE: usize = 16 * 1024;

/// 0: the byte stands for itself; 1: it needs a look.
const SPECIAL: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte < 0x20
            || byte >= 0x80
            || byte == b'"' as usize
            || byte == b'\\' as usize
            || byte == b'<' as usize
            || byte == b'>' as usize
            || byte == b'&' as usize) as u8;
        byte += 1;
    }
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as the inside of a JSON string. As Docker's encoder does: `<`, `>`, `&`, U+2028 and U+2029 are escaped,
/// what is no UTF-8 becomes U+FFFD.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if SPECIAL[byte as usize] == 0 {
            at += 1;
            continue;
        }
        if byte < 0x80 {
            out.extend_from_slice(&text[start..at]);
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                _ => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
                }
            }
            at += 1;
            start = at;
            continue;
        }
        let length = sequence_length(&text[at..]);
        let escaped: &[u8] = match (length, &text[at..at + length.max(1)]) {
            (0, _) => b"\\ufffd",
            (3, [0xe2, 0x80, 0xa8]) => b"\\u2028",
            (3, [0xe2, 0x80, 0xa9]) => b"\\u2029",
            _ => {
                at += length;
                continue;
            }
        };
        out.extend_from_slice(&text[start..at]);
        out.extend_from_slice(escaped);
        at += length.max(1);
        start = at;
    }
    out.extend_from_slice(&text[start..]);
}

/// Length of the valid UTF-8 sequence at the start of `text`, 0 when there is none.
fn sequence_length(text: &[u8]) -> usize {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 0,
    };
    match text.get(..length) {
        Some(sequence) if std::str::from_utf8(sequence).is_ok() => length,
        _ => 0,
    }
}

/// RFC 3339 in UTC; the fraction without trailing zeros, as Go's RFC3339Nano.
pub fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil((seconds / 86400) as i64);
    let of_day = seconds % 86400;
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    if since_epoch.subsec_nanos() != 0 {
        text.push_str(format!(".{:09}", since_epoch.subsec_nanos()).trim_end_matches('0'));
    }
    text.push('Z');
    text
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

/// `"attrs":{…},` or nothing: the same in every record of a container.
pub fn attributes(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    if attrs.is_empty() {
        return Vec::new();
    }
    let mut out = b"\"attrs\":{".to_vec();
    for (index, (key, value)) in attrs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        escape(key.as_bytes(), &mut out);
        out.extend_from_slice(b"\":\"");
        escape(value.as_bytes(), &mut out);
        out.push(b'"');
    }
    out.extend_from_slice(b"},");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        assert_eq!(escaped(b"a\"b\\c\n\r\t<&>\x7f"), "a\\\"b\\\\c\\n\\r\\u0009\\u003c\\u0026\\u003e\x7f");
        assert_eq!(escaped("grün \u{2028}\u{2029}€ 𝄞".as_bytes()), "grün \\u2028\\u2029€ 𝄞");
        assert_eq!(escaped(b"\xff-\xc3(\xe2\x82"), "\\ufffd-\\ufffd(\\ufffd\\ufffd");
        // overlong, surrogate
        assert_eq!(escaped(b"\xc0\xaf"), "\\ufffd\\ufffd");
        assert_eq!(escaped(b"\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd");
    }

    #[test]
    fn formats_times() {
        assert_eq!(timestamp(Duration::new(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(Duration::new(1_709_210_096, 120_000_000)), "2024-02-29T12:34:56.12Z");
        assert_eq!(timestamp(Duration::new(4_102_444_799, 999_999_999)), "2099-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn writes_attributes_once() {
        assert!(attributes(&BTreeMap::new()).is_empty());
        let attrs = BTreeMap::from([("tag".to_owned(), "a<b".to_owned()), ("env".to_owned(), "1".to_owned())]);
        assert_eq!(attributes(&attrs), b"\"attrs\":{\"env\":\"1\",\"tag\":\"a\\u003cb\"},");
    }
}
