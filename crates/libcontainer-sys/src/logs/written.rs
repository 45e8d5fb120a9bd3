//! What the shim writes, read back: both formats, across rotations, compressed and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::Records;
use super::format::{Format, Record};
use crate::shim::config::{LogConfig, LogDriver};
use crate::shim::log::{LogWriter, StreamName, compress_all};

const FORMATS: [(LogDriver, Format); 2] = [(LogDriver::JsonFile, Format::JsonFile), (LogDriver::Local, Format::Local)];

struct Log {
    path: PathBuf,
    driver: LogDriver,
    format: Format,
    max_size: Option<u64>,
    max_files: u32,
}

impl Log {
    fn new(name: &str, (driver, format): (LogDriver, Format), max_size: Option<u64>, max_files: u32) -> Self {
        let dir = std::env::temp_dir().join(format!("caisson-written-{}-{name}-{driver:?}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Self { path: dir.join("log"), driver, format, max_size, max_files }
    }

    fn writer(&self) -> LogWriter {
        let config = LogConfig {
            driver: self.driver,
            path: Some(self.path.clone()),
            max_size_bytes: self.max_size,
            max_files: Some(self.max_files),
            ..LogConfig::default()
        };
        LogWriter::open(&config).unwrap().unwrap()
    }

    fn records(&self, tail: Option<u64>) -> Records {
        Records::open(&self.path, self.format, tail).unwrap()
    }

    fn rest(&self, records: &mut Records) -> Vec<String> {
        let mut found = Vec::new();
        while records.step().unwrap() {
            // as for a client: what cannot be parsed is skipped
            found.extend(self.format.parse(records.record()).map(|record| text(&record)));
        }
        found
    }

    fn all(&self) -> Vec<String> {
        self.rest(&mut self.records(None))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path.parent().unwrap());
    }
}

fn text(record: &Record) -> String {
    let end = if record.ends_line { "\n" } else { "" };
    format!("{}:{}{end}", record.stream, String::from_utf8_lossy(&record.text))
}

fn write(writer: &mut LogWriter, numbers: std::ops::Range<u32>) {
    for number in numbers {
        writer.write(StreamName::Stdout, format!("line {number}\n").as_bytes());
    }
    writer.flush();
}

fn lines(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("stdout:line {number}\n")).collect()
}

#[test]
fn any_text_comes_back() {
    for format in FORMATS {
        let log = Log::new("any", format, None, 1);
        let mut writer = log.writer();
        let long = "x".repeat(20_000);
        writer.write(StreamName::Stdout, format!("\n\"a\\b\"\t<é>\n{long}\nlast").as_bytes());
        writer.write(StreamName::Stderr, b"error\n");
        writer.end(StreamName::Stdout);
        let pieces = [&long[..16_384], &long[16_384..]];
        let expected = [
            "stdout:\n".to_owned(),
            "stdout:\"a\\b\"\t<é>\n".to_owned(),
            format!("stdout:{}", pieces[0]),
            format!("stdout:{}\n", pieces[1]),
            "stderr:error\n".to_owned(),
            "stdout:last".to_owned(),
        ];
        assert_eq!(log.all(), expected);
    }
}

#[test]
fn rotated_and_compressed_files_are_read_in_order_and_from_any_end() {
    for format in FORMATS {
        let log = Log::new("order", format, Some(4000), 4);
        let mut writer = log.writer();
        write(&mut writer, 0..1000);
        let kept = log.all();
        assert_eq!(kept, lines(1000 - kept.len() as u32..1000));
        compress_all(&log.path, 4);
        assert!(numbered(&log.path, "1.gz").exists() && !numbered(&log.path, "1").exists());
        assert_eq!(log.all(), kept);
        for tail in [0, 1, 17, kept.len() - 1, kept.len(), kept.len() + 1] {
            let expected = &kept[kept.len() - tail.min(kept.len())..];
            assert_eq!(log.rest(&mut log.records(Some(tail as u64))), expected, "{tail}");
        }
    }
}

#[test]
fn a_follower_loses_and_repeats_nothing_when_files_are_compressed() {
    for format in FORMATS {
        let log = Log::new("follow", format, Some(2000), 5);
        let mut writer = log.writer();
        write(&mut writer, 0..10);
        let mut records = log.records(None);
        let mut found = log.rest(&mut records);
        for round in 1..60 {
            write(&mut writer, round * 10..round * 10 + 10);
            if round % 2 == 0 {
                compress_all(&log.path, 5);
            }
            if round % 3 == 0 {
                found.extend(log.rest(&mut records));
            }
        }
        found.extend(log.rest(&mut records));
        assert_eq!(found, lines(0..600));
    }
}

#[test]
fn forwarding_goes_on_behind_the_last_record_wherever_its_file_is_by_now() {
    for format in FORMATS {
        let log = Log::new("behind", format, Some(2000), 6);
        let mut writer = log.writer();
        let mut found: Vec<String> = Vec::new();
        let mut position = None;
        for round in 0..40 {
            write(&mut writer, round * 10..round * 10 + 10);
            if round % 4 == 3 {
                compress_all(&log.path, 6);
            }
            // a part of what is there, each time by a reader of its own
            let mut records = match position {
                Some(position) => Records::open_behind(&log.path, log.format, position).unwrap(),
                None => log.records(None),
            };
            for _ in 0..9 {
                assert!(records.step().unwrap());
                found.push(text(&log.format.parse(records.record()).unwrap()));
                position = records.position();
            }
        }
        let mut records = Records::open_behind(&log.path, log.format, position.unwrap()).unwrap();
        found.extend(log.rest(&mut records));
        assert_eq!(found, lines(0..400));
        // of a log that was truncated since all is new
        position = records.position();
        fs::File::create(&log.path).unwrap();
        write(&mut writer, 400..402);
        let mut records = Records::open_behind(&log.path, log.format, position.unwrap()).unwrap();
        assert_eq!(log.rest(&mut records), lines(400..402));
    }
}

#[test]
fn a_torn_record_takes_no_other_with_it() {
    for format in FORMATS {
        let log = Log::new("torn", format, None, 1);
        write(&mut log.writer(), 0..3);
        let size = fs::metadata(&log.path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&log.path).unwrap().set_len(size - 5).unwrap();
        write(&mut log.writer(), 3..5);
        assert_eq!(log.all(), [lines(0..2), lines(3..5)].concat());
        // zeros, as a file system leaves them after a power cut
        let mut bytes = fs::read(&log.path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle - 8..middle + 8].fill(0);
        fs::write(&log.path, bytes).unwrap();
        let found = log.all().join("");
        assert!(found.starts_with("stdout:line 0\n") && found.ends_with("stdout:line 4\n"), "{found}");
        assert_eq!(log.rest(&mut log.records(Some(1))), lines(4..5));
    }
}

#[test]
fn a_log_truncated_or_deleted_from_outside_goes_on() {
    for format in FORMATS {
        let log = Log::new("outside", format, None, 1);
        let mut writer = log.writer();
        write(&mut writer, 0..3);
        let mut records = log.records(None);
        assert_eq!(log.rest(&mut records), lines(0..3));
        fs::File::create(&log.path).unwrap();
        write(&mut writer, 3..5);
        assert_eq!(log.rest(&mut records), lines(3..5));
        fs::remove_file(&log.path).unwrap();
        writer.look_again();
        write(&mut writer, 5..7);
        assert_eq!(log.rest(&mut records), lines(5..7));
        assert_eq!(log.all(), lines(5..7));
    }
}

#[test]
fn a_crash_within_a_rotation_hides_no_file() {
    for format in FORMATS {
        let log = Log::new("crash", format, Some(2000), 4);
        write(&mut log.writer(), 0..300);
        let kept = log.all();
        // the shim died after it had moved .2 and .1 but before the new file was there
        fs::remove_file(numbered(&log.path, "3")).unwrap();
        let without = log.all();
        fs::rename(numbered(&log.path, "2"), numbered(&log.path, "3")).unwrap();
        assert_eq!(log.all(), without);
        assert!(kept.ends_with(&without) && without.len() > 50);
        let mut writer = log.writer();
        write(&mut writer, 300..600);
        let all = log.all();
        assert_eq!(all, lines(600 - all.len() as u32..600));
    }
}

fn numbered(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{suffix}", path.display()))
}
