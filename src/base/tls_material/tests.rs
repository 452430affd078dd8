//! Material made on the spot, and what is wrong with broken material.

use rcgen::{CertificateParams, KeyPair as Key};

use super::*;

const NAMES: (&str, &str) = ("tls.crt", "tls.key");

struct Made {
    certificate: String,
    key: String,
}

fn made(name: &str) -> Made {
    let key = Key::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let certificate = params.self_signed(&key).unwrap();
    Made {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn read(certificate: &str, key: &str) -> Result<KeyPair, MaterialError> {
    KeyPair::from_pem(certificate.as_bytes(), key.as_bytes(), NAMES)
}

#[test]
fn a_pair_that_belongs_together_is_read_with_its_dates() {
    let made = made("a.example");
    let pair = read(&made.certificate, &made.key).unwrap();
    assert_eq!(pair.kind(), KeyKind::Ecdsa);
    let Validity { from, until } = pair.validity();
    // 2020-01-01 and 2030-01-02.
    assert_eq!((from, until), (1_577_836_800, 1_893_542_400));
}

#[test]
fn each_fault_of_a_pair_is_told_apart() {
    let (one, two) = (made("a.example"), made("b.example"));
    let fault = |certificate: &str, key: &str| read(certificate, key).unwrap_err();
    assert_eq!(
        fault("nothing", &one.key),
        MaterialError::NoCertificate("tls.crt")
    );
    assert_eq!(fault("", &one.key), MaterialError::NoCertificate("tls.crt"));
    let torn = one.certificate.replace("MII", "!!!");
    assert_eq!(
        fault(&torn, &one.key),
        MaterialError::BadCertificate("tls.crt")
    );
    assert_eq!(
        fault(&one.certificate, "nothing"),
        MaterialError::BadKey("tls.key")
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    assert_eq!(
        fault(&one.certificate, encrypted),
        MaterialError::EncryptedKey("tls.key")
    );
    assert!(matches!(
        fault(&one.certificate, &two.key),
        MaterialError::Mismatch { .. }
    ));
    // The issuer first: a common mistake.
    let reversed = format!("{}{}", two.certificate, one.certificate);
    assert!(matches!(
        fault(&reversed, &one.key),
        MaterialError::Mismatch { .. }
    ));
}

#[test]
fn equal_certificates_are_equal_material_and_others_are_not() {
    let (one, two) = (made("a.example"), made("a.example"));
    let pair = |made: &Made| read(&made.certificate, &made.key).unwrap();
    assert_eq!(pair(&one), pair(&one));
    assert_ne!(pair(&one), pair(&two));
    let stapled = pair(&one).with_staple(Some(Arc::from(&b"staple"[..])));
    assert_ne!(pair(&one), stapled);
    let bundle = format!("{}{}", one.certificate, two.certificate);
    let authorities = Authorities::from_pem(bundle.as_bytes(), "ca.crt").unwrap();
    assert_eq!(authorities.certificates().len(), 2);
    assert_eq!(
        Authorities::from_pem(b"", "ca.crt"),
        Err(MaterialError::NoCertificate("ca.crt"))
    );
}

#[test]
fn a_key_is_never_printed() {
    let made = made("a.example");
    let text = format!("{:?}", read(&made.certificate, &made.key).unwrap());
    assert_eq!(
        text,
        "KeyPair { kind: Ecdsa, validity: Validity { from: 1577836800, until: 1893542400 }, .. }"
    );
}
