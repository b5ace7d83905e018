//! A file that somebody named, to be read to its end: a pipeline file, a run config, or what is looked up by its content.
//!
//! It may be a pipe (`-f <(…)`), which is waited for as long as somebody may write into it. Nothing else is waited for: a
//! named pipe that nobody writes into, and a device that has nothing to give, are errors at once, since nobody who waits
//! for them is told what for.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstatfs};
use rustix::io::Errno;

use crate::report::words;

/// The largest pipeline file, run config or table.
const TEXT_BYTES: u64 = 256_000_000;

/// What the kernel says of a pipe that has no name (`PIPEFS_MAGIC`).
const NAMELESS_PIPE: i64 = 0x5049_5045;

/// A file that is read.
#[derive(Debug)]
pub(crate) struct GivenFile {
    file: File,
    /// Whether what is not there yet may come.
    may_wait: bool,
    /// Whether it is a pipe with a name, of which nothing has come yet.
    unheard: bool,
}

/// Opens a file to read it.
///
/// # Errors
/// There is none, or it is nothing that can be read.
pub(crate) fn open(path: &Path) -> io::Result<GivenFile> {
    // To open a pipe as files are opened is to wait for who writes into it.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::NXIO.raw_os_error() => io::Error::other("it is a socket"),
        _ => error,
    })?;
    let kind = file.metadata()?.file_type();
    let named = kind.is_fifo()
        && fstatfs(&file).is_ok_and(|about| i128::from(about.f_type) != i128::from(NAMELESS_PIPE));
    Ok(GivenFile { may_wait: kind.is_fifo() || file.is_terminal(), unheard: named, file })
}

impl Read for GivenFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut read = self.file.read(into);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            if !self.may_wait {
                return Err(io::Error::other("it has nothing to give now, and no end"));
            }
            // Somebody has it open to write.
            self.unheard = false;
            let flags = fcntl_getfl(&self.file)?;
            fcntl_setfl(&self.file, flags - OFlags::NONBLOCK)?;
            read = self.file.read(into);
        }
        if self.unheard && matches!(read, Ok(0)) && !into.is_empty() {
            return Err(io::Error::other("it is a named pipe that nobody writes into"));
        }
        self.unheard &= read.is_err();
        read
    }
}

/// Reads a file that has to be text. What never ends is not read to its end.
///
/// # Errors
/// It cannot be read, is too large, or is no text.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    open(path)?.take(TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES {
        let what = format!("it has more than {}, which is the most", words::size(TEXT_BYTES));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let good = &bytes[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let what = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16, and should be saved as UTF-8".to_owned(),
            _ => format!(
                "line {line} holds bytes that are no UTF-8 text (byte {} of the file)",
                good.len() + 1
            ),
        };
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// What stands at a path that is no ordinary file, in words; `None` for a file, and where nothing stands.
pub(crate) fn unlike_a_file(path: &Path) -> Option<&'static str> {
    let kind = path.metadata().ok()?.file_type();
    Some(match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    })
}
