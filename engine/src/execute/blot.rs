//! Blots secrets out of what a step printed.
//!
//! Only the captured output is blotted: what a step writes as an output is its result, and stays as it is. A
//! secret in another form (base64, in pieces, upper-case) is not found.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// What stands in the place of a secret value where it is shown.
pub const HIDDEN: &str = "***";

/// How much of a file is looked at in one go.
const CHUNK: usize = 256 * 1024;

/// A text without the values of secrets, for records.
pub(crate) fn hide(text: &str, secrets: &[String]) -> String {
    let mut longest_first: Vec<&String> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    longest_first.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
}

/// Finds the values of secrets in bytes.
struct Secrets<'a> {
    /// Longest first, so that one that begins with another is blotted whole.
    values: Vec<&'a [u8]>,
    /// Which bytes any of them begins with.
    first: [bool; 256],
    longest: usize,
}

impl<'a> Secrets<'a> {
    /// `None` where there is nothing to look for.
    fn new(secrets: &'a [String]) -> Option<Self> {
        let mut values: Vec<&[u8]> = secrets
            .iter()
            // A value from a file often ends in a newline that is not printed with it.
            .map(|secret| secret.trim_end_matches('\n').as_bytes())
            .filter(|secret| !secret.is_empty())
            .collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        values.dedup();
        let longest = values.first()?.len();
        let mut first = [false; 256];
        for value in &values {
            first[usize::from(value[0])] = true;
        }
        Some(Self { values, first, longest })
    }

    /// Writes `bytes` without secrets up to where one could still begin that is not whole yet, and gives how
    /// many bytes that was; all of them if this is the `last` of them.
    fn pass(&self, bytes: &[u8], last: bool, out: &mut dyn Write) -> io::Result<(usize, bool)> {
        let sure = if last { bytes.len() } else { (bytes.len() + 1).saturating_sub(self.longest) };
        let (mut at, mut from, mut found) = (0, 0, false);
        while at < sure {
            let here = &bytes[at..];
            let secret = if self.first[usize::from(here[0])] {
                self.values.iter().find(|value| here.starts_with(value))
            } else {
                None
            };
            let Some(secret) = secret else {
                at += 1;
                continue;
            };
            out.write_all(&bytes[from..at])?;
            out.write_all(HIDDEN.as_bytes())?;
            at += secret.len();
            from = at;
            found = true;
        }
        out.write_all(&bytes[from..at])?;
        Ok((at, found))
    }
}

/// A text without secrets; for what is shown while a step runs.
pub fn blotted(bytes: &[u8], secrets: &[String]) -> Vec<u8> {
    let Some(secrets) = Secrets::new(secrets) else { return bytes.to_vec() };
    let mut out = Vec::with_capacity(bytes.len());
    match secrets.pass(bytes, true, &mut out) {
        Ok(_) => out,
        // Memory takes everything; and nothing is shown rather than a secret.
        Err(_) => Vec::new(),
    }
}

/// Rewrites a file without secrets. Where there are none in it, it is left alone.
///
/// # Errors
/// It cannot be read or written; it should not be kept then.
pub(crate) fn blot_file(path: &Path, secrets: &[String]) -> io::Result<()> {
    let Some(secrets) = Secrets::new(secrets) else { return Ok(()) };
    let mut source = match File::open(path) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if source.metadata()?.len() == 0 {
        return Ok(());
    }
    let clean = path.with_extension("blotted");
    let mut out = BufWriter::new(File::create(&clean)?);
    let found = rewrite(&secrets, &mut source, &mut out).and_then(|found| out.flush().map(|()| found));
    match found {
        Ok(true) => fs::rename(&clean, path),
        Ok(false) => fs::remove_file(&clean),
        Err(error) => {
            let _ = fs::remove_file(&clean);
            Err(error)
        }
    }
}

fn rewrite(secrets: &Secrets<'_>, source: &mut dyn Read, out: &mut dyn Write) -> io::Result<bool> {
    let mut found = false;
    let mut bytes = Vec::with_capacity(CHUNK + secrets.longest);
    loop {
        let read = source.take(CHUNK as u64).read_to_end(&mut bytes)?;
        let (passed, blotted) = secrets.pass(&bytes, read == 0, out)?;
        found |= blotted;
        if read == 0 {
            return Ok(found);
        }
        bytes.drain(..passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, secrets: &[&str], expected: &str) {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        assert_eq!(String::from_utf8(blotted(text.as_bytes(), &secrets)).unwrap(), expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, text).unwrap();
        blot_file(&path, &secrets).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn secrets_are_blotted_out() {
        check("the word is hunter2!", &["hunter2"], "the word is ***!");
        check("hunter2hunter2", &["hunter2"], "******");
        check("nothing here", &["hunter2"], "nothing here");
        check("abc ab a", &["ab", "abc"], "*** *** a");
        check("two\nlines\n", &["two\nlines\n"], "***\n");
        check("as it is", &["", "\n"], "as it is");
        check("aab", &["ab"], "a***");
    }

    #[test]
    fn a_secret_across_two_chunks_is_blotted_out() {
        for before in CHUNK - 8..=CHUNK + 1 {
            let before = "x".repeat(before);
            check(&format!("{before}hunter2 and more"), &["hunter2"], &format!("{before}*** and more"));
        }
        check(&"secret".repeat(100_000), &["secret"], &"***".repeat(100_000));
    }
}
