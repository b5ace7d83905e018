//! The places of a project that is published to, each reached through no link at the moment at which something is done
//! there.
//!
//! Owns the way to a place. Never touches what lies behind a link that leads out of the project.
//! Invariant: a [`Spot`] lies in a folder that was in the project when it was opened, and what is done by it is done in
//! that folder, wherever a path of the same name may lead by then.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A project folder that is open.
pub(super) struct Project {
    /// As it is called.
    shown: PathBuf,
    /// Without links.
    real: PathBuf,
    root: OwnedFd,
    /// Where folders lead, each asked once.
    leads: HashMap<String, Leads>,
    /// The folder that was opened last: mostly the next place lies in it too.
    last: Option<(String, Rc<OwnedFd>)>,
}

/// Where the way to a place leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leads {
    /// To this place in the project, in which no link is left.
    Home(String),
    /// Out of the project, or to a name that is no text.
    Out(PathBuf),
    /// Through a link that leads to nothing.
    Nowhere(PathBuf),
    /// Through a file.
    File,
}

/// What stands in the way to a place.
pub(super) enum Way {
    /// Nothing does.
    Clear(Spot),
    /// One of its folders is not there.
    Missing,
    /// One of its folders is a file, or a link.
    Barred,
}

/// A place: a name in an open folder.
pub(super) struct Spot {
    folder: Rc<OwnedFd>,
    name: OsString,
    /// As people call it.
    pub(super) shown: PathBuf,
}

impl Spot {
    /// A path that leads to this place for as long as this lives, whatever is done to the folders above it.
    pub(super) fn path(&self) -> PathBuf {
        self.beside(&self.name)
    }

    /// The same for another name in the same folder.
    pub(super) fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(name)
    }

    /// The same path as people call it, in messages.
    pub(super) fn called(&self, path: &Path) -> PathBuf {
        let folder = self.shown.parent().unwrap_or(Path::new("/"));
        path.strip_prefix(self.beside("")).map_or_else(|_| path.to_owned(), |below| folder.join(below))
    }
}

impl Project {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let real = folder.canonicalize()?;
        let root = openat(CWD, &real, FOLDER, Mode::empty())?;
        Ok(Self { shown: folder.to_owned(), real, root, leads: HashMap::new(), last: None })
    }

    /// A place as people call it.
    pub(super) fn shown(&self, home: &str) -> PathBuf {
        self.shown.join(home)
    }

    /// Where a target is without links: where a link leads to another place of the project, that is meant.
    pub(super) fn leads(&mut self, target: &str) -> io::Result<Leads> {
        let (folder, name) = split(target);
        let below = match self.leads.get(&folder) {
            Some(known) => known.clone(),
            None => {
                let found = self.look(&folder)?;
                self.leads.entry(folder).or_insert(found).clone()
            }
        };
        Ok(match below {
            Leads::Home(folder) => Leads::Home(joined(&folder, &name)),
            other => other,
        })
    }

    fn look(&self, folder: &str) -> io::Result<Leads> {
        let mut at = self.shown.join(folder);
        let mut missing = PathBuf::new();
        let real = loop {
            match at.canonicalize() {
                Ok(real) => break real,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Leads::File),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                    return Ok(Leads::Nowhere(at));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && at != self.shown => {
                    if fs::symlink_metadata(&at).is_ok() {
                        return Ok(Leads::Nowhere(at));
                    }
                    let Some(name) = at.file_name() else { return Err(error) };
                    missing = if missing.as_os_str().is_empty() {
                        name.into()
                    } else {
                        Path::new(name).join(missing)
                    };
                    at.pop();
                }
                Err(error) => return Err(error),
            }
        };
        let whole = if missing.as_os_str().is_empty() { real } else { real.join(missing) };
        Ok(match whole.strip_prefix(&self.real).ok().and_then(Path::to_str) {
            Some(below) => Leads::Home(below.to_owned()),
            None => Leads::Out(whole),
        })
    }

    /// Opens the folder of a place in which no link is left.
    pub(super) fn way(&mut self, home: &str) -> io::Result<Way> {
        self.reach(home, false)
    }

    /// The same, and makes what is missing on the way.
    pub(super) fn made(&mut self, home: &str) -> io::Result<Way> {
        self.reach(home, true)
    }

    fn reach(&mut self, home: &str, make: bool) -> io::Result<Way> {
        let (folder, name) = split(home);
        let spot = |folder| Way::Clear(Spot { folder, name: name.into(), shown: self.shown.join(home) });
        if let Some((_, open)) = self.last.as_ref().filter(|(last, _)| *last == folder) {
            return Ok(spot(Rc::clone(open)));
        }
        let mut open = openat(&self.root, ".", FOLDER, Mode::empty())?;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            // Asked for as a folder, a link is none.
            let down = || openat(&open, part, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            let opened = match down() {
                Err(Errno::NOENT) if make => match mkdirat(&open, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => down(),
                    Err(error) => Err(error),
                },
                opened => opened,
            };
            open = match opened {
                Ok(open) => open,
                Err(Errno::NOENT) => return Ok(Way::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Way::Barred),
                Err(error) => return Err(error.into()),
            };
        }
        let open = Rc::new(open);
        let clear = spot(Rc::clone(&open));
        self.last = Some((folder, open));
        Ok(clear)
    }

    /// Removes the folders above a place that are empty.
    pub(super) fn tidy(&mut self, home: &str) -> io::Result<()> {
        self.last = None;
        let (mut folder, _) = split(home);
        while !folder.is_empty() {
            let Way::Clear(spot) = self.way(&folder)? else { break };
            // One that is not empty refuses.
            if unlinkat(spot.folder.as_fd(), &spot.name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            folder = split(&folder).0;
        }
        // It may be one of those that are gone.
        self.last = None;
        Ok(())
    }
}

/// A place's folder, without `.` and doubled slashes, and its name.
fn split(place: &str) -> (String, String) {
    let mut parts: Vec<&str> = place.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let name = parts.pop().unwrap_or_default().to_owned();
    (parts.join("/"), name)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_place_is_followed_where_links_lead_and_reached_through_none() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("p");
        fs::create_dir_all(inside.join("real/deep")).unwrap();
        fs::create_dir_all(dir.path().join("out")).unwrap();
        fs::write(inside.join("file"), "").unwrap();
        let absolute = inside.join("real");
        for (link, to) in [("lnk", "real"), ("away", "../out"), ("gone", "nothing"), ("round", "round")]
            .map(|(a, b)| (a, PathBuf::from(b)))
        {
            symlink(to, inside.join(link)).unwrap();
        }
        symlink(&absolute, inside.join("abs")).unwrap();
        let mut project = Project::open(&inside).unwrap();
        let mut check =
            |target: &str, expected: Leads| assert_eq!(project.leads(target).unwrap(), expected, "{target}");
        let home = |place: &str| Leads::Home(place.to_owned());
        check("x", home("x"));
        check("./new//deeper/x", home("new/deeper/x"));
        check("lnk/deep/x", home("real/deep/x"));
        check("abs/new/x", home("real/new/x"));
        check("lnk", home("lnk"));
        let out = dir.path().join("out").canonicalize().unwrap();
        check("away/x", Leads::Out(out.clone()));
        check("away/new/x", Leads::Out(out.join("new")));
        check("gone/x", Leads::Nowhere(inside.join("gone")));
        check("round/x", Leads::Nowhere(inside.join("round")));
        check("file/new/x", Leads::File);
        for barred in ["lnk/x", "away/x", "gone/x", "file/x"] {
            assert!(matches!(project.made(barred).unwrap(), Way::Barred), "{barred}");
        }
        assert!(matches!(project.way("new/deeper/x").unwrap(), Way::Missing));
        let Way::Clear(spot) = project.made("new/deeper/x").unwrap() else { panic!("it is made") };
        // What is done by it is done there, whoever exchanges the folder meanwhile.
        fs::rename(inside.join("new"), inside.join("moved")).unwrap();
        symlink("../out", inside.join("new")).unwrap();
        fs::write(spot.path(), "1").unwrap();
        assert_eq!(fs::read_to_string(inside.join("moved/deeper/x")).unwrap(), "1");
        assert_eq!(spot.called(&spot.beside(".x.new")), inside.join("new/deeper/.x.new"));
        drop(spot);
        fs::remove_file(inside.join("moved/deeper/x")).unwrap();
        project.tidy("moved/deeper/x").unwrap();
        assert!(!inside.join("moved").exists() && out.exists());
    }
}
