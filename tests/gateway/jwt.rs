//! Signed tokens: what lets a caller in, what does not, and how keys come and go.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING};
use serde_json::{Value, json};

use crate::support::backend::{self, Backend};
use crate::support::callers::{granted, refused};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::tokens::{ISSUER, Private, Publication, Publisher, claims, encode, now};
use crate::support::websocket::Socket;

const NOTHING: &str = "Bearer realm=\"portico\"";
const WRONG: &str = "Bearer realm=\"portico\", error=\"invalid_token\"";

struct Site {
    _backend: Backend,
    gateway: TestGateway,
}

impl Site {
    /// A gateway with one provider of that configuration, which every method asks for.
    async fn start(provider: &str) -> Self {
        let site = Self::unready(provider).await;
        site.gateway.ready().await;
        site
    }

    async fn unready(provider: &str) -> Self {
        let backend = backend::start().await;
        let text = format!(
            "{}authentication:
  jwt: [ {{ name: staff, issuer: \"{ISSUER}\", {provider} }} ]
policies: [ {{ match: \"*\", authenticate: staff }} ]\n",
            upstream("echo", backend.address)
        );
        Self { gateway: TestGateway::start(&text).await, _backend: backend }
    }

    /// With the keys of that publisher.
    async fn with(publisher: &Publisher, more: &str) -> Self {
        Self::start(&format!("audiences: [api], jwks: {{ url: \"{}\", {more} }}", publisher.url())).await
    }

    /// With these keys alone.
    async fn fixed(keys: &[Value], more: &str) -> Self {
        let set = json!({"keys": keys}).to_string();
        Self::start(&format!("audiences: [api], jwks: {{ inline: {set:?} }}, {more}")).await
    }
}

/// The status of a call with a token.
async fn status(client: &mut Client, token: &str) -> u16 {
    let headers = [("authorization", &*format!("Bearer {token}"))];
    client.send(request(http::Method::GET, "/test/v1/say/hi", &headers, "")).await.status.as_u16()
}

#[tokio::test]
async fn good_tokens_of_another_library_let_their_callers_in_by_every_protocol() {
    let good: Value = serde_json::from_str(include_str!("authentication/good.json")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let set = good["jwks"].to_string();
    let site = Site::start(&format!("audiences: [api], jwks: {{ inline: {set:?} }}")).await;

    let tokens = good["tokens"].as_array().expect("tokens");
    assert!(tokens.len() >= 24, "{} tokens", tokens.len());
    for token in tokens {
        let value = format!("Bearer {}", text(&token["token"]));
        granted(&site.gateway, &[("authorization", &value)], &text(&token["name"])).await;
    }
    refused(&site.gateway, &[], NOTHING, "nothing").await;

    let secret = format!(
        "audiences: [api], secret: {{ base64: {:?} }}, algorithms: [HS256, HS384, HS512]",
        text(&good["secret"])
    );
    let site = Site::start(&secret).await;
    for token in good["shared"].as_array().expect("tokens") {
        let value = format!("Bearer {}", text(&token["token"]));
        granted(&site.gateway, &[("authorization", &value)], &text(&token["name"])).await;
    }
    let site = Site::start(&format!("audiences: [api], jwks: {{ inline: {:?} }}", text(&good["pem"]))).await;
    granted(&site.gateway, &[("authorization", &format!("Bearer {}", text(&good["byPem"])))], "PEM").await;
}

/// What a token is called, and the token.
type Bad = Vec<(&'static str, String)>;

/// Makes tokens of which none may let anybody in, though each is one step from one that would.
struct Forger<'k> {
    rsa: &'k Private,
    ec: &'k Private,
    ed: &'k Private,
}

#[allow(clippy::needless_pass_by_value, reason = "so that tests can write it down in place")]
fn header(other: Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": "ec"});
    for (name, value) in other.as_object().into_iter().flatten() {
        header[name] = value.clone();
    }
    header.to_string()
}

fn good_claims() -> String {
    claims(json!({})).to_string()
}

impl Forger<'_> {
    fn all(&self) -> Bad {
        [self.algorithms(), self.keys(), self.headers(), self.claims(), self.forms()].concat()
    }

    /// By no algorithm, or by one that is not the key's.
    fn algorithms(&self) -> Bad {
        let mut bad = Bad::new();
        let rsa = self.rsa;
        let ec = self.ec;
        let weak = Private::Secret(b"secret".to_vec());
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            bad.push(("alg none, no signature", Private::Nothing.token(&header(json!({"alg": alg})), &good_claims())));
            bad.push(("alg none, good signature", ec.token(&header(json!({"alg": alg})), &good_claims())));
        }
        let public = rsa.jwk("rsa");
        let forms = [public["n"].as_str().expect("text").as_bytes().to_vec(), public.to_string().into_bytes()];
        for form in forms {
            let secret = Private::Secret(form);
            bad.push((
                "HS256 with the public key",
                secret.token(&header(json!({"alg": "HS256", "kid": "rsa"})), &good_claims()),
            ));
        }
        bad.push((
            "HS256 with an empty secret",
            Private::Secret(vec![0]).token(&header(json!({"alg": "HS256"})), &good_claims()),
        ));
        bad.push(("HS256 with a weak secret", weak.token(r#"{"alg":"HS256"}"#, &good_claims())));
        bad.push(("the algorithm of another key", ec.token(&header(json!({"alg": "RS256"})), &good_claims())));
        bad.push((
            "another algorithm of the key's type",
            rsa.token(&header(json!({"alg": "RS512", "kid": "rsa"})), &good_claims()),
        ));
        bad.push((
            "an algorithm that the key excludes",
            rsa.token(&header(json!({"alg": "PS256", "kid": "rsa"})), &good_claims()),
        ));
        bad.push(("a wrong curve", ec.token(&header(json!({"alg": "ES384"})), &good_claims())));
        bad.push(("ES256K", ec.token(&header(json!({"alg": "ES256K"})), &good_claims())));
        bad.push(("an algorithm in lower case", ec.token(&header(json!({"alg": "es256"})), &good_claims())));
        bad.push(("an algorithm that is no text", ec.token(&header(json!({"alg": ["ES256"]})), &good_claims())));
        bad.push(("no algorithm", ec.token(r#"{"kid":"ec"}"#, &good_claims())));
        bad
    }

    /// By keys that are none of the issuer's.
    fn keys(&self) -> Bad {
        let mut bad = Bad::new();
        let ec = self.ec;
        let ed = self.ed;
        let stranger = Private::p256();
        bad.push(("a stranger's signature", stranger.token(&header(json!({})), &good_claims())));
        bad.push(("an embedded key", stranger.token(&header(json!({"jwk": stranger.jwk("ec")})), &good_claims())));
        bad.push((
            "an embedded key alone",
            stranger.token(&json!({"alg": "ES256", "jwk": stranger.jwk("x")}).to_string(), &good_claims()),
        ));
        for name in ["jku", "x5u"] {
            let elsewhere = header(json!({(name): "http://127.0.0.1:1/keys", "kid": "elsewhere"}));
            bad.push(("a key that is elsewhere", stranger.token(&elsewhere, &good_claims())));
        }
        bad.push(("an embedded certificate", stranger.token(&header(json!({"x5c": ["MIIB"]})), &good_claims())));
        for kid in
            ["../../../../dev/null", "ec' OR '1'='1", "ec\u{0}", "EC", "ec ", "", "/jwks.json", "http://127.0.0.1:1/"]
        {
            bad.push(("a kid that is none", ec.token(&header(json!({"kid": kid})), &good_claims())));
        }
        for kid in [json!(1), json!(["ec"]), json!({"ec": 1}), json!(null)] {
            bad.push(("a kid of a wrong type", ec.token(&header(json!({"kid": kid})), &good_claims())));
        }
        bad.push(("the kid of another key", ec.token(&header(json!({"kid": "ed"})), &good_claims())));
        bad.push(("a key of 1024 bits", ed.token(&header(json!({"alg": "RS256", "kid": "weak"})), &good_claims())));
        bad.push(("a key for encryption", ec.token(&header(json!({"kid": "enc"})), &good_claims())));
        bad
    }

    /// With headers that say too much.
    fn headers(&self) -> Bad {
        let mut bad = Bad::new();
        let ec = self.ec;
        for critical in [json!(["exp"]), json!([]), json!(["b64"]), json!("x")] {
            bad.push(("crit", ec.token(&header(json!({"crit": critical, "b64": true})), &good_claims())));
        }
        bad.push(("b64", ec.token(&header(json!({"b64": false})), &good_claims())));
        bad.push(("zip", ec.token(&header(json!({"zip": "DEF"})), &good_claims())));
        bad.push(("a header twice", ec.token(r#"{"alg":"ES256","kid":"ec","alg":"ES256"}"#, &good_claims())));
        bad.push(("a header that is a list", ec.token(r#"["ES256"]"#, &good_claims())));
        bad.push(("a header that is no JSON", ec.token("ES256", &good_claims())));
        bad
    }

    /// With claims that are not those of this place and time.
    fn claims(&self) -> Bad {
        let mut bad = Bad::new();
        let ec = self.ec;
        let with = |other: Value| ec.token(&header(json!({})), &claims(other).to_string());
        let raw = |text: &str| {
            let open = good_claims();
            ec.token(&header(json!({})), &format!("{},{text}}}", open.trim_end_matches('}')))
        };
        bad.push(("a claim twice", raw("\"sub\":\"ann\"")));
        bad.push(("an audience twice", raw("\"aud\":\"api\"")));
        bad.push(("an expiry twice, escaped", raw(&format!("\"\\u0065xp\":{}", now() + 9999))));
        bad.push(("a nested claim twice", raw("\"a\":{\"b\":1,\"b\":2}")));
        bad.push(("no issuer", with(json!({"iss": null}))));
        for issuer in [
            json!("https://issuer.example.com/"),
            json!("https://ISSUER.example.com"),
            json!([ISSUER]),
            json!(""),
            json!("issuer"),
        ] {
            bad.push(("a wrong issuer", with(json!({"iss": issuer}))));
        }
        bad.push(("no audience", with(json!({"aud": null}))));
        for audience in [
            json!("other"),
            json!("API"),
            json!("api "),
            json!([]),
            json!(["other"]),
            json!([["api"]]),
            json!({"api": 1}),
            json!(["api", 1]),
            json!(true),
            json!("other api"),
        ] {
            bad.push(("a wrong audience", with(json!({"aud": audience}))));
        }
        bad.push(("no expiry", with(json!({"exp": null}))));
        for expiry in [
            json!(now() - 3600),
            json!(now() - 31),
            json!(0),
            json!(-1),
            json!(now().to_string()),
            json!("4102444800"),
            json!(true),
            json!([4_102_444_800_i64]),
            json!({}),
            json!(i64::MIN),
            json!(1e300),
            json!(-1e300),
            json!((now() + 3600) * 1000),
            json!(u64::MAX),
            json!(0.5),
        ] {
            bad.push(("a wrong expiry", with(json!({"exp": expiry}))));
        }
        bad.push(("an expiry beyond all numbers", raw("\"nbf\":1e999")));
        for start in [json!(now() + 3600), json!(now() + 120), json!("0"), json!(u64::MAX), json!(1e300), json!(false)]
        {
            bad.push(("a wrong start", with(json!({"nbf": start}))));
            bad.push(("a wrong time of issue", with(json!({"iat": start}))));
        }
        for text in ["", "null", "[]", "\"x\"", "{", "{}"] {
            bad.push(("claims that are none", ec.token(&header(json!({})), text)));
        }
        let deep = format!("\"a\":{}1{}", "[".repeat(500), "]".repeat(500));
        bad.push(("claims that are nested deeply", raw(&deep)));
        bad
    }

    /// In another form.
    fn forms(&self) -> Bad {
        let mut bad = Bad::new();
        let ec = self.ec;
        let good = ec.token(&header(json!({})), &good_claims());
        let parts: Vec<&str> = good.split('.').collect();
        let changed = encode(claims(json!({"sub": "eve"})).to_string().as_bytes());
        bad.push(("changed claims", format!("{}.{changed}.{}", parts[0], parts[2])));
        bad.push((
            "changed header",
            format!("{}.{}.{}", encode(header(json!({"x": 1})).as_bytes()), parts[1], parts[2]),
        ));
        bad.push(("no signature", format!("{}.{}.", parts[0], parts[1])));
        bad.push(("two parts", format!("{}.{}", parts[0], parts[1])));
        bad.push(("two dots", format!("{}..{}.{}", parts[0], parts[1], parts[2])));
        bad.push(("dots alone", "..".to_owned()));
        bad.push(("four parts", format!("{good}.{}", parts[2])));
        bad.push(("five parts", format!("{good}.{}.{}", parts[1], parts[2])));
        bad.push(("padding", format!("{good}==")));
        bad.push((
            "standard base64",
            format!("{}.{}.{}", parts[0], parts[1], parts[2].replace('-', "+").replace('_', "/") + "+"),
        ));
        bad.push(("half a signature", good.get(..good.len() - 43).expect("ASCII").to_owned()));
        bad.push(("a signature twice", format!("{good}{}", parts[2])));
        bad.push(("a signature of zeros", format!("{}.{}.{}", parts[0], parts[1], encode(&[0; 64]))));
        bad.push((
            "a signature in DER",
            format!("{}.{}.{}", parts[0], parts[1], encode(&[0x30, 0x06, 2, 1, 1, 2, 1, 1])),
        ));
        bad.push((
            "JSON",
            json!({"payload": parts[1], "signature": parts[2], "protected": parts[0]}).to_string().replace('"', "'"),
        ));
        bad.push(("too long", ec.token(&header(json!({})), &claims(json!({"pad": "x".repeat(13_000)})).to_string())));
        bad.push(("a space inside", good.replacen('.', " .", 1)));
        bad.push(("another scheme inside", format!("Bearer {good}")));
        bad
    }
}

#[tokio::test]
async fn bad_tokens_are_refused_alike_by_every_protocol() {
    let (rsa, ec, ed) = (Private::rsa(), Private::p256(), Private::ed25519());
    let mut restricted = rsa.jwk("rsa");
    restricted["alg"] = json!("RS256");
    let mut encrypting = ec.jwk("enc");
    encrypting["use"] = json!("enc");
    let weak = json!({"kty": "RSA", "kid": "weak", "n": encode(&[0xff; 128]), "e": "AQAB"});
    let keys = [restricted, ec.jwk("ec"), ed.jwk("ed"), encrypting, weak];
    let site = Site::fixed(&keys, "").await;
    // What each of them is one step from.
    for (key, alg, kid) in [(&rsa, "RS256", "rsa"), (&ec, "ES256", "ec"), (&ed, "EdDSA", "ed")] {
        granted(&site.gateway, &[("authorization", &format!("Bearer {}", key.good(alg, kid)))], kid).await;
    }

    let bad = Forger { rsa: &rsa, ec: &ec, ed: &ed }.all();
    assert!(bad.len() >= 60, "{} tokens", bad.len());
    for (name, token) in &bad {
        refused(&site.gateway, &[("authorization", &format!("Bearer {token}"))], WRONG, &format!("{name}: {token}"))
            .await;
    }
}

#[tokio::test]
async fn keys_of_every_curve_are_told_apart() {
    let p384 = Private::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    let p521 = Private::ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521");
    let p256 = Private::p256();
    let site = Site::fixed(&[p384.jwk("k"), p521.jwk("k"), p256.jwk("k")], "").await;
    let mut client = site.gateway.client(Version::Http2).await;

    for (key, alg) in [(&p256, "ES256"), (&p384, "ES384"), (&p521, "ES512")] {
        assert_eq!(status(&mut client, &key.good(alg, "k")).await, 200, "{alg}");
    }
    for (key, alg) in [(&p256, "ES384"), (&p384, "ES512"), (&p521, "ES256")] {
        assert_eq!(status(&mut client, &key.good(alg, "k")).await, 401, "{alg}");
    }
    // A curve's name and its point must agree, and the point must be on it.
    let mut lying = p384.jwk("k");
    lying["crv"] = json!("P-256");
    let mut off = p256.jwk("k");
    off["y"] = off["x"].clone();
    let set = json!({"keys": [lying, off]}).to_string();
    let text = format!(
        "upstreams: [ {{ name: a, endpoints: [\"127.0.0.1:1\"] }} ]
authentication: {{ jwt: [ {{ name: a, issuer: b, audiences: [c], jwks: {{ inline: {set:?} }} }} ] }}"
    );
    let errors = portico::config::from_str(&text, "test.yaml", std::path::Path::new("")).expect_err("no key is good");
    assert!(errors.to_string().contains("it has no key that can be used"), "{errors}");
}

#[tokio::test]
async fn a_token_is_found_where_it_was_said_to_be() {
    let key = Private::p256();
    let token = key.good("ES256", "k");
    let site = Site::fixed(&[key.jwk("k")], "header: x-token, cookie: session, query: access_token").await;

    granted(&site.gateway, &[("x-token", &token)], "a header").await;
    granted(&site.gateway, &[("cookie", &format!("a=b; session={token}"))], "a cookie").await;
    refused(&site.gateway, &[("authorization", &format!("Bearer {token}"))], NOTHING, "another place").await;
    let mut client = site.gateway.client(Version::Http1).await;
    let reply = client.get(&format!("/test/v1/say/hi?access_token={token}&behaviour.count=1")).await;
    assert_eq!(reply.status.as_u16(), 200, "{reply:?}");
    for version in Version::BOTH {
        Socket::open(site.gateway.address, version, &format!("/test/v1/repeat/hi?access_token={token}"), &[]).await;
    }
}

#[tokio::test]
async fn a_websocket_brings_its_token_as_a_subprotocol() {
    let key = Private::p256();
    let site = Site::fixed(&[key.jwk("k")], "").await;
    for version in Version::BOTH {
        for (token, opens) in [(key.good("ES256", "k"), true), (Private::p256().good("ES256", "k"), false)] {
            let protocols = format!("Bearer, {token}");
            let asked = Socket::ask(
                site.gateway.address,
                version,
                "/test/v1/repeat/hi",
                &[("sec-websocket-protocol", &protocols)],
            )
            .await;
            match asked {
                Ok(_) => assert!(opens),
                Err(refusal) => assert_eq!((refusal.status, opens), (401, false)),
            }
        }
    }
}

#[tokio::test]
async fn types_algorithms_and_leeway_are_what_the_configuration_says() {
    let (ec, ed) = (Private::p256(), Private::ed25519());
    let keys = [ec.jwk("ec"), ed.jwk("ed")];
    let typed = |kind: &str| {
        ec.token(&json!({"alg": "ES256", "kid": "ec", "typ": kind}).to_string(), &claims(json!({})).to_string())
    };
    let site = Site::fixed(&keys, "types: [at+jwt], algorithms: [ES256], leeway: 0s").await;
    let mut client = site.gateway.client(Version::Http2).await;

    assert_eq!(status(&mut client, &typed("at+jwt")).await, 200);
    assert_eq!(status(&mut client, &typed("application/AT+JWT")).await, 200);
    assert_eq!(status(&mut client, &typed("JWT")).await, 401);
    assert_eq!(status(&mut client, &ec.good("ES256", "ec")).await, 401, "a type is asked for");
    let site = Site::fixed(&keys, "algorithms: [ES256], leeway: 5m").await;
    let mut client = site.gateway.client(Version::Http2).await;
    assert_eq!(status(&mut client, &ed.good("EdDSA", "ed")).await, 401, "that algorithm is not allowed");
    let late =
        ec.token(r#"{"alg":"ES256","kid":"ec"}"#, &claims(json!({"exp": now() - 200, "nbf": now() + 200})).to_string());
    assert_eq!(status(&mut client, &late).await, 200, "within the leeway");
}

#[tokio::test]
async fn a_gateway_is_ready_once_the_keys_are_there() {
    let key = Private::p256();
    let publisher = Publisher::start(Publication { status: "503 Service Unavailable", ..Publication::keys(&[]) }).await;
    let site =
        Site::unready(&format!("audiences: [api], jwks: {{ url: \"{}\", min_interval: 100ms }}", publisher.url()))
            .await;
    let mut client = site.gateway.client(Version::Http2).await;
    site.gateway
        .metric_reaches("portico_authentication_key_fetches_total{provider=\"staff\",outcome=\"failure\"}", 1.0)
        .await;

    let ready = site.gateway.operator("/readyz").await;
    assert_eq!(ready.status.as_u16(), 503);
    assert!(String::from_utf8_lossy(&ready.body).contains("no keys for provider staff"), "{ready:?}");
    let early = client
        .send(request(http::Method::POST, "/portico.test.v1.Echo/Say", &[("content-type", "application/json")], "{}"))
        .await;
    assert!([401, 503].contains(&early.status.as_u16()), "{early:?}");

    publisher.answer(Publication::keys(&[key.jwk("k")]));
    site.gateway.ready().await;
    assert_eq!(status(&mut client, &key.good("ES256", "k")).await, 200);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_fetched_once_and_kept_when_the_issuer_is_away() {
    let (first, second) = (Private::p256(), Private::p256());
    let publisher = Publisher::start(Publication::keys(&[first.jwk("1")])).await;
    let site = Site::with(&publisher, "min_interval: 300ms").await;
    let mut client = site.gateway.client(Version::Http2).await;
    assert_eq!(status(&mut client, &first.good("ES256", "1")).await, 200);
    assert_eq!(publisher.requests(), 1);

    publisher.answer(Publication::keys(&[first.jwk("1"), second.jwk("2")]));
    let arrives = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while status(&mut client, &second.good("ES256", "2")).await != 200 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrives).await.expect("the new key is found");
    assert_eq!(publisher.requests(), 2, "one more fetch, however many calls asked");

    publisher.answer(Publication { status: "500 Internal Server Error", ..Publication::keys(&[]) });
    assert_eq!(status(&mut client, &Private::p256().good("ES256", "3")).await, 401);
    site.gateway.metric_reaches("portico_authentication_keys_stale{provider=\"staff\"}", 1.0).await;
    assert_eq!(status(&mut client, &first.good("ES256", "1")).await, 200, "the old keys stay");
    assert_eq!(site.gateway.metric("portico_authentication_keys{provider=\"staff\"}").await, 2.0);
    assert_eq!(site.gateway.operator("/readyz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_key_that_is_taken_back_lets_nobody_in_any_more_and_others_stay_verified() {
    let (first, second) = (Private::p256(), Private::p256());
    let publisher = Publisher::start(Publication::keys(&[first.jwk("1"), second.jwk("2")])).await;
    let site = Site::with(&publisher, "min_interval: 100ms, refresh: 100ms").await;
    let mut client = site.gateway.client(Version::Http2).await;
    let (one, two) = (first.good("ES256", "1"), second.good("ES256", "2"));
    assert_eq!((status(&mut client, &one).await, status(&mut client, &two).await), (200, 200));

    publisher.answer(Publication::keys(&[second.jwk("2")]));
    let gone = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while status(&mut client, &one).await != 401 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the key is forgotten");
    assert_eq!(status(&mut client, &two).await, 200);
}

#[tokio::test]
async fn ten_thousand_unknown_keys_are_one_fetch_for_each_floor() {
    let key = Private::p256();
    let publisher = Publisher::start(Publication::keys(&[key.jwk("k")])).await;
    let site = Site::with(&publisher, "min_interval: 1s").await;
    let started = tokio::time::Instant::now();
    let header = |kid: usize| format!("{{\"alg\":\"ES256\",\"kid\":\"random-{kid}\"}}");
    let claims = claims(json!({})).to_string();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..10 {
        let tokens: Vec<String> =
            (0..1000).map(|number| Private::Nothing.token(&header(worker * 1000 + number), &claims)).collect();
        let address = site.gateway.address;
        tasks.spawn(async move {
            let mut client = Client::connect(address, Version::Http2).await;
            for token in tokens {
                assert_eq!(status(&mut client, &token).await, 401);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }

    let floors = usize::try_from(started.elapsed().as_secs()).expect("few") + 2;
    assert!(publisher.requests() <= floors, "{} fetches in {floors} floors", publisher.requests());
    assert!(publisher.requests() >= 2, "an unknown key is looked for");
    let mut client = site.gateway.client(Version::Http2).await;
    assert_eq!(status(&mut client, &key.good("ES256", "k")).await, 200);
}

#[tokio::test]
async fn a_slow_or_hostile_issuer_holds_nobody_up() {
    let key = Private::p256();
    let good = Publication::keys(&[key.jwk("k")]);
    let publisher = Publisher::start(good.clone()).await;
    let site = Site::with(&publisher, "min_interval: 100ms, timeout: 3s").await;
    let mut client = site.gateway.client(Version::Http2).await;
    let elsewhere = format!("location: {}\r\n", publisher.url());
    for (what, answer) in [
        ("a redirect", Publication { status: "302 Found", headers: elsewhere, ..good.clone() }),
        ("too much", Publication { body: " ".repeat(2 << 20), ..good.clone() }),
        ("no JSON", Publication { body: "<html>".into(), ..good.clone() }),
        ("no keys", Publication::keys(&[])),
        ("keys twice", Publication { body: format!("{{\"keys\":[],\"keys\":[{}]}}", key.jwk("x")), ..good.clone() }),
        ("silence", Publication { delay: Duration::from_secs(60), ..good.clone() }),
    ] {
        publisher.answer(answer);
        let failures = "portico_authentication_key_fetches_total{provider=\"staff\",outcome=\"failure\"}";
        let before = site.gateway.metric(failures).await;
        let started = tokio::time::Instant::now();
        let unknown = status(&mut client, &Private::p256().good("ES256", "unknown")).await;
        let known = status(&mut client, &key.good("ES256", "k")).await;

        assert_eq!((unknown, known), (401, 200), "{what}");
        // A second is how long a call waits; the rest is for slow machines.
        assert!(started.elapsed() < Duration::from_secs(15), "{what}: {:?}", started.elapsed());
        site.gateway.metric_reaches(failures, before + 1.0).await;
    }
}
