//! gzip (also of many members), zstd (also of many frames, with skippable ones) or no compression, told by the first
//! bytes and never by a media type.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;

use super::chunks::{BUFFER, ChunkReader, ChunkSender, is_gone};
use super::digest::Hasher;
use super::error::{LayerError, Result, corrupt};
use super::kept::Encoding;

/// A decompression bomb: more than this many bytes out of one (node-tar's limit; gzip cannot exceed 1032) …
const MAX_RATIO: u64 = 1000;
/// … once this much has come out.
const RATIO_FREE: u64 = 64 * 1024 * 1024;

enum Decoder {
    Gzip(Box<MultiGzDecoder<ChunkReader>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, ChunkReader>>),
    Plain(ChunkReader),
}

impl Decoder {
    /// Bytes taken in.
    fn consumed(&self) -> u64 {
        match self {
            Self::Gzip(decoder) => decoder.get_ref().position(),
            Self::Zstd(decoder) => decoder.get_ref().position(),
            Self::Plain(reader) => reader.position(),
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
            Self::Plain(reader) => reader.read(out),
        }
    }
}

/// The stage: everything from `source` inflated into `sink`. Returns the digest of what came out; none where that is what
/// went in.
pub(super) fn run(source: ChunkReader, sink: ChunkSender, layer: &str) -> Result<Option<String>> {
    let fail = |error: io::Error| failure(&error, layer);
    let stopped = || LayerError::Stopped { path: layer.into() };
    let mut decoder = open(source, layer)?;
    let mut hasher = (!matches!(decoder, Decoder::Plain(_))).then(Hasher::new);
    let mut total = 0u64;
    loop {
        let mut buffer = sink.buffer();
        let mut len = 0;
        while len < BUFFER {
            match decoder.read(&mut buffer[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        if len == 0 {
            break;
        }
        total += len as u64;
        if total > RATIO_FREE && total / MAX_RATIO > decoder.consumed() {
            let reason = format!("decompression bomb: {} bytes became more than {total}", decoder.consumed());
            return Err(corrupt("inflate", layer.as_bytes(), reason));
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer[..len]);
        }
        sink.send(buffer, len).map_err(|_| stopped())?;
    }
    sink.end().map_err(|_| stopped())?;
    Ok(hasher.map(Hasher::finish))
}

fn open(mut source: ChunkReader, layer: &str) -> Result<Decoder> {
    let fail = |error: io::Error| failure(&error, layer);
    // The first chunk may be shorter than the magic.
    let head = source.peek(Encoding::HEAD).map_err(fail)?;
    let unsupported = |what: &str| LayerError::Unsupported {
        op: "inflate",
        path: layer.into(),
        reason: format!("the layer is compressed with {what}; gzip, zstd and none are supported"),
    };
    match Encoding::of(head) {
        Encoding::Gzip => return Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))),
        Encoding::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(fail)?;
            return Ok(Decoder::Zstd(Box::new(decoder)));
        }
        Encoding::None => {}
    }
    match *head {
        [0xfd, b'7', b'z', b'X'] => Err(unsupported("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9'] => Err(unsupported("bzip2")),
        _ => Ok(Decoder::Plain(source)),
    }
}

fn failure(error: &io::Error, layer: &str) -> LayerError {
    if is_gone(error) {
        return LayerError::Stopped { path: layer.into() };
    }
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed data is truncated".into(),
        _ => format!("the compressed data is damaged: {error}"),
    };
    corrupt("inflate", layer.as_bytes(), reason)
}
