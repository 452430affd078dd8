//! Messages and descriptors over a Unix socket.
//!
//! A message is four bytes of length and that many of JSON; its descriptors travel with the length.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{HandoverError, Message};

/// Descriptors in one message; the kernel takes up to 253 (SCM_MAX_FD).
pub const BATCH: usize = 64;
/// No message is longer: a hundred thousand listeners.
const MOST_BYTES: usize = 8 << 20;
const LENGTH: usize = 4;

/// One end of a conversation.
#[derive(Debug)]
pub struct Wire(UnixStream);

impl Wire {
    /// The other end must belong to this process's user, or to root.
    ///
    /// # Errors
    /// It does not, or the kernel does not say whose it is.
    pub fn new(stream: UnixStream) -> Result<Self, HandoverError> {
        let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(io::Error::from)?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            return Err(HandoverError::Stranger(peer.uid.as_raw()));
        }
        stream.set_nonblocking(false)?;
        Ok(Self(stream))
    }

    /// The process at the other end.
    pub fn peer(&self) -> Option<u32> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }

    /// # Errors
    /// The other end is gone, or has not taken the message in time.
    pub fn send(&self, message: &Message, handles: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
        let text = serde_json::to_vec(message)
            .map_err(|error| HandoverError::Confused(error.to_string()))?;
        let length = u32::try_from(text.len())
            .map_err(|_| HandoverError::Confused("a message of more than 4 GB".to_owned()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits = handles.is_empty()
            || (handles.len() <= BATCH && ancillary.push(SendAncillaryMessage::ScmRights(handles)));
        if !fits {
            return Err(HandoverError::Confused(format!(
                "{} descriptors in one message",
                handles.len()
            )));
        }
        let length = length.to_be_bytes();
        let slices = [IoSlice::new(&length)];
        let sent = sendmsg(&self.0, &slices, &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)?;
        (&self.0).write_all(length.get(sent..).unwrap_or_default())?;
        (&self.0).write_all(&text)?;
        Ok(())
    }

    /// # Errors
    /// The other end is gone, silent for longer than `patience`, or says something unknown.
    pub fn receive(&self, patience: Duration) -> Result<(Message, Vec<OwnedFd>), HandoverError> {
        self.0.set_read_timeout(Some(patience))?;
        let mut length = [0; LENGTH];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut length)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        if got.bytes == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut handles = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                handles.extend(received);
            }
        }
        let rest = length.get_mut(got.bytes..).unwrap_or_default();
        (&self.0).read_exact(rest)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MOST_BYTES {
            return Err(HandoverError::Confused(format!(
                "a message of {length} bytes"
            )));
        }
        let mut text = vec![0; length];
        (&self.0).read_exact(&mut text)?;
        let message = serde_json::from_slice(&text)
            .map_err(|error| HandoverError::Confused(error.to_string()))?;
        Ok((message, handles))
    }
}
