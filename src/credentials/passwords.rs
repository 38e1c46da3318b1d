//! Checks passwords, which is slow on purpose, beside the calls and never many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::files::File;
use crate::config::accounts::Account;
use crate::config::password::PasswordHash;

/// The users of a provider.
#[derive(Debug)]
pub(super) struct Passwords {
    users: Arc<File<Vec<Account<PasswordHash>>>>,
    control: Option<Handle>,
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Passwords {
    pub(super) fn new(users: Arc<File<Vec<Account<PasswordHash>>>>, control: Option<Handle>) -> Self {
        Self { users, control, turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }

    pub(super) fn users(&self) -> &Arc<File<Vec<Account<PasswordHash>>>> {
        &self.users
    }

    /// Whose name and password these are, if anybody's.
    ///
    /// # Errors
    /// Nobody could look, because too many wait.
    pub(super) async fn check(
        &self,
        name: &[u8],
        password: &[u8],
    ) -> Result<Option<Account<PasswordHash>>, &'static str> {
        let control = self.control.as_ref().ok_or("offline")?;
        let _waiting = Waiting::begin(&self.waiting).ok_or("busy")?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| "busy")?;
        let users = self.users.contents();
        let (name, password) = (name.to_vec(), password.to_vec());
        let looked = control.spawn_blocking(move || {
            let _turn = turn;
            let user = users.iter().find(|user| user.name.as_bytes() == name);
            // Whoever is not there takes as long as whoever is, so that names cannot be found out.
            let hash = user.or_else(|| users.first()).map(|user| &user.secret)?;
            let good = hash.verifies(&password);
            user.filter(|_| good).cloned()
        });
        looked.await.map_err(|_| "broken")
    }
}

/// One of those that wait, until it is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let waiting = Self(Arc::clone(count));
        (before < MOST).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Passwords that are checked side by side; each may take many megabytes.
const AT_ONCE: usize = 2;
/// Calls that wait for their turn.
const MOST: usize = 64;
