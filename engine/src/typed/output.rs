//! Outputs: how what a body returns is taken apart, and the handles by which others refer to it.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BoxError;
use super::codec::Codec;
use super::shape::ShapeError;
use crate::execute::{Content, Produced};
use crate::pipeline::Share;

/// Reads a value from what a step was given. The folder is the attempt's own, for what has to be a file.
pub(super) type Reader<T> = dyn Fn(&Content, &Path) -> Result<T, BoxError> + Send + Sync;

/// An output of a step: a value of type `T`, once the step has run.
///
/// It is what other steps take as input ([`SolidBuilder::input`](super::SolidBuilder::input)), and what
/// [`Run::get`](super::Run::get) gives back.
pub struct Out<T> {
    pub(super) step: Arc<str>,
    pub(super) output: Arc<str>,
    pub(super) form: Described,
    pub(super) read: fn(&Content, &Path) -> Result<T, BoxError>,
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        Self {
            step: Arc::clone(&self.step),
            output: Arc::clone(&self.output),
            form: self.form.clone(),
            read: self.read,
        }
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.step, self.output)
    }
}

impl<T> Out<T> {
    /// All elements of a step with a matrix, over the axes that the reader lacks, each with its label.
    pub fn all(&self) -> All<T> {
        All { out: self.clone() }
    }

    /// The element of a step with a matrix whose axis has this value; the other axes are the reader's.
    pub fn at(&self, axis: &str, value: impl serde::Serialize) -> At<T> {
        At { out: self.clone(), labels: Vec::new() }.at(axis, value)
    }
}

/// See [`Out::all`].
#[derive(Debug, Clone)]
pub struct All<T> {
    pub(super) out: Out<T>,
}

impl<T> All<T> {
    /// Without the elements that failed, however many: the reader goes on with those that are there.
    pub fn skip_failed(self) -> Survivors<T> {
        Survivors { out: self.out, max_failed: Share::All }
    }
}

/// See [`All::skip_failed`].
#[derive(Debug, Clone)]
pub struct Survivors<T> {
    pub(super) out: Out<T>,
    pub(super) max_failed: Share,
}

impl<T> Survivors<T> {
    /// Only if no more than so many failed; the reader is skipped otherwise.
    #[must_use]
    pub fn max_failed(mut self, share: Share) -> Self {
        self.max_failed = share;
        self
    }
}

/// See [`Out::at`].
#[derive(Debug, Clone)]
pub struct At<T> {
    pub(super) out: Out<T>,
    pub(super) labels: Vec<(String, String)>,
}

impl<T> At<T> {
    /// Fixes another axis.
    #[must_use]
    pub fn at(mut self, axis: &str, value: impl serde::Serialize) -> Self {
        // A value that cannot be a label names no element: the graph says so, with the labels there are.
        let label = super::config::encode_value(&value).map(|value| value.text());
        self.labels.push((axis.to_owned(), label.unwrap_or_default()));
        self
    }
}

/// How an output is written, as far as others have to agree about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The codec's name.
    pub(super) codec: String,
    /// The shape of the type; empty where the codec has none.
    pub(super) shape: Arc<str>,
    /// Whether a command may read it.
    pub(super) file_form: bool,
}

/// A file, as an output that a body made or as an input that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    path: PathBuf,
}

/// A folder, as an output that a body made or as an input that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

macro_rules! paths {
    ($($ty:ident $what:literal;)*) => {
        $(impl $ty {
            #[doc = concat!("The ", $what, " at this path. As an output it may be moved away.")]
            pub fn new(path: impl Into<PathBuf>) -> Self {
                Self { path: path.into() }
            }

            /// Where it is. One that was given is only to be read.
            pub fn path(&self) -> &Path {
                &self.path
            }
        })*
    };
}

paths! { File "file"; Directory "folder"; }

/// How one value becomes something that can be stored, and comes back.
pub trait Form<T>: 'static {
    /// Its name, shape, and whether a command may read it.
    ///
    /// # Errors
    /// The shape of the type cannot be told.
    fn describe() -> Result<Described, ShapeError>;

    /// Writes a value.
    ///
    /// # Errors
    /// It cannot be written.
    fn produce(value: T, folder: &Path) -> Result<Produced, BoxError>;

    /// Reads a value.
    ///
    /// # Errors
    /// It cannot be read as one.
    fn read(content: &Content, folder: &Path) -> Result<T, BoxError>;
}

/// A value in memory, written by a codec.
pub struct Encoded<C>(PhantomData<fn() -> C>);

/// A file that the body made.
pub struct AsFile;

/// A folder that the body made.
pub struct AsDirectory;

impl<T, C: Codec<T>> Form<T> for Encoded<C> {
    fn describe() -> Result<Described, ShapeError> {
        Ok(Described { codec: C::NAME.to_owned(), shape: C::shape()?.into(), file_form: C::FILE_FORM })
    }

    fn produce(value: T, _folder: &Path) -> Result<Produced, BoxError> {
        C::encode(&value).map(Produced::Bytes)
    }

    fn read(content: &Content, _folder: &Path) -> Result<T, BoxError> {
        match content {
            Content::Bytes(encoded) if encoded.codec == C::NAME => C::decode(&encoded.bytes),
            Content::Bytes(encoded) => {
                Err(format!("it was written as `{}`, not as `{}`", encoded.codec, C::NAME).into())
            }
            _ => Err(format!("it is not a value written as `{}`", C::NAME).into()),
        }
    }
}

/// The codec's name for what is a file or folder already, whoever made it.
pub(super) const FILE_CODEC: &str = "file";

fn absolute(path: &Path, folder: &Path) -> PathBuf {
    // A relative path is one in the attempt's own folder: a body should not depend on where it was started.
    folder.join(path)
}

impl Form<File> for AsFile {
    fn describe() -> Result<Described, ShapeError> {
        Ok(Described { codec: FILE_CODEC.to_owned(), shape: "file".into(), file_form: true })
    }

    fn produce(value: File, folder: &Path) -> Result<Produced, BoxError> {
        let path = absolute(&value.path, folder);
        if path.is_file() {
            Ok(Produced::File(path))
        } else {
            Err(format!("there is no file at `{}`", path.display()).into())
        }
    }

    fn read(content: &Content, folder: &Path) -> Result<File, BoxError> {
        match content {
            Content::Path(path) if path.is_dir() => Err("it is a folder, not a file".into()),
            Content::Path(path) => Ok(File::new(path)),
            Content::Bytes(encoded) => {
                // Bytes that are only in memory: they get a file of their own for as long as it is needed.
                let scratch =
                    folder.join(format!(".given-{}", cas_store::Digest::of(&encoded.bytes).short()));
                std::fs::create_dir_all(&scratch)?;
                let path = scratch.join("file");
                std::fs::write(&path, &encoded.bytes[..])?;
                Ok(File::new(path))
            }
            _ => Err("it is not a file".into()),
        }
    }
}

impl Form<Directory> for AsDirectory {
    fn describe() -> Result<Described, ShapeError> {
        Ok(Described { codec: FILE_CODEC.to_owned(), shape: "folder".into(), file_form: true })
    }

    fn produce(value: Directory, folder: &Path) -> Result<Produced, BoxError> {
        let path = absolute(&value.path, folder);
        if path.is_dir() {
            Ok(Produced::Folder(path))
        } else {
            Err(format!("there is no folder at `{}`", path.display()).into())
        }
    }

    fn read(content: &Content, _folder: &Path) -> Result<Directory, BoxError> {
        match content {
            Content::Path(path) if path.is_dir() => Ok(Directory::new(path)),
            _ => Err("it is not a folder".into()),
        }
    }
}

/// One declared output: what the body returns for it, and what others see.
pub trait Slot<R>: 'static {
    /// What others see.
    type Value: 'static;

    /// How it is written, and whether it may be left out.
    ///
    /// # Errors
    /// The shape of the type cannot be told.
    fn describe() -> Result<(Described, bool), ShapeError>;

    /// Writes what the body returned.
    ///
    /// # Errors
    /// It cannot be written.
    fn produce(returned: R, folder: &Path) -> Result<Produced, BoxError>;

    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read as one.
    fn read(content: &Content, folder: &Path) -> Result<Self::Value, BoxError>;
}

/// An output that is always made.
pub struct Made<F>(PhantomData<fn() -> F>);

/// An output that need not be made: the body returns an `Option`.
pub struct Maybe<F>(PhantomData<fn() -> F>);

impl<T: 'static, F: Form<T>> Slot<T> for Made<F> {
    type Value = T;

    fn describe() -> Result<(Described, bool), ShapeError> {
        Ok((F::describe()?, false))
    }

    fn produce(returned: T, folder: &Path) -> Result<Produced, BoxError> {
        F::produce(returned, folder)
    }

    fn read(content: &Content, folder: &Path) -> Result<T, BoxError> {
        F::read(content, folder)
    }
}

impl<T: 'static, F: Form<T>> Slot<Option<T>> for Maybe<F> {
    type Value = T;

    fn describe() -> Result<(Described, bool), ShapeError> {
        Ok((F::describe()?, true))
    }

    fn produce(returned: Option<T>, folder: &Path) -> Result<Produced, BoxError> {
        returned.map_or(Ok(Produced::Absent), |value| F::produce(value, folder))
    }

    fn read(content: &Content, folder: &Path) -> Result<T, BoxError> {
        F::read(content, folder)
    }
}

/// The one output `result` that a solid has when it declares none, written in this form.
pub struct Implicit<F>(PhantomData<fn() -> F>);

/// The outputs of a solid: what its body has to return, and the handles that come of it.
#[diagnostic::on_unimplemented(
    message = "what the body returns does not fit the outputs that were declared",
    label = "returns `{R}`",
    note = "by default a body returns one value that serde can write and read; with `.output::<Codec>(name)` a value for that codec (several: a tuple in that order); with `.optional_output` an `Option`; with `.file` a `File`; with `.directory` a `Directory`; with `.no_outputs()` nothing; with `.list()` something that can be iterated over",
    note = "a body that returns a `Result` is given to `.run_fallible(..)`"
)]
pub trait Outputs<R>: 'static {
    /// One handle, or a tuple of them.
    type Handles;

    /// Whether it is one output that is a list.
    const LIST: bool = false;

    /// How each is written, and whether it may be left out.
    ///
    /// # Errors
    /// The shape of a type cannot be told.
    fn describe() -> Vec<Result<(Described, bool), ShapeError>>;

    /// Writes what the body returned, in declared order.
    ///
    /// # Errors
    /// Something cannot be written.
    fn produce(returned: R, folder: &Path) -> Result<Vec<Produced>, BoxError>;

    /// The handles. `each` gives the step, the output and its form by index.
    fn handles(each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) -> Self::Handles;
}

pub(super) fn handle<R, S: Slot<R>>((step, output, form): (Arc<str>, Arc<str>, Described)) -> Out<S::Value> {
    Out { step, output, form, read: S::read }
}

impl<R: 'static, F: Form<R>> Outputs<R> for Implicit<F> {
    type Handles = Out<R>;

    fn describe() -> Vec<Result<(Described, bool), ShapeError>> {
        vec![<Made<F> as Slot<R>>::describe()]
    }

    fn produce(returned: R, folder: &Path) -> Result<Vec<Produced>, BoxError> {
        Ok(vec![F::produce(returned, folder)?])
    }

    fn handles(each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) -> Out<R> {
        handle::<R, Made<F>>(each(0))
    }
}

impl Outputs<()> for () {
    type Handles = ();

    fn describe() -> Vec<Result<(Described, bool), ShapeError>> {
        Vec::new()
    }

    fn produce((): (), _folder: &Path) -> Result<Vec<Produced>, BoxError> {
        Ok(Vec::new())
    }

    fn handles(_each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) {}
}

impl<R: 'static, S: Slot<R>> Outputs<R> for (S,) {
    type Handles = Out<S::Value>;

    fn describe() -> Vec<Result<(Described, bool), ShapeError>> {
        vec![S::describe()]
    }

    fn produce(returned: R, folder: &Path) -> Result<Vec<Produced>, BoxError> {
        Ok(vec![S::produce(returned, folder)?])
    }

    fn handles(each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) -> Self::Handles {
        handle::<R, S>(each(0))
    }
}

macro_rules! outputs {
    ($(($($slot:ident $returned:ident $index:tt),*);)*) => {
        $(impl<$($returned: 'static, $slot: Slot<$returned>),*> Outputs<($($returned,)*)> for ($($slot,)*) {
            type Handles = ($(Out<$slot::Value>,)*);

            fn describe() -> Vec<Result<(Described, bool), ShapeError>> {
                vec![$($slot::describe()),*]
            }

            fn produce(returned: ($($returned,)*), folder: &Path) -> Result<Vec<Produced>, BoxError> {
                Ok(vec![$($slot::produce(returned.$index, folder)?),*])
            }

            fn handles(each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) -> Self::Handles {
                ($(handle::<$returned, $slot>(each($index)),)*)
            }
        })*
    };
}

outputs! {
    (S0 R0 0, S1 R1 1);
    (S0 R0 0, S1 R1 1, S2 R2 2);
    (S0 R0 0, S1 R1 1, S2 R2 2, S3 R3 3);
    (S0 R0 0, S1 R1 1, S2 R2 2, S3 R3 3, S4 R4 4);
    (S0 R0 0, S1 R1 1, S2 R2 2, S3 R3 3, S4 R4 4, S5 R5 5);
    (S0 R0 0, S1 R1 1, S2 R2 2, S3 R3 3, S4 R4 4, S5 R5 5, S6 R6 6);
    (S0 R0 0, S1 R1 1, S2 R2 2, S3 R3 3, S4 R4 4, S5 R5 5, S6 R6 6, S7 R7 7);
}

/// Declared outputs with one more behind them.
pub trait Declare<S> {
    /// The longer tuple.
    type Declared;
}

impl<F, S> Declare<S> for Implicit<F> {
    type Declared = (S,);
}

macro_rules! declares {
    ($(($($slot:ident)*);)*) => {
        $(impl<$($slot,)* S> Declare<S> for ($($slot,)*) {
            type Declared = ($($slot,)* S,);
        })*
    };
}

declares! {
    (S0);
    (S0 S1);
    (S0 S1 S2);
    (S0 S1 S2 S3);
    (S0 S1 S2 S3 S4);
    (S0 S1 S2 S3 S4 S5);
    (S0 S1 S2 S3 S4 S5 S6);
}
