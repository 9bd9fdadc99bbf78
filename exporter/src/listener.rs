//! `GET /metrics`, on a thread of its own.

use crate::page::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Connections at once; further ones wait to be accepted. A monitor or two and a person fit in 8.
const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request at most.
const HEADERS_MAX: usize = 64;
/// Time for the request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole connection, which serves one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A page this young is given again: however often somebody asks, the program is looked at so often and no more.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be bound; the error names the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        bound.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot serve metrics on {address}: {error}"))
        })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves what `render` gives, until the handle is dropped.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be had.
    pub fn serve(self, render: impl FnMut() -> String + Send + 'static) -> io::Result<Serving> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let source = Arc::new(Source(Mutex::new(Pages { render: Box::new(render), last: None })));
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, source) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Serving { stop: Some(stop), thread: Some(thread) })
    }
}

/// A listener that serves; dropped, it ends, after the page in hand.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it is on standard error already.
            let _ = thread.join();
        }
    }
}

/// The page of now.
struct Source(Mutex<Pages>);

struct Pages {
    render: Box<dyn FnMut() -> String + Send>,
    last: Option<(Instant, Bytes)>,
}

impl Source {
    fn page(&self) -> Bytes {
        // A panic while rendering leaves nothing half done that the next page does not do anew.
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, page)) = &pages.last
            && made.elapsed() < FRESH_FOR
        {
            return page.clone();
        }
        let page = Bytes::from((pages.render)());
        pages.last = Some((Instant::now(), page.clone()));
        page
    }
}

async fn accept(listener: tokio::net::TcpListener, source: Arc<Source>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let source = source.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let source = source.clone();
                async move { Ok::<_, Infallible>(answer(&request, &source)) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(socket), service);
            // Who asks badly or goes away gets no page; a scrape that fails shows where it is missed.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

fn answer<B>(request: &Request<B>, source: &Source) -> Response<Full<Bytes>> {
    let of = |status, content_type: &'static str, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let content_type = hyper::header::HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE_HEADER, content_type);
        response
    };
    let text = |status, text: &'static str| {
        of(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => of(StatusCode::OK, CONTENT_TYPE, source.page()),
        (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, "there is /metrics\n"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A reset after the answer is an end as well.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn bind() -> Listener {
        Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn it_answers_scrapes_and_nothing_else() {
        let listener = bind();
        let address = listener.local_addr();
        let _serving = listener.serve(|| "a 1\n".to_owned()).unwrap();
        let page = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\na 1\n"), "{page}");
        assert!(page.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{page}");
        assert!(ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
        assert!(ask(address, &long).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn connections_that_say_nothing_are_bounded() {
        let listener = bind();
        let address = listener.local_addr();
        let _serving = listener.serve(String::new).unwrap();
        let mut silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        // It stands in the queue of the kernel until one of them has gone, by itself or by the time for its head.
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(silent.pop());
        waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut first = [0; 12];
        waiting.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }

    #[test]
    fn a_page_that_is_young_is_given_again() {
        let mut made = 0;
        let source = Source(Mutex::new(Pages {
            render: Box::new(move || {
                made += 1;
                made.to_string()
            }),
            last: None,
        }));
        assert_eq!(source.page(), "1");
        let old = Instant::now().checked_sub(FRESH_FOR).unwrap();
        source.0.lock().unwrap().last.as_mut().unwrap().0 = old;
        assert_eq!(source.page(), "2");
        source.0.lock().unwrap().last.as_mut().unwrap().0 = Instant::now() + FRESH_FOR;
        assert_eq!(source.page(), "2");
    }

    #[test]
    fn dropped_it_is_gone() {
        let (listener, page) = (bind(), Arc::new("a 1\n".to_owned()));
        let rendered = page.clone();
        let serving = listener.serve(move || rendered.as_ref().clone()).unwrap();
        assert_eq!(Arc::strong_count(&page), 2);
        drop(serving);
        assert_eq!(Arc::strong_count(&page), 1, "its thread has ended");
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = bind();
        let error = Listener::bind(taken.local_addr()).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot serve metrics on {}: ", taken.local_addr())), "{error}");
    }
}
