//! Who may ask the admin listener: the secret behind `admin_token`.

use super::replay::{SecretError, secret};
use std::fmt;

/// Who may ask the admin listener.
#[derive(Clone, Default, PartialEq)]
pub struct AdminAccess {
    /// What a request must bring; empty for nothing. [`AdminAccess::secret`] knows of the file, too.
    pub token: String,
    /// File with it; empty for none.
    pub token_file: String,
}

impl fmt::Debug for AdminAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminAccess")
            .field("has_token", &!self.token.is_empty())
            .field("token_file", &self.token_file)
            .finish()
    }
}

impl AdminAccess {
    /// The token, from wherever it comes; empty when there is none.
    ///
    /// # Errors
    /// What is wrong with `admin_token_file`, as the end of a sentence that starts with its name.
    pub fn secret(&self) -> Result<Vec<u8>, SecretError> {
        secret("admin_token", &self.token, &self.token_file)
    }
}
