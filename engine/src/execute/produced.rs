//! What a command left in its folder: its declared outputs, or in what way they are not what was declared.
//!
//! Reads the folder after its process group has ended; changes nothing but an output that is a link to a file
//! of the folder, which is replaced by that file's content.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::mounts;
use super::{Attempt, Cause, Failure, Produced};
use crate::file::tidy;
use crate::solid::OutputDecl;
use crate::value::nearest;

/// Collects the outputs of a command that succeeded.
///
/// # Errors
/// In what way they are not what was declared.
pub(crate) fn collect(
    attempt: &Attempt<'_>,
    step: &Path,
    mounts: Option<u64>,
) -> Result<Vec<Produced>, Failure> {
    let outputs = &attempt.solid.outputs;
    if !step.is_dir() {
        return Err(Failure {
            cause: Cause::BadOutput,
            message: "its folder is gone: it, or what it started, removed it".to_owned(),
            hint: Some("a command may only change what is in its folder".to_owned()),
        });
    }
    mounts::release(step, mounts)?;
    for output in outputs {
        inside(step, output)?;
    }
    let produced = outputs.iter().map(|output| one(attempt, step, output)).collect::<Result<_, _>>()?;
    undeclared(outputs, step, Path::new("outputs"))?;
    Ok(produced)
}

fn one(attempt: &Attempt<'_>, step: &Path, output: &OutputDecl) -> Result<Produced, Failure> {
    let at = step.join(output.at.trim_end_matches('/'));
    let metadata = match at.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if absent(&error) && output.optional => return Ok(Produced::Absent),
        Err(error) if absent(&error) => return Err(missing(attempt, step, output)),
        Err(error) => return Err(bad(output, &format!("cannot be read: {error}"))),
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        follow(step, &at, output)?;
    }
    let folder_declared = output.at.ends_with('/');
    if kind.is_dir() {
        Ok(Produced::Folder(at))
    } else if kind.is_file() || kind.is_symlink() {
        if folder_declared {
            let mut failure = bad(output, "is a file, but was declared as a folder");
            failure.hint =
                Some(format!("write a folder, or declare it without the final `/`: `{}`", at_of(output)));
            return Err(failure);
        }
        Ok(Produced::File(at))
    } else {
        Err(bad(output, &format!("is {}", what(kind))))
    }
}

/// Refuses an output below a link that leads out of the folder: what stands there is not the command's alone.
fn inside(step: &Path, output: &OutputDecl) -> Result<(), Failure> {
    let above = Path::new(at_of(output)).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    for path in above {
        let link = step.join(path);
        if !link.is_symlink() {
            continue;
        }
        let leads =
            |error: io::Error| bad(output, &format!("stands below a link that leads nowhere: {error}"));
        let real = link.canonicalize().map_err(leads)?;
        if !real.starts_with(step.canonicalize().map_err(leads)?) {
            let place = path.display();
            let mut failure =
                bad(output, &format!("is not in its folder: `{place}` is a link to `{}`", real.display()));
            failure.hint = Some(format!("leave the folder `{place}` as it was given"));
            return Err(failure);
        }
    }
    Ok(())
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn at_of(output: &OutputDecl) -> &str {
    output.at.trim_end_matches('/')
}

/// The words for what is neither a file, a folder nor a link.
pub(crate) fn what(kind: fs::FileType) -> &'static str {
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else if kind.is_symlink() {
        "a link"
    } else if kind.is_dir() {
        "a folder"
    } else {
        "a file"
    }
}

fn bad(output: &OutputDecl, what: &str) -> Failure {
    Failure {
        cause: Cause::BadOutput,
        message: format!("its output `{}` {what}", output.at),
        hint: Some("an output is a file or a folder".to_owned()),
    }
}

/// Puts the content of the file that an output links to in its place. An input is such a file however the
/// store gave it (it may be a link itself): whether a link leads out of the folder may not depend on that.
fn follow(step: &Path, at: &Path, output: &OutputDecl) -> Result<(), Failure> {
    let io = |error: io::Error| bad(output, &format!("is a link that cannot be followed: {error}"));
    let target = fs::read_link(at).map_err(io)?;
    let stated = tidy(&at.parent().unwrap_or(step).join(&target));
    let whole = step.canonicalize().map_err(io)?;
    let real = match at.canonicalize() {
        Ok(real) => real,
        Err(error) if absent(&error) => {
            return Err(bad(output, &format!("is a link to `{}`, which is not there", target.display())));
        }
        Err(error) => return Err(io(error)),
    };
    let given = stated.starts_with(step.join("inputs"));
    if !given && !real.starts_with(&whole) {
        let mut failure = bad(output, &format!("is a link out of its folder, to `{}`", target.display()));
        failure.hint = Some("write the file itself, or copy it (`cp -L`)".to_owned());
        return Err(failure);
    }
    if !real.is_file() {
        let mut failure = bad(output, &format!("is a link to `{}`, which is no file", target.display()));
        failure.hint = Some("copy the folder (`cp -R`)".to_owned());
        return Err(failure);
    }
    fs::remove_file(at).and_then(|()| fs::copy(&real, at)).map(|_| ()).map_err(io)
}

/// Looks for what stands in `outputs/` and was not declared. `path` is relative to the folder.
fn undeclared(outputs: &[OutputDecl], step: &Path, path: &Path) -> Result<(), Failure> {
    let entries = match fs::read_dir(step.join(path)) {
        Ok(entries) => entries,
        // A command may remove the folder, if nothing was to be in it.
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(unlisted(path, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|error| unlisted(path, &error))?.file_name());
    }
    names.sort();
    for name in names {
        let entry = path.join(name);
        if outputs.iter().any(|output| Path::new(at_of(output)) == entry) {
            continue;
        }
        if outputs.iter().any(|output| Path::new(at_of(output)).starts_with(&entry)) {
            undeclared(outputs, step, &entry)?;
            continue;
        }
        let file = entry.file_name().unwrap_or_default().to_string_lossy();
        let names = outputs.iter().map(|output| output.name.as_str());
        let near = nearest(&file, names).map(|name| format!(" (`{name}` is)")).unwrap_or_default();
        return Err(Failure {
            cause: Cause::UndeclaredOutput,
            message: format!("it wrote `{}`, which is not declared as an output{near}", entry.display()),
            hint: Some(format!(
                "add `{file}` to its `outputs`, or write it elsewhere in its folder (or in $TMPDIR)"
            )),
        });
    }
    Ok(())
}

fn unlisted(path: &Path, error: &io::Error) -> Failure {
    Failure {
        cause: Cause::BadOutput,
        message: format!("`{}` in its folder cannot be listed: {error}", path.display()),
        hint: None,
    }
}

/// How many files of a folder are looked at for a hint.
const LOOKED_AT: usize = 10_000;

/// An output that is not there, and what was written instead.
fn missing(attempt: &Attempt<'_>, step: &Path, output: &OutputDecl) -> Failure {
    let at = at_of(output);
    let mut written = Vec::new();
    find_written(attempt, step, &mut written);
    let wanted = Path::new(at).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = Path::new(&wanted).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // The one with the output's name, else one that is called alike, else the largest.
    written.sort_by_key(|(path, len)| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let alike = path.file_stem().unwrap_or_default().to_string_lossy() == stem;
        (file != wanted, !alike, std::cmp::Reverse(*len), path.clone())
    });
    let Some((path, len)) = written.first() else {
        return Failure {
            cause: Cause::MissingOutput,
            message: format!("it did not write its output `{at}`"),
            hint: Some(format!("write it to `{at}` in its folder, or let `stdout` name it")),
        };
    };
    let path = path.display();
    let others = match written.len() - 1 {
        0 => String::new(),
        1 => " and one more file".to_owned(),
        more => format!(" and {more} more files"),
    };
    Failure {
        cause: Cause::MissingOutput,
        message: format!(
            "it did not write its output `{at}`; it wrote `{path}` ({}){others} in its folder",
            bytes_in_words(*len)
        ),
        hint: Some(format!(
            "write to `{at}`, or declare where it is: `outputs: [{{{}: {{at: {path}}}}}]`",
            output.name
        )),
    }
}

/// The files that a command wrote and that are no output of it, relative to the folder.
fn find_written(attempt: &Attempt<'_>, step: &Path, written: &mut Vec<(PathBuf, u64)>) {
    let given: BTreeSet<&str> = attempt.files.iter().map(|file| file.to.as_str()).collect();
    let declared = |path: &Path| {
        let outputs = &attempt.solid.outputs;
        outputs.iter().any(|output| Path::new(at_of(output)) == path)
    };
    let mut folders = vec![PathBuf::new()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(step.join(&folder)) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > LOOKED_AT {
                return;
            }
            let path = folder.join(entry.file_name());
            let Ok(metadata) = entry.metadata() else { continue };
            if path == Path::new("inputs") || path == Path::new("config.json") || declared(&path) {
                continue;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() && path.to_str().is_none_or(|path| !given.contains(path)) {
                written.push((path, metadata.size()));
            }
        }
    }
}

/// A size for people: `1.2 MB`.
pub(crate) fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Rounded to tenths of the unit; 999,950 would be 1000.0 kB, so it is the next unit's.
    let mut tenths = (bytes + 50) / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths = (tenths + 500) / 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_words() {
        let check = |bytes, words: &str| assert_eq!(bytes_in_words(bytes), words);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1.0 kB");
        check(1_234_567, "1.2 MB");
        check(999_949, "999.9 kB");
        check(999_950, "1.0 MB");
        check(4 << 30, "4.3 GB");
    }
}
