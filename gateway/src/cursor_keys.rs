//! What cursors are signed with, and read with: shared by all shards, and other than before after a reload.
//!
//! One secret signs. Another may be accepted beside it, so that the gateways of a cluster can change theirs one after
//! the other while every cursor that any of them gave out stays good.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use tickgate_protocol::Position;
use tickgate_protocol::cursor::{self, Cursor, CursorError, CursorKey};

/// The keys of one configuration.
pub struct Keys {
    signs: CursorKey,
    also: Option<CursorKey>,
    secrets: (Vec<u8>, Option<Vec<u8>>),
}

impl Keys {
    /// Keys of which that made of `secret` signs, and both are accepted.
    pub fn new(secret: &[u8], also: Option<&[u8]>) -> Self {
        Self {
            signs: CursorKey::new(secret),
            also: also.map(CursorKey::new),
            secrets: (secret.to_vec(), also.map(<[u8]>::to_vec)),
        }
    }

    /// These positions as a cursor.
    pub fn sign(&self, positions: &[Position]) -> String {
        cursor::encode(positions, &self.signs)
    }

    /// What a cursor says.
    ///
    /// # Errors
    /// That it is none, or that neither key has signed it.
    pub fn read(&self, text: &str) -> Result<Cursor, CursorError> {
        match (cursor::decode(text, &self.signs), &self.also) {
            (Err(CursorError::BadSignature), Some(also)) => cursor::decode(text, also),
            (read, _) => read,
        }
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.secrets == other.secrets
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The keys that are in effect. Clones share them.
#[derive(Debug, Clone)]
pub struct CursorKeys(Arc<RwLock<Arc<Keys>>>);

impl CursorKeys {
    /// These, until they are replaced.
    pub fn new(keys: Keys) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }

    /// Those in effect now.
    pub fn now(&self) -> Arc<Keys> {
        // Nothing in between can panic, and a pointer is whole at any time.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in effect.
    pub fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { epoch: 7, partition: 1, offset: 99 };

    #[test]
    fn the_first_signs_and_both_are_accepted() {
        let (old, new) = (b"the first secret".as_slice(), b"the other secret".as_slice());
        let by = |keys: &Keys| keys.sign(&[AT]);
        let (before, both, swapped, after) = (
            Keys::new(old, None),
            Keys::new(old, Some(new)),
            Keys::new(new, Some(old)),
            Keys::new(new, None),
        );
        assert_eq!(by(&before), by(&both));
        assert_eq!(by(&swapped), by(&after));
        for keys in [&both, &swapped] {
            for text in [by(&before), by(&after)] {
                assert_eq!(keys.read(&text).map(|cursor| cursor.next), Ok(vec![AT]));
            }
        }
        assert_eq!(after.read(&by(&before)), Err(CursorError::BadSignature));
        assert_eq!(before.read(&by(&after)), Err(CursorError::BadSignature));
        assert_eq!(both.read("no cursor"), Err(CursorError::Malformed));
        assert_eq!(format!("{both:?}"), "Keys");
    }

    #[test]
    fn who_shares_them_has_the_new_ones() {
        let keys = CursorKeys::new(Keys::new(b"", None));
        let shared = keys.clone();
        keys.replace(Keys::new(b"a secret of tests", None));
        assert!(*shared.now() == Keys::new(b"a secret of tests", None));
    }
}
