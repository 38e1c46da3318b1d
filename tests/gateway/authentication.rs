//! Who calls: what each way of proving it lets through and refuses, with equal answers in every protocol.

use aws_lc_rs::digest::{SHA256, digest};
use portico::pb::grpc::health::v1::HealthCheckRequest;

use crate::support::backend::{self, Backend};
use crate::support::callers::{everywhere, granted, refused};
use crate::support::client::{Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Raw, framed};
use crate::support::rest::seen;

const NO_KEY: &str = "ApiKey realm=\"portico\"";
const WRONG_KEY: &str = "ApiKey realm=\"portico\", error=\"invalid_token\"";

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn keys(keys: &[(&str, &str)]) -> String {
    let entry = |(name, key): &(&str, &str)| format!("  - {{ name: {name}, hash: \"sha256:{}\" }}\n", sha256(key));
    format!("keys:\n{}", keys.iter().map(entry).collect::<String>())
}

/// A gateway with files of credentials beside it.
struct Site {
    folder: tempfile::TempDir,
    _backend: Backend,
    gateway: TestGateway,
}

impl Site {
    /// Starts with these files; in the text, `FOLDER` stands for where they are.
    async fn start(files: &[(&str, &str)], text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, contents) in files {
            std::fs::write(folder.path().join(name), contents).expect("a file");
        }
        let backend = backend::start().await;
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        let gateway = TestGateway::start(&format!("{}{text}\n", upstream("echo", backend.address))).await;
        gateway.ready().await;
        Self { folder, _backend: backend, gateway }
    }

    /// With two providers of API keys and these policies.
    async fn with_keys(policies: &str) -> Self {
        let files = [("partners.yaml", &*keys(&[("acme", "k-acme")])), ("staff.yaml", &*keys(&[("ann", "k-ann")]))];
        let text = format!(
            "authentication:
  api_keys:
    - {{ name: partners, file: FOLDER/partners.yaml, query: api_key, cookie: key }}
    - {{ name: staff, file: FOLDER/staff.yaml, header: x-staff-key }}
policies:
{policies}"
        );
        Self::start(&files, &text).await
    }

    fn write(&self, name: &str, contents: &str) {
        std::fs::write(self.folder.path().join(name), contents).expect("a file");
    }
}

#[tokio::test]
async fn a_key_lets_its_caller_in_by_every_protocol() {
    let site = Site::with_keys("- { match: \"*\", authenticate: partners }").await;

    granted(&site.gateway, &[("x-api-key", "k-acme")], "the key").await;
    granted(&site.gateway, &[("cookie", "a=b; key=k-acme")], "a cookie").await;
    refused(&site.gateway, &[], NO_KEY, "nothing").await;
    refused(&site.gateway, &[("authorization", "Bearer k-acme")], NO_KEY, "another place").await;
    for wrong in ["k-ann", "K-ACME", "k-acme2", ""] {
        refused(&site.gateway, &[("x-api-key", wrong)], WRONG_KEY, wrong).await;
    }
    refused(&site.gateway, &[("x-api-key", "k-acme"), ("x-api-key", "k-acme")], WRONG_KEY, "twice").await;
}

#[tokio::test]
async fn any_all_optional_and_none_say_what_is_enough() {
    let partner = ("x-api-key", "k-acme");
    let staff = ("x-staff-key", "k-ann");
    let (wrong_partner, wrong_staff) = (("x-api-key", "x"), ("x-staff-key", "x"));
    // For each combination of credentials: 0 for granted, 1 for missing, 2 for wrong.
    let table: [(&str, [u8; 7]); 8] = [
        ("partners", [1, 0, 1, 0, 2, 0, 2]),
        ("[partners, staff]", [1, 0, 0, 0, 2, 0, 0]),
        ("{ any_of: [partners, staff] }", [1, 0, 0, 0, 2, 0, 0]),
        ("{ all_of: [partners, staff] }", [1, 1, 1, 0, 2, 2, 2]),
        ("{ optional: partners }", [0, 0, 0, 0, 2, 0, 2]),
        ("{ optional: { all_of: [partners, staff] } }", [0, 0, 0, 0, 2, 2, 2]),
        ("{ all_of: [staff, [partners, staff]] }", [1, 1, 0, 0, 2, 2, 0]),
        ("none", [0, 0, 0, 0, 0, 0, 0]),
    ];
    let shown: [&[(&str, &str)]; 7] = [
        &[],
        &[partner],
        &[staff],
        &[partner, staff],
        &[wrong_partner],
        &[partner, wrong_staff],
        &[wrong_partner, staff],
    ];
    for (rule, expected) in table {
        let site = Site::with_keys(&format!("- {{ match: \"*\", authenticate: {rule} }}")).await;
        for (headers, expected) in shown.iter().zip(expected) {
            for (name, outcome) in everywhere(&site.gateway, headers).await {
                let verdict = match (outcome.code, outcome.challenge.as_deref()) {
                    (0, None) => 0,
                    (16, Some(NO_KEY)) => 1,
                    (16, Some(WRONG_KEY)) => 2,
                    other => unreachable!("{other:?} {outcome:?}"),
                };
                assert_eq!(verdict, expected, "{rule} {headers:?} {name}");
            }
        }
    }
}

#[tokio::test]
async fn the_most_specific_policy_says_what_a_method_asks_for() {
    let site = Site::with_keys(
        "- { match: \"*\", authenticate: partners }
- { match: \"portico.test.v1.Echo/*\", authenticate: staff }
- { match: portico.test.v1.Echo/Say, authenticate: none }
- { match: portico.test.v1.Echo/Repeat, timeout: { stream_idle: 1m } }",
    )
    .await;
    let mut client = site.gateway.client(Version::Http2).await;
    let mut raw = Raw::connect(site.gateway.address).await;

    let say = client.get("/test/v1/say/hi").await;
    let repeat = client.get("/test/v1/repeat/hi").await;
    let by_staff = client.send(request(http::Method::GET, "/test/v1/repeat/hi", &[("x-staff-key", "k-ann")], "")).await;
    // No schema knows it; the only upstream may.
    let unknown = raw.call("/other.v1.Service/Do", &[], framed(&HealthCheckRequest::default())).await;
    let known_caller =
        raw.call("/other.v1.Service/Do", &[("x-api-key", "k-acme")], framed(&HealthCheckRequest::default())).await;

    assert_eq!((say.status.as_u16(), repeat.status.as_u16(), by_staff.status.as_u16()), (200, 401, 200));
    assert_eq!((unknown.code(), known_caller.code()), (16, 12));
}

#[tokio::test]
async fn the_gateways_own_services_are_asked_for_like_any_other_but_health() {
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let health = "/grpc.health.v1.Health/Check";
    let named = "\n- { match: \"grpc.health.v1.Health/*\", authenticate: staff }";
    for (more, health_without) in [("", 0), (named, 16)] {
        let site = Site::with_keys(&format!("- {{ match: \"*\", authenticate: partners }}{more}")).await;
        let mut client = Raw::connect(site.gateway.address).await;
        let ask = || framed(&HealthCheckRequest::default());

        assert_eq!(client.call(reflection, &[], Vec::new()).await.code(), 16);
        assert_eq!(client.call(reflection, &[("x-api-key", "k-acme")], Vec::new()).await.code(), 0);
        assert_eq!(client.call(health, &[], ask()).await.code(), health_without);
        assert_eq!(client.call(health, &[("x-staff-key", "k-ann")], ask()).await.code(), 0);
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_taken_out_of_it() {
    let site = Site::with_keys("- { match: \"*\", authenticate: [staff, partners] }").await;
    for version in Version::BOTH {
        let mut client = site.gateway.client(version).await;

        let good = client.get("/test/v1/say/hi?api%5Fkey=k-acme").await;
        let beside =
            client.send(request(http::Method::GET, "/test/v1/say/hi?api_key=x", &[("x-staff-key", "k-ann")], "")).await;
        let wrong = client.get("/test/v1/say/hi?api_key=x").await;

        // A parameter that reached the service's message would be an unknown field.
        assert_eq!((good.status.as_u16(), beside.status.as_u16(), wrong.status.as_u16()), (200, 200, 401));
        assert_eq!(seen(&good, "x-api-key"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_one_that_is_wrong_is_not() {
    let site = Site::with_keys("- { match: \"*\", authenticate: partners }").await;
    let mut client = site.gateway.client(Version::Http2).await;
    let mut status = async |key: &str| {
        client.send(request(http::Method::GET, "/test/v1/say/hi", &[("x-api-key", key)], "")).await.status.as_u16()
    };
    assert_eq!((status("k-acme").await, status("k-new").await), (200, 401));

    site.write("partners.yaml", &keys(&[("globex", "k-new")]));
    let changing = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
        while status("k-new").await != 200 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), changing).await.expect("the file is read in time");

    assert_eq!(status("k-acme").await, 401, "a key that is gone lets nobody in");
    site.write("partners.yaml", "keys: [ { name: a } ]");
    assert_eq!(status("k-new").await, 200);
}
