//! Lists that a body yields at run time, and the solids that are mapped over them: one step an element.
//!
//! A list is written as canonical JSON, so that commands may be mapped over it, too. A step is given an element as
//! pipelines from files are: a text as it is, anything else as JSON. Which of the two it was is found out by reading it
//! both ways and writing it again. Invariant: an element that is read is the one that was yielded; where two could not
//! be told apart (`None` and the text `null`), the step that yields them fails.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use super::codec::{Codec, Json};
use super::input::{Bound, Input};
use super::output::{Described, Encoded, Form, Made, Out, Outputs, handle};
use super::shape::ShapeError;
use crate::execute::{Content, Produced};
use crate::pipeline::{Pick, Source};
use crate::value::Value;

/// What [`SolidBuilder::list`](super::SolidBuilder::list) declares: the one output `result`, a list.
pub struct Listed;

/// A list that a step yields, over which solids are mapped ([`SolidBuilder::map`](super::SolidBuilder::map)).
pub struct List<T> {
    out: Out<Vec<T>>,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self { out: self.out.clone() }
    }
}

impl<T> std::fmt::Debug for List<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.out)
    }
}

impl<T> List<T> {
    /// The list as a whole, as an output like any other.
    pub fn whole(&self) -> Out<Vec<T>> {
        self.out.clone()
    }
}

/// An element of a list, as an input.
pub(super) struct Each<'l, T>(pub(super) &'l List<T>);

impl<T: Serialize + DeserializeOwned + 'static> Input for Each<'_, T> {
    type Value = T;

    fn bind(self) -> Bound<T> {
        Bound {
            source: Ok(Source::Element(self.0.out.reference(Pick::Same))),
            promised: vec![self.0.out.promise()],
            read: Arc::new(|content: &Content, _: &Path| match content {
                Content::Value(Value::Str(text)) => read(text),
                _ => Err("it is no element of a list".into()),
            }),
        }
    }
}

impl<R> Outputs<R> for Listed
where
    R: IntoIterator + 'static,
    R::Item: Serialize + DeserializeOwned + 'static,
{
    type Handles = List<R::Item>;

    const LIST: bool = true;

    fn describe() -> Vec<Result<(Described, bool), ShapeError>> {
        vec![<Encoded<Json> as Form<Vec<R::Item>>>::describe().map(|form| (form, false))]
    }

    fn produce(returned: R, _folder: &Path) -> Result<Vec<Produced>, BoxError> {
        let items: Vec<R::Item> = returned.into_iter().collect();
        for item in &items {
            let text = written(item)?.text;
            read::<R::Item>(&text)?;
        }
        Ok(vec![Produced::Bytes(Json::encode(&items)?)])
    }

    fn handles(each: &dyn Fn(usize) -> (Arc<str>, Arc<str>, Described)) -> Self::Handles {
        List { out: handle::<Vec<R::Item>, Made<Encoded<Json>>>(each(0)) }
    }
}

/// An item as a step is given it.
#[derive(PartialEq)]
struct Written {
    text: String,
    /// Whether it is a text, and not JSON.
    is_text: bool,
}

fn written<T: Serialize>(item: &T) -> Result<Written, BoxError> {
    let mut json = serde_json::to_value(item)?;
    json.sort_all_objects();
    Ok(match json {
        serde_json::Value::String(text) => Written { text, is_text: true },
        json => Written { text: json.to_string(), is_text: false },
    })
}

/// Reads an item, as a text or as JSON, whichever gives the same when it is written again.
fn read<T: Serialize + DeserializeOwned>(text: &str) -> Result<T, BoxError> {
    let same = |item: &T, is_text: bool| {
        written(item).is_ok_and(|written| written.text == text && written.is_text == is_text)
    };
    let as_json = serde_json::from_str::<T>(text).ok().filter(|item| same(item, false));
    let json = serde_json::Value::String(text.to_owned());
    let as_text = T::deserialize(json).ok().filter(|item| same(item, true));
    match (as_json, as_text) {
        (Some(item), None) | (None, Some(item)) => Ok(item),
        (Some(_), Some(_)) => Err(format!(
            "`{text}` may be a text or something else: an element of a list has to be one of them; wrap it in a struct"
        )
        .into()),
        (None, None) => Err(format!("`{text}` cannot be read back as an element of the list").into()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[track_caller]
    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(item: T, as_text: &str) {
        let text = written(&item).expect("it can be written").text;
        assert_eq!(text, as_text);
        assert_eq!(read::<T>(&text).expect("it can be read"), item);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Small,
        Large { by: u8 },
    }

    #[test]
    fn every_element_comes_back_as_what_it_was() {
        comes_back(5_u64, "5");
        comes_back("5".to_owned(), "5");
        comes_back("\"quoted\"".to_owned(), "\"quoted\"");
        comes_back(String::new(), "");
        comes_back("null".to_owned(), "null");
        comes_back(None::<u8>, "null");
        comes_back((1, "a".to_owned()), "[1,\"a\"]");
        comes_back(Kind::Small, "Small");
        comes_back(Kind::Large { by: 2 }, "{\"Large\":{\"by\":2}}");
        comes_back(1.5_f64, "1.5");
        comes_back(Some("x".to_owned()), "x");
    }

    #[test]
    fn two_that_would_look_the_same_are_refused() {
        let wrong = read::<Option<String>>("null").expect_err("it may be either");
        assert!(wrong.to_string().starts_with("`null` may be a text or something else"), "{wrong}");
        assert!(read::<f64>("null").is_err());
    }
}
