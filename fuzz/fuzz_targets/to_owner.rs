//! Guardian and keeper to owner: a stream of any bytes is a sequence of reports up to the first that is
//! none. Read as the owner reads it, in pieces of any length.

#![no_main]

use ally_base::wire::Report;
use libfuzzer_sys::fuzz_target;

fn reports(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Report> {
    let (mut unread, mut read) = (Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece.as_ref());
        while let Some(report) = Report::decode(&unread) {
            unread.drain(..Report::SIZE);
            read.push(report);
        }
    }
    read
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let read = reports(stream.chunks(usize::from(*size).max(1)));
    assert_eq!(read, reports([stream].iter()), "the pieces don't matter");
    for (report, record) in read.iter().zip(stream.chunks(Report::SIZE)) {
        assert_eq!(report.encode(), record, "it accounts for every byte");
    }
});
