//! The access log's writer: lines go into a bounded buffer, one thread writes it out.
//!
//! A request's thread never waits for a disk or a reader: it copies its line into the buffer, or,
//! when the buffer is full, counts it as dropped. The writer swaps the buffer for an empty one, so
//! two buffers serve all lines and batches form by themselves. The lock is held for one copy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;

use crate::base::Share;

use super::format::LogFormat;
use super::line::Line;
use super::record::Record;

/// How long the writer gathers lines after a write. Bounds the delay of a line, and keeps the
/// wake-up system call off the threads of a busy gateway.
const GATHER: Duration = Duration::from_millis(50);

/// How long the writer waits for a full non-blocking descriptor before it tries again.
const RETRY: Duration = Duration::from_millis(10);

/// Where and how the access log is written.
#[derive(Clone, Debug)]
pub struct AccessLogOptions {
    /// `gateway.mesh.accessLogFile`: `/dev/stdout`, `/dev/stderr` or a file to append to.
    pub file: String,
    pub format: LogFormat,
    pub wanted: Wanted,
    /// Bytes of lines that may wait to be written; lines beyond are dropped and counted.
    pub buffer: usize,
}

impl AccessLogOptions {
    /// With the usual buffer of 1 MiB.
    #[must_use]
    pub fn new(file: impl Into<String>, format: LogFormat) -> Self {
        Self {
            file: file.into(),
            format,
            wanted: Wanted::default(),
            buffer: 1 << 20,
        }
    }
}

/// Which requests are logged. All that failed are: no answer, a status from 500 on, or a flag.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of the requests that neither failed nor were slow.
    pub share: Share,
    /// What took at least this long is logged.
    pub slow: Duration,
}

impl Default for Wanted {
    /// All.
    fn default() -> Self {
        Self {
            share: Share::ALL,
            slow: Duration::ZERO,
        }
    }
}

impl Wanted {
    fn takes(&self, record: &Record<'_>) -> bool {
        self.share == Share::ALL
            || record.duration >= self.slow
            || !matches!(record.status, 1..500)
            || !record.flags.is_empty()
            || self.share.takes(fastrand::u32(..Share::WHOLE))
    }
}

/// The running log. Dropping it ends the writer once what waits is written.
#[derive(Debug)]
pub(super) struct AccessLog {
    format: LogFormat,
    wanted: Wanted,
    capacity: usize,
    dropped: IntCounter,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Tells the writer that there is something to do.
    wake: Condvar,
    /// Tells `flush` that a batch is out.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
    /// The writer sleeps until it is woken.
    asleep: bool,
    /// The writer holds a batch.
    writing: bool,
    /// Write at once instead of gathering.
    urgent: bool,
    /// Open the file anew before the next write.
    reopen: bool,
    ended: bool,
}

impl AccessLog {
    pub(super) fn open(options: AccessLogOptions, dropped: IntCounter) -> io::Result<Self> {
        let (sink, path) = match options.file.as_str() {
            // By descriptor: opening the path fails when it is a socket.
            "/dev/stdout" => (io::stdout().as_fd().try_clone_to_owned()?.into(), None),
            "/dev/stderr" => (io::stderr().as_fd().try_clone_to_owned()?.into(), None),
            path => (append_to(Path::new(path))?, Some(path.into())),
        };
        Self::start(Box::new(sink), path, options, dropped)
    }

    fn start(
        sink: Box<dyn Write + Send>,
        path: Option<PathBuf>,
        options: AccessLogOptions,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let capacity = options.buffer;
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: shared.clone(),
            sink,
            path,
            half: capacity / 2,
            dropped: dropped.clone(),
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            format: options.format,
            wanted: options.wanted,
            capacity,
            dropped,
            shared,
        })
    }

    /// Writes one line if it is wanted, or counts it as dropped.
    pub(super) fn write(&self, record: &Record<'_>) {
        if !self.wanted.takes(record) {
            return;
        }
        let mut line = Line::new();
        self.format.write(record, &mut line);
        let line = line.bytes();
        let mut pending = self.shared.lock();
        if pending.bytes.len() + line.len() > self.capacity {
            drop(pending);
            self.dropped.inc();
            return;
        }
        let half = self.capacity / 2;
        let was_below = pending.bytes.len() < half;
        pending.bytes.extend_from_slice(line);
        pending.lines += 1;
        let wake = pending.asleep || (was_below && pending.bytes.len() >= half);
        pending.asleep = false;
        drop(pending);
        if wake {
            self.shared.wake.notify_one();
        }
    }

    /// Opens the file anew, for a rotation that has renamed it. Lines not yet written go to the
    /// new one.
    pub(super) fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.wake.notify_one();
    }

    /// Waits until everything written so far is out. `false` if that took too long.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut pending = self.shared.lock();
        pending.urgent = true;
        self.shared.wake.notify_one();
        let busy = |pending: &mut Pending| pending.writing || !pending.bytes.is_empty();
        let (_pending, result) = self
            .shared
            .written
            .wait_timeout_while(pending, limit, busy)
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    /// A panic elsewhere leaves the buffer whole: every change is a single append or swap.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let is_pipe = fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo());
    let mut options = OpenOptions::new();
    match is_pipe {
        // For writing only, a pipe opens once somebody reads it (fifo(7)); the gateway would not start.
        true => options.read(true).write(true),
        false => options.append(true).create(true),
    };
    options.open(path)
}

struct Writer {
    shared: Arc<Shared>,
    sink: Box<dyn Write + Send>,
    /// `None` for what cannot be opened again.
    path: Option<PathBuf>,
    half: usize,
    dropped: IntCounter,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        let mut failing = false;
        while let Some(lines) = self.next(&mut batch) {
            match self.put(&batch) {
                Ok(()) => failing = false,
                Err(error) => {
                    self.dropped.inc_by(lines);
                    // Once per failure, not once per batch: a full disk must not fill another log.
                    if !failing {
                        log::warn!(
                            "the access log cannot be written, its lines are dropped: {error}"
                        );
                    }
                    failing = true;
                }
            }
            batch.clear();
            self.gather();
        }
    }

    /// Goes on in a new file of the same name; in the old one if there is no new one.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => self.sink = Box::new(file),
            Err(error) => log::warn!(
                "the access log {} cannot be opened again, its old file is kept: {error}",
                path.display()
            ),
        }
    }

    /// Swaps the waiting lines into `batch` and says how many they are; `None` at the end.
    fn next(&mut self, batch: &mut Vec<u8>) -> Option<u64> {
        let shared = self.shared.clone();
        let mut pending = shared.lock();
        while pending.bytes.is_empty() || pending.reopen {
            if std::mem::take(&mut pending.reopen) {
                drop(pending);
                self.reopen();
                pending = shared.lock();
                continue;
            }
            if pending.ended {
                return None;
            }
            pending.asleep = true;
            pending.urgent = false;
            pending = shared
                .wake
                .wait(pending)
                .unwrap_or_else(PoisonError::into_inner);
        }
        pending.asleep = false;
        pending.writing = true;
        std::mem::swap(&mut pending.bytes, batch);
        Some(std::mem::take(&mut pending.lines))
    }

    fn gather(&self) {
        let mut pending = self.shared.lock();
        pending.writing = false;
        self.shared.written.notify_all();
        let wait = |pending: &mut Pending| {
            !pending.ended && !pending.urgent && pending.bytes.len() < self.half
        };
        drop(
            self.shared
                .wake
                .wait_timeout_while(pending, GATHER, wait)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Writes everything, also to a descriptor that somebody made non-blocking.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.sink.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(RETRY)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
