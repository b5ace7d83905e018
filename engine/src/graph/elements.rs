//! The elements of an invocation: the axes that tell them apart, and which points each has.
//!
//! Elements of a matrix are a product: each follows from its number, the last axis fastest. Elements of a list that a
//! step yields are told by a table, because lists of different elements are of different length. While a list is not
//! known, one element stands in the place of all of them, at a point of the list's axis that stands for any.

use crate::pipeline::{Axis, Point};

/// The elements of one invocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elements {
    /// The axes: first those of its matrix, whose values are config, then those that come from lists and from what they
    /// are lists of, which it does not see.
    pub(crate) axes: Vec<Axis>,
    /// For each element the index of its point on each axis, one after the other; `None` for a product.
    table: Option<Vec<u32>>,
    /// For each axis, its point that stands for elements that are not known.
    unknown: Vec<Option<u32>>,
    /// How many there are.
    len: u32,
}

/// How a point that stands for elements that are not known is written.
const UNKNOWN: &str = "*";

/// The point that stands for elements that are not known.
pub(super) fn unknown_point() -> Point {
    Point { label: UNKNOWN.to_owned(), value: crate::value::Value::Null, row: false }
}

impl Elements {
    /// All combinations of the points of these axes.
    pub(super) fn product(axes: Vec<Axis>, len: u32) -> Self {
        Self { axes, table: None, unknown: Vec::new(), len }
    }

    /// The elements that a table tells.
    pub(super) fn table(axes: Vec<Axis>, unknown: Vec<Option<u32>>, table: Vec<u32>) -> Self {
        let len = table.len().checked_div(axes.len()).unwrap_or(0);
        Self { axes, table: Some(table), unknown, len: u32::try_from(len).unwrap_or(u32::MAX) }
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The index of the point that an element has on each axis, in order.
    pub(super) fn points(&self, element: u32) -> Points<'_> {
        match &self.table {
            Some(table) => {
                let width = self.axes.len();
                let first = element as usize * width;
                Points::Told(table[first..first + width].iter())
            }
            None => Points::Counted {
                axes: self.axes.iter(),
                stride: u64::from(self.len),
                rest: u64::from(element),
            },
        }
    }

    /// Whether a point of an axis stands for elements that are not known.
    pub(super) fn stands_for_any(&self, axis: usize, point: u32) -> bool {
        self.unknown.get(axis).is_some_and(|unknown| *unknown == Some(point))
    }

    /// Whether an element stands for others that are not known.
    pub(super) fn is_placeholder(&self, element: u32) -> bool {
        self.unknown.iter().any(Option::is_some)
            && (0..).zip(self.points(element)).any(|(axis, point)| self.stands_for_any(axis, point))
    }

    /// Whether an element stands for all of them.
    pub(super) fn stands_for_all(&self, element: u32) -> bool {
        !self.unknown.is_empty()
            && (0..).zip(self.points(element)).all(|(axis, point)| self.stands_for_any(axis, point))
    }

    /// For each axis, the point that stands for elements that are not known.
    pub(super) fn unknown(&self, axis: usize) -> Option<u32> {
        self.unknown.get(axis).copied().flatten()
    }

    /// Whether they come from a list.
    pub(crate) fn is_mapped(&self) -> bool {
        self.table.is_some()
    }
}

/// The points of one element.
pub(super) enum Points<'e> {
    /// As the table tells.
    Told(std::slice::Iter<'e, u32>),
    /// As they follow from its number.
    Counted { axes: std::slice::Iter<'e, Axis>, stride: u64, rest: u64 },
}

impl Iterator for Points<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Told(points) => points.next().copied(),
            Self::Counted { axes, stride, rest } => {
                // An axis without points leaves no element, so there is no step to ask about.
                *stride /= (axes.next()?.points.len() as u64).max(1);
                let point = *rest / (*stride).max(1);
                *rest %= (*stride).max(1);
                Some(u32::try_from(point).unwrap_or(u32::MAX))
            }
        }
    }
}
