//! What a process prints, from its pipe to the end of its log.
//!
//! Read by whoever waits for the process, as much as is there; a process that prints nothing leaves no file.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::ioctl_fionread;

/// The end of a pipe at which we read what a process prints, and the file that it is put into.
pub(super) struct Capture<'a> {
    /// `None` once nobody can write to it any more.
    pipe: Option<PipeReader>,
    log: &'a Path,
    file: Option<File>,
    /// Why not all of it could be written. It is read all the same: a process whose pipe is full would hang.
    failed: Option<io::Error>,
}

/// As much as the kernel keeps in a pipe for us.
const PIPE_BYTES: usize = 64 * 1024;

impl<'a> Capture<'a> {
    /// Gives what the process writes to, too.
    pub(super) fn begin(log: &'a Path) -> io::Result<(Self, io::PipeWriter)> {
        let (pipe, printed) = io::pipe()?;
        // Only for us: the two ends do not share their flags.
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok((Self { pipe: Some(pipe), log, file: None, failed: None }, printed))
    }

    /// What is to be waited for, as long as anybody can write to it.
    pub(super) fn pipe(&self) -> Option<&PipeReader> {
        self.pipe.as_ref()
    }

    /// Takes what is there, but no more than a pipe holds, because others are waited for too; gives how many
    /// bytes that was.
    pub(super) fn take(&mut self) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        let mut bytes = [0; PIPE_BYTES];
        match pipe.read(&mut bytes) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.write(&bytes[..read]);
                return read;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                self.failed.get_or_insert(error);
                self.pipe = None;
            }
        }
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes),
            none => OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.log)
                .and_then(|file| none.insert(file).write_all(bytes)),
        };
        self.failed = written.err();
    }

    /// Takes what is left. What has left its group may go on writing, so there may never be an end: what was
    /// printed before the group was gone is in the pipe now.
    pub(super) fn end(mut self) -> io::Result<()> {
        let mut left = self.pipe.as_ref().and_then(|pipe| ioctl_fionread(pipe).ok()).unwrap_or_default();
        while left > 0 {
            match self.take() {
                0 => break,
                taken => left = left.saturating_sub(taken as u64),
            }
        }
        self.failed.map_or(Ok(()), Err)
    }
}
