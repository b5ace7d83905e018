//! `file_version!` and `crate_version!`: the version of a Rust solid's code, taken when it is compiled.
//!
//! A memoized function must run again when its code has changed, and nobody remembers to raise a number by
//! hand. These macros hash source files while the crate is compiled and leave the hash in the program. They
//! also make the compiler watch those files, so that a changed file is always a new expansion.
//!
//! Owns: which files count, and how they are hashed (`hash.rs`). Never touches: anything but the files that
//! it was told of, and those of the crate that is being compiled.

mod hash;

use std::path::{Path, PathBuf};

use proc_macro::{Span, TokenStream};
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{LitStr, Token};

use crate::hash::Sources;

/// The version of the file that this stands in, and of the files (or folders) that it names.
///
/// Names are relative to the file. Everything that the body of a solid calls, and that may change, belongs
/// here: `file_version!("helpers.rs", "../tables")`. What other crates do is not in it; see
/// [`crate_version!`].
#[proc_macro]
pub fn file_version(input: TokenStream) -> TokenStream {
    expand(input, |names| {
        let here = this_file()?;
        let folder = here.parent().ok_or("the file that this stands in has no folder")?;
        let mut sources = Sources::new("file");
        sources.file("", &here)?;
        for name in names {
            sources.add(name, &folder.join(name))?;
        }
        Ok(sources)
    })
}

/// The version of the whole crate that this stands in: everything in its folder, and the lock file.
///
/// Any of it may be code (`include_str!("../queries/all.sql")`). Left out are hidden files, and folders that say
/// that what they hold can be made again, by a file `CACHEDIR.TAG` in them: cargo's `target`, a store. Data that
/// lies in the crate's folder and changes belongs into such a folder, or use [`file_version!`].
///
/// Other crates of the same workspace are not in it, because the lock file holds no hash of theirs: name
/// their folders, relative to this crate's: `crate_version!("../helpers")`.
#[proc_macro]
pub fn crate_version(input: TokenStream) -> TokenStream {
    expand(input, |names| {
        let root = crate_folder()?;
        let mut sources = Sources::new("crate");
        sources.add("", &root)?;
        // A program's lock file may stand in any folder above it; a library in a registry has none.
        if let Some(lock) = root.ancestors().map(|dir| dir.join("Cargo.lock")).find(|path| path.is_file()) {
            sources.file("Cargo.lock", &lock)?;
        }
        for name in names {
            sources.add(name, &root.join(name))?;
        }
        Ok(sources)
    })
}

/// Parses the names, collects the files and leaves their hash, with a watch on each of them.
fn expand(input: TokenStream, collect: impl FnOnce(&[String]) -> Result<Sources, String>) -> TokenStream {
    let names = match Punctuated::<LitStr, Token![,]>::parse_terminated.parse(input) {
        Ok(names) => names.iter().map(LitStr::value).collect::<Vec<_>>(),
        Err(error) => return error.to_compile_error().into(),
    };
    let sources = match collect(&names) {
        Ok(sources) => sources,
        Err(message) => {
            return syn::Error::new(proc_macro2::Span::call_site(), message).to_compile_error().into();
        }
    };
    let version = sources.version();
    // Including a file is what makes cargo compile the crate again when the file changes.
    let watched = sources.watched();
    quote! {
        {
            #(const _: &[u8] = ::core::include_bytes!(#watched);)*
            ::cas_engine::typed::CodeVersion::of_files(::core::module_path!(), #version)
        }
    }
    .into()
}

/// The file that the macro is called in, absolute.
fn this_file() -> Result<PathBuf, String> {
    let file = Span::call_site().local_file().ok_or(
        "the compiler does not say which file this stands in: use `crate_version!()` or a version by hand",
    )?;
    // The compiler names files relative to where it runs, which for a member of a workspace is not its folder.
    let mut tried = vec![std::env::current_dir().ok().map(|dir| dir.join(&file))];
    tried.push(crate_folder().ok().map(|dir| dir.join(&file)));
    tried
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
        .ok_or_else(|| format!("cannot find `{}`, the file that this stands in", file.display()))
}

/// The folder of the crate that is being compiled.
fn crate_folder() -> Result<PathBuf, String> {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map(|dir| Path::new(&dir).to_owned())
        .ok_or_else(|| "CARGO_MANIFEST_DIR is not set: this is not compiled by cargo".to_owned())
}
