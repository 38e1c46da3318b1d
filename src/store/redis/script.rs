//! The script that counts, as commands and replies. Pure.
//!
//! **Invariant**: the arithmetic of `take.lua` is that of `policy::rate_limit`; a property test against a real server holds
//! it (`tests/gateway/redis/script.rs`).

use std::sync::LazyLock;

use aws_lc_rs::digest;
use redis::{Cmd, Value, cmd};
use smallvec::SmallVec;

use super::super::Charge;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Whether everything was taken; if not, nothing was.
    pub(super) taken: bool,
    /// By charge, the nanoseconds that its limit was in debt before.
    pub(super) debts: SmallVec<[u64; 4]>,
}

/// Asks by the script's digest, which a server knows that has run it before.
pub(super) fn evalsha(charges: &[&Charge]) -> Cmd {
    with_charges(cmd("EVALSHA").arg(&*SCRIPT.1), charges)
}

/// Asks with the script itself, after which the server knows it.
pub(super) fn eval(charges: &[&Charge]) -> Cmd {
    with_charges(cmd("EVAL").arg(&*SCRIPT.0), charges)
}

fn with_charges(command: &mut Cmd, charges: &[&Charge]) -> Cmd {
    command.arg(charges.len());
    for charge in charges {
        command.arg(&*charge.key);
    }
    for charge in charges {
        command
            .arg(charge.interval)
            .arg(charge.capacity)
            .arg(charge.cost)
            .arg(charge.more)
            .arg(u8::from(charge.shadow));
    }
    std::mem::take(command)
}

/// Reads the reply to a question about so many charges.
pub(super) fn reply(value: &Value, charges: usize) -> Option<Reply> {
    let Value::Array(numbers) = value else { return None };
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let (taken, debts) = numbers.split_first()?;
    let debts = debts.iter().map(number).collect::<Option<SmallVec<_>>>()?;
    (debts.len() == charges).then_some(Reply { taken: number(taken)? == 1, debts })
}

/// Everything but the clock, which tests replace.
pub const BODY: &str = include_str!("take.lua");

/// The clock is the server's, which all gateways share.
const CLOCK: &str = "local now, slack = redis.call('TIME'), 2\n";

/// The script and its digest, in hexadecimal.
static SCRIPT: LazyLock<(String, String)> = LazyLock::new(|| {
    let script = format!("{CLOCK}{BODY}");
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, script.as_bytes());
    let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    (script, digest)
});
