//! What is wrong with certificate files is said before anything starts, and what to do about it.

use crate::harness::certs::{CLIENTS, Files, GATEWAYS};
use std::process::Command;
use tickgate_gateway::config::load::Sources;
use tickgate_gateway::config::{Config, ConfigErrors};

/// The one error of these settings.
fn error(settings: &[(&str, &str)]) -> String {
    let sources =
        settings.iter().fold(Sources::new(), |sources, (key, value)| sources.flag("--set", key, value));
    let ConfigErrors(errors) = Config::load(&sources).expect_err("it is wrong");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn every_error_says_what_to_do() {
    let files = Files::new();
    let path = |name: &str| files.path(name).display().to_string();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    files.write("other.key", &GATEWAYS.pair().key);
    files.write("nothing", "nothing of it\n");
    files.write("cut.crt", &GATEWAYS.pair().certificate[..300]);
    files.write("damaged.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    files.write("large", &"x".repeat((1 << 20) + 1));
    files.write(
        "locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    files.write("clients.crt", &CLIENTS.pem);
    let (c, k, ca) = ("tls.certificate_file", "tls.key_file", "tls.client_ca_file");
    for (settings, wanted) in [
        (
            vec![(c, certificate.clone())],
            "--set: tls.certificate_file: needs its private key: set tls.key_file",
        ),
        (vec![(k, key.clone())], "tls.key_file: needs its certificate: set tls.certificate_file"),
        (vec![(ca, path("clients.crt"))], "of no use without a certificate of ours"),
        (vec![(c, path("gone")), (k, key.clone())], "gone` cannot be read: No such file"),
        (vec![(c, certificate.clone()), (k, path("gone"))], "tls.key_file: `"),
        (vec![(c, certificate.clone()), (k, path("other.key"))], "is not the key of the first certificate"),
        (vec![(c, certificate.clone()), (k, path("nothing"))], "holds no private key in PEM"),
        (vec![(c, certificate.clone()), (k, path("locked"))], "is locked with a passphrase"),
        (vec![(c, path("nothing")), (k, key.clone())], "holds no certificate in PEM"),
        (vec![(c, key.clone()), (k, key.clone())], "holds no certificate in PEM"),
        (vec![(c, path("cut.crt")), (k, key.clone())], "tls.certificate_file: is no PEM file"),
        (vec![(c, path("damaged.crt")), (k, key.clone())], "whose times cannot be read"),
        (vec![(c, path("large")), (k, key.clone())], "is of more than 1048576 bytes"),
        (vec![(c, "/dev/zero".to_owned()), (k, key.clone())], "is of more than 1048576 bytes"),
        (
            vec![(c, certificate.clone()), (k, key.clone()), (ca, path("nothing"))],
            "tls.client_ca_file: holds no certificate",
        ),
    ] {
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let error = error(&settings);
        assert!(error.contains(wanted), "{settings:?}: {error}");
        assert!(!error.contains("BEGIN PRIVATE KEY") || error.contains("begins with"), "{error}");
    }
    let odd = error(&[("tls.client_certificates", "maybe")]);
    assert!(odd.contains("must be \"required\" or \"optional\", not \"maybe\""), "{odd}");
}

/// The real program: one line, and nothing is bound.
#[test]
fn a_missing_certificate_is_one_clear_line() {
    let ended = Command::new(env!("CARGO_BIN_EXE_tickgate"))
        .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--set", "tls.certificate_file=/no/such.crt", "--set", "tls.key_file=/no/such.key"])
        .output()
        .expect("it starts");
    assert_eq!(ended.status.code(), Some(i32::from(ConfigErrors::EXIT_CODE)));
    let told = String::from_utf8(ended.stderr).expect("text");
    let wanted = "the configuration has 1 error:\n  --set: tls.certificate_file: `/no/such.crt` cannot be read: \
                  No such file or directory (os error 2)\n";
    assert_eq!(told, wanted);
}
