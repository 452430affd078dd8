//! ClientHellos whole, torn and wrong. They are BoringSSL's own, caught before they are sent.

use std::io::{self, Read, Write};

use boring::ssl::{Ssl, SslContext, SslMethod, SslVersion};

use super::*;

/// Keeps what is written and answers nothing.
#[derive(Debug, Default)]
struct Catch(Vec<u8>);

impl Read for Catch {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Catch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn caught(name: Option<&str>, signatures: &str, max: SslVersion) -> Vec<u8> {
    let mut context = SslContext::builder(SslMethod::tls()).unwrap();
    context.set_sigalgs_list(signatures).unwrap();
    context.set_max_proto_version(Some(max)).unwrap();
    let mut ssl = Ssl::new(&context.build()).unwrap();
    if let Some(name) = name {
        ssl.set_hostname(name).unwrap();
    }
    match ssl.connect(Catch::default()) {
        Err(boring::ssl::HandshakeError::WouldBlock(stream)) => stream.get_ref().0.clone(),
        _ => panic!("nobody answered"),
    }
}

fn done(bytes: &[u8]) -> Hello {
    match read(bytes) {
        Reading::Done(hello) => hello,
        other => panic!("{other:?}"),
    }
}

const BOTH: &str = "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256";

#[test]
fn the_name_and_the_kinds_of_key_are_read() {
    for max in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let hello = done(&caught(Some("A.Example.com"), BOTH, max));
        assert_eq!(hello.server_name.as_deref(), Some("a.example.com"));
        assert!(hello.takes_ecdsa);
        let hello = done(&caught(None, "rsa_pss_rsae_sha256", max));
        assert_eq!(hello, Hello::default());
    }
}

#[test]
fn a_hello_is_awaited_whole_however_it_is_torn() {
    let whole = caught(Some("a.example.com"), BOTH, SslVersion::TLS1_3);
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end]), Reading::More, "{end}");
    }
    // In records of one byte each, which RFC 8446 section 5.1 allows.
    let torn: Vec<u8> = whole[5..]
        .iter()
        .flat_map(|byte| [22, 3, 1, 0, 1, *byte])
        .collect();
    assert_eq!(done(&torn), done(&whole));
}

#[test]
fn what_is_no_hello_is_told_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x00",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    ] {
        assert_eq!(read(bytes), Reading::NotTls, "{bytes:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        at in 0..200_usize,
    ) {
        read(&noise);
        let mut hello = caught(Some("a.example.com"), BOTH, SslVersion::TLS1_3);
        let end = hello.len().min(at + noise.len());
        let start = at.min(end);
        hello[start..end].copy_from_slice(&noise[..end - start]);
        read(&hello);
    }
}
