//! Clients that want too much, and the end.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{Named, Server, answer, value};
use crate::{
    harness::Need,
    support::{PATIENCE, aiotrace, await_that},
};

fn memory(pid: u32) -> u64 {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap();
    aiotrace::proc::status_bytes(&status, "VmRSS").unwrap()
}

/// A client that sends nothing has 5 s; others are served meanwhile.
fn a_slow_client_holds_nobody_up() {
    let server = Server::start(&["--list-only"]);
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"GET /metr").unwrap();
    let start = Instant::now();
    assert!(value(&server.scrape(), "aiotrace_aio_max_nr").is_some());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(20), "it is given up: {:?}", start.elapsed());
}

fn a_thousand_connections_are_refused_and_counted() {
    let server = Server::start(&["--list-only"]);
    let before = memory(server.pid());
    let open: Vec<TcpStream> =
        (0..1000).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    assert!(open.len() > 900, "{}", open.len());
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert!(descriptors < 120, "{descriptors}");
    assert!(memory(server.pid()) < before + (16 << 20), "{before}");
    drop(open);
    let mut text = String::new();
    await_that("it serves again", || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        text.clear();
        stream.read_to_string(&mut text).is_ok() && text.contains(" 200 ")
    });
    let refused = value(&text, "aiotrace_http_connections_refused_total").unwrap();
    assert!((800.0..1000.0).contains(&refused), "{refused}");
}

fn a_header_of_a_gibibyte_is_cut_off() {
    let server = Server::start(&["--list-only"]);
    let before = memory(server.pid());
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    let chunk = vec![b'a'; 1 << 20];
    let mut sent = 0;
    let error = loop {
        match stream.write_all(&chunk) {
            Ok(()) => sent += chunk.len(),
            Err(error) => break error,
        }
        assert!(sent < 1 << 30, "it takes a gibibyte");
    };
    let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert!(memory(server.pid()) < before + (16 << 20), "{before}");
    server.scrape();
}

fn an_address_that_is_taken_is_refused_with_the_way_out() {
    let server = Server::start(&["--list-only"]);
    let address = server.address.to_string();
    let output = aiotrace().args(["serve", "--list-only", "--listen", &address]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains(&format!("cannot listen at {address}: Address already in use")),
        "{text}"
    );
    assert!(text.contains("--listen ADDRESS:PORT"), "{text}");
}

/// A scrape that has begun is finished; nothing new is accepted.
fn a_signal_finishes_the_scrape() {
    for options in [&["--list-only"][..], &["--count"]] {
        let server = Server::start(options);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        // It is accepted when a later one was answered.
        server.scrape();
        let address = server.address;
        server.signal(Signal::SIGTERM);
        await_that("it does not listen any more", || TcpStream::connect(address).is_err());
        stream.write_all(b"Host: a\r\n\r\n").unwrap();
        let answer = answer(&mut stream);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(value(&answer.body, "aiotrace_aio_nr").is_some(), "{answer:?}");
        let start = Instant::now();
        let mut server = server;
        assert!(server.child.wait().unwrap().success());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

/// A thousand scrapes beside 5,000 contexts, and processes that come and go: memory stays what it is.
fn a_thousand_scrapes_take_no_memory() {
    let named = Named::new("comesandgoes");
    let _held = named.ready(&["hold", "5000"]);
    let server = Server::start(&["--count", "--interval", "200ms"]);
    let work = |count: u32| (0..count).for_each(|_| named.run(&["pairs", "3"]));
    std::thread::scope(|scope| {
        scope.spawn(|| work(500));
        (0..100).for_each(|_| drop(server.scrape()));
        let (before, start) = (memory(server.pid()), Instant::now());
        (0..1000).for_each(|_| drop(server.scrape()));
        let after = memory(server.pid());
        assert!(after < before + (4 << 20), "{before} {after}");
        eprintln!("1000 scrapes: {:?}, {} MiB", start.elapsed(), after >> 20);
    });
    let text = server.scrape_counted();
    let submits = "aiotrace_calls_total{process=\"comesandgoes\",call=\"io_submit\"}";
    assert_eq!(value(&text, submits), Some(1500.0), "none is lost: {text}");
}

tests![
    a_slow_client_holds_nobody_up if Need::SAME,
    a_thousand_connections_are_refused_and_counted if Need::SAME,
    a_header_of_a_gibibyte_is_cut_off if Need::SAME,
    an_address_that_is_taken_is_refused_with_the_way_out if Need::SAME,
    a_signal_finishes_the_scrape if Need::SAME,
    a_thousand_scrapes_take_no_memory if Need::LONG,
];
