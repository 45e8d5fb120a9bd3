//! Netlink messages: attributes written into a buffer, attributes read out of one.

use std::ops::{Deref, DerefMut};

pub const HEADER_LEN: usize = 16;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Attributes in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attrs(Vec<u8>);

impl Attrs {
    /// Raw bytes: a family header in front of the attributes.
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("values are names, addresses and registers");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.put(value)
    }

    /// With the NUL that the kernel's string policies want.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// In the host's byte order: rtnetlink.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// In network byte order: nftables.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("callers split lists below 64 KiB");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self
    }

    pub fn append(&mut self, other: &Attrs) -> &mut Self {
        self.put(&other.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A request. `op` and `object` name it in the error that the kernel may answer with.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    flags: u16,
    pub op: &'static str,
    pub object: String,
    body: Attrs,
}

impl Message {
    pub fn new(kind: u16, flags: u16, op: &'static str, object: impl Into<String>) -> Self {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        Self { kind, flags, op, object: object.into(), body: Attrs::default() }
    }

    pub fn flag(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// The kernel answers this with an acknowledgement or the end of a dump, also when it goes well.
    pub fn wants_end(&self) -> bool {
        self.flags & (libc::NLM_F_ACK | libc::NLM_F_DUMP) as u16 != 0
    }

    pub fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = (HEADER_LEN + self.body.len()) as u32;
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body.0);
    }
}

impl Deref for Message {
    type Target = Attrs;
    fn deref(&self) -> &Attrs {
        &self.body
    }
}

impl DerefMut for Message {
    fn deref_mut(&mut self) -> &mut Attrs {
        &mut self.body
    }
}

pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// One message of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Netlink port of who sent the request; of an event, of who made the change.
    pub sender: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram; ends at the first that is cut off.
pub fn incoming(mut bytes: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(HEADER_LEN..length)?;
        let message = Incoming {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            sender: u32_at(bytes, 12)?,
            payload,
        };
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes behind a family header of `skip` bytes.
pub fn attributes(bytes: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u16_at(rest, 0)? as usize;
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub fn attribute(bytes: &[u8], skip: usize, wanted: u16) -> Option<&[u8]> {
    attributes(bytes, skip).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A string attribute without its NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let mut message = Message::new(16, 0, "test", "x");
        message.put(&[1, 2]).string(3, "eth0").nest(4, |inner| {
            inner.number(1, 77);
        });
        let mut bytes = Vec::new();
        message.write(9, &mut bytes);
        let answer: Vec<_> = incoming(&bytes).collect();
        assert_eq!((answer.len(), answer[0].kind, answer[0].sequence), (1, 16, 9));
        assert_eq!(text(attribute(answer[0].payload, 4, 3).unwrap()), "eth0");
        let nested = attribute(answer[0].payload, 4, 4).unwrap();
        assert_eq!(u32_at(attribute(nested, 0, 1).unwrap(), 0), Some(77));
    }

    #[test]
    fn stops_at_cut_off_bytes() {
        let mut message = Message::new(16, 0, "test", "x");
        message.string(3, "eth0");
        let mut bytes = Vec::new();
        message.write(9, &mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(incoming(&bytes[..end]).count(), 0, "cut at {end}");
        }
        assert_eq!(attributes(&[3, 0, 1, 0], 0).count(), 0, "a length below the header's");
    }
}
