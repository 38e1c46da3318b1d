//! What this process knows of limits that are counted elsewhere, so that most calls need not ask.
//!
//! Two things can be known. *Tokens in advance*: of a caller that comes often more is taken than it needs, twice as much
//! each time up to a part of its burst, and its next calls are let in by that. *A refusal that still holds*: a debt shrinks
//! by a second each second and no faster, so until a limit can have room again nobody needs to ask.
//!
//! ```text
//!  call ──▶ tokens here? ──▶ refused lately? ──▶ ask for what it costs, and for more
//!                │ yes               │ yes
//!                ▼                   ▼
//!             let in              refused             without a question
//! ```
//!
//! **Invariant**: tokens are paid for before they are used, and lapse after [`LIFETIME`]. So within any time `t` all gateways
//! together let in at most `burst + t / interval`, and beside it what each had in advance when `t` began, which is at most
//! its [`Terms::most`]. What is not known here, or finds no room here, is asked for.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

/// What is known of all callers, for all workers.
#[derive(Debug)]
pub struct Ledger {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

/// Alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    known: HashMap<Box<[u8]>, Account>,
    /// When those that nothing is known of any more were last looked for.
    swept: Option<Instant>,
}

/// What is known of one caller of one limit.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Taken in advance and not used yet.
    tokens: u64,
    /// How many may be here the next time.
    batch: u64,
    /// Since when somebody asks for more.
    asking: Option<Instant>,
    /// The debt when it was last told, in nanoseconds, with everything that was taken then.
    debt: u64,
    /// When it was asked for.
    told: Instant,
    /// Until when a refusal is believed.
    refused: Option<Instant>,
}

/// What a call takes from a limit, and how much may be taken in advance.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Nanoseconds from one token to the next, at least 1.
    pub interval: u64,
    /// Nanoseconds that the burst is worth.
    pub capacity: u64,
    /// Tokens that the call takes.
    pub cost: u64,
    /// Tokens that may be here at once; 0 where nothing is taken in advance.
    pub most: u64,
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is paid for; before it the limit was in debt so many nanoseconds, as far as is known.
    Paid(u64),
    /// There is no room for it; the limit is in debt so many nanoseconds, or more.
    Refused(u64),
    /// It is to be asked for, and so many tokens more with it.
    Ask(u64),
}

/// An answer to a question.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Tokens that were asked for beside what the call costs.
    pub more: u64,
    /// Nanoseconds that the limit was in debt before.
    pub debt: u64,
    /// Whether the call's cost was taken.
    pub taken: bool,
    /// When it was asked.
    pub asked: Instant,
}

impl Terms {
    fn price(self) -> u64 {
        self.cost.saturating_mul(self.interval)
    }

    /// How far the call goes beyond what there is room for.
    fn excess(self, debt: u64) -> u64 {
        debt.saturating_add(self.price()).saturating_sub(self.capacity)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

impl Ledger {
    /// What is known. The answer to what is then asked is to be told by [`Ledger::note`].
    pub fn look(&self, key: &[u8], terms: Terms, now: Instant) -> Known {
        let mut accounts = self.shard(key);
        let Some(account) = accounts.known.get_mut(key) else { return Known::Ask(0) };
        let debt = account.debt_at(now);
        let is_fresh = now.saturating_duration_since(account.told) < LIFETIME;
        if !is_fresh {
            (account.tokens, account.batch) = (0, 0);
        }
        if terms.most > 0
            && let Some(left) = account.tokens.checked_sub(terms.cost)
        {
            let unused = account.tokens.saturating_mul(terms.interval);
            account.tokens = left;
            return Known::Paid(debt.saturating_sub(unused));
        }
        if account.refused.is_some_and(|until| now < until) && terms.excess(debt) > 0 {
            return Known::Refused(debt);
        }
        // Who asks for more is alone, so that there is never more than the most.
        let others = account.asking.is_some_and(|since| now.saturating_duration_since(since) < LIFETIME);
        if !is_fresh || others || terms.most == 0 {
            return Known::Ask(0);
        }
        account.batch = account.batch.saturating_mul(2).clamp(1, terms.most);
        account.asking = Some(now);
        Known::Ask(account.batch.saturating_sub(account.tokens))
    }

    /// Notes an answer.
    pub fn note(&self, key: &[u8], terms: Terms, told: Told) {
        let refused = if told.taken { 0 } else { terms.excess(told.debt) };
        let mut accounts = self.shard(key);
        let account = match accounts.known.get_mut(key) {
            Some(account) => account,
            // Nothing is to be remembered of what is asked for each time.
            None if terms.most == 0 && refused == 0 => return,
            None => {
                if !accounts.has_room(told.asked) {
                    return;
                }
                accounts.known.entry(key.into()).or_insert_with(|| Account::new(told.asked))
            }
        };
        let gained = terms.gained(told);
        account.debt = told.debt.saturating_add(if told.taken { terms.price() } else { 0 });
        account.debt = account.debt.saturating_add(gained.saturating_mul(terms.interval));
        account.told = told.asked;
        account.tokens = account.tokens.saturating_add(gained).min(terms.most);
        if told.more > 0 {
            account.asking = None;
        }
        // Not believed for too long: somebody may give back, or clear the counter by hand.
        account.refused = (refused > 0).then(|| told.asked + Duration::from_nanos(refused).min(LIFETIME));
    }

    /// Notes that there was no answer to a question that asked for more, or that it was not asked after all.
    pub fn unanswered(&self, key: &[u8]) {
        if let Some(account) = self.shard(key).known.get_mut(key) {
            account.asking = None;
        }
    }

    /// Puts back what a call had by [`Known::Paid`] and did not need after all.
    pub fn put_back(&self, key: &[u8], terms: Terms) {
        if let Some(account) = self.shard(key).known.get_mut(key) {
            account.tokens = (account.tokens + terms.cost).min(terms.most);
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Accounts> {
        let index = usize::from(self.hasher.hash_one(key).to_le_bytes()[0]) % SHARDS;
        self.shards[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    /// Tokens that came in advance.
    fn gained(self, told: Told) -> u64 {
        let room = self.capacity.saturating_sub(told.debt.saturating_add(self.price()));
        if told.taken { told.more.min(room / self.interval.max(1)) } else { 0 }
    }
}

impl Accounts {
    fn has_room(&mut self, now: Instant) -> bool {
        if self.known.len() < MAX_ACCOUNTS {
            return true;
        }
        // Looked for now and then only: where all are new, looking is in vain.
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= LIFETIME / 4) {
            self.swept = Some(now);
            self.known.retain(|_, account| now.saturating_duration_since(account.told) < LIFETIME);
        }
        self.known.len() < MAX_ACCOUNTS
    }
}

impl Account {
    fn new(now: Instant) -> Self {
        Self { tokens: 0, batch: 0, asking: None, debt: 0, told: now, refused: None }
    }

    fn debt_at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.told).as_nanos();
        self.debt.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

/// How long something is known. So long may tokens lie with a gateway that has no use for them.
pub const LIFETIME: Duration = Duration::from_secs(1);
const SHARDS: usize = 128;
/// Callers that a shard remembers; the others are asked for each time.
const MAX_ACCOUNTS: usize = 1024;

#[cfg(test)]
mod tests;
