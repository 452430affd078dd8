//! Authorities, certificates and revocation lists, made for the test at hand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boring::pkey::PKey;
use boring::rsa::Rsa;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// A certificate authority.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub serial: u64,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let (params, key) = Self::unsigned(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// An intermediate authority.
    pub fn below(&self, name: &str) -> Self {
        let (params, key) = Self::unsigned(name);
        let pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Self { params, key, pem }
    }

    fn unsigned(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params, KeyPair::generate().unwrap())
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A certificate for names, addresses and, with `://`, URIs.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2099)
    }

    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_for(KeyPair::generate().unwrap(), names, year)
    }

    /// One with an RSA key; others have ECDSA.
    pub fn issue_rsa(&self, names: &[&str]) -> Issued {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        self.issue_for(KeyPair::from_pem(&pem).unwrap(), names, 2099)
    }

    fn issue_for(&self, key: KeyPair, names: &[&str], year: i32) -> Issued {
        let serial = u64::from(rand_u32());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A current list that revokes these certificates.
    pub fn revoke(&self, revoked: &[&Issued]) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|issued| RevokedCertParams {
                    serial_number: SerialNumber::from(issued.serial),
                    revocation_time: date_time_ymd(2021, 1, 1),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }
}

fn rand_u32() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// A TLS Secret in the gateway's namespace; `more` are further keys with their text.
pub fn secret_yaml(name: &str, issued: Option<&Issued>, more: &[(&str, &str)]) -> String {
    let pair = issued.map(|issued| {
        [
            ("tls.crt", issued.certificate.as_str()),
            ("tls.key", issued.key.as_str()),
        ]
    });
    let data: String = pair
        .iter()
        .flatten()
        .chain(more)
        .map(|(key, text)| format!("  {key}: {}\n", STANDARD.encode(text)))
        .collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n{data}"
    )
}
