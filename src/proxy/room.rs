//! Room for whole replies: what the large ones of a connection may take together while they wait for its client.
//!
//! A stream holds its upstream back when the client does not read it. A reply that is made whole cannot: it lies here until
//! it is taken. So a large one is let in only when there is room; until then no more of it is read than the upstream's window
//! has let through. Who takes next to nothing while others wait loses its place to them.
//!
//! Only HTTP/2 has several replies at once. Small ones, which are all but a few, never come here.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Version;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Peer;
use super::call::Call;
use super::exchange::too_slow;
use super::upstream_body::UpstreamBody;
use crate::error::Error;

/// Bytes of a reply that needs no room, and what each stream that a connection may have adds to its room: 25 MiB for the
/// usual hundred.
const SHARE: usize = 256 << 10;
/// What room is counted in.
const UNIT: usize = 1 << 10;
/// What is handed out of a reply at once: as much as the server sends at once.
pub(super) const PIECE: usize = 64 << 10;
/// A client has so long to take a [`PIECE`] while others wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two replies that lose their places, so that the room of the first is used before the second one goes.
const PAUSE: Duration = Duration::from_secs(1);

/// The room of one connection.
#[derive(Debug)]
pub(crate) struct Room {
    units: usize,
    free: Arc<Semaphore>,
    guests: RefCell<Vec<Weak<Guest>>>,
}

/// What a reply takes of it, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
    room: Rc<Room>,
    guest: Rc<Guest>,
}

/// A reply that waits for its client.
#[derive(Debug)]
struct Guest {
    /// When the last piece was taken.
    moved: Cell<Instant>,
    /// Whether it is to leave.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Room {
    /// For a connection that may have so many streams.
    pub(super) fn new(streams: u32) -> Rc<Self> {
        let units = streams as usize * (SHARE / UNIT);
        Rc::new(Self { units, free: Arc::new(Semaphore::new(units)), guests: RefCell::default() })
    }

    /// What so many bytes take. A reply that is larger than the room takes all of it.
    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).min(self.units)).unwrap_or(u32::MAX)
    }

    /// Waits for room, first come, first served.
    async fn enter(self: Rc<Self>, bytes: usize) -> Place {
        let mut permit = pin!(Arc::clone(&self.free).acquire_many_owned(self.units_of(bytes)));
        let mut look = Instant::now();
        loop {
            match timeout_at(look, permit.as_mut()).await {
                Ok(permit) => return self.place(permit.expect("nobody closes it")),
                Err(_) => look = self.end_slowest(),
            }
        }
    }

    fn place(self: Rc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let guest = Guest { moved: Cell::new(Instant::now()), ended: Cell::new(false), waker: RefCell::default() };
        Place { permit, room: self, guest: Rc::new(guest) }
    }

    /// Ends the reply of which nothing was taken for longest, if that is too long. Returns when to look again.
    fn end_slowest(&self) -> Instant {
        let now = Instant::now();
        let guests = self.guests.borrow();
        let Some(slowest) = guests.iter().filter_map(Weak::upgrade).min_by_key(|guest| guest.moved.get()) else {
            return now + PATIENCE;
        };
        let due = slowest.moved.get() + PATIENCE;
        if due > now {
            return due;
        }
        slowest.ended.set(true);
        if let Some(waker) = slowest.waker.take() {
            waker.wake();
        }
        now + PAUSE
    }
}

impl Place {
    /// The reply is here, with so many bytes, and waits for its client from now on.
    pub(super) fn settle(&mut self, bytes: usize) {
        let spare = self.permit.num_permits().saturating_sub(self.room.units_of(bytes) as usize);
        drop(self.permit.split(spare));
        self.taken();
        let mut guests = self.room.guests.borrow_mut();
        guests.retain(|guest| guest.strong_count() > 0);
        guests.push(Rc::downgrade(&self.guest));
    }

    /// The client took a piece.
    pub(super) fn taken(&self) {
        self.guest.moved.set(Instant::now());
    }

    /// Ready when the reply has to make room for others.
    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        if self.guest.ended.get() {
            return Poll::Ready(());
        }
        self.guest.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// A reply on its way in, while it is read.
pub(super) struct Arrival<'p> {
    /// Whose room it needs; nobody's if it goes to no client, or is the only one on its connection.
    peer: Option<&'p Peer>,
    waiting: Option<Pin<Box<dyn Future<Output = Place>>>>,
    /// Since when there was no room for it, if there was none.
    pub(super) since: Option<Instant>,
    pub(super) place: Option<Place>,
    /// Bytes read meanwhile, for which the upstream's window is still closed.
    owed: usize,
}

impl<'p> Arrival<'p> {
    /// Of the reply to that call.
    pub(super) fn of(call: &'p Call) -> Self {
        Self { peer: (call.version == Version::HTTP_2).then_some(&*call.peer), ..Self::free() }
    }

    /// Of a reply that needs no room.
    pub(super) fn free() -> Self {
        Self { peer: None, waiting: None, since: None, place: None, owed: 0 }
    }

    /// So many bytes more were read, of a message of that length.
    ///
    /// # Errors
    /// The reply would have to wait, and too many do.
    pub(super) fn read(&mut self, bytes: usize, length: usize, body: &mut UpstreamBody) -> Result<(), Error> {
        // The message, and what is written of it.
        let wanted = length.saturating_mul(2);
        if let Some(peer) = self.peer.take_if(|_| wanted > SHARE) {
            self.waiting = Some(Box::pin(Rc::clone(peer.room()).enter(wanted)));
        }
        if self.waiting.is_none() {
            body.release(bytes);
            return Ok(());
        }
        self.owed += bytes;
        if body.lease.hold(self.owed) { Ok(()) } else { Err(too_slow()) }
    }

    /// Ready when it does not wait.
    pub(super) fn poll(&mut self, body: &mut UpstreamBody, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.waiting {
            let Poll::Ready(place) = waiting.as_mut().poll(cx) else {
                self.since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            };
            (self.waiting, self.place) = (None, Some(place));
            body.lease.hold(0);
            body.release(std::mem::take(&mut self.owed));
        }
        Poll::Ready(())
    }
}

/// Sees to it that a reply which is written has room, also if it became much larger than its message.
///
/// # Errors
/// There is not so much left.
pub(super) fn keep(call: &mut Call, bytes: usize) -> Result<(), Error> {
    if call.version != Version::HTTP_2 || bytes <= SHARE {
        call.place = None;
        return Ok(());
    }
    let room = Rc::clone(call.peer.room());
    let has = call.place.as_ref().map_or(0, |place| place.permit.num_permits());
    let missing = room.units_of(bytes).saturating_sub(u32::try_from(has).unwrap_or(u32::MAX));
    let more = Arc::clone(&room.free).try_acquire_many_owned(missing).map_err(|_| too_slow())?;
    match &mut call.place {
        Some(place) => place.permit.merge(more),
        None => call.place = Some(room.place(more)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Rc<Room> {
        Room::new(4)
    }

    async fn enter(room: &Rc<Room>, shares: usize) -> Place {
        let mut place = Rc::clone(room).enter(shares * SHARE).await;
        place.settle(shares * SHARE);
        place
    }

    /// Whether so much fits now.
    async fn fits(room: &Rc<Room>, shares: usize) -> bool {
        timeout_at(Instant::now(), Rc::clone(room).enter(shares * SHARE)).await.is_ok()
    }

    fn is_ended(place: &Place) -> bool {
        place.poll_ended(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn one_reply_may_be_larger_than_the_room() {
        let room = room();

        let large = enter(&room, 100).await;
        assert!(!fits(&room, 1).await);
        drop(large);

        assert!(fits(&room, 4).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_takes_no_more_than_it_turns_out_to_have() {
        let room = room();

        let mut place = enter(&room, 4).await;
        place.settle(SHARE);

        assert!(fits(&room, 3).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_reply_that_stood_still_for_longest_makes_room() {
        let room = room();
        let stuck = enter(&room, 2).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let slow = enter(&room, 2).await;

        let entering = tokio::task::LocalSet::new();
        let next = Rc::clone(&room);
        let next = entering.spawn_local(async move { enter(&next, 2).await });
        let began = Instant::now();
        entering.run_until(async { std::future::poll_fn(|cx| stuck.poll_ended(cx)).await }).await;
        assert_eq!(began.elapsed(), PATIENCE - Duration::from_secs(1));
        drop(stuck);
        entering.run_until(next).await.expect("there is room");

        assert!(!is_ended(&slow));
    }

    #[tokio::test(start_paused = true)]
    async fn replies_that_are_read_stay_and_nobody_leaves_for_nobody() {
        let room = room();
        let place = enter(&room, 4).await;
        for _ in 0..10 {
            assert!(timeout_at(Instant::now() + PATIENCE / 2, enter(&room, 1)).await.is_err());
            place.taken();
        }
        assert!(!is_ended(&place));

        tokio::time::advance(100 * PATIENCE).await;

        assert!(!is_ended(&place));
    }
}
