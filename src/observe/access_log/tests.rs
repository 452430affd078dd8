use std::io::Read;
use std::time::Instant;

use super::*;
use crate::observe::LogEncoding;

fn log(sink: Box<dyn Write + Send>, capacity: usize) -> AccessLog {
    let format = LogFormat::new(LogEncoding::Text, "%REQ(:PATH)%").unwrap();
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let options = AccessLogOptions {
        buffer: capacity,
        ..AccessLogOptions::new("", format)
    };
    AccessLog::start(sink, None, options, dropped).unwrap()
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

#[test]
fn a_rotated_log_goes_on_in_a_new_file_and_loses_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let format = LogFormat::new(LogEncoding::Text, "%REQ(:PATH)%").unwrap();
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let options = AccessLogOptions::new(file.to_str().unwrap(), format);
    let log = AccessLog::open(options, dropped).unwrap();
    let mut read = String::new();
    for turn in 0..20 {
        log.write(&path(&format!("/{turn}")));
        let rotated = folder.path().join(format!("access.log.{turn}"));
        std::fs::rename(&file, &rotated).unwrap();
        log.reopen();
        let limit = Instant::now() + Duration::from_secs(30);
        while !file.exists() {
            assert!(Instant::now() < limit, "no new file");
            std::thread::yield_now();
        }
    }
    assert!(log.flush(Duration::from_secs(10)));
    for turn in 0..20 {
        let rotated = folder.path().join(format!("access.log.{turn}"));
        read += &std::fs::read_to_string(rotated).unwrap();
    }
    read += &std::fs::read_to_string(&file).unwrap();
    let expected: String = (0..20).map(|turn| format!("/{turn}\n")).collect();
    assert_eq!(read, expected);
    assert_eq!(log.dropped.get(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_again_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let file = below.join("access.log");
    let format = LogFormat::new(LogEncoding::Text, "%REQ(:PATH)%").unwrap();
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let options = AccessLogOptions::new(file.to_str().unwrap(), format);
    let log = AccessLog::open(options, dropped).unwrap();
    let moved = folder.path().join("moved");
    std::fs::rename(&below, &moved).unwrap();
    log.reopen();
    log.write(&path("/a"));
    assert!(log.flush(Duration::from_secs(10)));
    let written = std::fs::read_to_string(moved.join("access.log")).unwrap();
    assert_eq!(written, "/a\n");
}

#[test]
fn failures_and_slow_requests_are_logged_whatever_the_share() {
    let wanted = Wanted {
        share: Share::NONE,
        slow: Duration::from_secs(1),
    };
    let fine = Record {
        status: 200,
        ..Record::default()
    };
    let with = |status, flags, millis| Record {
        status,
        flags,
        duration: Duration::from_millis(millis),
        ..Record::default()
    };
    assert!(!wanted.takes(&fine));
    assert!(!wanted.takes(&with(499, "", 999)));
    assert!(wanted.takes(&with(200, "", 1000)));
    assert!(wanted.takes(&with(500, "", 0)));
    assert!(wanted.takes(&with(0, "", 0)));
    assert!(wanted.takes(&with(404, "NR", 0)));
    assert!(Wanted::default().takes(&fine));
}

#[test]
fn a_share_of_the_others_is_logged() {
    let wanted = Wanted {
        share: Share::of_percent(10.0),
        slow: Duration::from_secs(1),
    };
    let fine = Record {
        status: 200,
        ..Record::default()
    };
    let logged = (0..10_000).filter(|_| wanted.takes(&fine)).count();
    // Six standard deviations.
    assert!((820..=1180).contains(&logged), "{logged}");
}
