//! One message after the other over a connection.
//!
//! A frame is a record of [`codec`]: kind, version, length and checksum stand before the bytes, the length
//! is limited, and memory grows with what arrives, not with what is promised.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, HEADER_BYTES};

/// So much is made room for before any of it has arrived.
const TRUSTED_BYTES: usize = 1024 * 1024;

/// Sends a message.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for one that is too long, of which nothing was sent; else the
/// connection's.
pub(crate) fn send<T: Serialize>(mut into: impl Write, kind: u8, version: u8, message: &T) -> io::Result<()> {
    let bytes = codec::encode(kind, version, message)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    into.write_all(&bytes)
}

/// Receives a message; the end of the connection between two messages is
/// [`io::ErrorKind::UnexpectedEof`] too.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read, kind: u8, version: u8) -> io::Result<T> {
    let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut bytes = vec![0; HEADER_BYTES];
    from.read_exact(&mut bytes)?;
    let whole = codec::record_bytes(&bytes).map_err(wrong)?;
    let rest = whole - HEADER_BYTES;
    bytes.reserve(rest.min(TRUSTED_BYTES));
    if from.take(rest as u64).read_to_end(&mut bytes)? < rest {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    codec::decode(kind, version, &bytes).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut pipe = Vec::new();
        send(&mut pipe, 1, 1, &"one").unwrap();
        send(&mut pipe, 1, 1, &"two").unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(receive::<String>(&mut from, 1, 1).unwrap(), "one");
        assert_eq!(receive::<String>(&mut from, 1, 1).unwrap(), "two");
        let end = receive::<String>(&mut from, 1, 1).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_an_error() {
        let mut pipe = Vec::new();
        send(&mut pipe, 1, 1, &"a message").unwrap();
        for cut in 0..pipe.len() {
            assert!(receive::<String>(&pipe[..cut], 1, 1).is_err(), "{cut}");
        }
        for at in 0..pipe.len() {
            let mut flipped = pipe.clone();
            flipped[at] ^= 1;
            assert!(receive::<String>(flipped.as_slice(), 1, 1).is_err(), "{at}");
        }
    }
}
