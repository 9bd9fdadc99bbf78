//! The way to clients: the section `[tls]`.

/// What of a client's certificate is wanted, once `tls.client_ca_file` says who may vouch for it.
pub const CLIENT_CERTIFICATES: [&str; 2] = ["required", "optional"];

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsConfig {
    /// File with the certificate and what leads to its root, as PEM; empty for no TLS.
    pub certificate_file: String,
    /// File with its private key, as PEM.
    pub key_file: String,
    /// File with the certificates that clients' must lead to, as PEM; empty asks for none.
    pub client_ca_file: String,
    /// One of [`CLIENT_CERTIFICATES`].
    pub client_certificates: String,
    /// Time for a TLS handshake, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// How often the files are looked at, in milliseconds; 0 leaves that to reloads.
    pub watch_ms: u64,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificate_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            client_certificates: CLIENT_CERTIFICATES[0].to_owned(),
            handshake_timeout_ms: 5_000,
            watch_ms: 5_000,
        }
    }
}

impl TlsConfig {
    /// Whether clients are spoken to in TLS.
    pub fn is_on(&self) -> bool {
        !self.certificate_file.is_empty()
    }
}

/// What `tls.client_certificates` takes.
pub(super) fn client_certificates(text: &str) -> Result<(), String> {
    if CLIENT_CERTIFICATES.contains(&text) {
        return Ok(());
    }
    let [one, other] = CLIENT_CERTIFICATES;
    Err(format!("must be \"{one}\" or \"{other}\", not \"{}\"", text.escape_debug()))
}
