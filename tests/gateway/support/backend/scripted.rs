//! A backend that does what a test wrote down, right or wrong, directly over the `h2` crate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::act::Step;
use super::raw::{Manner, treat};
use super::{Process, Seen, Tally, listen};

/// A running scripted backend. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Scripted {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What went on so far. A call is finished when all its steps are done.
    pub(crate) tally: Tally,
    calls: Arc<Mutex<Vec<Recorded>>>,
    _process: Process,
}

/// A call that a scripted backend got.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Counts the connections from 0.
    pub(crate) connection: usize,
    /// Its head.
    pub(crate) seen: Seen,
    /// What [`Step::Read`] read, frames with their prefixes.
    pub(crate) body: Vec<u8>,
    /// Why the client reset the stream, if it did while a step waited for it.
    pub(crate) reset: Option<Reason>,
}

/// How a scripted backend treats its connections.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Port 0 unless a test starts a backend again where one was.
    pub(crate) address: SocketAddr,
    /// For the first connection, the second and so on; the last one goes for all that follow.
    pub(crate) manners: Vec<Manner>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub(crate) window: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            manners: vec![Manner::Polite],
            max_concurrent_streams: None,
            window: None,
        }
    }
}

impl Scripted {
    /// The calls so far, in the order of arrival.
    pub(crate) fn calls(&self) -> Vec<Recorded> {
        lock(&self.calls).clone()
    }
}

/// Starts a backend that does the first list of steps with its first call, the second with the second and so on; the
/// last one goes for all that follow.
pub(crate) async fn start(script: Vec<Vec<Step>>) -> Scripted {
    start_with(Settings::default(), script).await
}

/// Starts a backend whose connections are special, too.
pub(crate) async fn start_with(settings: Settings, script: Vec<Vec<Step>>) -> Scripted {
    let process = Process::new();
    let (listener, address) = listen(settings.address).await;
    let tally = Tally::default();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let stage = Stage { settings, script: script.into(), calls: Arc::clone(&calls), tally: tally.clone() };
    process.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("the listener is open");
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            stage.tally.change(|counts| counts.connections += 1);
            tokio::spawn(stage.clone().converse(stream, number));
            number += 1;
        }
    });
    Scripted { address, tally, calls, _process: process }
}

/// What all calls share.
#[derive(Debug, Clone)]
struct Stage {
    settings: Settings,
    script: Arc<[Vec<Step>]>,
    calls: Arc<Mutex<Vec<Recorded>>>,
    tally: Tally,
}

/// What a call wants from its connection.
#[derive(Debug)]
enum Order {
    GoAway,
    Abort(Reason),
    Close,
}

impl Stage {
    async fn converse(self, stream: TcpStream, number: usize) {
        stream.set_nodelay(true).ok();
        let manner = nth(&self.settings.manners, number).copied().unwrap_or(Manner::Polite);
        if manner != Manner::Polite {
            // Fails when the other side leaves first.
            treat(stream, manner).await.ok();
            return;
        }
        let mut builder = h2::server::Builder::new();
        if let Some(most) = self.settings.max_concurrent_streams {
            builder.max_concurrent_streams(most);
        }
        if let Some(window) = self.settings.window {
            builder.initial_window_size(window);
        }
        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
        let (orders, mut ordered) = mpsc::channel(16);
        loop {
            tokio::select! {
                order = ordered.recv() => match order {
                    Some(Order::GoAway) => connection.graceful_shutdown(),
                    Some(Order::Abort(reason)) => connection.abrupt_shutdown(reason),
                    Some(Order::Close) | None => return,
                },
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.begin(number, request, respond, orders.clone()),
                    Some(Err(_)) | None => return end(connection).await,
                },
            }
        }
    }

    /// Starts the steps of a call.
    fn begin(
        &self,
        connection: usize,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        orders: mpsc::Sender<Order>,
    ) {
        let seen = Seen::of(&request);
        let index = {
            let mut calls = lock(&self.calls);
            calls.push(Recorded { connection, seen, body: Vec::new(), reset: None });
            calls.len() - 1
        };
        let steps = nth(&self.script, index).cloned().unwrap_or_default();
        let ongoing = self.tally.begin();
        let mut call = Call { stage: self.clone(), index, request: request.into_body(), respond, reply: None, orders };
        tokio::spawn(async move {
            for step in steps {
                if call.perform(step).await.is_err() {
                    return;
                }
            }
            ongoing.finish();
        });
    }
}

/// A call while its steps are done.
struct Call {
    stage: Stage,
    index: usize,
    request: RecvStream,
    respond: SendResponse<Bytes>,
    reply: Option<SendStream<Bytes>>,
    orders: mpsc::Sender<Order>,
}

impl Call {
    async fn perform(&mut self, step: Step) -> Result<(), h2::Error> {
        match step {
            Step::Read => self.read().await?,
            Step::Head(status, headers) => self.reply = Some(self.respond.send_response(head(status, headers), false)?),
            Step::HeadAndEnd(status, headers) => {
                self.respond.send_response(head(status, headers), true)?;
            }
            Step::Data(bytes) => self.send(bytes).await?,
            Step::Trailers(trailers) => self.reply().send_trailers(trailers)?,
            Step::End => self.reply().send_data(Bytes::new(), true)?,
            Step::Reset(reason) => match &mut self.reply {
                Some(reply) => reply.send_reset(reason),
                None => self.respond.send_reset(reason),
            },
            Step::GoAway => self.order(Order::GoAway).await,
            Step::Abort(reason) => self.order(Order::Abort(reason)).await,
            Step::Close => self.order(Order::Close).await,
            Step::Sleep(duration) => tokio::time::sleep(duration).await,
            Step::Hold => {
                let reason = match &mut self.reply {
                    Some(reply) => std::future::poll_fn(|cx| reply.poll_reset(cx)).await?,
                    None => std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await?,
                };
                lock(&self.stage.calls)[self.index].reset = Some(reason);
                return Err(reason.into());
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), h2::Error> {
        while let Some(bytes) = self.request.data().await {
            let bytes = bytes?;
            self.request.flow_control().release_capacity(bytes.len())?;
            lock(&self.stage.calls)[self.index].body.extend_from_slice(&bytes);
        }
        Ok(())
    }

    async fn send(&mut self, mut bytes: Bytes) -> Result<(), h2::Error> {
        let tally = self.stage.tally.clone();
        let reply = self.reply();
        while !bytes.is_empty() {
            reply.reserve_capacity(bytes.len());
            let Some(room) = std::future::poll_fn(|cx| reply.poll_capacity(cx)).await else {
                return Err(Reason::CANCEL.into());
            };
            reply.send_data(bytes.split_to(room?.min(bytes.len())), false)?;
        }
        tally.change(|counts| counts.sent += 1);
        Ok(())
    }

    fn reply(&mut self) -> &mut SendStream<Bytes> {
        self.reply.as_mut().expect("the script sends a head first")
    }

    async fn order(&self, order: Order) {
        // Fails when the connection is gone, which is what the orders are for.
        self.orders.send(order).await.ok();
    }
}

/// Lets what is queued go out.
async fn end(mut connection: Connection<TcpStream, Bytes>) {
    std::future::poll_fn(|cx| connection.poll_closed(cx)).await.ok();
}

fn head(status: u16, headers: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(status).expect("the test gives a valid status");
    *head.headers_mut() = headers;
    head
}

fn nth<T>(list: &[T], index: usize) -> Option<&T> {
    list.get(index).or_else(|| list.last())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
