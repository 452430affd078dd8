use super::*;

fn told(client: &str, local: &str) -> Option<Told> {
    Some(Told {
        client: client.parse().unwrap(),
        local: local.parse().unwrap(),
    })
}

/// A header of version 2.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0x00, 0x01, 0xbb];

/// The header's whole, and every beginning of it needs more.
fn whole(bytes: &[u8]) -> Option<Told> {
    for end in 0..bytes.len() {
        assert_eq!(header(&bytes[..end]), Ok(None), "{end} of {}", bytes.len());
    }
    let followed = [bytes, b"GET /"].concat();
    let (length, told) = header(&followed).unwrap().expect("a header");
    assert_eq!(length, bytes.len());
    told
}

#[test]
fn version_1_tells_both_ends() {
    assert_eq!(
        whole(b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 443\r\n"),
        told("192.0.2.1:4096", "10.0.0.1:443")
    );
    assert_eq!(
        whole(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
        told("[2001:db8::1]:1", "[::1]:65535")
    );
    assert_eq!(whole(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(
        whole(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"),
        None
    );
}

#[test]
fn version_2_tells_both_ends_and_its_tlvs_are_skipped() {
    assert_eq!(
        whole(&v2(0x21, 0x11, &V4)),
        told("192.0.2.1:4096", "10.0.0.1:443")
    );
    let tlvs = [&V4[..], &[0x04, 0, 3, 1, 2, 3, 0xea, 0, 0]].concat();
    assert_eq!(
        whole(&v2(0x21, 0x11, &tlvs)),
        told("192.0.2.1:4096", "10.0.0.1:443")
    );
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
    assert_eq!(whole(&v2(0x21, 0x21, &v6)), told("[::1]:3", "[::2]:4"));
    assert_eq!(whole(&v2(0x20, 0x11, &V4)), None, "LOCAL");
    assert_eq!(whole(&v2(0x20, 0x00, &[])), None, "LOCAL without addresses");
    assert_eq!(whole(&v2(0x21, 0x00, &[1, 2, 3])), None, "UNSPEC");
    assert_eq!(whole(&v2(0x21, 0x31, &[0; 216])), None, "a Unix socket");
}

#[test]
fn what_is_no_header_or_a_broken_one_is_told_apart() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        &[22, 3, 1],
        b"PROXX",
        b"\r\n\r\n\0\r\nQUIX",
    ] {
        assert_eq!(header(bytes), Err(HeaderError::Missing), "{bytes:?}");
    }
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; MOST_V1]].concat();
    for line in [
        &b"PROXY TCP4 192.0.2.1 10.0.0.1 4096\r\n"[..],
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 443 1\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 65536\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
        b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
        b"PROXY \xff\r\n",
        &long,
    ] {
        assert_eq!(header(line), Err(HeaderError::Broken), "{line:?}");
    }
    for bytes in [
        v2(0x11, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x21, &V4),
        v2(0x21, 0x11, &[0; MOST_V2 + 1]),
    ] {
        assert_eq!(header(&bytes), Err(HeaderError::Broken), "{bytes:?}");
    }
}

#[test]
fn a_header_is_due_on_its_ports_from_its_sources_only() {
    let rule = ProxyProtocol {
        ports: Some(vec![443]),
        sources: vec!["10.0.0.0/8".parse().unwrap()],
    };
    let source = |text: &str| text.parse().unwrap();
    assert!(rule.is_due(443, source("10.1.2.3")));
    assert!(rule.is_due(443, source("::ffff:10.1.2.3")));
    assert!(!rule.is_due(80, source("10.1.2.3")));
    assert!(!rule.is_due(443, source("11.1.2.3")));
    let all = ProxyProtocol {
        ports: None,
        ..rule
    };
    assert!(all.is_due(80, source("10.1.2.3")));
}
