//! Finds out who calls, as the method's policy asks for it.
//!
//! The deciders are in `policy` and `credentials`; here questions are awaited and verdicts become errors. A refusal never
//! says what was wrong with a credential, only the log does.

use http::request;
use smallvec::SmallVec;
use tokio::time::timeout;

use super::call::Call;
use super::timer::Timer;
use crate::config::authentication::Requirement;
use crate::credentials::Presented;
use crate::error::{Error, Reason};
use crate::policy::authenticate::{Finding, Verdict, judge};
use crate::policy::credential;
use crate::policy::identity::Identities;
use crate::telemetry::metrics::AuthenticationResult;

/// Notes in the call who it comes from, and takes credentials out of its query.
///
/// # Errors
/// It shows no credentials, or wrong ones; or its deadline passes while they are looked at.
pub(super) async fn authenticate(call: &mut Call, parts: &mut request::Parts, timer: &Timer) -> Result<(), Error> {
    let identity = decide(call, parts, timer).await?;
    if let Some(requirement) = &call.settings().authenticate {
        take_out(call, requirement, parts);
    }
    call.identity = identity;
    Ok(())
}

async fn decide(call: &Call, parts: &request::Parts, timer: &Timer) -> Result<Identities, Error> {
    let Some(requirement) = &call.settings().authenticate else { return Ok(Identities::default()) };
    let prepared = &call.prepared;
    let certificate = call.peer.certificate.as_ref();
    let presented = Presented { headers: &parts.headers, uri: &parts.uri, certificate, now: call.unix_time() };
    // Each provider is heard once, however often the rule is judged.
    let mut heard: SmallVec<[(usize, Finding); 4]> = SmallVec::new();
    let verdict = loop {
        let verdict = judge(requirement, &mut |provider| {
            if let Some((_, finding)) = heard.iter().find(|(known, _)| *known == provider) {
                return finding.clone();
            }
            let finding = prepared.authenticator(provider).find(&presented);
            count(call, provider, &finding);
            heard.push((provider, finding.clone()));
            finding
        });
        let Verdict::Ask(provider) = verdict else { break verdict };
        let asked = prepared.authenticator(provider).ask(&presented);
        let answer = match timer.left()? {
            None => asked.await,
            Some(left) => match timeout(left, asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    timer.left()?;
                    Finding::Unavailable("late")
                }
            },
        };
        count(call, provider, &answer);
        heard.retain(|(known, _)| *known != provider);
        heard.push((provider, if answer == Finding::Ask { Finding::Unavailable("unanswered") } else { answer }));
    };
    let noted = |error: Error, provider: usize, why: &str| {
        error.with_note(format!("{}: {why}", prepared.authenticator(provider).provider().name))
    };
    match verdict {
        Verdict::Granted(identities) => Ok(identities),
        Verdict::Missing => Err(missing(requirement)),
        Verdict::Invalid(provider, why) => Err(noted(invalid(requirement), provider, why)),
        Verdict::Unavailable(provider, why) => Err(noted(unavailable(), provider, why)),
        // Asked, and answered, above.
        Verdict::Ask(provider) => Err(noted(unavailable(), provider, "unanswered")),
    }
}

/// Takes the credentials that the providers look for out of the query, whoever of them let the caller in.
fn take_out(call: &Call, requirement: &Requirement, parts: &mut request::Parts) {
    if parts.uri.query().is_none() {
        return;
    }
    for provider in requirement.rule.providers() {
        let places = call.prepared.authenticator(provider).provider().kind.places();
        let query = places.and_then(|places| places.query.as_deref());
        if let Some(uri) = query.and_then(|name| credential::without_parameter(&parts.uri, name)) {
            parts.uri = uri;
        }
    }
}

fn count(call: &Call, provider: usize, finding: &Finding) {
    let result = match finding {
        Finding::Granted(_) => AuthenticationResult::Granted,
        Finding::Missing => AuthenticationResult::Missing,
        Finding::Invalid(_) => AuthenticationResult::Invalid,
        Finding::Unavailable(_) => AuthenticationResult::Unavailable,
        Finding::Ask => return,
    };
    call.prepared.provider_metrics(provider).count(result);
}

fn missing(requirement: &Requirement) -> Error {
    Error::new(Reason::CredentialsMissing, "this method asks for credentials, and the request has none")
        .with_challenge(requirement.challenge.clone())
}

fn invalid(requirement: &Requirement) -> Error {
    Error::new(Reason::InvalidToken, "the credentials of the request are not valid")
        .with_challenge(requirement.invalid.clone())
}

fn unavailable() -> Error {
    Error::new(Reason::AuthenticationUnavailable, "the credentials of the request cannot be checked now")
}
