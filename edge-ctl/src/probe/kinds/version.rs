//! The version in an answer's status line, raised from HTTP/1.0 to HTTP/1.1: servers that call themselves HTTP/1.0 use
//! what only HTTP/1.1 defines, such as chunks, and other clients take it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// What precedes the last digit of the version.
const START: &[u8] = b"HTTP/1.";

/// A stream whose first answer has no version 1.0.
pub(super) struct Raised<S> {
    stream: S,
    /// Number of bytes of `START` read so far; `None` once the version is known.
    at: Option<usize>,
}

impl<S> Raised<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, at: Some(0) }
    }
}

fn raise(read: &mut [u8], at: &mut Option<usize>) {
    for byte in read {
        let Some(position) = *at else { return };
        *at = START.get(position).filter(|expected| byte == *expected).map(|_| position + 1);
        if position == START.len() && *byte == b'0' {
            *byte = b'1';
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Raised<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(read) = buffer.filled_mut().get_mut(before..) {
            raise(read, &mut self.at);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_the_status_line_is_raised_however_it_is_read() {
        for (text, raised) in [
            ("HTTP/1.0 200 OK\r\nvia: HTTP/1.0\r\n", "HTTP/1.1 200 OK\r\nvia: HTTP/1.0\r\n"),
            ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n"),
            ("SSH-2.0 HTTP/1.0", "SSH-2.0 HTTP/1.0"),
            ("HTTP", "HTTP"),
        ] {
            for size in 1..=text.len() {
                let (mut bytes, mut at) = (text.as_bytes().to_vec(), Some(0));
                bytes.chunks_mut(size).for_each(|read| raise(read, &mut at));
                assert_eq!(String::from_utf8_lossy(&bytes), raised, "{size}");
            }
        }
    }
}
