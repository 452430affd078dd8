//! One direction of a connection that is not HTTP: what was read from one side is held until the
//! other side has taken it.
//!
//! Tokio's copying gives both directions up at the first error, and with them what it holds and
//! what a side that broke off had said before. Here each direction ends by itself.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// Bytes of buffer, for the life of the connection.
const BUFFER: usize = 8 * 1024;

pub(super) struct Direction {
    buffer: Box<[u8]>,
    /// What of it was read and not yet written.
    held: Range<usize>,
    is_unflushed: bool,
    /// Nothing more is read.
    has_ended: bool,
    /// Nothing more is written.
    is_over: bool,
}

/// What is still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything, to the side's end. A failure is the caller's to judge.
    Everything,
    /// Everything of a side that has failed or is about to: whatever ends it.
    ToTheEnd,
    /// What has come already: the first wait for more is the end.
    WhatCame,
    Nothing,
}

/// How far a direction came.
enum Carried {
    Everything,
    /// The side that is read failed.
    Unread,
    /// The side that is written failed.
    Unwritten,
}

impl Direction {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER].into(),
            held: 0..0,
            is_unflushed: false,
            has_ended: false,
            is_over: false,
        }
    }

    /// Ready when there is nothing left to do, or a side has failed. `tells` says whether the end
    /// is passed on. After a failure to read, what to do is for the caller to say, with another
    /// call.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        reading: Reading,
        tells: bool,
    ) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        match ready!(self.poll_carry(cx, from, to, reading)) {
            Carried::Unread => return Poll::Ready(()),
            Carried::Everything if tells => {
                // A failure is seen by who wraps the side.
                let _ = ready!(Pin::new(to).poll_shutdown(cx));
            }
            Carried::Everything | Carried::Unwritten => {}
        }
        self.is_over = true;
        Poll::Ready(())
    }

    fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        reading: Reading,
    ) -> Poll<Carried> {
        loop {
            while let Some(bytes @ [_, ..]) = self.buffer.get(self.held.clone()) {
                match ready!(Pin::new(&mut *to).poll_write(cx, bytes)) {
                    Ok(count) if count > 0 => {
                        self.held.start += count;
                        self.is_unflushed = true;
                    }
                    _ => return Poll::Ready(Carried::Unwritten),
                }
            }
            self.has_ended |= reading == Reading::Nothing;
            if !self.has_ended {
                let mut free = ReadBuf::new(&mut self.buffer);
                match Pin::new(&mut *from).poll_read(cx, &mut free) {
                    Poll::Ready(Ok(())) => {
                        self.held = 0..free.filled().len();
                        self.has_ended = self.held.is_empty();
                        continue;
                    }
                    Poll::Ready(Err(_)) => {
                        self.has_ended = true;
                        if reading == Reading::Everything {
                            return Poll::Ready(Carried::Unread);
                        }
                    }
                    // A task that has had its turn is made to wait though there may be more.
                    Poll::Pending => {
                        let is_all = reading == Reading::WhatCame && coop::has_budget_remaining();
                        self.has_ended = is_all;
                    }
                }
            }
            if self.is_unflushed {
                if ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                    return Poll::Ready(Carried::Unwritten);
                }
                self.is_unflushed = false;
            }
            return match self.has_ended {
                true => Poll::Ready(Carried::Everything),
                false => Poll::Pending,
            };
        }
    }

    /// Where to put bytes that nobody wants.
    pub fn scratch(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}
