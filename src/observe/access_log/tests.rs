use std::io::Read;
use std::time::Instant;

use super::*;
use crate::observe::LogEncoding;

fn log(sink: Box<dyn Write + Send>, capacity: usize) -> AccessLog {
    let format = LogFormat::new(LogEncoding::Text, "%REQ(:PATH)%").unwrap();
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    AccessLog::start(sink, format, capacity, dropped).unwrap()
}

fn path(path: &str) -> Record<'_> {
    Record {
        path: Some(path),
        ..Record::default()
    }
}

#[test]
fn every_line_that_is_not_dropped_is_written_once_and_in_order() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = log(Box::new(file.reopen().unwrap()), 1 << 20);
    for index in 0..2_000 {
        log.write(&path(&format!("/{index}")));
    }
    assert!(log.flush(Duration::from_secs(10)));
    let written = std::fs::read_to_string(file.path()).unwrap();
    let expected: String = (0..2_000).map(|index| format!("/{index}\n")).collect();
    assert_eq!(written, expected);
    assert_eq!(log.dropped.get(), 0);
}

#[test]
fn lines_are_dropped_and_counted_while_nobody_reads_and_no_request_waits() {
    let (mut reader, sink) = std::io::pipe().unwrap();
    let log = log(Box::new(sink), 4_096);
    let line = "x".repeat(999);
    // The pipe, the writer's batch and the buffer hold a few hundred lines together.
    let mut sent = 0;
    while log.dropped.get() == 0 {
        assert!(sent < 100_000, "nothing is dropped");
        log.write(&path(&line));
        sent += 1;
    }
    let dropped = log.dropped.get();
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count() as u64 + dropped, sent);
    assert!(text.lines().all(|read| read == line));
}

#[test]
fn lines_of_a_failed_write_are_counted_as_dropped() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = log(Box::new(Full), 4_096);
    log.write(&path("/a"));
    log.write(&path("/b"));
    assert!(log.flush(Duration::from_secs(10)));
    assert_eq!(log.dropped.get(), 2);
}

#[test]
fn a_descriptor_that_somebody_made_nonblocking_loses_nothing() {
    use std::os::unix::net::UnixStream;
    let (sink, mut reader) = UnixStream::pair().unwrap();
    sink.set_nonblocking(true).unwrap();
    let log = log(Box::new(sink), 4 << 20);
    let line = "y".repeat(9_999);
    for _ in 0..200 {
        log.write(&path(&line));
    }
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), 200 * 10_000);
}

#[test]
fn a_line_written_by_a_quiet_gateway_arrives_without_a_flush() {
    let (mut reader, sink) = std::io::pipe().unwrap();
    let log = log(Box::new(sink), 4_096);
    let mut buffer = [0; 64];
    for text in ["/first", "/second", "/third"] {
        log.write(&path(text));
        let start = Instant::now();
        let read = reader.read(&mut buffer).unwrap();
        assert_eq!(
            &buffer[..read],
            format!("{text}\n").as_bytes(),
            "after {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_file_is_appended_to_and_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    std::fs::write(&file, "before\n").unwrap();
    let format = LogFormat::new(LogEncoding::Text, "%REQ(:PATH)%").unwrap();
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let options = AccessLogOptions::new(file.to_str().unwrap(), format);
    let log = AccessLog::open(options.clone(), dropped.clone()).unwrap();
    log.write(&path("/after"));
    assert!(log.flush(Duration::from_secs(10)));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before\n/after\n");
    let options = AccessLogOptions {
        file: folder.path().to_str().unwrap().into(),
        ..options
    };
    assert!(AccessLog::open(options, dropped).is_err());
}
