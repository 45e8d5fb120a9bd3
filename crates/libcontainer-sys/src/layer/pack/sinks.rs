//! Where an archive goes as it is made. Both are given whole buffers: the archive stands behind a `BufWriter`.

use std::io::{self, Write};
use std::sync::mpsc::channel;

use crate::layer::pipeline::Layer;
use crate::logs::{self, Client};

/// The pipeline as a writer that waits for room.
pub(super) struct Feed<'a> {
    pub(super) layer: &'a Layer,
    /// The layer took no more: its own end says why.
    pub(super) failed: bool,
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (room, wait) = channel();
        self.layer.write(bytes.to_vec(), Box::new(move |result| drop(room.send(result))));
        self.failed = !matches!(wait.recv(), Ok(Ok(())));
        if self.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The chunked body of an answer on a connection.
pub(super) struct Body {
    pub(super) client: Client,
    pub(super) gone: bool,
}

impl Body {
    pub(super) fn head(&mut self) -> io::Result<()> {
        let sent = logs::write_all(&self.client.fd, self.client.head.as_bytes());
        self.put(sent)
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        let sent = logs::write_all(&self.client.fd, b"0\r\n\r\n");
        self.put(sent)
    }

    fn put(&mut self, sent: crate::failure::Result<bool>) -> io::Result<()> {
        self.gone = !matches!(sent, Ok(true));
        if self.gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = logs::send(&self.client.fd, &mut bytes.to_vec());
        self.put(sent).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
