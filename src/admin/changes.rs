//! The few things that can be changed at the admin address.

use std::future::poll_fn;
use std::pin::Pin;

use http::{Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tracing::Level;

use super::body::Whole;
use super::pages::{JSON, TEXT, json_strings, text};
use super::{Asked, State};
use crate::telemetry::{json_string, logs};

/// Reads the configuration again, and waits for what becomes of it.
pub(super) async fn reload(state: &State) -> Response<Whole> {
    let Some(reloads) = &state.reloads else {
        return text(StatusCode::CONFLICT, TEXT, "this gateway has no configuration that can be read again\n".into());
    };
    let (answer, outcome) = oneshot::channel();
    let outcome = match reloads.send(Asked { answer: Some(answer) }).await {
        Ok(()) => outcome.await.ok(),
        Err(_) => None,
    };
    match outcome {
        Some(Ok(warnings)) => {
            let body = format!("{{\"reloaded\":true,\"warnings\":{}}}\n", json_strings(&warnings));
            text(StatusCode::OK, JSON, body)
        }
        Some(Err(why)) => {
            let body = format!("{{\"reloaded\":false,\"error\":{}}}\n", json_string(&why));
            text(StatusCode::UNPROCESSABLE_ENTITY, JSON, body)
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the gateway is about to stop\n".into()),
    }
}

/// Changes which diagnostics are written, to the level that the body names.
pub(super) async fn log_level<B: Body<Data: AsRef<[u8]>> + Unpin>(body: B) -> Response<Whole> {
    let word = short(body).await;
    let level = word.as_deref().map(str::trim).and_then(|word| LEVELS.iter().find(|(name, _)| *name == word));
    let Some((name, level)) = level else {
        let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
        return text(StatusCode::BAD_REQUEST, TEXT, format!("the body is to be one of {}\n", names.join(", ")));
    };
    if !logs::set_level(*level) {
        return text(StatusCode::CONFLICT, TEXT, "this process writes no diagnostics\n".into());
    }
    tracing::info!(level = name, "log level changed");
    text(StatusCode::OK, TEXT, format!("{name}\n"))
}

/// The name of the level that is written now.
pub(super) fn level_now() -> &'static str {
    let now = logs::level();
    LEVELS.iter().find(|(_, level)| Some(*level) == now).map_or("off", |(name, _)| name)
}

/// A body of a few bytes as text.
async fn short<B: Body<Data: AsRef<[u8]>> + Unpin>(mut body: B) -> Option<String> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(data.as_ref());
        }
        if bytes.len() > MAX_BODY {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

const MAX_BODY: usize = 64;
const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];
