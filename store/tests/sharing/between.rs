//! Somebody between a store's host and the others, who counts what passes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cas_store::codec;

/// What passed.
#[derive(Default)]
pub(crate) struct Passed {
    /// Messages that were questions, or greetings.
    pub(crate) asked: AtomicU64,
    /// Their bytes.
    pub(crate) asked_bytes: AtomicU64,
    /// The bytes of answers, and of what the host says unasked.
    pub(crate) answered_bytes: AtomicU64,
}

impl Passed {
    /// What passed since this was asked for the last time.
    pub(crate) fn take(&self) -> [u64; 3] {
        [&self.asked, &self.asked_bytes, &self.answered_bytes].map(|count| count.swap(0, SeqCst))
    }
}

/// From now on whoever looks for the host of a store finds it through here.
pub(crate) fn stand(dir: &Path) -> Arc<Passed> {
    let (outside, inside) = (dir.join("socket"), dir.join("socket-of-the-host"));
    std::fs::rename(&outside, &inside).expect("the host has a socket");
    let listener = UnixListener::bind(&outside).expect("a socket");
    let passed = Arc::new(Passed::default());
    let counts = Arc::clone(&passed);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(guest), Ok(host)) = (stream, UnixStream::connect(&inside)) else { return };
            let (to_host, to_guest) = (host.try_clone().expect("a copy"), guest.try_clone().expect("a copy"));
            let (asked, answered) = (Arc::clone(&counts), Arc::clone(&counts));
            std::thread::spawn(move || pass(&guest, &to_host, &asked.asked_bytes, Some(&asked.asked)));
            std::thread::spawn(move || pass(&host, &to_guest, &answered.answered_bytes, None));
        }
    });
    passed
}

/// Passes messages on, each whole, until there are no more.
fn pass(mut from: &UnixStream, mut to: &UnixStream, bytes: &AtomicU64, messages: Option<&AtomicU64>) {
    let mut message = vec![0; codec::HEADER_BYTES];
    while from.read_exact(&mut message[..codec::HEADER_BYTES]).is_ok() {
        let whole = codec::record_bytes(&message).expect("a message");
        message.resize(whole, 0);
        if from.read_exact(&mut message[codec::HEADER_BYTES..]).is_err() {
            break;
        }
        // Before it arrives: whoever gets the answer may look at once.
        bytes.fetch_add(whole as u64, SeqCst);
        if let Some(messages) = messages {
            messages.fetch_add(1, SeqCst);
        }
        if to.write_all(&message).is_err() {
            break;
        }
        message.resize(codec::HEADER_BYTES, 0);
    }
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}
