//! Probe `http`: status and end of an answer.

use ally_core::supervisor::http::{Progress, Response};
use proptest::prelude::*;

/// The result of an answer that comes in pieces, and then the end of the stream.
fn outcome(pieces: &[&[u8]]) -> Progress {
    let mut response = Response::default();
    pieces.iter().map(|piece| response.feed(piece)).find(|progress| *progress != Progress::Incomplete).unwrap_or_else(|| response.end())
}

fn of(answer: &[u8]) -> Progress {
    let whole = outcome(&[answer]);
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(outcome(&bytes), whole, "byte by byte");
    whole
}

/// The same, and the server keeps the connection open.
fn open_end(answer: &[u8]) -> Progress {
    let mut response = Response::default();
    response.feed(answer)
}

#[test]
fn http_answer_ends_as_its_head_says() {
    assert_eq!(open_end(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Progress::Complete(200));
    assert_eq!(open_end(b"HTTP/1.1 503 Down\r\ncontent-length: 3\r\n\r\nyes"), Progress::Complete(503));
    assert_eq!(open_end(b"HTTP/1.1 204 No Content\r\n\r\n"), Progress::Complete(204));
    assert_eq!(open_end(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), Progress::Complete(304));
    assert_eq!(open_end(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05"), Progress::Complete(101));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;a=b\r\nyes\r\nA\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(open_end(chunked), Progress::Complete(200));
    // Up to the end of the stream.
    assert_eq!(open_end(b"HTTP/1.1 200 OK\r\n\r\nbody"), Progress::Incomplete);
    assert_eq!(of(b"HTTP/1.1 200 OK\r\n\r\nbody"), Progress::Complete(200));
    assert_eq!(of(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n"), Progress::Complete(200));
    assert_eq!(of(b"HTTP/1.1 200\r\n\r\n"), Progress::Complete(200));
    assert_eq!(of(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), Progress::Complete(200));
    assert_eq!(of(b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Progress::Complete(200));
}

#[test]
fn http_informational_answers_precede_the_answer() {
    let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    assert_eq!(of(hints), Progress::Incomplete);
    assert_eq!(of(&[&hints[..], b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"].concat()), Progress::Complete(404));
}

#[test]
fn http_answer_that_ends_early_is_incomplete() {
    for answer in [
        &b""[..],
        b"HT",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nye",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nyes",
    ] {
        assert_eq!(of(answer), Progress::Incomplete, "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn http_answer_is_empty_before_its_first_byte_only() {
    for answer in [&b"H"[..], b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"] {
        let mut response = Response::default();
        assert!(response.is_empty());
        response.feed(answer);
        assert!(!response.is_empty(), "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn other_protocol_is_found_out_at_its_first_bytes() {
    let shown = |start: &str| Progress::NotHttp(start.to_owned());
    assert_eq!(open_end(b"SSH-2.0-OpenSSH\r\n"), shown("SSH-2.0-OpenSSH"));
    assert_eq!(open_end(b"HTTP/2.0 200 OK\r\n"), shown("HTTP/2.0 200 OK"));
    assert_eq!(open_end(b"HTTQ"), shown("HTTQ"));
    assert_eq!(open_end(b"\x15\x03\x01\xff"), shown("\u{15}\u{3}\u{1}\u{fffd}"));
    assert_eq!(open_end("x".repeat(500).as_bytes()), shown(&"x".repeat(40)));
    assert_eq!(open_end(b"HTTP/1.1 abc\r\n\r\n"), shown("HTTP/1.1 abc"));
    assert_eq!(open_end(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), shown("HTTP/1.1 200 OK"));
    let chunk = open_end(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
    assert_eq!(chunk, shown("a chunk without a size"));
}

#[test]
fn http_head_and_body_are_read_up_to_64_kib() {
    let header = b"X-Header: value\r\n".repeat(100);
    let mut response = Response::default();
    assert_eq!(response.feed(b"HTTP/1.1 200 OK\r\n"), Progress::Incomplete);
    let fed = (1..100).find(|_| response.feed(&header) != Progress::Incomplete).unwrap();
    assert!((38..41).contains(&fed), "1700 bytes each: {fed}");
    assert_eq!(response.feed(b"\r\n"), Progress::HeadTooLong);

    // Empty lines and informational answers count.
    let mut response = Response::default();
    let fed = (1..10_000).find(|_| response.feed(b"HTTP/1.1 100 Continue\r\n\r\n") != Progress::Incomplete).unwrap();
    assert!((2600..2700).contains(&fed), "25 bytes each: {fed}");
    assert_eq!(open_end(&b"\r\n".repeat(40_000)), Progress::HeadTooLong);

    for head in ["", "Content-Length: 99999999999999999999\r\n", "Content-Length: 70000\r\n", "Content-Length: x\r\n"] {
        let mut response = Response::default();
        assert_eq!(response.feed(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes()), Progress::Incomplete);
        assert_eq!(response.feed(&vec![b'x'; 65_535]), Progress::Incomplete, "{head}");
        assert_eq!(response.feed(b"x"), Progress::Complete(200), "{head}");
    }
    let huge = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx";
    assert_ne!(open_end(huge), Progress::Complete(200));
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome_however_they_come(bytes in prop::collection::vec(any::<u8>(), 0..200), valid_start in any::<bool>(), size in 1_usize..50) {
        let start = if valid_start { &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"[..] } else { b"" };
        let answer = [start, &bytes].concat();
        let pieces: Vec<&[u8]> = answer.chunks(size).collect();
        let in_pieces = outcome(&pieces);
        let whole = outcome(&[&answer]);
        // The text of another protocol depends on how much of it has come.
        prop_assert_eq!(matches!(in_pieces, Progress::NotHttp(_)), matches!(whole, Progress::NotHttp(_)));
        if !matches!(whole, Progress::NotHttp(_)) {
            prop_assert_eq!(in_pieces, whole);
        }
    }
}
