//! Charges limits that Redis counts for all gateways together.
//!
//! What the [`Ledger`] knows is not asked. The rest is one question, whose answer says how far each limit is in debt; from
//! there on the arithmetic is that of the process's own store.
//!
//! **Invariant**: all limits are charged or none, as far as somebody answers; limits in shadow mode never keep others from it.

use std::rc::Rc;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::policy::rate_limit::{Charge, Decision};
use crate::store::ledger::{Known, Ledger, Terms, Told};
use crate::store::redis::Redis;
use crate::store::{self, Failure};

/// What another store than the process's own says of the limits of a call.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Verdict {
    /// One for each charge, in their order; none of a limit that nobody asked for, because another had refused.
    pub(in crate::proxy) decisions: SmallVec<[Option<Decision>; 4]>,
    /// Whether one of them refuses the call that may. Then nothing was charged.
    pub(in crate::proxy) refused: bool,
}

/// A charge on its way.
struct Entry<'c> {
    charge: &'c Charge<'c>,
    key: Box<[u8]>,
    terms: Terms,
    /// The debt before the call, once it is known.
    debt: Option<u64>,
    /// What is asked for beside the cost; `None` where nobody need be asked.
    asks: Option<u64>,
}

/// Charges all, or none if one of them refuses that is not in shadow mode. Each comes with the part of its burst, in
/// percent, that may be taken in advance.
///
/// # Errors
/// Nobody answered.
///
/// # Cancel safety
/// What was asked for may be charged.
pub(in crate::proxy) async fn charge<'c>(
    redis: &Rc<Redis>,
    ledger: &Ledger,
    charges: impl Iterator<Item = (&'c Charge<'c>, u8)>,
    deadline: Option<Instant>,
) -> Result<Verdict, Failure> {
    let now = Instant::now();
    let prefix = &redis.settings().key_prefix;
    let mut entries: SmallVec<[Entry<'_>; 2]> =
        charges.map(|(charge, lease)| Entry::new(charge, key(prefix, charge), lease)).collect();
    for index in 0..entries.len() {
        if entries[index].look(ledger, now) {
            entries[..index].iter().for_each(|entry| entry.undo(ledger));
            return Ok(verdict(&entries, true));
        }
    }
    let asked: SmallVec<[store::Charge; 2]> = entries.iter().filter_map(Entry::question).collect();
    if asked.is_empty() {
        redis.metrics().leased();
        return Ok(verdict(&entries, false));
    }
    let answer = match redis.take(&asked, deadline).await {
        Ok(answer) => answer,
        Err(failure) => {
            entries.iter().for_each(|entry| entry.undo(ledger));
            return Err(failure);
        }
    };
    let waiting = entries.iter_mut().filter(|entry| entry.asks.is_some());
    for (entry, debt) in waiting.zip(answer.debts) {
        entry.debt = debt;
        entry.note(ledger, answer.taken, now);
    }
    if !answer.taken {
        entries.iter().filter(|entry| entry.asks.is_none()).for_each(|entry| entry.undo(ledger));
    }
    Ok(verdict(&entries, !answer.taken))
}

/// Gives back, in the background, what [`charge`] took; each with when its caller will have paid for it.
pub(in crate::proxy) fn give_back(redis: &Rc<Redis>, charges: &[(Charge<'_>, Instant)]) {
    let (prefix, now) = (&redis.settings().key_prefix, Instant::now());
    let back = charges.iter().filter_map(|(charge, paid)| {
        let question = Entry::new(charge, key(prefix, charge), 0).question()?;
        question.refund(charge.rate.price(charge.cost), *paid, now)
    });
    redis.give_back(back.collect());
}

impl<'c> Entry<'c> {
    fn new(charge: &'c Charge<'c>, key: Box<[u8]>, lease: u8) -> Self {
        let (interval, capacity) = (charge.rate.interval(), charge.rate.window());
        let most = if charge.shadow { 0 } else { capacity / interval.max(1) * u64::from(lease) / 100 };
        let terms = Terms { interval, capacity, cost: charge.cost.into(), most };
        Self { charge, key, terms, debt: None, asks: Some(0) }
    }

    /// Finds out what is known. Returns whether the call is refused by that.
    fn look(&mut self, ledger: &Ledger, now: Instant) -> bool {
        if self.charge.shadow {
            return false;
        }
        match ledger.look(&self.key, self.terms, now) {
            Known::Paid(debt) => (self.debt, self.asks) = (Some(debt), None),
            Known::Refused(debt) => {
                (self.debt, self.asks) = (Some(debt), None);
                return true;
            }
            Known::Ask(more) => self.asks = Some(more),
        }
        false
    }

    fn question(&self) -> Option<store::Charge> {
        let Terms { interval, capacity, .. } = self.terms;
        let (key, cost, shadow) = (self.key.clone(), self.charge.cost.into(), self.charge.shadow);
        Some(store::Charge { key, interval, capacity, cost, more: self.asks?, shadow })
    }

    /// Notes the answer to the question.
    fn note(&self, ledger: &Ledger, taken: bool, asked: Instant) {
        match (self.debt, self.asks) {
            (Some(debt), Some(more)) if !self.charge.shadow => {
                ledger.note(&self.key, self.terms, Told { more, debt, taken, asked });
            }
            _ => self.unanswered(ledger),
        }
    }

    /// Lets others ask for more in its place.
    fn unanswered(&self, ledger: &Ledger) {
        if self.asks > Some(0) {
            ledger.unanswered(&self.key);
        }
    }

    /// Gives back what was had of the ledger, for a call that is not let in.
    fn undo(&self, ledger: &Ledger) {
        match self.asks {
            None => ledger.put_back(&self.key, self.terms),
            Some(_) => self.unanswered(ledger),
        }
    }
}

/// What a client is told: how it stands after the call, or how it would stand if the call had cost nothing.
fn verdict(entries: &[Entry<'_>], refused: bool) -> Verdict {
    let decision = |entry: &Entry<'_>| {
        let (debt, rate) = (entry.debt?, entry.charge.rate);
        // On a clock that begins now, a debt is when it is paid.
        let (_, decision) = rate.take(0, debt, entry.charge.cost);
        Some(if refused && decision.allowed { rate.peek(0, debt) } else { decision })
    };
    Verdict { decisions: entries.iter().map(decision).collect(), refused }
}

/// `PREFIX:{CALLER}:LIMIT`, where what stands in braces decides on which server of a cluster it is: all limits of one
/// caller that tell callers apart alike are together.
fn key(prefix: &str, charge: &Charge<'_>) -> Box<[u8]> {
    let mut key = Vec::with_capacity(prefix.len() + charge.limit.len() + charge.key.parts().len() + 8);
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(b":{");
    escape(charge.key.parts(), &mut key);
    key.extend_from_slice(b"}:");
    escape(charge.limit.as_bytes(), &mut key);
    key.into()
}

/// Percent-encodes what operators could not read, or what would end the braces.
fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.:/@+*".contains(byte) {
            into.push(*byte);
        } else {
            let digit = |nibble: u8| DIGITS[usize::from(nibble & 0xf)];
            into.extend_from_slice(&[b'%', digit(byte >> 4), digit(*byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rate_limit::Quota;
    use crate::policy::rate_limit::{Gcra, Key};

    fn charge<'l>(limit: &'l str, parts: &[&str]) -> Charge<'l> {
        let mut key = Key::new(limit);
        parts.iter().for_each(|part| key.push(Some(part.as_bytes())));
        let rate = Gcra::new("10/s".parse::<Quota>().unwrap());
        Charge { limit, key, rate, cost: 1, shadow: false }
    }

    #[test]
    fn who_did_not_ask_for_more_lets_nobody_else_do_so() {
        let (ledger, now) = (Ledger::default(), Instant::now());
        let charge = charge("a", &["ann"]);
        let entry = || Entry::new(&charge, key("portico", &charge), 50);
        let taken = Told { more: 0, debt: 0, taken: true, asked: now };
        ledger.note(&entry().key, entry().terms, taken);
        let (mut asks_for_more, mut asks) = (entry(), entry());

        asks_for_more.look(&ledger, now);
        asks.look(&ledger, now);
        asks.undo(&ledger);

        assert_eq!((asks_for_more.asks, asks.asks), (Some(1), Some(0)));
        assert_eq!(ledger.look(&asks.key, asks.terms, now), Known::Ask(0), "the first one is still on its way");
    }

    #[test]
    fn keys_can_be_read_and_keep_their_braces() {
        let shown = |limit, parts: &[&str]| String::from_utf8(key("portico", &charge(limit, parts)).into()).unwrap();

        assert_eq!(shown("by-user", &["alice"]), "portico:{%05alice}:by-user");
        assert_eq!(shown("a.B/* x", &["}{", "ü"]), "portico:{%02%7D%7B%02%C3%BC}:a.B/*%20x");
        assert_eq!(shown("all", &[]), "portico:{}:all");
    }
}
