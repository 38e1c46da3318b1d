//! Asks an external authorizer whether a call may pass.

use tokio::time::Instant;

use super::{unary, words};
use crate::config::authorization::Authorizer;
use crate::error::{Error, Reason};
use crate::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use crate::policy::authorizer::{CHECK, Verdict, judge};
use crate::proxy::call::Call;
use crate::proxy::timer::Timer;

/// What the authorizer says, if it does so in time.
///
/// # Errors
/// The call's own deadline passed, which is not the authorizer's failure; or the authorizer's failure, inside.
pub(in crate::proxy) async fn ask(
    call: &Call,
    authorizer: &Authorizer,
    question: &CheckRequest,
    timer: &Timer,
) -> Result<Result<Verdict, String>, Error> {
    let own = Instant::now() + authorizer.timeout;
    let until = timer.deadline().map_or(own, |deadline| deadline.min(own));
    let cluster = call.prepared.cluster(authorizer.upstream);
    let answer: Result<CheckResponse, Error> = unary(call, cluster, CHECK, question, until).await;
    timer.left()?;
    Ok(match answer {
        Ok(answer) => judge(authorizer, answer),
        Err(error) if error.reason() == Reason::DeadlineExceeded => {
            Err(format!("no answer within {:?}", authorizer.timeout))
        }
        Err(error) => Err(words(&error)),
    })
}
