//! Errors as they are shown: `main` shows the `Debug` of what it returns, and nobody is helped by the names of variants.

use std::error::Error;

/// An error and what caused it.
pub(crate) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Gives errors a `Debug` that says what their `Display` says, and what caused them.
macro_rules! shown {
    ($($error:ty),*) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::shown::whole(self))
            }
        }
    )*};
}

shown!(
    crate::connection::ClientError,
    crate::live::LiveError,
    crate::target::BadUrl,
    crate::transport::ConnectError,
    crate::trust::TrustError
);

#[cfg(test)]
mod tests {
    use crate::target::Target;
    use crate::transport::ConnectError;
    use crate::{ClientError, LiveError};
    use std::io::{Error, ErrorKind};

    /// `main` returned a `LiveError`, and a user saw `Connect("no session …")` in quotes, or a tuple of private fields.
    #[test]
    fn what_main_returns_is_shown_as_it_reads() {
        let bad_url = Target::parse("http://x").unwrap_err();
        assert_eq!(format!("{bad_url:?}"), bad_url.to_string());
        let error: Box<dyn std::error::Error> = LiveError::from(bad_url).into();
        assert!(format!("{error:?}").starts_with("`http://x`: the scheme must be ws or wss; expected"));
        let error = LiveError::Connect("nobody is there".to_owned());
        assert_eq!(format!("{error:?}"), "no session: nobody is there");
        // With its cause.
        let address = ([127, 0, 0, 1], 7).into();
        let error = ConnectError::Io { address, source: Error::from(ErrorKind::ConnectionRefused) };
        assert_eq!(format!("{error:?}"), "cannot connect to 127.0.0.1:7: connection refused");
        let error = ClientError::from(error);
        assert!(format!("{error:?}").contains("connection refused"), "{error:?}");
    }
}
