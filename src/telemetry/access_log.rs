//! The access log's way out: from many workers to one file.
//!
//! A worker appends lines to a buffer of its own. One thread takes the buffers over in exchange for empty ones and
//! writes them, so that no worker ever waits for a disk or a pipe. The lock on a buffer is held for one line or for
//! one exchange, never during output. When the output is slower than the calls, a full buffer refuses further lines;
//! they are counted.
//!
//! ```text
//! asleep ── a line ──▶ gathering ── 200 ms, or a buffer is half full ──▶ writing ──▶ asleep
//! ```

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::line::Entry;
use super::metrics::Counter;
use crate::config::{self, LogFormat};

/// The log of the process. Dropping it writes what is there, as [`AccessLog::close`] does.
#[derive(Debug)]
pub struct AccessLog {
    /// `None` when the log is off.
    shared: Option<Arc<Shared>>,
}

impl AccessLog {
    /// Opens the output and starts the thread that writes to it. Lost lines are counted in `dropped`.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or there is no room for a thread.
    pub fn start(config: &config::AccessLog, dropped: Arc<Counter>) -> io::Result<Self> {
        match config {
            config::AccessLog::Off => Ok(Self { shared: None }),
            config::AccessLog::Stdout(format) => Self::with_output(io::stdout(), None, *format, dropped),
            config::AccessLog::File(path, format) => {
                let path = path.clone();
                let open = move || OpenOptions::new().append(true).create(true).open(&path);
                Self::with_output(open()?, Some(Box::new(open)), *format, dropped)
            }
        }
    }

    fn with_output<W: Write + Send + 'static>(
        output: W,
        open: Option<Open<W>>,
        format: LogFormat,
        dropped: Arc<Counter>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            format,
            dropped,
            buffers: Mutex::default(),
            signal: Mutex::default(),
            changed: Condvar::new(),
        });
        let reported = shared.dropped.value();
        let writer = Writer { shared: shared.clone(), output, open, spare: Vec::new(), reported };
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self { shared: Some(shared) })
    }

    /// Adds a buffer for one more worker.
    pub fn worker(&self) -> WorkerLog {
        let attach = |shared: &Arc<Shared>| {
            let buffer = Arc::new(Mutex::default());
            lock(&shared.buffers).push(Arc::clone(&buffer));
            Attached { shared: shared.clone(), buffer }
        };
        WorkerLog(self.shared.as_ref().map(attach))
    }

    /// Opens the file anew, after what was written until now is in the old one: so that it can be moved away. Does not wait.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            lock(&shared.signal).reopen = true;
            shared.changed.notify_all();
        }
    }

    /// Writes what the workers have left and ends the thread; later lines are lost. Gives up after two seconds when
    /// the output takes nothing. Blocks.
    pub fn close(&self) {
        let Some(shared) = &self.shared else { return };
        let mut signal = lock(&shared.signal);
        signal.close = true;
        shared.changed.notify_all();
        let closed = shared.changed.wait_timeout_while(signal, CLOSE_TIMEOUT, |signal| !signal.closed);
        drop(closed.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// One worker's end of the log.
#[derive(Debug, Clone)]
pub struct WorkerLog(Option<Attached>);

impl WorkerLog {
    /// Whether lines go anywhere; if not, an entry need not be made.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Appends a line. Never waits for the output; a line that finds no room is counted and lost.
    pub fn write(&self, entry: &Entry<'_>) {
        let Some(Attached { shared, buffer }) = &self.0 else { return };
        let mut buffer = lock(buffer);
        let before = buffer.bytes.len();
        if before >= BUFFER {
            drop(buffer);
            shared.dropped.add(1);
            return;
        }
        entry.write(&mut buffer.bytes, shared.format);
        buffer.lines += 1;
        let after = buffer.bytes.len();
        drop(buffer);
        // Only these two lines of a buffer touch what the workers share.
        if before == 0 || (before < BUFFER / 2 && after >= BUFFER / 2) {
            let mut signal = lock(&shared.signal);
            signal.lines = true;
            signal.urgent |= after >= BUFFER / 2;
            shared.changed.notify_all();
        }
    }
}

#[derive(Debug, Clone)]
struct Attached {
    shared: Arc<Shared>,
    buffer: Arc<Mutex<Buffer>>,
}

struct Shared {
    format: LogFormat,
    dropped: Arc<Counter>,
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    signal: Mutex<Signal>,
    changed: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("format", &self.format).field("signal", &self.signal).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
}

/// What workers and writer tell each other.
#[derive(Debug, Default)]
struct Signal {
    /// A buffer is not empty any more.
    lines: bool,
    /// A buffer is half full.
    urgent: bool,
    /// Open the output anew.
    reopen: bool,
    /// Write the rest and end.
    close: bool,
    /// The writer has ended.
    closed: bool,
}

type Open<W> = Box<dyn Fn() -> io::Result<W> + Send>;

/// The thread that writes.
struct Writer<W> {
    shared: Arc<Shared>,
    output: W,
    /// How it is opened anew, if it can be.
    open: Option<Open<W>>,
    /// Exchanged for a worker's buffer.
    spare: Vec<u8>,
    /// Lost lines that the diagnostics know of.
    reported: u64,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        while self.wait() {
            self.drain();
            self.reopen_if_asked();
        }
        self.drain();
        lock(&self.shared.signal).closed = true;
        self.shared.changed.notify_all();
    }

    /// Waits until there is something worth writing; `false` when the log is closed.
    fn wait(&self) -> bool {
        let shared = &self.shared;
        let signal = lock(&shared.signal);
        let wake = shared.changed.wait_while(signal, |signal| !signal.lines && !signal.reopen && !signal.close);
        let signal = wake.unwrap_or_else(PoisonError::into_inner);
        let wake = shared
            .changed
            .wait_timeout_while(signal, GATHER, |signal| !signal.urgent && !signal.reopen && !signal.close);
        let (mut signal, _) = wake.unwrap_or_else(PoisonError::into_inner);
        // Before the buffers are taken: whoever writes from here on signals again.
        signal.lines = false;
        signal.urgent = false;
        !signal.close
    }

    fn drain(&mut self) {
        let buffers = lock(&self.shared.buffers).clone();
        for buffer in buffers {
            let lines = {
                let mut buffer = lock(&buffer);
                std::mem::swap(&mut buffer.bytes, &mut self.spare);
                std::mem::take(&mut buffer.lines)
            };
            if lines > 0 && self.output.write_all(&self.spare).is_err() {
                self.shared.dropped.add(lines);
            }
            self.spare.clear();
            // What a burst needed is given back.
            self.spare.shrink_to(BUFFER / 2);
        }
        // Where it fails, writing fails next time and is counted.
        self.output.flush().ok();
        self.report();
    }

    fn reopen_if_asked(&mut self) {
        let asked = std::mem::take(&mut lock(&self.shared.signal).reopen);
        let Some(open) = self.open.as_ref().filter(|_| asked) else { return };
        match open() {
            Ok(output) => self.output = output,
            Err(error) => tracing::error!(%error, "access log cannot be opened anew, the old file stays in use"),
        }
    }

    fn report(&mut self) {
        let dropped = self.shared.dropped.value();
        if dropped > self.reported {
            tracing::warn!(lines = dropped - self.reported, "access log lost lines: its output is too slow or fails");
            self.reported = dropped;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of one worker's lines that wait for the output: some two thousand lines. The last line may stand out.
const BUFFER: usize = 1 << 20;

/// How long a line waits for company.
const GATHER: Duration = Duration::from_millis(200);

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::super::line::tests::entry;
    use super::*;

    /// Hands every piece of output to the test, and waits until the test takes it.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (AccessLog, Arc<Counter>, Receiver<Vec<u8>>) {
        let (pipe, output) = sync_channel(0);
        let dropped = Arc::new(Counter::default());
        (AccessLog::with_output(Pipe(pipe), None, LogFormat::Json, dropped.clone()).unwrap(), dropped, output)
    }

    fn lines(output: &[u8]) -> u64 {
        output.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    #[test]
    fn writes_lines_of_an_idle_worker_soon() {
        let (log, _, output) = log();

        log.worker().write(&entry());

        let line = output.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(line.starts_with(b"{\"time\"") && line.ends_with(b"}\n"));
        drop(output);
    }

    #[test]
    fn appends_to_a_file_what_every_worker_wrote_before_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before\n").unwrap();
        let config = config::AccessLog::File(file.path().into(), LogFormat::Text);
        let log = AccessLog::start(&config, Arc::default()).unwrap();
        let workers = [log.worker(), log.worker()];

        for worker in &workers {
            worker.write(&entry());
        }
        log.close();

        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with("before\n2026-"));
    }

    #[test]
    fn goes_on_in_a_new_file_when_the_old_one_was_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = AccessLog::start(&config::AccessLog::File(path.clone(), LogFormat::Text), Arc::default()).unwrap();
        let worker = log.worker();
        worker.write(&entry());
        std::fs::rename(&path, &moved).unwrap();

        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        worker.write(&entry());
        worker.write(&entry());
        log.close();

        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (1, 2));
    }

    #[test]
    fn counts_lines_that_a_slow_output_leaves_no_room_for() {
        let (log, dropped, output) = log();
        let worker = log.worker();
        let mut line = Vec::new();
        entry().write(&mut line, LogFormat::Json);
        // Room for one buffer that is being written and one that is being filled.
        let written = 3 * (BUFFER / line.len()) as u64;

        for _ in 0..written {
            worker.write(&entry());
        }
        let collector = std::thread::spawn(move || output.iter().map(|piece| lines(&piece)).sum::<u64>());
        log.close();

        let kept = collector.join().unwrap();
        assert!(dropped.value() > 0);
        assert_eq!(kept + dropped.value(), written);
    }

    #[test]
    fn counts_lines_that_could_not_be_written() {
        let (log, dropped, output) = log();
        drop(output);

        log.worker().write(&entry());
        log.close();

        assert_eq!(dropped.value(), 1);
    }

    #[test]
    fn says_that_it_is_off() {
        let log = AccessLog::start(&config::AccessLog::Off, Arc::default()).unwrap();

        assert!(!log.worker().is_on());
        log.worker().write(&entry());
    }
}
