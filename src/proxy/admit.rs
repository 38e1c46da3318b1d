//! Whether a call may go on: every policy that can refuse it, in the one order in which they are asked.
//!
//! Called once for each call, whichever way it came in: when its method is known and before any of its body is read.
//! A method without a policy pays for a branch each.

use http::request;

use super::authenticate::authenticate;
use super::authorize::{authorize, forbid_forgery, forward_identity, strip};
use super::call::Call;
use super::timer::Timer;
use super::{admission, limits};
use crate::error::Error;

/// Lets a call go on.
///
/// # Errors
/// The first policy that refuses it.
pub(super) async fn admit(call: &mut Call, parts: &mut request::Parts, timer: &mut Timer) -> Result<(), Error> {
    // What only the gateway may say of callers is taken out of what they say.
    strip(call, parts);
    // Has the gateway too much to do? Before it does more: a refusal has to cost next to nothing.
    admission::shed(call)?;
    // Does its address, or whatever else needs no proof, call too often? Before anything that costs more.
    if call.limits().is_some() {
        limits::peer(call, parts, timer).await?;
    }
    // Who is it?
    if call.settings().authenticate.is_some() {
        authenticate(call, parts, timer).await?;
        // And does the caller itself want it, or a page in its browser?
        forbid_forgery(call, parts)?;
    }
    // May it? By the rules of the policies, then by whom they name.
    if call.settings().authorize.is_some() {
        authorize(call, parts, timer).await?;
    }
    // Is there room among the calls of its method? Only for those that may be made; and before the caller's own limits, so
    // that no caller pays for a call that finds none.
    admission::admit(call)?;
    // Does whoever it is call too often?
    if call.limits().is_some() {
        limits::identity(call, parts, timer).await?;
    }
    // What the upstream learns of the caller; last, since authorizers want to see the credentials.
    if call.settings().identity.is_some() {
        forward_identity(call, parts);
    }
    Ok(())
}
