//! Messages on a byte stream: four bytes of length (big endian), then JSON.

use std::marker::PhantomData;

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Read first, before a frame asks for more. Small, since most connections are idle.
const BUFFER: usize = 1 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    #[error("the other side said something unreadable")]
    Unreadable(#[source] serde_json::Error),
    #[error("the other side ended the connection")]
    Ended,
}

/// Reads messages of one type.
pub struct Reader<S, M> {
    frames: FramedRead<S, LengthDelimitedCodec>,
    message: PhantomData<fn() -> M>,
}

/// Writes messages of one type.
pub struct Writer<S, M> {
    frames: FramedWrite<S, LengthDelimitedCodec>,
    message: PhantomData<fn(M)>,
}

fn codec(limit: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(limit).new_codec()
}

impl<S: AsyncRead + Unpin, M: DeserializeOwned> Reader<S, M> {
    /// A longer message than `limit` bytes is [`FrameError::Broken`].
    pub fn new(stream: S, limit: usize) -> Self {
        Self { frames: FramedRead::with_capacity(stream, codec(limit), BUFFER), message: PhantomData }
    }

    /// The next message; [`FrameError::Ended`] if the other side closed between two. Cancel-safe: what was
    /// read of a message stays.
    pub async fn next(&mut self) -> Result<M, FrameError> {
        let frame = self.frames.next().await.ok_or(FrameError::Ended)?.map_err(FrameError::Broken)?;
        serde_json::from_slice(&frame).map_err(FrameError::Unreadable)
    }
}

impl<S: AsyncWrite + Unpin, M: Serialize> Writer<S, M> {
    pub fn new(stream: S, limit: usize) -> Self {
        Self { frames: FramedWrite::new(stream, codec(limit)), message: PhantomData }
    }

    /// Done when the bytes left for the kernel. Not cancel-safe: half a message would spoil the stream.
    pub async fn send(&mut self, message: &M) -> Result<(), FrameError> {
        let bytes = serde_json::to_vec(message).expect("a message is plain data");
        self.frames.send(Bytes::from(bytes)).await.map_err(FrameError::Broken)
    }

    pub async fn close(&mut self) -> Result<(), FrameError> {
        SinkExt::<Bytes>::close(&mut self.frames).await.map_err(FrameError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_as_sent_and_too_long_ones_are_refused() {
        let (here, there) = tokio::io::duplex(64);
        let mut writer = Writer::<_, String>::new(here, 1 << 10);
        let mut reader = Reader::<_, String>::new(there, 100);
        let sending = tokio::spawn(async move {
            writer.send(&"hello".to_owned()).await.unwrap();
            let _ = writer.send(&"x".repeat(200)).await;
        });
        assert_eq!(reader.next().await.unwrap(), "hello");
        assert!(matches!(reader.next().await, Err(FrameError::Broken(_))));
        drop(reader);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn an_end_between_messages_and_one_within_are_told_apart() {
        let mut reader = Reader::<_, String>::new(&b"\x00\x00\x00\x04\"hi\""[..], 100);
        assert_eq!(reader.next().await.unwrap(), "hi");
        assert!(matches!(reader.next().await, Err(FrameError::Ended)));
        let mut reader = Reader::<_, String>::new(&b"\x00\x00\x00\x04\"h"[..], 100);
        assert!(matches!(reader.next().await, Err(FrameError::Broken(_))));
        let mut reader = Reader::<_, String>::new(&b"\x00\x00\x00\x02{}"[..], 100);
        assert!(matches!(reader.next().await, Err(FrameError::Unreadable(_))));
    }
}
