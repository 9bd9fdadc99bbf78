use super::*;
use crate::access::keys::{Key, Set, Trust};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tickgate_protocol::Channel;

const NOW_S: i64 = 1_767_225_600;
const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

/// An issuer, with the tokens of a library that has nothing to do with what reads them.
struct Issuer {
    sign: EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    /// `SubjectPublicKeyInfo`, or the secret.
    public: Vec<u8>,
    ours: Algorithm,
}

impl Issuer {
    fn new(ours: Algorithm) -> Self {
        let (sign, public) = match ours.name() {
            "HS256" | "HS384" | "HS512" => (EncodingKey::from_secret(SECRET), SECRET.to_vec()),
            "ES256" | "ES384" => {
                let kind = if ours == Algorithm::Es256 {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::generate(kind).unwrap();
                let sign = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
                (sign, pair.public_key().as_der().unwrap().as_ref().to_vec())
            }
            "EdDSA" => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let sign = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
                (sign, pair.public_key().as_der().unwrap().as_ref().to_vec())
            }
            _ => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let sign = EncodingKey::from_rsa_der(&pkcs1(pair.as_der().unwrap().as_ref()));
                (sign, pair.public_key().as_der().unwrap().as_ref().to_vec())
            }
        };
        Self { sign, algorithm: ours.name().parse().unwrap(), public, ours }
    }

    fn key(&self, kid: Option<&str>) -> Key {
        match self.ours.is_shared() {
            true => Key::secret(kid, self.ours, &self.public).unwrap(),
            false => Key::public(kid, self.ours, &self.public).unwrap(),
        }
    }

    fn keys(&self) -> Keys {
        Keys::new(vec![self.key(None)])
    }

    fn token(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.sign).unwrap()
    }

    /// With a head and a body as they are written here.
    fn signs(&self, head: &str, body: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(body));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.sign, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// What stands in a PKCS#8 of an RSA key, behind its head of 26 bytes.
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    pkcs8[26..].to_vec()
}

fn demands() -> Demands {
    Demands {
        issuers: vec!["https://issuer.example".to_owned()],
        audiences: vec!["tickgate".to_owned(), "other-name".to_owned()],
        claim: "tickgate".to_owned(),
        leeway_s: 5,
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "tickgate", "sub": "ann", "jti": "7f3a",
        "exp": NOW_S + 600, "nbf": NOW_S - 10, "iat": NOW_S - 10,
        "tickgate": { "symbols": ["AAPL", "BTC*"], "channels": ["trades"] },
    })
}

/// With a claim changed, or taken out.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
        value => claims[name] = value,
    }
    claims
}

fn read_at(token: &str, keys: &Keys, now_s: i64) -> Result<Identity, AuthFailure> {
    read(token, &[keys, &Keys::default()], &demands(), now_s)
}

#[test]
fn tokens_of_every_algorithm_are_read() {
    for ours in Algorithm::ALL {
        let issuer = Issuer::new(*ours);
        let identity = read_at(&issuer.token(&claims()), &issuer.keys(), NOW_S).unwrap();
        assert_eq!((&*identity.subject, identity.expires_s), ("ann", Some(NOW_S + 600)), "{ours:?}");
        assert_eq!(identity.way, Way::Token { id: Some("7f3a".into()) });
        assert!(
            identity.rights.may(Channel::Trades, "BTCUSD") && !identity.rights.may(Channel::Trades, "ETH")
        );
        // Another key of the same algorithm has not signed it.
        if !ours.is_shared() {
            let other = Issuer::new(*ours);
            let failure = read_at(&issuer.token(&claims()), &other.keys(), NOW_S).unwrap_err();
            assert_eq!(failure, AuthFailure::Signature, "{ours:?}");
        }
    }
}

#[test]
fn what_may_be_otherwise_is_taken() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let keys = issuer.keys();
    for claims in [
        with("aud", json!(["someone", "other-name"])),
        with("jti", Value::Null),
        with("nbf", Value::Null),
        with("iat", json!("yesterday")),
        with("exp", json!(NOW_S - 4)),
        with("nbf", json!(NOW_S + 5)),
        with("exp", json!(u64::MAX)),
        with("scope", json!({ "a": [1, 2, { "b": null }] })),
    ] {
        assert!(read_at(&issuer.token(&claims), &keys, NOW_S).is_ok(), "{claims}");
    }
    for head in [
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","typ":"at+JWT"}"#,
        r#"{"alg":"EdDSA","typ":"application/jwt"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","kid":"any, as the key has no name"}"#,
        // Where it says that its key is counts for nothing.
        r#"{"alg":"EdDSA","jku":"https://evil.example/keys","x5u":"https://evil.example/c","jwk":{"kty":"oct","k":"AA"}}"#,
    ] {
        assert!(read_at(&issuer.signs(head, &claims().to_string()), &keys, NOW_S).is_ok(), "{head}");
    }
    // In its last seconds it is good for as long as clocks may differ.
    let late = read_at(&issuer.token(&with("exp", json!(NOW_S - 4))), &keys, NOW_S).unwrap();
    assert_eq!(late.expires_s, Some(NOW_S + 1));
}

/// T3: every one of them is refused, and none takes long.
#[test]
#[allow(clippy::too_many_lines)] // tidy: a table
fn forged_tokens_are_refused() {
    use AuthFailure as F;
    let (rsa, ec, ed, shared) = (
        Issuer::new(Algorithm::Rs256),
        Issuer::new(Algorithm::Es256),
        Issuer::new(Algorithm::EdDsa),
        Issuer::new(Algorithm::Hs256),
    );
    let all = Keys::new(vec![rsa.key(Some("r1")), ec.key(Some("e1")), ed.key(None)]);
    let body = claims().to_string();
    let good = ed.token(&claims());
    let [head, middle, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = |alg: &str| format!("{}.{middle}.", b64(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#)));
    // The public key, and its PEM, as the secret of HS256.
    let confused = |secret: &[u8]| {
        let message = format!("{}.{middle}", b64(r#"{"alg":"HS256","typ":"JWT","kid":"r1"}"#));
        let key = EncodingKey::from_secret(secret);
        let sign = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
        format!("{message}.{}", sign.unwrap())
    };
    use base64::engine::general_purpose::STANDARD;
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&rsa.public));
    let claim = |name: &str, value: Value| ed.token(&with(name, value));
    let headed = |head: &str| ed.signs(head, &body);
    // The last character of a signature of 64 bytes has two bits that mean nothing: set, it is another spelling of it.
    let mut other_spelling = good.clone().into_bytes();
    let last = other_spelling.last_mut().unwrap();
    *last = match *last {
        b'A' => b'B',
        b'Q' => b'R',
        b'g' => b'h',
        b'w' => b'x',
        odd => panic!("{odd}"),
    };
    let other_spelling = String::from_utf8(other_spelling).unwrap();
    let forged: Vec<(String, F)> = vec![
        (unsigned("none"), F::Algorithm),
        (unsigned("None"), F::Algorithm),
        (unsigned("NONE"), F::Algorithm),
        (unsigned("nOnE"), F::Algorithm),
        (unsigned(""), F::Algorithm),
        (unsigned("EdDSA"), F::Signature),
        (unsigned("eddsa"), F::Algorithm),
        (unsigned("ES512"), F::Algorithm),
        (confused(&rsa.public), F::UnknownKey),
        (confused(pem.as_bytes()), F::UnknownKey),
        (shared.token(&claims()), F::UnknownKey),
        // A signature of one key under the name of another, or of another algorithm.
        (ec.signs(r#"{"alg":"RS256","kid":"r1"}"#, &body), F::Signature),
        (rsa.signs(r#"{"alg":"PS256","kid":"r1"}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS384","kid":"r1"}"#, &body), F::UnknownKey),
        (ec.signs(r#"{"alg":"EdDSA"}"#, &body), F::Signature),
        (ec.signs(r#"{"alg":"ES256","kid":"r1"}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS256","kid":"r2"}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS256","kid":"../../../../dev/null"}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS256","kid":"r1' OR '1'='1"}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS256","kid":""}"#, &body), F::UnknownKey),
        (rsa.signs(r#"{"alg":"RS256","kid":7}"#, &body), F::Malformed),
        (rsa.signs(r#"{"alg":"RS256","kid":["r1"]}"#, &body), F::Malformed),
        (headed(r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#), F::Critical),
        (headed(r#"{"alg":"EdDSA","crit":[]}"#), F::Critical),
        (headed(r#"{"alg":"EdDSA","b64":false}"#), F::Critical),
        (headed(r#"{"alg":"EdDSA","alg":"none"}"#), F::Malformed),
        (headed(r#"{"alg":"none","alg":"EdDSA"}"#), F::Malformed),
        (headed(r#"{"alg":["EdDSA"]}"#), F::Malformed),
        (headed(r#"{"alg":null}"#), F::Malformed),
        (headed(r#"{"typ":"JWT"}"#), F::Algorithm),
        (headed(r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#), F::Malformed),
        (headed(r#"["EdDSA"]"#), F::Malformed),
        (headed("{"), F::Malformed),
        (claim("exp", Value::Null), F::Claims),
        (claim("exp", json!("9999999999")), F::Claims),
        (claim("exp", json!(NOW_S as f64 + 600.5)), F::Claims),
        (claim("exp", json!(1e300)), F::Claims),
        (claim("exp", json!(-1)), F::Claims),
        (claim("exp", json!([NOW_S + 600])), F::Claims),
        (claim("exp", json!(0)), F::Expired),
        (claim("exp", json!(NOW_S - 5)), F::Expired),
        (claim("nbf", json!(NOW_S + 6)), F::NotYet),
        (claim("nbf", json!(u64::MAX)), F::NotYet),
        (claim("nbf", json!("now")), F::Claims),
        (claim("aud", Value::Null), F::Claims),
        (claim("aud", json!("someone")), F::Audience),
        (claim("aud", json!(["someone", "Tickgate"])), F::Audience),
        (claim("aud", json!([])), F::Audience),
        (claim("aud", json!([["tickgate"]])), F::Claims),
        (claim("aud", json!({ "tickgate": true })), F::Claims),
        (claim("aud", json!(vec!["tickgate"; 17])), F::Audience),
        (claim("iss", Value::Null), F::Claims),
        (claim("iss", json!("https://issuer.example/")), F::Issuer),
        (claim("iss", json!(["https://issuer.example"])), F::Claims),
        (claim("sub", Value::Null), F::Claims),
        (claim("sub", json!("")), F::Claims),
        (claim("sub", json!("ann\n{\"op\":\"connect\"}")), F::Claims),
        (claim("sub", json!("a".repeat(257))), F::Claims),
        (claim("jti", json!(7)), F::Claims),
        (claim("tickgate", Value::Null), F::Rights),
        (claim("tickgate", json!("*")), F::Rights),
        (claim("tickgate", json!({ "symbols": ["*"], "until": 7 })), F::Rights),
        (ed.signs(r#"{"alg":"EdDSA"}"#, &body.replacen('{', r#"{"sub":"eve","#, 1)), F::Malformed),
        (ed.signs(r#"{"alg":"EdDSA"}"#, &body.replacen('{', r#"{"\u0073ub":"eve","#, 1)), F::Malformed),
        (ed.signs(r#"{"alg":"EdDSA"}"#, "[]"), F::Malformed),
        (ed.signs(r#"{"alg":"EdDSA"}"#, &"[".repeat(2_000)), F::Malformed),
        (format!("{head}.{}.{signature}", b64(&body.replace("ann", "eve"))), F::Signature),
        (format!("{head}.{middle}."), F::Signature),
        (format!("{head}.{middle}"), F::Malformed),
        (format!("{head}.{middle}.{signature}."), F::Malformed),
        (format!("{head}.{middle}.{signature}.{signature}"), F::Malformed),
        (format!("{head}.{middle}.{signature}=="), F::Malformed),
        (format!(" {good}"), F::Malformed),
        (format!("{good}\n"), F::Malformed),
        (other_spelling, F::Malformed),
        (good.replace('.', ".."), F::Malformed),
        ("..".to_owned(), F::Malformed),
        (format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)), F::TooLong),
        ("a.".repeat(1 << 19), F::TooLong),
    ];
    assert!(forged.len() >= 40);
    assert!(read_at(&good, &all, NOW_S).is_ok(), "what they were made of is good");
    for (token, failure) in &forged {
        let shown: String = token.chars().take(200).collect();
        assert_eq!(read_at(token, &all, NOW_S).err(), Some(*failure), "{shown}");
    }
}

#[test]
fn a_set_of_keys_is_read_and_what_cannot_be_used_is_left_out() {
    let issuer = Issuer::new(Algorithm::Es256);
    let point = &issuer.public[issuer.public.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    let good = json!({ "kty": "EC", "crv": "P-256", "kid": "e1", "use": "sig", "x": x, "y": y });
    let change = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let secret = json!({ "kty": "oct", "kid": "s1", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let keys = json!({ "keys": [
        good, change("use", json!("enc")), change("key_ops", json!(["sign"])), change("alg", json!("ES384")),
        change("crv", json!("P-521")), change("x", json!("AA")), change("y", json!(x)), change("alg", json!("RS256")),
        change("kid", json!("")), { "kty": "RSA", "n": "AQAB", "e": "AQAB" }, 7, {}, secret,
    ] });
    let parse = |keys: &Value, trust| Set::parse(keys.to_string().as_bytes(), Algorithm::ALL, trust);
    let set = parse(&keys, Trust::Url).unwrap();
    assert_eq!((set.keys.len(), set.left_out), (1, 12));
    let token = issuer.signs(r#"{"alg":"ES256","kid":"e1"}"#, &claims().to_string());
    assert!(read_at(&token, &Keys::new(set.keys), NOW_S).is_ok());
    // A secret is one in a file alone.
    assert_eq!(parse(&keys, Trust::File).unwrap().keys.len(), 2);
    assert!(parse(&json!({ "keys": [secret] }), Trust::Url).is_err());
    // Only what is allowed.
    assert!(
        Set::parse(json!({ "keys": [good] }).to_string().as_bytes(), &[Algorithm::EdDsa], Trust::Url)
            .is_err()
    );
    for bad in [json!({}), json!([]), json!({ "keys": {} }), json!({ "keys": vec![good.clone(); 65] })] {
        assert!(parse(&bad, Trust::Url).is_err());
    }
    assert!(Set::parse(&vec![b' '; (256 << 10) + 1], Algorithm::ALL, Trust::Url).is_err());

    let rsa = Issuer::new(Algorithm::Rs256);
    // Of the DER: the modulus stands behind 33 bytes, the exponent at the end.
    let (n, e) = (&rsa.public[33..33 + 256], &rsa.public[rsa.public.len() - 3..]);
    let key = |alg: Option<&str>| {
        let mut key = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
        if let Some(alg) = alg {
            key["alg"] = json!(alg);
        }
        Keys::new(parse(&json!({ "keys": [key] }), Trust::Url).unwrap().keys)
    };
    assert!(read_at(&rsa.token(&claims()), &key(None), NOW_S).is_ok());
    assert_eq!(
        read_at(&rsa.token(&claims()), &key(Some("PS256")), NOW_S).err(),
        Some(AuthFailure::UnknownKey)
    );
    let ed = Issuer::new(Algorithm::EdDsa);
    let x = URL_SAFE_NO_PAD.encode(&ed.public[ed.public.len() - 32..]);
    let set = parse(&json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }), Trust::Url).unwrap();
    assert!(read_at(&ed.token(&claims()), &Keys::new(set.keys), NOW_S).is_ok());
}

#[test]
fn files_of_keys_are_for_one_algorithm() {
    use base64::engine::general_purpose::STANDARD;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
    };
    let (ec, rsa) = (Issuer::new(Algorithm::Es256), Issuer::new(Algorithm::Rs256));
    let weak = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ec_file = write("ec.pem", &pem("PUBLIC KEY", &ec.public));
    let rsa_file = write("rsa.pem", &pem("PUBLIC KEY", &rsa.public));
    let secret = write("secret", &[SECRET, b"\n"].concat());
    let (short, garbage) = (write("short", b"too short"), write("garbage", &pem("PUBLIC KEY", b"x")));
    let private = write("private.pem", &pem("PRIVATE KEY", weak.as_der().unwrap().as_ref()));
    let read = |entry: &str| Key::from_entry(entry, Algorithm::ALL);
    for good in [
        format!("ES256:{ec_file}"),
        format!("ES256#e1:{ec_file}"),
        format!("PS512:{rsa_file}"),
        format!("HS256:{secret}"),
    ] {
        assert!(read(&good).is_ok(), "{good}");
    }
    for (bad, what) in [
        (format!("ES384:{ec_file}"), "no public key for ES384"),
        (format!("EdDSA:{ec_file}"), "no public key for EdDSA"),
        (format!("RS256:{ec_file}"), "no public key of RSA"),
        // Key confusion, by configuration.
        (format!("HS256:{rsa_file}"), "holds a public key, and HS256 is for secrets"),
        (format!("ES256:{secret}"), "no PEM"),
        (format!("HS256:{short}"), "a secret of 9 bytes"),
        (format!("ES256:{garbage}"), "no public key"),
        (format!("RS256:{private}"), "not of `PRIVATE KEY`"),
        ("ES256:/no such file".to_owned(), "cannot be read"),
        ("ES256".to_owned(), "must be ALGORITHM:path"),
        (format!("ES256#:{ec_file}"), "must be ALGORITHM:path"),
        (format!("none:{ec_file}"), "names no algorithm"),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(error.contains(what), "{bad}: {error}");
        assert!(!error.contains("too short"), "{error}");
    }
    assert!(
        Key::from_entry(&format!("ES256:{ec_file}"), &[Algorithm::EdDsa])
            .unwrap_err()
            .contains("auth.algorithms")
    );
    assert_eq!(format!("{:?}", read(&format!("HS256#s:{secret}")).unwrap()), "Key(HS256, Some(\"s\"))");
}

#[test]
fn old_and_new_keys_hold_side_by_side() {
    let (old, new) = (Issuer::new(Algorithm::EdDsa), Issuer::new(Algorithm::EdDsa));
    let both = Keys::new(vec![old.key(Some("2025")), new.key(Some("2026"))]);
    let token = |issuer: &Issuer, kid: &str| {
        issuer.signs(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), &claims().to_string())
    };
    assert!(read_at(&token(&old, "2025"), &both, NOW_S).is_ok());
    assert!(read_at(&token(&new, "2026"), &both, NOW_S).is_ok());
    assert_eq!(read_at(&token(&new, "2025"), &both, NOW_S).err(), Some(AuthFailure::Signature));
    assert_eq!(read_at(&token(&new, "2027"), &both, NOW_S).err(), Some(AuthFailure::UnknownKey));
    // Which of the two is meant has to be said.
    assert_eq!(read_at(&new.token(&claims()), &both, NOW_S).err(), Some(AuthFailure::UnknownKey));
    let one = Keys::new(vec![new.key(Some("2026"))]);
    assert!(read_at(&new.token(&claims()), &one, NOW_S).is_ok());
    // As when one set is of a file, and the other was fetched.
    let (first, second) = (Keys::new(vec![old.key(Some("2025"))]), Keys::new(vec![new.key(Some("2026"))]));
    assert!(read(&token(&new, "2026"), &[&first, &second], &demands(), NOW_S).is_ok());
}
