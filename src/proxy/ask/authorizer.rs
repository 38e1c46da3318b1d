//! Asks an external authorizer whether a call may pass.

use std::cell::RefCell;

use tokio::time::Instant;

use super::unary;
use crate::config::authorization::Authorizer;
use crate::error::{Error, Reason};
use crate::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use crate::policy::authorizer::{CHECK, Verdict, judge};
use crate::proxy::call::Call;
use crate::proxy::timer::Timer;
use crate::store::breaker::Breaker;

/// What the authorizer says, if it does so in time.
///
/// # Errors
/// The call's own deadline passed, which is not the authorizer's failure; or the authorizer's failure, inside.
pub(in crate::proxy) async fn ask(
    call: &Call,
    authorizer: &Authorizer,
    breaker: &RefCell<Breaker>,
    question: &CheckRequest,
    timer: &Timer,
) -> Result<Result<Verdict, String>, Error> {
    let now = Instant::now();
    if !breaker.borrow_mut().admits(now) {
        return Ok(Err("failed so often that it is not asked for a while".to_owned()));
    }
    let own = now + authorizer.timeout;
    let until = timer.deadline().map_or(own, |deadline| deadline.min(own));
    let cluster = call.prepared.cluster(authorizer.upstream);
    let answer: Result<CheckResponse, Error> = unary(call, cluster, CHECK, question, until).await;
    observe(authorizer, breaker, answer.as_ref().err(), until < own);
    timer.left()?;
    Ok(match answer {
        Ok(answer) => judge(authorizer, answer),
        Err(error) if error.reason() == Reason::DeadlineExceeded => {
            Err(format!("no answer within {:?}", authorizer.timeout))
        }
        Err(error) => Err(error.message().to_owned()),
    })
}

/// Notes whether there was an answer. What the answer is does not matter: a caller may have provoked it.
fn observe(authorizer: &Authorizer, breaker: &RefCell<Breaker>, error: Option<&Error>, short: bool) {
    match error.map(Error::reason) {
        // Of a call that has less time than the authorizer, nobody can say that the authorizer was slow.
        Some(Reason::DeadlineExceeded) if short => {}
        Some(Reason::DeadlineExceeded | Reason::UpstreamUnreachable) => {
            if breaker.borrow_mut().failed(Instant::now(), fastrand::f64()) {
                tracing::warn!(authorizer = %authorizer.name, "asked once in a while until it answers again");
            }
        }
        _ => {
            if breaker.borrow_mut().succeeded() {
                tracing::info!(authorizer = %authorizer.name, "answers again");
            }
        }
    }
}
