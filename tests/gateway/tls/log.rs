//! What the access log tells of a TLS connection.

use super::*;

#[test]
fn version_cipher_and_client_certificate_are_told() {
    let authority = Authority::new("Root");
    let server = authority.issue(&["a.example.com"]);
    let secret = secret_yaml("own", Some(&server), &[("ca.crt", &authority.pem)]);
    let gateway = Start::with(&[
        (
            "gateway.yaml",
            gateway(&[(
                "https",
                &["a.example.com"],
                "mode: OPTIONAL_MUTUAL, credentialName: own",
            )]),
        ),
        ("routes.yaml", routes(&["a.example.com"])),
        ("secrets.yaml", secret),
    ])
    .port(443)
    .settings(concat!(
        "  mesh:\n    accessLogFile: /dev/stderr\n",
        "    accessLogFormat: \"tls %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_LOCAL_PORT% %REQUESTED_SERVER_NAME% subject %DOWNSTREAM_PEER_SUBJECT%\"\n",
    ))
    .ready();
    let addr = gateway.addr_of(443);
    let told = |subject: &str| {
        format!(
            "tls TLSv1.3 TLS_AES_128_GCM_SHA256 {} a.example.com subject {subject}",
            addr.port()
        )
    };

    let anonymous = Asking::of(addr, "a.example.com");
    assert!(matches!(anonymous.get(), Outcome::Answered(200, _)));
    gateway.await_stderr(&told("-"));

    let client = authority.issue(&["client.example.com"]);
    let named = Asking::of(addr, "a.example.com").with(&client);
    assert!(matches!(named.get(), Outcome::Answered(200, _)));
    gateway.await_stderr(&told("CN="));
}
