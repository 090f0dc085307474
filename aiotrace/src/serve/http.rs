//! The HTTP server, on one thread: /metrics, /-/healthy, /-/ready and a page that names them. A client gets bounded
//! time, bounded memory and one of a bounded number of connections; whoever wants TLS or passwords puts a proxy before
//! it.
//!
//! hyper is used as it is: four paths need no router, and the bounds are hyper's own.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sd_notify::NotifyState;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore, oneshot},
    time,
};

use super::{exposition::Exposition, look::Machine, textfile::Textfile};
use crate::{
    failure::{Context as _, Failure, Result},
    privileges,
};

/// How many connections may be open at a time. Further ones are closed at once, and counted.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to send its request.
const TO_ASK: Duration = Duration::from_secs(5);
/// How long a connection may last.
const TO_END: Duration = Duration::from_secs(20);
/// How long the scrapes that have begun may take when aiotrace ends.
const TO_FINISH: Duration = Duration::from_secs(3);
/// The longest request, in bytes.
const LONGEST_REQUEST: usize = 16 << 10;
/// How much later than they should be the counters may be read.
const LATE: Duration = Duration::from_secs(10);

/// What the server does beside answering.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Where it listens.
    pub listener: Option<TcpListener>,
    /// The file that it writes.
    pub textfile: Option<Textfile>,
    /// How often it writes the file, and how often the counters are read.
    pub interval: Duration,
}

/// Listens at an address.
///
/// # Errors
/// If the address is taken, or not one of this machine.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let what = format!("cannot listen at {address}");
    let hint = "give another address with --listen ADDRESS:PORT (does another aiotrace serve run?)";
    let listener =
        TcpListener::bind(address).context(what).map_err(|it: Failure| it.with_hint(hint))?;
    listener.set_nonblocking(true).context("cannot listen without blocking")?;
    Ok(listener)
}

/// The server, which runs.
pub struct Server {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    machine: Arc<Machine>,
    interval: Duration,
    is_ready: AtomicBool,
    refused: AtomicU64,
    /// Who looks at the machine; the others wait, and tell the same list.
    look: Mutex<()>,
}

impl Server {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(machine: Arc<Machine>, tasks: Tasks) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared {
            machine,
            interval: tasks.interval,
            is_ready: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            look: Mutex::new(()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .context("cannot start the server")?;
        let same = Arc::clone(&shared);
        let run = move || {
            privileges::drop_after_attach();
            runtime.block_on(work(same, tasks, stopped));
            // A look that hangs is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("serve".into()).spawn(run);
        let thread = Some(thread.context("cannot start the server")?);
        Ok(Self { shared, stop: Some(stop), thread })
    }

    /// From now on it is ready. The service manager is told.
    pub fn ready(&self) -> Box<dyn FnOnce()> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || {
            shared.is_ready.store(true, Ordering::Release);
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        })
    }

    /// Accepts no more connections, and finishes the scrapes that have begun.
    pub fn end(mut self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Why no good answers can be given; `None`: they can.
    fn is_unready(&self) -> Option<String> {
        if !self.is_ready.load(Ordering::Acquire) {
            return Some("the probes are not attached yet".into());
        }
        let age = self.machine.age()?;
        let late = age > self.interval * 3 + LATE;
        late.then(|| format!("the counters were not read for {} s", age.as_secs()))
    }

    async fn scrape(self: &Arc<Self>, exposition: Exposition, own: bool) -> Result<String> {
        let _turn = self.look.lock().await;
        let same = Arc::clone(self);
        let look = move || {
            let refused = same.refused.load(Ordering::Relaxed);
            same.machine.scrape(exposition, own.then_some(refused))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(text) => text,
            Err(_) => Err(Failure::new("the look at the machine has failed")),
        }
    }
}

async fn work(shared: Arc<Shared>, tasks: Tasks, stopped: oneshot::Receiver<()>) {
    let open = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut running = Vec::new();
    if let Some(listener) = tasks.listener {
        running.push(tokio::spawn(accept(Arc::clone(&shared), listener, Arc::clone(&open))));
    }
    if let Some(file) = tasks.textfile.clone() {
        running.push(tokio::spawn(write(Arc::clone(&shared), file, tasks.interval)));
    }
    if let Some(patience) = sd_notify::watchdog_enabled() {
        running.push(tokio::spawn(tell(Arc::clone(&shared), patience)));
    }
    // An error means that the sender is gone: that is the sign.
    let _ = stopped.await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = time::timeout(TO_FINISH, open.acquire_many(all)).await;
    tasks.textfile.iter().for_each(Textfile::remove);
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, open: Arc<Semaphore>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(it) => it,
        Err(error) => return eprintln!("aiotrace: cannot listen: {error}"),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, for instance.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = time::timeout(TO_END, converse(shared, stream)).await;
            drop(permit);
        });
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream) {
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .max_buf_size(LONGEST_REQUEST)
        // A scrape each 15 s needs no connection meanwhile.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection");
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = "text/plain; charset=utf-8";
    let (status, kind, text) = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, plain, "only GET and HEAD are answered\n".to_owned())
    } else {
        match request.uri().path() {
            "/metrics" => {
                let all = request.headers().get_all(ACCEPT);
                let accept: Vec<&str> = all.iter().filter_map(|it| it.to_str().ok()).collect();
                let exposition = Exposition::wanted(&accept.join(","));
                match shared.scrape(exposition, true).await {
                    Ok(text) => (StatusCode::OK, exposition.content_type(), text),
                    Err(failure) => {
                        (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("{}\n", failure.text()))
                    }
                }
            }
            "/-/healthy" => (StatusCode::OK, plain, "aiotrace runs\n".to_owned()),
            "/-/ready" => match shared.is_unready() {
                None => (StatusCode::OK, plain, "aiotrace is ready\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{why}\n")),
            },
            "/" => (StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
            _ => (
                StatusCode::NOT_FOUND,
                plain,
                "there is /metrics, /-/healthy and /-/ready\n".into(),
            ),
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

const PAGE: &str = "<!DOCTYPE html><title>aiotrace</title><h1>aiotrace serve</h1><ul>\
                    <li><a href=\"/metrics\">/metrics</a>: what programs do with Linux native AIO, for Prometheus\
                    <li><a href=\"/-/healthy\">/-/healthy</a>: whether it runs\
                    <li><a href=\"/-/ready\">/-/ready</a>: whether it counts</ul>\n";

/// Writes the file again and again.
async fn write(shared: Arc<Shared>, file: Textfile, every: Duration) {
    let mut failed = None;
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let text = shared.scrape(Exposition::Text, false).await;
        let error = text.and_then(|it| file.write(&it)).err();
        let text = error.map(|it| it.text().to_owned());
        // What goes wrong each time is told once.
        if let Some(text) = text.as_ref().filter(|_| text != failed) {
            eprintln!("aiotrace: {text}");
        }
        failed = text;
    }
}

/// Tells the service manager again and again that all is well, as long as it is.
async fn tell(shared: Arc<Shared>, patience: Duration) {
    let mut ticks = time::interval(patience / 3);
    loop {
        ticks.tick().await;
        // Before READY, the service manager does not wait for it (and may not read what it is told).
        if shared.is_unready().is_none() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
