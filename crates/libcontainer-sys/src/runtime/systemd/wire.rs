//! Messages of D-Bus as far as systemd's manager needs them: little-endian, without descriptors.
//!
//! ```text
//! 'l' type flags 1 | length of the body | serial | fields: array of (code, variant) | padding to 8 | body
//! ```

/// A value with its type, as it stands in a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
    Pairs(Vec<(String, String)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Bytes(_) => "ay",
            Value::Numbers(_) => "au",
            Value::Pairs(_) => "a(ss)",
        }
    }
}

/// Each value begins at a multiple of its size, counted from the beginning of the message; a body begins at one of 8.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn pad(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub fn u32(&mut self, number: u32) {
        self.pad(4);
        self.0.extend(number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.pad(8);
        self.0.extend(number.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// The length stands before the elements, without the padding before the first.
    pub fn array<T>(&mut self, alignment: usize, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.pad(alignment);
        let start = self.0.len();
        for item in items {
            self.pad(alignment);
            write(self, item);
        }
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(on) => self.u32(u32::from(*on)),
            Value::I32(number) => self.u32(*number as u32),
            Value::U32(number) => self.u32(*number),
            Value::I64(number) => self.u64(*number as u64),
            Value::U64(number) => self.u64(*number),
            Value::Text(text) => self.text(text),
            Value::Texts(list) => self.array(4, list, |writer, text| writer.text(text)),
            Value::Bytes(bytes) => self.array(1, bytes, |writer, byte| writer.0.push(*byte)),
            Value::Numbers(list) => self.array(4, list, |writer, number| writer.u32(*number)),
            Value::Pairs(list) => self.array(8, list, |writer, (first, second)| {
                writer.text(first);
                writer.text(second);
            }),
        }
    }

    /// `a(sv)`
    pub fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, properties, |writer, (name, value)| {
            writer.text(name);
            writer.variant(value);
        });
    }
}

/// The interface of systemd's manager.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// That of all objects, for what they tell of themselves.
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A call of a method of the object that systemd's manager is.
pub fn call(serial: u32, (interface, member): (&str, &str), signature: &str, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer(vec![b'l', 1, 0, 1]);
    writer.u32(body.len() as u32);
    writer.u32(serial);
    let mut fields: Vec<(u8, &str, &str)> = vec![
        (1, "o", "/org/freedesktop/systemd1"),
        (2, "s", interface),
        (6, "s", "org.freedesktop.systemd1"),
        (3, "s", member),
    ];
    if !signature.is_empty() {
        fields.push((8, "g", signature));
    }
    writer.array(8, &fields, |writer, (code, kind, text)| {
        writer.0.push(*code);
        writer.signature(kind);
        if *kind == "g" { writer.signature(text) } else { writer.text(text) }
    });
    writer.pad(8);
    writer.0.extend(body);
    writer.0
}

/// What has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// 1: call, 2: return, 3: error, 4: signal.
    pub kind: u8,
    pub reply_to: u32,
    pub member: String,
    pub error: String,
    pub body: Vec<u8>,
}

pub const HEAD_BYTES: usize = 16;

/// Of the specification.
const MAX_BYTES: usize = 128 << 20;

/// How many bytes follow these: the fields with their padding, and the body. None: this is no message of ours.
pub fn rest_of(head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let mut reader = Reader { bytes: head, at: 4 };
    let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let rest = (fields as usize).next_multiple_of(8).checked_add(body as usize)?;
    (head[0] == b'l' && rest <= MAX_BYTES).then_some(rest)
}

/// None: it is damaged.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 4 };
    let body_bytes = reader.u32()? as usize;
    reader.u32()?;
    let end = reader.u32()? as usize + HEAD_BYTES;
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    while reader.at < end {
        reader.pad(8);
        let code = reader.u8()?;
        let kind = reader.signature()?;
        match (code, kind.as_str()) {
            (3, "s") => message.member = reader.text()?,
            (4, "s") => message.error = reader.text()?,
            (5, "u") => message.reply_to = reader.u32()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return None,
        }
    }
    let start = end.next_multiple_of(8);
    message.body = bytes.get(start..start + body_bytes)?.to_vec();
    Some(message)
}

pub struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Reader<'_> {
    fn pad(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.pad(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }

    pub fn signature(&mut self) -> Option<String> {
        let length = self.u8()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let mut body = Writer::default();
        body.text("u");
        let bytes = call(7, (MANAGER, "M"), "s", &body.0);
        let head: [u8; HEAD_BYTES] = bytes[..HEAD_BYTES].try_into().unwrap();
        assert_eq!(head[..12], [b'l', 1, 0, 1, 6, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(rest_of(&head), Some(bytes.len() - HEAD_BYTES));
        let parsed = parse(&bytes).unwrap();
        assert_eq!((parsed.kind, parsed.member.as_str(), parsed.body.as_slice()), (1, "M", &b"\x01\0\0\0u\0"[..]));
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn values_begin_where_their_size_says() {
        let mut writer = Writer::default();
        writer.properties(&[("A".into(), Value::U64(1)), ("B".into(), Value::Bytes(vec![5]))]);
        let expected: Vec<u8> = [
            &[42, 0, 0, 0, 0, 0, 0, 0][..],                                // length, padding to 8
            &[1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0],       // name, signature, padding to 8
            &[1, 0, 0, 0, 0, 0, 0, 0],                                     // the number
            &[1, 0, 0, 0, b'B', 0, 2, b'a', b'y', 0, 0, 0, 1, 0, 0, 0, 5], // name, signature, padding to 4, length
        ]
        .concat();
        assert_eq!(writer.0[4..8], expected[4..8]);
        assert_eq!(writer.0[8..], expected[8..]);
        assert_eq!(writer.0[..4], ((expected.len() - 8) as u32).to_le_bytes());
    }
}
