//! Asks issuers what their tokens mean ([RFC 7662](https://www.rfc-editor.org/rfc/rfc7662)).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::authentication::Introspection;
use crate::fetch::{self, Question};
use crate::policy::introspection;

/// The way to one issuer.
#[derive(Debug)]
pub(super) struct Questions {
    rules: Arc<Introspection>,
    control: Option<Handle>,
    open: Arc<Semaphore>,
}

impl Questions {
    pub(super) fn new(rules: &Introspection, control: Option<Handle>) -> Self {
        Self { rules: Arc::new(rules.clone()), control, open: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// What the issuer says of a token.
    ///
    /// # Errors
    /// A word for the log: it cannot be asked, or gives no answer.
    pub(super) async fn ask(&self, token: &[u8]) -> Result<Bytes, &'static str> {
        let control = self.control.as_ref().ok_or("offline")?;
        let turn = Arc::clone(&self.open).try_acquire_owned().map_err(|_| "busy")?;
        let rules = Arc::clone(&self.rules);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = &rules.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let question = Question { headers, body: Some(introspection::question(token).into()), limit: MAX_ANSWER };
        let asked = control.spawn(async move {
            let _turn = turn;
            fetch::ask(&rules.server, question).await
        });
        match asked.await {
            Ok(Ok(answer)) => Ok(answer.body),
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "introspection failed");
                Err("no_answer")
            }
            Err(_) => Err("broken"),
        }
    }
}

/// Questions that are open; more are not asked.
const AT_ONCE: usize = 64;
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 10;
