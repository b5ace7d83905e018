//! The version of a Rust solid's or resource's code, as it was given.

/// Where a version of code comes from: [`file_version!`](crate::typed::file_version),
/// [`crate_version!`](crate::typed::crate_version), or a text by hand, which whoever wrote it raises when the
/// code changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeVersion {
    pub(super) krate: Option<&'static str>,
    pub(super) text: String,
    /// Whether it changes with the source, so that places in the source may be part of it.
    pub(super) measured: bool,
}

impl CodeVersion {
    /// What the macros leave: the module that they stand in and the hash of the files.
    pub fn of_files(module: &'static str, hash: &'static str) -> Self {
        let krate = module.split("::").next();
        Self { krate, text: hash.to_owned(), measured: true }
    }

    /// Whether none was given.
    pub(super) fn is_missing(&self) -> bool {
        self.text.is_empty()
    }
}

impl From<&str> for CodeVersion {
    fn from(text: &str) -> Self {
        Self { krate: None, text: text.to_owned(), measured: false }
    }
}

impl From<String> for CodeVersion {
    fn from(text: String) -> Self {
        Self { krate: None, text, measured: false }
    }
}
