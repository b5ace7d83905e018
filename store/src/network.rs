//! Whether a folder is on a network file system.

use std::path::Path;

use crate::config::Config;
use crate::disk;
use crate::error::{At, StoreError};
use crate::layout::Layout;

/// What the kernel calls file systems that several machines may have mounted.
const NETWORK: [(i128, &str); 14] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
];

/// Refuses a store on a network file system, unless its settings ask for it. The folder may not be there
/// yet; then what counts is where it would be.
///
/// # Errors
///
/// [`StoreError::Network`].
pub(crate) fn check(dir: &Path) -> Result<(), StoreError> {
    let absolute = std::path::absolute(dir).at("find", dir)?;
    let about = absolute.ancestors().find_map(|folder| rustix::fs::statfs(folder).ok());
    let kind = match disk::may("be local", &absolute) {
        Ok(()) => about.and_then(|about| network(i128::from(about.f_type))),
        // So a test says.
        Err(_) => network(NETWORK[0].0),
    };
    let Some(kind) = kind else { return Ok(()) };
    if Config::read(&Layout::new(absolute).config())?.network_file_system {
        return Ok(());
    }
    Err(StoreError::Network { dir: dir.to_owned(), kind })
}

fn network(kind: i128) -> Option<&'static str> {
    // Some kernels give it with a sign.
    let kind = kind & 0xffff_ffff;
    NETWORK.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        for (kind, expected) in [
            (0x6969, Some("nfs")),
            (i128::from(0xff53_4d42_u32.cast_signed()), Some("cifs")),
            (0xef53, None),
            (0x0102_1994, None),
        ] {
            assert_eq!(network(kind), expected, "{kind:x}");
        }
        let dir = tempfile::tempdir().unwrap();
        check(&dir.path().join("not/there/yet")).unwrap();
    }
}
