//! Elements of one step of which the same is told, told as one. Pure.
//!
//! What is the same for all of them is for whoever tells it to say, as a key: a text that names the element itself names
//! each ([`of_any`]). With `-v` each is told, and nobody asks here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;

use super::words;

/// What stands in the place of an element where several are told as one.
pub(crate) const ANY: &str = "[*]";

/// The step that an element is of, and which one it is: `train` and `[lr=1]`.
pub(crate) fn parts(step: &str) -> Option<(&str, &str)> {
    step.find('[').map(|at| step.split_at(at))
}

/// A text about an element as it reads of any of them.
pub(crate) fn of_any<'t>(step: &str, text: &'t str) -> Cow<'t, str> {
    match parts(step) {
        Some((_, element)) if text.contains(element) => text.replace(element, ANY).into(),
        Some(_) | None => text.into(),
    }
}

/// So many of all elements of a step: `train[*]  40 of 60`.
pub(crate) fn some_of(step: &str, count: usize, all: usize) -> String {
    format!("{step}{ANY}  {} of {}", words::thousands(count), words::thousands(all))
}

/// What is told of several steps, in the order of the first of each group: elements of one step that have one key
/// together, everything else, and what has no key, by itself.
pub(crate) fn grouped<'t, T, K: Hash + Eq>(
    all: &'t [T],
    step: impl Fn(&'t T) -> &'t str,
    key: impl Fn(&'t T) -> Option<K>,
) -> Vec<Vec<&'t T>> {
    let mut groups: Vec<Vec<&T>> = Vec::new();
    let mut known: HashMap<(&str, K), usize> = HashMap::new();
    for told in all {
        let of = parts(step(told)).and_then(|(base, _)| Some((base, key(told)?)));
        let at = of.map_or(groups.len(), |of| *known.entry(of).or_insert(groups.len()));
        match groups.get_mut(at) {
            Some(group) => group.push(told),
            None => groups.push(vec![told]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_one_step_with_one_key_stand_where_the_first_of_them_stood() {
        let all = [("a[n=1]", 1), ("total", 1), ("b[n=1]", 1), ("a[n=2]", 2), ("a[n=3]", 1), ("total", 1)];
        let told = |keep: fn(i32) -> Option<i32>| {
            let groups = grouped(&all, |(step, _)| step, |(_, key)| keep(*key));
            let steps = |group: Vec<&(&'static str, i32)>| group.iter().map(|(step, _)| *step).collect();
            groups.into_iter().map(steps).collect::<Vec<Vec<&str>>>()
        };
        let together: [&[&str]; 5] =
            [&["a[n=1]", "a[n=3]"], &["total"], &["b[n=1]"], &["a[n=2]"], &["total"]];
        assert_eq!(told(Some), together);
        let each: [&[&str]; 6] = [&["a[n=1]"], &["total"], &["b[n=1]"], &["a[n=2]"], &["a[n=3]"], &["total"]];
        assert_eq!(told(|_| None), each);
    }

    #[test]
    fn what_names_the_element_names_any() {
        assert_eq!(of_any("b[n=1]", "`a[n=1]`: config.w: 1 → 2"), "`a[*]`: config.w: 1 → 2");
        assert_eq!(of_any("total", "`a[n=1]`: it failed"), "`a[n=1]`: it failed");
        assert_eq!(some_of("train", 1000, 12_000), "train[*]  1,000 of 12,000");
    }
}
