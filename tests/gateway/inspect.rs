//! `portico check`, `routes` and `explain`: the real program, its output and its exit code.

mod documented;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Files of one test, and the program run among them.
struct Folder(TempDir);

/// What the program printed and how it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self(folder)
    }

    fn portico(&self, arguments: &[&str]) -> Ended {
        portico(self.0.path(), arguments)
    }
}

fn portico(folder: &Path, arguments: &[&str]) -> Ended {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_portico"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn repository() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Explains a request to the library service, whose schema comes from its source; `request` is split at blanks.
fn explain(request: &str) -> String {
    let schema = "--upstream localhost:50051 --proto proto/portico/library/v1/library.proto --include proto";
    let arguments: Vec<&str> = "explain".split(' ').chain(schema.split(' ')).chain(request.split(' ')).collect();
    let ended = portico(&repository(), &arguments);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{request}");
    ended.out
}

/// The line of an explanation with this label, without it.
fn labelled<'t>(text: &'t str, label: &str) -> &'t str {
    text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default().trim_start()
}

const SHOP: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/api/annotations.proto";
message Item { string name = 1; int32 count = 2; }
service Shop {
  rpc Get(Item) returns (Item) { option (google.api.http) = {get: "/v1/{name=items/*}"}; }
  rpc Put(Item) returns (Item) { option (google.api.http) = {put: "/v1/{name=items/*}" body: "*"}; }
  rpc Watch(Item) returns (stream Item);
}
"#;

const CONFIG: &str = r#"
upstreams:
  - name: shop
    endpoints: ["localhost:50051"]
    schema: { proto: [shop.proto] }
"#;

#[test]
fn check_is_content_with_what_is_sound() {
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", CONFIG)]);

    let ended = folder.portico(&["check", "--config", "portico.yaml"]);

    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(
        ended.out,
        "upstream shop at localhost:50051: 1 service, 3 methods, 2 HTTP routes, from shop.proto\n\
         1 upstream, 1 service, 3 methods, 2 HTTP routes; 0 errors, 0 warnings\n"
    );
}

#[test]
fn check_names_everything_that_is_wrong_at_once() {
    let more = "
  - name: twin
    endpoints: [\"localhost:50052\"]
    schema: { proto: [shop.proto] }
    services: [shop.v1.Shop, other.*]
http_rules:
  - { selector: shop.v1.Shop.Watch, get: \"/v1/{name=items/*}\" }
  - { selector: shop.v1.Shop.Put, get: \"/v1/{nome}\" }
  - { selector: shop.v1.Shop.Gett, get: /v1/get }
policies:
  - { match: shop.v1.Shop/Puut, timeout: { unary: 1s } }
";
    let config = CONFIG.trim_end().to_owned() + "\n    services: [\"shop.*\"]" + more;
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &config)]);

    let ended = folder.portico(&["check", "--config", "portico.yaml"]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.err,
        "error: upstream twin: conflict: service shop.v1.Shop is declared by upstream shop too, which keeps it; say in \
         `services` whose it is\n\
         error: upstream shop: left out: the HTTP rule of shop.v1.Shop/Put: `/v1/{nome}`: path variable `nome`: message \
         shop.v1.Item has no field `nome`\n\
         error: upstream shop: conflict: shop.v1.Shop/Watch: GET /v1/{name=items/*} is the same path as \
         GET /v1/{name=items/*} of shop.v1.Shop/Get, which keeps it\n\
         error: http_rules: the selector `shop.v1.Shop.Gett` names no method that is served\n"
    );
    assert_eq!(
        ended.out,
        "upstream shop at localhost:50051: 1 service, 3 methods, 1 HTTP route, from shop.proto\n\
         upstream twin at localhost:50052: 0 services, 0 methods, 0 HTTP routes, from shop.proto\n\
         warning: upstream twin: `other.*` in `services` names no service of its schema\n\
         warning: policies: `shop.v1.Shop/Puut` matches no method that is served\n\
         2 upstreams, 1 service, 3 methods, 1 HTTP route; 4 errors, 2 warnings\n"
    );
}

#[test]
fn check_refuses_what_run_refuses() {
    for (address, admin) in [("127.0.0.1:9901", ""), ("0.0.0.0:9807", "admin: { address: \"127.0.0.1:9807\" }\n")] {
        let config = format!("listeners: [{{ address: \"{address}\" }}]\n{admin}{CONFIG}");
        let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &config)]);

        let ended = folder.portico(&["check", "--config", "portico.yaml"]);

        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("both the admin address and one for clients"), "{}", ended.err);
    }
}

#[test]
fn an_explanation_needs_no_running_gateway() {
    let config = format!("admission: {{ max_queue_delay: 50ms }}\n{CONFIG}");
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &config)]);

    let ended = folder.portico(&["explain", "--config", "portico.yaml", "GET", "/v1/items/a"]);

    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn check_warns_of_a_rule_that_a_more_general_one_replaces() {
    let rules = "
http_rules:
  - { selector: \"shop.v1.Shop.Get, shop.v1.Shop.Put\", get: \"/v1/{name=things/*}\" }
  - { selector: shop.v1.*, post: /v1/all }
  - { selector: shop.v1.Shop.Watch, get: /v1/watch }
";
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &(CONFIG.to_owned() + rules))]);

    let ended = folder.portico(&["check", "--config", "portico.yaml"]);
    let routes = folder.portico(&["routes", "--config", "portico.yaml"]);

    assert!(
        ended.out.contains(
            "warning: upstream shop: http_rules[0] (`shop.v1.Shop.Get, shop.v1.Shop.Put`) is replaced by http_rules[1] \
             (`shop.v1.*`) for shop.v1.Shop/Get and 1 more: the last rule that selects a method counts, so put the \
             general one first\n"
        ),
        "{ended:?}"
    );
    assert!(!ended.err.contains("http_rules[") && !routes.err.contains("http_rules["), "{ended:?} {routes:?}");
}

#[test]
fn check_says_which_descriptors_do_not_load() {
    let folder = Folder::with(&[("shop.proto", "syntax = \"proto3\";\nmessage Item { string name = 1 }\n")]);
    std::fs::write(folder.0.path().join("portico.yaml"), CONFIG).expect("a file");

    let ended = folder.portico(&["check", "--config", "portico.yaml"]);

    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.err.starts_with("error: upstream shop: ") && ended.err.contains("shop.proto"), "{}", ended.err);
}

#[test]
fn check_tells_of_reflection_that_does_not_answer() {
    // Nobody listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let folder = Folder::with(&[]);

    let ended = folder.portico(&["check", "--upstream", &port.to_string()]);

    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("no schema, from reflection\n"), "{}", ended.out);
    for part in ["Connection refused", "starts nevertheless, answers 503"] {
        assert!(ended.err.contains(part), "{}", ended.err);
    }
    let explained = folder.portico(&["explain", "--upstream", &port.to_string(), "GET", "/v1/x"]);
    assert_eq!(explained.code, Some(0));
    assert!(explained.out.contains("HTTP 503, code 14 (UNAVAILABLE), reason SCHEMA_UNAVAILABLE"), "{}", explained.out);
}

#[test]
fn routes_are_listed_with_what_is_not_as_usual() {
    let config = format!(
        "{CONFIG}policies:\n  - match: shop.v1.Shop/Put\n    timeout: {{ unary: 2s }}\n    json: {{ unknown_fields: ignore }}\n"
    );
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &config)]);

    let ended = folder.portico(&["routes", "--config", "portico.yaml"]);

    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(
        ended.out,
        "\
HTTP  PATH                 BODY  METHOD              STREAM         UPSTREAM  SETTINGS
GET   /v1/{name=items/*}         shop.v1.Shop/Get                   shop
PUT   /v1/{name=items/*}   *     shop.v1.Shop/Put                   shop      timeout.unary 2s, json.unknown_fields ignore
POST  /shop.v1.Shop/Watch  *     shop.v1.Shop/Watch  server stream  shop

Every method is also served at POST /pkg.Service/Method: with JSON, as gRPC, gRPC-Web and Connect.
"
    );
}

#[test]
fn explains_where_each_field_comes_from_and_what_is_sent() {
    let text = explain(
        "PATCH /v1/shelves/science/books/opticks?update_mask=pages -H content-type:application/json \
         -d {\"pages\":250} -H request-timeout:2 -H x-tenant:a -H x-request-id:r1",
    );

    assert_eq!(
        text,
        "\
PATCH /v1/shelves/science/books/opticks?update_mask=pages

route      PATCH /v1/{book.name=shelves/*/books/*}, body: \"book\"
method     portico.library.v1.Library/UpdateBook
upstream   localhost:50051 at localhost:50051

from path  {\"book\":{\"name\":\"shelves/science/books/opticks\"}}
from query {\"update_mask\":\"pages\"}
from body  {\"book\":{\"pages\":250}}
message    portico.library.v1.UpdateBookRequest
           {\"update_mask\":\"pages\",\"book\":{\"pages\":250,\"name\":\"shelves/science/books/opticks\"}}

timeout    15s for the whole call; the client waits for 2s
limits     4MiB per request message, 16MiB per reply
json       as by default

sent       POST /portico.library.v1.Library/UpdateBook
           x-tenant: a
           x-request-id: r1
           x-forwarded-for: 127.0.0.1
           x-forwarded-proto: http
           traceparent: (a new one for each call)
           te: trailers
           content-type: application/grpc
           grpc-timeout: 2000000u
"
    );
}

#[test]
fn explains_what_was_filled_in() {
    let patch = "PATCH /v1/shelves/science/books/opticks -H content-type:application/json -d {\"pages\":250}";

    let text = explain(patch);

    assert_eq!(labelled(&text, "from body"), "{\"book\":{\"pages\":250}}");
    assert_eq!(labelled(&text, "note"), "update_mask is made of the fields in the body: a PATCH request without one");
}

#[test]
fn explains_native_grpc() {
    let chat = explain("POST /portico.library.v1.Library/Chat -H content-type:application/grpc -H grpc-timeout:5S");
    let get = explain("GET /portico.library.v1.Library/Chat -H content-type:application/grpc");
    let unknown = explain("POST /portico.library.v1.Library/GetBok -H content-type:application/grpc");

    assert_eq!(labelled(&chat, "method"), "portico.library.v1.Library/Chat, bidi stream");
    assert_eq!(labelled(&chat, "message"), "the client's own, unchanged");
    assert_eq!(labelled(&chat, "timeout"), "5m without a message; the client waits for 5s");
    assert_eq!(labelled(&get, "refused"), "grpc-status 12 (UNIMPLEMENTED), reason METHOD_NOT_ALLOWED");
    assert_eq!(labelled(&unknown, "hint"), "the known method nearest in name is portico.library.v1.Library/GetBook");
}

#[test]
fn says_what_a_request_may_have_meant() {
    let list = "GET /v1/shelves takes the route GET /v1/shelves of portico.library.v1.Library/ListShelves";
    for (request, hint) in [
        ("GET /v1/shelves/", format!("a trailing slash makes another path: {list}")),
        ("GET //v1/shelves", format!("an empty segment makes another path: {list}")),
        ("GET /v1/Shelves", format!("letter case matters in paths: {list}")),
        ("GET /shelves", format!("the prefix /v1 is missing: {list}")),
        ("GET /api/v1/shelves", format!("no route begins with /api: {list}")),
        (
            "GET /v1/shelfs/1/books",
            "the route nearest to it is GET /v1/{parent=shelves/*}/books of portico.library.v1.Library/ListBooks"
                .into(),
        ),
        (
            "GET /portico.library.v1.Library/ListBoks",
            "the method nearest in name is portico.library.v1.Library/ListBooks".into(),
        ),
        ("GET /else", "`portico routes` lists what is served".into()),
    ] {
        let text = explain(request);

        assert_eq!(labelled(&text, "refused"), "HTTP 404, code 5 (NOT_FOUND), reason ROUTE_NOT_FOUND", "{request}");
        assert_eq!(labelled(&text, "hint"), hint, "{request}");
    }
}

#[test]
fn explains_what_the_gateway_answers_itself() {
    let options = explain("OPTIONS /v1/shelves");
    let health = explain("POST /grpc.health.v1.Health/Check -H content-type:application/grpc");

    assert_eq!(labelled(&options, "answered"), "HTTP 204, allow: GET, HEAD, OPTIONS, POST");
    assert_eq!(labelled(&health, "answered"), "by the gateway itself, for all its upstreams");
}

#[test]
fn what_browsers_are_told_is_explained_as_it_is_answered() {
    let more = "policies:
  - { match: shop.v1.Shop/Get, cors: { allow_origins: [\"https://*.example.com\"] } }
";
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &format!("{CONFIG}{more}"))]);
    let explain = |method: &str, origin: &str| {
        let (origin, asked) = (format!("origin: {origin}"), "access-control-request-method: GET");
        let headers = ["-H", &origin, "-H", asked];
        let ended =
            folder.portico(&[&["explain", "--config", "portico.yaml", method, "/v1/items/1"][..], &headers].concat());
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        ended.out
    };

    let asked = explain("OPTIONS", "https://app.example.com");
    let refused = explain("OPTIONS", "https://example.com");
    let called = explain("GET", "https://app.example.com");
    let routes = folder.portico(&["routes", "--config", "portico.yaml"]);

    assert_eq!(labelled(&asked, "answered"), "HTTP 204 to the browser, which asks whether a page may call");
    assert!(asked.contains("access-control-allow-origin: https://app.example.com\n"), "{asked}");
    assert!(labelled(&refused, "refused").ends_with("HTTP 403, code 7 (PERMISSION_DENIED), reason ORIGIN_NOT_ALLOWED"));
    assert_eq!(labelled(&called, "cors"), "pages of https://*.example.com");
    let row = routes.out.lines().find(|line| line.contains("shop.v1.Shop/Get")).unwrap_or_default();
    assert!(row.ends_with("cors https://*.example.com"), "{}", routes.out);
}

#[test]
fn policies_are_shown_and_what_they_would_refuse() {
    let policies = "
authentication:
  api_keys: [ { name: partners, file: keys.yaml } ]
authorization:
  external: [ { name: company-rules, upstream: opa } ]
policies:
  - match: \"*\"
    authenticate: { optional: partners }
    authorize:
      - { name: not-suspended, deny: { claims: { suspended: true } } }
      - { external: company-rules }
    identity: { headers: { x-user: name }, credentials: remove }
  - match: shop.v1.Shop/Put
    authorize:
      - { name: writers, any_of: [ { claims: { roles: { contains: writer } } }, { scopes: [items.write] } ] }
      - { name: level, cel: \"claims.level > 2\" }
";
    // Of the key `good`.
    let keys = "keys:
  - { name: ann, hash: \"sha256:770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c\", attributes: { roles: [writer], level: 3 } }
";
    let opa = "\n  - { name: opa, endpoints: [\"localhost:9191\"], schema: none }";
    let config = CONFIG.trim_end().to_owned() + opa + policies;
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &config), ("keys.yaml", keys)]);
    let ask = |more: &[&str]| {
        let all = [&["explain", "--config", "portico.yaml", "PUT", "/v1/items/1", "-d", "{}"][..], more].concat();
        let ended = folder.portico(&all);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        ended.out
    };
    let json = ["-H", "content-type: application/json"];

    let good = ask(&[&json[..], &["-H", "x-api-key: good", "-H", "x_user: eve"]].concat());
    let nobody = ask(&json);
    let forged = ask(&[&json[..], &["-H", "x-api-key: bad"]].concat());
    let routes = folder.portico(&["routes", "--config", "portico.yaml"]).out;
    let check = folder.portico(&["check", "--config", "portico.yaml"]).out;

    assert_eq!(labelled(&good, "callers"), "authenticate by partners, or not at all");
    assert_eq!(labelled(&good, "rules"), "not-suspended: not (claim suspended is true)");
    assert!(good.contains("writers: (claim roles contains \"writer\") or (scopes items.write)\n"), "{good}");
    assert!(good.contains("level: claims.level > 2\n"), "{good}");
    assert_eq!(labelled(&good, "asks"), "company-rules; not asked here");
    assert_eq!(labelled(&good, "caller "), "known to partners");
    assert!(good.contains("x-user: ann\n") && !good.contains(": eve") && !good.contains("x-api-key"), "{good}");
    assert_eq!(labelled(&nobody, "because"), "rule writers");
    assert!(labelled(&nobody, "refused").starts_with("HTTP 401, code 16"), "{nobody}");
    assert!(labelled(&forged, "because").starts_with("partners: "), "{forged}");
    assert!(
        routes.contains(
            "authenticate partners, or not at all, authorize not-suspended writers level company-rules, identity x-user"
        ),
        "{routes}"
    );
    assert!(check.contains("upstream opa at localhost:9191: no schema, asked by the gateway alone\n"), "{check}");
}

#[test]
fn limits_on_messages_refuse_what_they_would_refuse() {
    let shop = SHOP.replace("rpc Watch", "rpc Fill(stream Item) returns (Item);\n  rpc Watch");
    let limits = "policies:
  - match: shop.v1.Shop/Fill
    rate_limits: [ { name: items, key: [\"field:name\"], quota: 2/h, count: messages } ]
  - match: shop.v1.Shop/Put
    rate_limits: [ { key: [\"field:name\"], quota: 2/h } ]
";
    let folder = Folder::with(&[("shop.proto", &shop), ("portico.yaml", &format!("{CONFIG}{limits}"))]);
    let explain = |method: &str, path: &str, body: &str| {
        let json = ["-H", "content-type: application/json", "-d", body];
        let all = [&["explain", "--config", "portico.yaml", method, path][..], &json].concat();
        let ended = folder.portico(&all);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        ended.out
    };

    let few = explain("POST", "/shop.v1.Shop/Fill", "[{}, {}]");
    let many = explain("POST", "/shop.v1.Shop/Fill", "[{}, {}, {}]");
    let wrong = explain("POST", "/shop.v1.Shop/Fill", "[{\"nam\": 1}]");
    let unary = explain("PUT", "/v1/items/1", "{\"count\": 2}");

    assert_eq!(labelled(&few, "message"), "one for each JSON value of the body, as it comes");
    assert!(labelled(&many, "refused").ends_with("reason RATE_LIMITED"), "{many}");
    assert!(many.contains("over the limit items (2/h)"), "{many}");
    assert!(labelled(&wrong, "refused").ends_with("reason INVALID_REQUEST"), "{wrong}");
    assert!(unary.contains(r#"{"count":2,"name":"items/1"}"#), "{unary}");
}

#[test]
fn explains_websockets() {
    let chat = explain("GET /v1/librarian:chat -H upgrade:websocket");
    let watch = explain("GET /v1/shelves/a/books:watch -H upgrade:websocket");
    let unary = explain("GET /v1/shelves -H upgrade:websocket");
    let key = "sec-websocket-key:AAAAAAAAAAAAAAAAAAAAAA==";
    let old = explain(&format!("GET /v1/librarian:chat -H upgrade:websocket -H connection:upgrade -H {key}"));

    assert_eq!(labelled(&chat, "note"), "no handshake was given, so it is one as browsers make it");
    assert_eq!(labelled(&chat, "route"), "WebSocket at /v1/librarian:chat, the path of POST");
    assert_eq!(labelled(&chat, "message"), "one for each message of the WebSocket");
    assert_eq!(labelled(&chat, "sent"), "POST /portico.library.v1.Library/Chat");
    assert_eq!(labelled(&watch, "from path"), r#"{"parent":"shelves/a"}"#);
    assert!(watch.contains("portico.library.v1.WatchBooksRequest\n           {\"parent\":\"shelves/a\"}\n"), "{watch}");
    assert!(labelled(&unary, "refused").ends_with("HTTP 400, code 12 (UNIMPLEMENTED), reason NOT_A_STREAM"), "{unary}");
    assert_eq!(labelled(&old, "refused"), "HTTP 426, code 3 (INVALID_ARGUMENT), reason WEBSOCKET_VERSION");
}

#[test]
fn explains_when_a_call_is_sent_again() {
    let policies = "policies:
  - { match: shop.v1.Shop/Get, retry: { retries: 2, on: [unavailable, aborted], per_try_timeout: 1s } }
  - { match: shop.v1.Shop/Put, retry: {}, hedge: { attempts: 3, assume_idempotent: true } }
  - { match: shop.v1.Shop/Watch, hedge: {} }
";
    let folder = Folder::with(&[("shop.proto", SHOP), ("portico.yaml", &format!("{CONFIG}{policies}"))]);
    let explain = |method: &str, path: &str| {
        let json = ["-H", "content-type: application/json", "-d", "{}"];
        let ended = folder.portico(&[&["explain", "--config", "portico.yaml", method, path][..], &json].concat());
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        ended.out
    };

    let get = explain("POST", "/shop.v1.Shop/Get");
    let put = explain("PUT", "/v1/items/1");
    let watch = explain("POST", "/shop.v1.Shop/Watch");

    assert_eq!(
        labelled(&get, "retry"),
        "up to 2 more attempts after aborted, unavailable; waits of up to 25ms, growing to 250ms; requests of up to 64KiB; \
         1s for each attempt but the last"
    );
    assert_eq!(
        labelled(&put, "hedge"),
        "up to 3 attempts, one each 50ms without a reply; not ended by unavailable; no retry beside it"
    );
    assert_eq!(labelled(&watch, "hedge"), "none: only for unary methods that are known to be idempotent");
    assert!(!put.contains("\nretry") && !watch.contains("\nretry"), "{put}{watch}");
}
