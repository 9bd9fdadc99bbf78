//! Whom the programs believe, and how they show who they are: what `--ca-file` and `--token-file` name.

use crate::client::ClientOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use tickgate_client::trust::{SYSTEM_FILE, Trust};

/// Why a file that was named, or the system's, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TrustError {
    #[error("there is nobody to believe behind wss://: name a PEM file with --ca-file")]
    Roots(#[from] tickgate_client::trust::TrustError),
    #[error("{}: no token can be read: --token-file names a file that holds one, or an API key, and nothing else", .path.display())]
    Token { path: PathBuf, source: io::Error },
}

/// How to connect to these URLs.
///
/// # Errors
/// When one of them wants TLS, and there are no roots for it, or when the file of the token holds none.
pub fn client_options(
    urls: &[String],
    ca_file: Option<&Path>,
    token_file: Option<&Path>,
) -> Result<ClientOptions, TrustError> {
    let wants_tls = urls.iter().any(|url| url.starts_with("wss://"));
    let trust = wants_tls.then(|| Trust::read(ca_file)).transpose()?;
    let token = token_file.map(token).transpose()?;
    Ok(ClientOptions { trust, token, ..ClientOptions::default() })
}

/// What a file shows who we are with: one line, which can stand in a header.
fn token(path: &Path) -> Result<Arc<str>, TrustError> {
    let failed = |source| TrustError::Token { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(failed(io::ErrorKind::InvalidData.into()));
    }
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_of_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            client_options(&[], None, Some(&path)).map(|options| options.token)
        };
        assert_eq!(read("a.b-c_d\n").expect("a token").as_deref(), Some("a.b-c_d"));
        for text in ["", "\n", "two words", "two\nlines", "ünicode"] {
            let error = read(text).expect_err(text);
            assert!(error.to_string().contains("--token-file"), "{error}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(client_options(&[], None, Some(&path)), Err(TrustError::Token { .. })));
    }
}
