//! Limits that need a call's messages: on how many there are, and on a field of the first one.
//!
//! A [`Gate`] stands between a request's frames and the upstream, where every protocol's messages are protobuf in frames of
//! gRPC, so that it sees what the service will see. It holds the first message back until the limits on its fields have
//! let it pass, and counts each message as its frame begins. Only methods that have such limits have a gate.
//!
//! **Invariant**: nothing of a message that is refused reaches the upstream. What is held back is at most one message and
//! the piece in which it ended.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::limits::Refusal;
use super::pump::Source;
use super::worker::Worker;
use crate::config::rate_limit::{Missing, Quota};
use crate::encoding::{self, Encoding};
use crate::error::Error;
use crate::grpc::frame::{PREFIX, Scanner};
use crate::policy::rate_limit::{Charge, Decision, Gcra, Key, Limit, Plan, fields};
use crate::telemetry::metrics::LimitMetrics;

/// The limits of one call that need its messages.
#[derive(Debug)]
pub(crate) struct Gate {
    worker: Rc<Worker>,
    plan: Rc<Plan>,
    /// Charged once, when the first message is there.
    first: Vec<Pending>,
    /// Charged for each message.
    each: Vec<Pending>,
    /// What the fields of the first message were, in the order of the plan; `None` until it is there.
    values: Option<Values>,
    told: SmallVec<[fields::Told; 2]>,
}

/// The first message of a request.
#[derive(Clone, Copy)]
enum First<'m> {
    /// The request ended without one.
    None,
    /// It cannot be inflated.
    Unreadable,
    Message(&'m [u8]),
}

/// A limit whose key may still lack fields of the first message.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its index in the plan.
    pub(super) limit: usize,
    pub(super) tier: Option<Box<str>>,
    pub(super) quota: Quota,
    pub(super) rate: Gcra,
    pub(super) cost: u32,
    pub(super) key: Vec<Segment>,
    pub(super) metrics: Arc<LimitMetrics>,
}

/// A part of a key.
#[derive(Debug)]
pub(super) enum Segment {
    Known(Key),
    /// By its index in the plan.
    Field(usize),
}

#[derive(Debug, Default)]
struct Values {
    fields: Vec<Option<Vec<u8>>>,
    /// Whether the message could not be read, so that nobody is spared for lack of a field.
    unreadable: bool,
}

impl Gate {
    pub(super) fn new(worker: Rc<Worker>, plan: Rc<Plan>, first: Vec<Pending>, each: Vec<Pending>) -> Option<Self> {
        if first.is_empty() && each.is_empty() {
            return None;
        }
        Some(Self { worker, plan, first, each, values: None, told: SmallVec::new() })
    }

    /// Whether the first message must be seen before anything is sent.
    fn waits(&self) -> bool {
        let needs = |pending: &&Pending| self.limit(pending).config.needs_message();
        self.values.is_none() && (!self.first.is_empty() || self.each.iter().any(|pending| needs(&pending)))
    }

    /// The first message is there, or it is known that there is none.
    fn first(&mut self, message: First<'_>) -> Result<(), Error> {
        let mut values = Values { fields: Vec::new(), unreadable: matches!(message, First::Unreadable) };
        for (_, probe) in self.plan.fields() {
            let found = match (probe, message) {
                (Some(probe), First::Message(message)) => probe.find(message),
                (_, First::None | First::Unreadable) | (None, First::Message(_)) => Ok(None),
            };
            values.unreadable |= found.is_err();
            values.fields.push(found.unwrap_or_default());
        }
        self.values = Some(values);
        let first = std::mem::take(&mut self.first);
        self.charge(&first, true)
    }

    /// A message is there whole, of a request that is answered here.
    pub(super) fn message(&mut self, message: &[u8]) -> Result<(), Error> {
        if self.waits() {
            self.first(First::Message(message))?;
        }
        self.messages(1)
    }

    /// So many more messages begin.
    pub(crate) fn messages(&mut self, count: u64) -> Result<(), Error> {
        let each = std::mem::take(&mut self.each);
        let charged = (0..count).try_for_each(|_| self.charge(&each, false));
        self.each = each;
        charged
    }

    fn charge(&mut self, limits: &[Pending], tell: bool) -> Result<(), Error> {
        let charges: SmallVec<[(&Pending, Charge<'_>); 2]> = limits
            .iter()
            .filter_map(|pending| {
                let key = self.key(pending)?;
                let Pending { rate, cost, .. } = pending;
                let limit = self.limit(pending);
                let shadow = limit.config.shadow;
                Some((pending, Charge { limit: &limit.config.id, key, rate: *rate, cost: *cost, shadow }))
            })
            .collect();
        let (pending, charges): (Vec<_>, Vec<_>) = charges.into_iter().unzip();
        let store = &self.worker.shared.limits;
        let verdict = store.charge(&charges, store.clock(Instant::now()));
        let mut refusal = Refusal::default();
        for (pending, decision) in pending.into_iter().zip(&verdict.decisions) {
            let Pending { tier, quota, metrics, .. } = pending;
            let limit = self.limit(pending);
            if !(verdict.refused && decision.allowed) {
                metrics.count(decision.allowed, limit.config.shadow);
            }
            metrics.overflowed.add(verdict.overflowed.into());
            refusal.note(limit, tier.as_deref(), decision);
            if tell && !limit.config.shadow {
                let told = fields::Told::rate(limit, *quota, decision);
                self.told.push(told);
            }
        }
        if verdict.refused { Err(refusal.error()) } else { Ok(()) }
    }

    fn limit(&self, pending: &Pending) -> &Limit {
        &self.plan.limits()[pending.limit]
    }

    /// What each message is charged to; `None` when the limit is not for this caller.
    fn key(&self, pending: &Pending) -> Option<Key> {
        let mut key = Key::empty();
        for segment in &pending.key {
            match segment {
                Segment::Known(known) => key.extend(known),
                Segment::Field(index) => {
                    let values = self.values.as_ref();
                    let value = values.and_then(|values| values.fields.get(*index)?.as_deref());
                    let spared = value.is_none() && !values.is_some_and(|values| values.unreadable);
                    if spared && self.limit(pending).config.missing == Missing::Skip {
                        return None;
                    }
                    key.push(value);
                }
            }
        }
        Some(key)
    }

    /// What the client may be told before its first message: limits on messages whose key is known.
    pub(super) fn peek(&self) -> impl Iterator<Item = fields::Told> {
        let store = &self.worker.shared.limits;
        let now = store.clock(Instant::now());
        self.each
            .iter()
            .filter(|pending| !self.limit(pending).config.shadow && !self.limit(pending).config.needs_message())
            .filter_map(move |pending| {
                let Pending { quota, rate, cost, .. } = pending;
                let limit = self.limit(pending);
                let key = self.key(pending)?;
                let charge = Charge { limit: &limit.config.id, key, rate: *rate, cost: *cost, shadow: false };
                let decision: Decision = store.peek(&charge, now);
                Some(fields::Told::rate(limit, *quota, &decision))
            })
    }
}

/// A request's frames behind a gate.
#[derive(Debug)]
pub(crate) struct Gated {
    source: Source,
    gate: Gate,
    /// How compressed messages are.
    encoding: Option<Encoding>,
    scanner: Scanner,
    limit: usize,
    /// Read, not yet let through.
    held: BytesMut,
    /// Bytes for which the client's window was opened before the upstream took them.
    prepaid: usize,
    ended: bool,
}

impl Gated {
    pub(super) fn new(source: Source, gate: Gate, encoding: Option<Encoding>, limit: usize) -> Self {
        let scanner = Scanner::new(limit.saturating_add(1));
        Self { source, gate, encoding, scanner, limit, held: BytesMut::new(), prepaid: 0, ended: false }
    }

    /// What is behind the gate.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The frame of a call that has one, made here and not read yet from the gate.
    pub(super) fn frame(&self) -> Option<Bytes> {
        match &self.source {
            // It was taken out of the source for the limits on the first message.
            Source::End => Some(Bytes::copy_from_slice(&self.held)),
            source => source.frame(),
        }
    }

    /// Bytes that wait for the rest of the first message.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn told(&mut self) -> SmallVec<[fields::Told; 2]> {
        std::mem::take(&mut self.gate.told)
    }

    /// Reads until the first message has been let through, if it must be.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.gate.waits() {
            match ready!(self.source.poll_next(cx)) {
                Some(data) => {
                    let data = data?;
                    self.count(&data)?;
                    self.source.release(data.len());
                    self.prepaid += data.len();
                    self.held.extend_from_slice(&data);
                    if let Some(message) = whole(&self.held) {
                        let plain = self.plain(message);
                        self.gate.first(plain.as_deref().map_or(First::Unreadable, First::Message))?;
                        self.begin()?;
                    }
                }
                None => {
                    self.ended = true;
                    self.gate.first(First::None)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        ready!(self.poll_open(cx))?;
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(self.held.split().freeze())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.source.poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(data)) => Some(self.count(&data).map(|()| data)),
            other => other,
        })
    }

    /// Whether the end is known already.
    pub(super) fn is_end(&self) -> bool {
        self.held.is_empty() && !self.gate.waits() && (self.ended || self.source.is_end())
    }

    /// The upstream took bytes of the client's.
    pub(super) fn release(&mut self, bytes: usize) {
        let paid = bytes.min(self.prepaid);
        self.prepaid -= paid;
        self.source.release(bytes - paid);
    }

    /// Counts the messages that begin in these bytes, once the first one has been let through.
    fn count(&mut self, data: &[u8]) -> Result<(), Error> {
        let before = self.scanner.messages();
        // The frames are checked by who made them or passed them on.
        self.scanner.scan(data).ok();
        let begun = self.scanner.messages() - before;
        if self.gate.waits() { Ok(()) } else { self.gate.messages(begun) }
    }

    /// Counts what began before the first message was whole.
    fn begin(&mut self) -> Result<(), Error> {
        self.gate.messages(self.scanner.messages())
    }

    /// A message inflated, `None` if it cannot be.
    fn plain(&self, (compressed, message): (bool, &[u8])) -> Option<Bytes> {
        if !compressed {
            return Some(Bytes::copy_from_slice(message));
        }
        encoding::inflated(self.encoding?, message, self.limit).ok()
    }
}

/// The first message of some frames, if it is whole, and whether it is compressed.
fn whole(frames: &[u8]) -> Option<(bool, &[u8])> {
    let (&[flags, a, b, c, d], rest) = frames.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    Some((flags & 1 == 1, rest.get(..length)?))
}
