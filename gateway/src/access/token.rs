//! What a JSON Web Token (RFC 7519) says, if it is to be believed: by RFC 8725, with everything that a token may leave
//! open decided here.
//!
//! A token is read by hand, but for the cryptography: what general libraries take for granted (an absent `aud`, a `nbf`
//! that is not looked at, a minute's leeway, fields that stand twice, times in fractions) is just what is not to be. What
//! a token says of where its key is (`jku`, `x5u`, `jwk`, `x5c`) counts for nothing.

use super::keys::{Algorithm, Keys};
use super::rights::{Rights, is_name};
use super::strict::Fields;
use super::{Identity, Way};
use crate::stats::AuthFailure;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::sync::Arc;

/// Bytes of a token at most.
pub const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Audiences that a token may name.
const AUDIENCES_MAX: usize = 16;

/// What is demanded of every token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// Who may have issued it.
    pub issuers: Vec<String>,
    /// Whom it must be for: one of these.
    pub audiences: Vec<String>,
    /// The claim that holds the rights.
    pub claim: String,
    /// By how much clocks may differ, in seconds.
    pub leeway_s: i64,
}

/// What a token says, when it is to be believed at `now_s`, seconds since the Unix epoch.
///
/// # Errors
/// Why it is not: for the log, never for whoever sent it.
pub fn read(token: &str, sets: &[&Keys], demands: &Demands, now_s: i64) -> Result<Identity, AuthFailure> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AuthFailure::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AuthFailure::Malformed);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthFailure::Malformed);
    let (algorithm, kid) = read_head(&decode(head)?)?;
    let (body_json, signature) = (decode(body)?, decode(signature)?);
    let signed = &token.as_bytes()[..head.len() + 1 + body.len()];
    let mut fitting = sets.iter().flat_map(|keys| keys.fitting(algorithm, kid.as_deref())).peekable();
    let is_any = fitting.peek().is_some();
    if !fitting.any(|key| key.signed(signed, &signature)) {
        // A key that is named and not known may be a new one; those without a name are tried for it meanwhile.
        let is_unknown = kid.as_deref().is_some_and(|kid| !sets.iter().any(|keys| keys.has_named(kid)));
        return Err(if is_unknown || !is_any { AuthFailure::UnknownKey } else { AuthFailure::Signature });
    }
    let claims = Fields::parse(&body_json).ok_or(AuthFailure::Malformed)?;
    read_claims(&claims, demands, now_s)
}

/// The algorithm and the key's name.
fn read_head(json: &[u8]) -> Result<(Algorithm, Option<String>), AuthFailure> {
    let head = Fields::parse(json).ok_or(AuthFailure::Malformed)?;
    // What `crit` names must be understood, and nothing of it is; `b64` without it would change what is signed.
    if head.raw("crit").is_some() || head.raw("b64").is_some() {
        return Err(AuthFailure::Critical);
    }
    let algorithm = head.get::<String>("alg").map_err(|()| AuthFailure::Malformed)?;
    let algorithm = algorithm.as_deref().and_then(Algorithm::parse).ok_or(AuthFailure::Algorithm)?;
    // Another kind of token of the same issuer is none of ours.
    if let Some(kind) = head.get::<String>("typ").map_err(|()| AuthFailure::Malformed)? {
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if !matches!(kind, "jwt" | "at+jwt") {
            return Err(AuthFailure::Malformed);
        }
    }
    let kid = head.get::<String>("kid").map_err(|()| AuthFailure::Malformed)?;
    Ok((algorithm, kid))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Some(Vec<String>),
}

fn read_claims(claims: &Fields<'_>, demands: &Demands, now_s: i64) -> Result<Identity, AuthFailure> {
    let wrong = |()| AuthFailure::Claims;
    let text = |name| claims.get::<String>(name).map_err(wrong);
    // Whole seconds, not before 1970: a fraction, a text or 1e300 is a sign of somebody who tries.
    let time = |name| {
        let seconds = claims.get::<u64>(name).map_err(wrong)?;
        Ok(seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)))
    };
    let issuer = text("iss")?.ok_or(AuthFailure::Claims)?;
    if !demands.issuers.contains(&issuer) {
        return Err(AuthFailure::Issuer);
    }
    let is_meant = match claims.get::<Audience>("aud").map_err(wrong)?.ok_or(AuthFailure::Claims)? {
        Audience::One(one) => demands.audiences.contains(&one),
        Audience::Some(some) => {
            some.len() <= AUDIENCES_MAX && some.iter().any(|one| demands.audiences.contains(one))
        }
    };
    if !is_meant {
        return Err(AuthFailure::Audience);
    }
    let expires_s = time("exp")?.ok_or(AuthFailure::Claims)?;
    let latest_s = expires_s.saturating_add(demands.leeway_s);
    if now_s >= latest_s {
        return Err(AuthFailure::Expired);
    }
    if time("nbf")?.is_some_and(|since_s| since_s > now_s.saturating_add(demands.leeway_s)) {
        return Err(AuthFailure::NotYet);
    }
    let subject = text("sub")?.filter(|subject| is_name(subject)).ok_or(AuthFailure::Claims)?;
    let id = text("jti")?;
    if id.as_ref().is_some_and(|id| !is_name(id)) {
        return Err(AuthFailure::Claims);
    }
    let rights = claims.raw(&demands.claim).ok_or(AuthFailure::Rights)?;
    let rights = Rights::from_json(rights).map_err(|_| AuthFailure::Rights)?;
    Ok(Identity {
        subject: subject.into(),
        // One that is taken in its last seconds, as clocks differ, is not closed at once.
        expires_s: Some(if now_s < expires_s { expires_s } else { latest_s }),
        way: Way::Token { id: id.map(Arc::from) },
        rights: Arc::new(rights),
    })
}

#[cfg(test)]
mod tests;
