//! The kinds of nodes, each with the context that it is hashed in. Pure.

use std::sync::LazyLock;

use blake3::hazmat::HasherExt;
use cas_store::Version;

/// The kinds of nodes. Each is hashed in a context of its own, with the number of its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Solid,
    Resource,
    Config,
    Input,
    Step,
    Output,
    Trace,
    Secret,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Solid,
        Self::Resource,
        Self::Config,
        Self::Input,
        Self::Step,
        Self::Output,
        Self::Trace,
        Self::Secret,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::Resource => "resource",
            Self::Config => "config",
            Self::Input => "input",
            Self::Step => "step",
            Self::Output => "output",
            Self::Trace => "trace",
            Self::Secret => "secret",
        }
    }

    /// The context string of BLAKE3's `derive_key` mode. The number at its end is the scheme's.
    fn context(self) -> &'static str {
        match self {
            Self::Solid => "cas 2026 solid 2",
            Self::Resource => "cas 2026 resource 1",
            Self::Config => "cas 2026 config 1",
            Self::Input => "cas 2026 input 2",
            Self::Step => "cas 2026 step 2",
            Self::Output => "cas 2026 output 1",
            Self::Trace => "cas 2026 trace 2",
            Self::Secret => "cas 2026 secret 1",
        }
    }

    /// Hashes an encoded node.
    pub(super) fn hash(self, bytes: &[u8]) -> Version {
        // What BLAKE3 makes of a context string costs as much as a small node: it is made once.
        static KEYS: LazyLock<[blake3::hazmat::ContextKey; 8]> =
            LazyLock::new(|| Kind::ALL.map(|kind| blake3::hazmat::hash_derive_key_context(kind.context())));
        let key = &KEYS[self as usize];
        blake3::Hasher::new_from_context_key(key).update(bytes).finalize().into()
    }
}
