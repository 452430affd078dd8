//! Lists of authorities that share a name, and of times that are not now.

use boring::x509::X509;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::*;

/// The middle of 2025.
const NOW: Duration = Duration::from_secs(1_750_000_000);

struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// All have the same name.
    fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        Self { params, key }
    }

    fn own(&self) -> X509 {
        let pem = self.params.self_signed(&self.key).unwrap().pem();
        X509::from_pem(pem.as_bytes()).unwrap()
    }

    fn issue(&self, serial: u64) -> X509 {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer);
        X509::from_pem(certificate.unwrap().pem().as_bytes()).unwrap()
    }

    fn list(&self, revoked: &[u64], years: (i32, i32)) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(years.0, 1, 1),
            next_update: date_time_ymd(years.1, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::from_params(&self.params, &self.key));
        list.unwrap().pem().unwrap()
    }
}

fn allow(lists: &[String], chain: &[&X509]) -> bool {
    let read = Revocations::read(lists.concat().as_bytes(), "crl").unwrap();
    let chain = chain.iter().map(|certificate| &***certificate);
    read.allow_chain(chain, NOW, &read.signers())
}

#[test]
fn a_list_counts_if_the_issuer_signed_it_in_whatever_way_it_signs() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let (ca, impostor) = (Authority::new(algorithm), Authority::new(algorithm));
        let (good, bad) = (ca.issue(1), ca.issue(2));
        let own = ca.own();
        let years = (2020, 2099);
        let list = ca.list(&[2], years);
        assert!(allow(std::slice::from_ref(&list), &[&good, &own]));
        assert!(!allow(std::slice::from_ref(&list), &[&bad, &own]));
        // One of the same name says nothing, neither for nor against a certificate.
        let forged = impostor.list(&[1], years);
        assert!(!allow(std::slice::from_ref(&forged), &[&good, &own]));
        assert!(!allow(&[impostor.list(&[], years)], &[&bad, &own]));
        assert!(allow(&[forged, list], &[&good, &own]));
    }
}

#[test]
fn a_list_counts_in_its_time_and_what_it_revokes_stays_revoked() {
    let ca = Authority::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (good, bad, own) = (ca.issue(1), ca.issue(2), ca.own());
    for (years, expected) in [
        ((2020, 2099), true),
        ((2020, 2022), false),
        ((2080, 2099), false),
    ] {
        let list = ca.list(&[], years);
        assert_eq!(allow(&[list], &[&good, &own]), expected, "{years:?}");
    }
    let lists = [ca.list(&[2], (2020, 2022)), ca.list(&[], (2022, 2099))];
    assert!(allow(&lists, &[&good, &own]));
    assert!(!allow(&lists, &[&bad, &own]));
}

#[test]
fn a_certificate_named_like_its_issuer_is_no_root() {
    let ca = Authority::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.serial_number = Some(SerialNumber::from(2_u64));
    let issuer = Issuer::from_params(&ca.params, &ca.key);
    let posing = params.signed_by(&KeyPair::generate().unwrap(), &issuer);
    let posing = X509::from_pem(posing.unwrap().pem().as_bytes()).unwrap();
    let own = ca.own();
    assert!(is_root(&own) && !is_root(&posing));
    assert!(!allow(&[ca.list(&[2], (2020, 2099))], &[&posing, &own]));
}

#[test]
fn a_list_signed_with_rsa_pss_counts() {
    let read = |pem: &[u8]| X509::from_pem(pem).unwrap();
    let ca = read(include_bytes!("pss/ca.pem"));
    let (right, revoked) = (
        read(include_bytes!("pss/right.pem")),
        read(include_bytes!("pss/revoked.pem")),
    );
    let text = include_str!("pss/list.pem");
    let list = Revocations::read(text.as_bytes(), "crl").unwrap();
    // Within its hundred years, which begin in 2026.
    let now = Duration::from_secs(1_800_000_000);
    let allow =
        |list: &Revocations, leaf: &X509| list.allow_chain([&**leaf, &*ca], now, &list.signers());
    assert!(allow(&list, &right));
    assert!(!allow(&list, &revoked));
    let der = Pem::iter_from_buffer(text.as_bytes()).next().unwrap();
    let mut forged = der.unwrap().contents;
    *forged.last_mut().unwrap() ^= 1;
    let forged = Revocations::read(&forged, "crl").unwrap();
    assert!(!allow(&forged, &right));
}

#[test]
fn who_signed_a_list_is_found_out_once_and_for_each_that_says_so() {
    let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
    let (ca, impostor) = (Authority::new(algorithm), Authority::new(algorithm));
    let (own, posing) = (ca.own(), impostor.own());
    let good = ca.issue(1);
    let pem = ca.list(&[], (2020, 2099));
    let mut read = Revocations::read(pem.as_bytes(), "crl").unwrap();
    let signers = read.signers();
    let allow =
        |read: &Revocations, issuer: &X509| read.allow_chain([&*good, &**issuer], NOW, &signers);
    assert!(allow(&read, &own));
    // It could not be verified any more, and is not.
    for list in read.issuers.values_mut().flatten() {
        list.signature = Box::default();
    }
    assert!(allow(&read, &own));
    assert!(!allow(&read, &posing));
    // Nor does it count for whom it was not.
    let others = read.signers();
    assert!(!read.allow_chain([&*good, &*own], NOW, &others));
}
