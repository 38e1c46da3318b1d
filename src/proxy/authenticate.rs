//! Finds out who calls, as the method's policy asks for it.
//!
//! The deciders are in `policy` and `credentials`; here questions are awaited and verdicts become errors. A refusal never
//! says what was wrong with a credential, only the log does.

use std::rc::Rc;
use std::sync::Arc;

use http::request;

use super::call::Call;
use super::timer::Timer;
use crate::config::authentication::Requirement;
use crate::credentials::Presented;
use crate::error::{Error, Reason};
use crate::policy::authenticate::{Verdict, judge};
use crate::policy::credential;

/// Notes in the call who it comes from, and takes credentials out of its query.
///
/// # Errors
/// It shows no credentials, or wrong ones.
#[allow(clippy::unused_async, reason = "providers that have to ask come with it")]
pub(super) async fn authenticate(call: &mut Call, parts: &mut request::Parts, _timer: &mut Timer) -> Result<(), Error> {
    let Some(requirement) = call.settings().authenticate.clone() else { return Ok(()) };
    let prepared = Rc::clone(&call.prepared);
    let verdict = {
        let presented = Presented { headers: &parts.headers, uri: &parts.uri };
        judge(&requirement, &mut |provider| prepared.authenticator(provider).find(&presented))
    };
    for provider in requirement.rule.providers() {
        let places = prepared.authenticator(provider).provider().kind.places();
        let query = places.and_then(|places| places.query.as_deref());
        if let Some(uri) = query.and_then(|name| credential::without_parameter(&parts.uri, name)) {
            parts.uri = uri;
        }
    }
    let name = |provider: usize| Arc::clone(&prepared.authenticator(provider).provider().name);
    match verdict {
        Verdict::Granted(identities) => {
            call.identity = identities;
            Ok(())
        }
        Verdict::Missing => Err(missing(&requirement)),
        Verdict::Invalid(provider, why) => Err(invalid(&requirement).with_note(format!("{}: {why}", name(provider)))),
        Verdict::Ask(provider) => Err(Error::new(Reason::AuthenticationUnavailable, UNAVAILABLE)
            .with_note(format!("{}: unanswered", name(provider)))),
        Verdict::Unavailable(provider, why) => {
            Err(Error::new(Reason::AuthenticationUnavailable, UNAVAILABLE)
                .with_note(format!("{}: {why}", name(provider))))
        }
    }
}

fn missing(requirement: &Requirement) -> Error {
    Error::new(Reason::CredentialsMissing, "this method asks for credentials, and the request has none")
        .with_challenge(requirement.challenge.clone())
}

fn invalid(requirement: &Requirement) -> Error {
    Error::new(Reason::InvalidToken, "the credentials of the request are not valid")
        .with_challenge(requirement.invalid.clone())
}

const UNAVAILABLE: &str = "the credentials of the request cannot be checked now";
