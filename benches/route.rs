//! Time to find a binding, per request: `cargo bench --bench route`.
//!
//! One table of 1,000 templates as a company's services have them, and the paths that differ in what they cost.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;

use http::Method;
use portico::route::Router;
use portico::schema::http_rule::HttpMethod;
use portico::schema::template::{Template, TemplateError};
use tokio::time::Instant;

/// Searches per measurement; the best of [`ROUNDS`] counts.
const SEARCHES: u32 = 200_000;
const ROUNDS: usize = 5;

fn main() -> Result<(), TemplateError> {
    let router = router()?;
    for (label, method, path) in [
        ("literals only", Method::GET, "/v1/service50/status"),
        ("one variable", Method::GET, "/v1/service50/shelves/1234567"),
        ("resource name", Method::GET, "/v1/service50/shelves/1234567/books/7654321"),
        ("resource name and verb", Method::POST, "/v1/service50/shelves/1234567/books/7654321:checkout"),
        ("tail after **", Method::GET, "/v1/service50/a/b/c/d/e/sessions/1"),
        ("encoded", Method::GET, "/v1/service50/shelves/a%20b%2Fc/books/%C3%B6"),
        ("other method", Method::PUT, "/v1/service50/shelves/1234567"),
        ("not found", Method::GET, "/v2/service50/shelves/1234567"),
        ("refused", Method::GET, "/v1/service50/../shelves"),
    ] {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..SEARCHES {
                let path = black_box(path);
                if let Ok(found) = router.find(black_box(&method), path) {
                    for capture in &found.captures {
                        black_box(capture.decode(path).is_ok());
                    }
                    black_box(found.target);
                }
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(SEARCHES));
        }
        println!("{label:<24} {best:>7.0} ns");
    }
    Ok(())
}

fn router() -> Result<Router<usize>, TemplateError> {
    let mut builder = Router::builder();
    for service in 0..100 {
        let prefix = format!("/v1/service{service}");
        for (index, (method, rest)) in [
            (Method::GET, "/status"),
            (Method::GET, "/shelves"),
            (Method::POST, "/shelves"),
            (Method::GET, "/shelves/{shelf}"),
            (Method::DELETE, "/shelves/{shelf}"),
            (Method::GET, "/{name=shelves/*/books/*}"),
            (Method::PATCH, "/{book.name=shelves/*/books/*}"),
            (Method::POST, "/{name=shelves/*/books/*}:checkout"),
            (Method::GET, "/{name=**/sessions/*}"),
            (Method::GET, "/files/{path=**}"),
        ]
        .into_iter()
        .enumerate()
        {
            let template = Template::parse(&format!("{prefix}{rest}"))?;
            assert!(builder.insert(&HttpMethod::Named(method), &template, service * 10 + index).is_ok());
        }
    }
    Ok(builder.build())
}
