//! Copies a request body as it passes, within a bound.
//!
//! The client's request never waits: what the copy's reader has not taken up is held up to the
//! bound, and beyond it the copy is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The writing end of a copy; dropping it before the end cuts the copy short.
#[derive(Debug)]
pub struct Tee {
    /// `None` once the copy has ended or is given up.
    parts: Option<UnboundedSender<Part>>,
    held: Arc<AtomicUsize>,
    bound: usize,
    /// Bytes of the body that were seen.
    seen: usize,
    /// Bytes that come again because the request is sent again.
    again: usize,
}

/// The reading end of a copy.
#[derive(Debug)]
pub struct Copied {
    parts: UnboundedReceiver<Part>,
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Part {
    Data(Bytes),
    End,
}

/// A copy ended before its original did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

/// A copy that may hold so many bytes.
#[must_use]
pub fn tee(bound: usize) -> (Tee, Copied) {
    let (sender, parts) = unbounded_channel();
    let held = Arc::new(AtomicUsize::new(0));
    let tee = Tee {
        parts: Some(sender),
        held: held.clone(),
        bound,
        seen: 0,
        again: 0,
    };
    (tee, Copied { parts, held })
}

impl Tee {
    /// The body is sent from its beginning once more; the copy goes on where it is.
    pub fn restart(&mut self) {
        self.again = self.seen;
    }

    /// A part of the body passes, or its end.
    pub fn pass(&mut self, data: Option<&Bytes>, end: bool) {
        let data = data.map(|data| {
            let known = self.again.min(data.len());
            self.again -= known;
            data.slice(known..)
        });
        let data = data.filter(|data| !data.is_empty());
        self.seen += data.as_ref().map_or(0, Bytes::len);
        let is_over = end && self.again == 0;
        let Some(parts) = &self.parts else {
            return;
        };
        let is_taken = data.is_none_or(|data| {
            let held = self.held.fetch_add(data.len(), Ordering::Relaxed) + data.len();
            held <= self.bound && parts.send(Part::Data(data)).is_ok()
        });
        if is_taken && is_over {
            // A reader that is gone needs no end.
            let _ = parts.send(Part::End);
        }
        if !is_taken || is_over {
            self.parts = None;
        }
    }
}

impl Copied {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// The rest will not come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        match self.parts.recv().await {
            Some(Part::Data(data)) => {
                self.held.fetch_sub(data.len(), Ordering::Relaxed);
                Ok(Some(data))
            }
            Some(Part::End) => Ok(None),
            None => Err(Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(tee: &mut Tee, text: &'static str) {
        tee.pass(Some(&Bytes::from_static(text.as_bytes())), false);
    }

    async fn all(copied: &mut Copied) -> (String, bool) {
        let mut text = String::new();
        loop {
            match copied.next().await {
                Ok(Some(data)) => text.push_str(std::str::from_utf8(&data).unwrap()),
                Ok(None) => return (text, true),
                Err(Cut) => return (text, false),
            }
        }
    }

    #[tokio::test]
    async fn a_copy_has_the_whole_body_and_its_end() {
        let (mut tee, mut copied) = tee(100);
        pass(&mut tee, "one ");
        tee.pass(Some(&Bytes::from_static(b"two")), true);
        assert_eq!(all(&mut copied).await, ("one two".into(), true));
    }

    #[tokio::test]
    async fn a_body_that_is_sent_again_is_copied_once() {
        let (mut tee, mut copied) = tee(100);
        pass(&mut tee, "one ");
        tee.restart();
        pass(&mut tee, "one two ");
        tee.restart();
        pass(&mut tee, "one ");
        pass(&mut tee, "two ");
        tee.pass(Some(&Bytes::from_static(b"three")), true);
        assert_eq!(all(&mut copied).await, ("one two three".into(), true));
    }

    #[tokio::test]
    async fn a_copy_that_lags_behind_its_bound_is_given_up_and_holds_no_more() {
        let (mut tee, mut copied) = tee(7);
        pass(&mut tee, "1234");
        pass(&mut tee, "5678");
        tee.pass(Some(&Bytes::from_static(b"9")), true);
        assert_eq!(all(&mut copied).await, ("1234".into(), false));
        let (mut tee, mut copied) = super::tee(7);
        pass(&mut tee, "1234");
        assert_eq!(copied.next().await, Ok(Some(Bytes::from_static(b"1234"))));
        pass(&mut tee, "5678");
        drop(tee);
        assert_eq!(all(&mut copied).await, ("5678".into(), false));
    }

    #[tokio::test]
    async fn a_request_that_ends_early_cuts_its_copy() {
        let (mut tee, mut copied) = tee(100);
        pass(&mut tee, "half");
        drop(tee);
        assert_eq!(all(&mut copied).await, ("half".into(), false));
    }
}
