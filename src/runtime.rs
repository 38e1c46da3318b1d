//! The threads: data-plane workers, each a current-thread runtime, and the control runtime beside them.
//!
//! A worker takes jobs (accepted sockets) and runs them as tasks that never leave its thread, so what they share needs
//! no lock. Nothing here knows what a job is. Invariant: a job counts as live from the moment it is handed over until
//! its [`Ticket`] is dropped, whichever way its task ends.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime, Runtime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Jobs that wait for one worker; whoever hands over more waits.
const QUEUE: usize = 256;
const CONTROL_THREADS: usize = 2;

/// Tasks that panicked since the start of the process.
static PANICS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static TASKS: Cell<usize> = const { Cell::new(0) };
}

/// Resident memory of the process, in bytes; `None` where the system does not tell (anywhere but on Linux).
pub fn resident_memory() -> Option<usize> {
    // In kilobytes, whatever the size of a page: proc_pid_status(5).
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Spawns a task on the current worker; it may hold what is not [`Send`].
///
/// A panic ends the task alone: it is logged under `name`, counted by [`panics`], and the handle reports it.
/// Dropping the handle lets the task run on.
///
/// # Panics
/// Outside a worker's thread.
#[allow(clippy::disallowed_methods, reason = "the one place that spawns local tasks")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // Made before the task is first polled, so that a task which never ran is counted down too. A struct and not an
    // async block, which would hold the future twice: every task is copied when it is made and when it ends.
    tokio::task::spawn_local(Watched { future, _watch: Watch::new(name) })
}

pin_project_lite::pin_project! {
    /// A task's future and what is known of it.
    struct Watched<F> {
        #[pin]
        future: F,
        _watch: Watch,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

/// Tasks spawned by [`spawn`] that are alive on this thread.
pub fn tasks() -> usize {
    TASKS.get()
}

/// Tasks of the whole process that ended in a panic.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The runtime for everything that is not a call: listeners, discovery, the admin address.
///
/// # Errors
/// The system refuses threads or the means to wait for input.
pub fn control() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(CONTROL_THREADS).thread_name("control").enable_all().build()
}

/// Counts a task and notices when it unwinds.
struct Watch(&'static str);

impl Watch {
    fn new(name: &'static str) -> Self {
        TASKS.set(TASKS.get() + 1);
        Self(name)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        TASKS.set(TASKS.get().saturating_sub(1));
        if thread::panicking() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

/// The data-plane threads. Jobs of type `J` go to whichever has the fewest live ones.
pub struct Workers<J> {
    load: Arc<Load>,
    queues: Vec<mpsc::Sender<(J, Ticket)>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl<J: Send + 'static> Workers<J> {
    /// Starts `count` threads (at least one) and returns once each is ready.
    ///
    /// `build` runs once on every worker's thread, inside its runtime, and gives what takes that worker's jobs; the job's
    /// ticket is to be dropped when the job is over.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start<B, T>(count: usize, build: B) -> io::Result<Self>
    where
        B: Fn(usize) -> T + Send + Sync + 'static,
        T: Fn(J, Ticket) + 'static,
    {
        let build = Arc::new(build);
        let load = Arc::new(Load::new(count.max(1)));
        let mut workers = Self { load, queues: Vec::new(), threads: Vec::new() };
        for index in 0..count.max(1) {
            let (queue, jobs) = mpsc::channel(QUEUE);
            let (ready, started) = oneshot::channel();
            let build = Arc::clone(&build);
            let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                work(|| build(index), jobs, ready);
            })?;
            started.blocking_recv().map_err(|_| io::Error::other("worker ended while it was built"))??;
            workers.queues.push(queue);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Gives a job to the least loaded worker that still runs, waiting while its queue is full. A job for stopped workers is
    /// dropped.
    ///
    /// # Cancel safety
    /// The job is either handed over or dropped.
    pub async fn hand(&self, job: J) {
        // One that panicked has nothing to do and would get every job.
        let runs = |worker: usize| self.queues.get(worker).is_some_and(|queue| !queue.is_closed());
        let worker = self.load.least(runs);
        let ticket = self.load.take(worker);
        if let Some(queue) = self.queues.get(worker)
            && queue.send((job, ticket)).await.is_err()
        {
            tracing::error!(worker, "job dropped because its worker has ended");
        }
    }

    /// Jobs that are queued or running, over all workers.
    pub fn live(&self) -> usize {
        self.load.total()
    }

    /// Returns once no job is live. More may still be handed over by others.
    pub async fn drained(&self) {
        loop {
            let emptied = self.load.emptied.notified();
            tokio::pin!(emptied);
            // Listens before it looks, so that the last ticket cannot be dropped unseen in between.
            emptied.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Ends the threads with every task that still runs on them. Blocks; not for use inside a runtime.
    pub fn stop(mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("worker panicked");
            }
        }
    }
}

impl<J> fmt::Debug for Workers<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// The body of a worker's thread.
fn work<J, T>(build: impl FnOnce() -> T, mut jobs: mpsc::Receiver<(J, Ticket)>, ready: oneshot::Sender<io::Result<()>>)
where
    T: Fn(J, Ticket),
{
    let runtime: io::Result<LocalRuntime> =
        Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            ready.send(Err(error)).ok();
            return;
        }
    };
    runtime.block_on(async move {
        let take = build();
        ready.send(Ok(())).ok();
        while let Some((job, ticket)) = jobs.recv().await {
            take(job, ticket);
        }
    });
}

/// Stands for one live job of one worker.
#[derive(Debug)]
pub struct Ticket {
    load: Arc<Load>,
    worker: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(live) = self.load.live.get(self.worker) {
            live.0.fetch_sub(1, Ordering::AcqRel);
        }
        if self.load.total() == 0 {
            self.load.emptied.notify_waiters();
        }
    }
}

/// Live jobs by worker.
#[derive(Debug)]
struct Load {
    live: Box<[Padded]>,
    emptied: Notify,
}

/// On a cache line of its own: each worker writes its count often.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicUsize);

impl Load {
    fn new(workers: usize) -> Self {
        Self { live: (0..workers).map(|_| Padded::default()).collect(), emptied: Notify::new() }
    }

    /// The worker with the fewest jobs, of those that run.
    fn least(&self, runs: impl Fn(usize) -> bool) -> usize {
        let running = self.live.iter().enumerate().filter(|(worker, _)| runs(*worker));
        let by_load = running.min_by_key(|(_, live)| live.0.load(Ordering::Relaxed));
        by_load.map_or(0, |(worker, _)| worker)
    }

    fn take(self: &Arc<Self>, worker: usize) -> Ticket {
        if let Some(live) = self.live.get(worker) {
            live.0.fetch_add(1, Ordering::AcqRel);
        }
        Ticket { load: Arc::clone(self), worker }
    }

    fn total(&self) -> usize {
        self.live.iter().map(|live| live.0.load(Ordering::Acquire)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::mpsc as blocking;

    use super::*;

    #[test]
    fn gives_no_job_to_a_worker_that_panicked() {
        let (seen, jobs) = blocking::channel();
        let workers = Workers::start(2, move |index| {
            let seen = seen.clone();
            move |_: (), _ticket| {
                assert!(index > 0, "the first one panics");
                seen.send(()).unwrap();
            }
        })
        .unwrap();
        let control = control().unwrap();

        control.block_on(workers.hand(()));
        while !workers.queues[0].is_closed() {
            thread::yield_now();
        }
        control.block_on(workers.hand(()));

        jobs.recv().expect("the other one runs it");
    }

    #[test]
    fn gives_each_job_to_the_least_loaded_worker() {
        let (seen, jobs) = blocking::channel();
        let workers = Workers::start(2, move |index| {
            let seen = seen.clone();
            move |_: (), ticket| seen.send((index, ticket)).unwrap()
        })
        .unwrap();
        let control = control().unwrap();

        control.block_on(async {
            workers.hand(()).await;
            workers.hand(()).await;
        });
        let (first, held) = jobs.recv().unwrap();
        let (second, released) = jobs.recv().unwrap();
        drop(released);
        control.block_on(workers.hand(()));
        let (third, _ticket) = jobs.recv().unwrap();

        assert_ne!(first, second);
        assert_eq!(third, second);
        drop(held);
    }

    #[test]
    fn outlives_a_panic_in_a_task_and_counts_it() {
        let before = panics();
        let (done, finished) = blocking::channel();
        let workers = Workers::start(1, move |_| {
            let done = done.clone();
            // What a worker shares between its jobs need not be Send.
            let served = Rc::new(Cell::new(0));
            move |fails: bool, ticket| {
                let (done, served) = (done.clone(), Rc::clone(&served));
                spawn("job", async move {
                    let _ticket = ticket;
                    served.set(served.get() + 1);
                    assert!(!fails, "as the test wants it");
                    done.send(served.get()).unwrap();
                });
            }
        })
        .unwrap();

        control().unwrap().block_on(async {
            workers.hand(true).await;
            workers.hand(false).await;
            workers.drained().await;
        });

        assert_eq!(finished.recv().unwrap(), 2);
        assert!(panics() > before);
        assert_eq!(workers.live(), 0);
        workers.stop();
    }
}
