//! Decoding in a thread of its own, ahead of who reads: one core decodes while another one writes files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What is handed over at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait to be read.
const CHUNKS: usize = 8;

/// A thread that waits for something to decode. It ends when nobody reads any more.
pub struct Decoder {
    source: Sender<Box<dyn Read + Send>>,
    chunks: Receiver<io::Result<Vec<u8>>>,
}

impl Decoder {
    /// Of a process that drops its powers: to be called after that, since a thread begins with those of the thread
    /// that starts it.
    pub fn start() -> io::Result<Self> {
        let (source, sources) = channel::<Box<dyn Read + Send>>();
        let (ahead, chunks) = sync_channel(CHUNKS);
        thread::Builder::new().name("decoder".to_owned()).spawn(move || {
            if let Ok(source) = sources.recv() {
                decode(source, &ahead);
            }
        })?;
        Ok(Self { source, chunks })
    }

    /// Everything of `source`, and its error where it has one.
    pub(super) fn read(self, source: impl Read + Send + 'static) -> Decoded {
        // A thread that is gone leaves nothing to read, and that is told as an error.
        let _ = self.source.send(Box::new(source));
        Decoded { chunks: self.chunks, chunk: Vec::new(), at: 0, ended: false }
    }
}

/// An empty chunk is the end.
fn decode(mut source: Box<dyn Read + Send>, ahead: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        let ended = chunk.is_empty();
        if (!ended || read.is_ok()) && ahead.send(Ok(chunk)).is_err() {
            return;
        }
        match read {
            Ok(_) if !ended => {}
            Ok(_) => return,
            Err(error) => {
                let _ = ahead.send(Err(error));
                return;
            }
        }
    }
}

pub(super) struct Decoded {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !self.ended {
            let broken_off = |_| io::Error::other("the decoder broke off");
            self.chunk = self.chunks.recv().map_err(broken_off)??;
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        let got = buffer.len().min(self.chunk.len() - self.at);
        buffer[..got].copy_from_slice(&self.chunk[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes seven at a time, then fails.
    struct Broken<'a>(&'a [u8]);

    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.split_at_checked(7) {
                None => Err(io::Error::from_raw_os_error(5)),
                Some((now, rest)) => {
                    self.0 = rest;
                    buffer[..7].copy_from_slice(now);
                    Ok(7)
                }
            }
        }
    }

    #[test]
    fn all_bytes_then_the_end_and_again_the_end() {
        for length in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut decoded = Decoder::start().unwrap().read(io::Cursor::new(bytes.clone()));
            let mut read = Vec::new();
            decoded.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}");
            assert_eq!(decoded.read(&mut [0; 9]).unwrap(), 0);
        }
    }

    #[test]
    fn what_came_before_an_error_is_read_before_it() {
        static BYTES: [u8; 70] = [1; 70];
        let mut decoded = Decoder::start().unwrap().read(Broken(&BYTES));
        let mut read = [0; 70];
        decoded.read_exact(&mut read).unwrap();
        assert_eq!(read, BYTES);
        assert_eq!(decoded.read(&mut read).unwrap_err().raw_os_error(), Some(5));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_left() {
        drop(Decoder::start().unwrap());
        let mut decoded = Decoder::start().unwrap().read(io::repeat(0));
        decoded.read_exact(&mut [0; 10]).unwrap();
    }
}
