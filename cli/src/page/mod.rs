//! The page that shows a run: one file that needs nothing else, written from a run's chronicle.
//!
//! The data stands in it once, as JSON in an element of its own, and all that is drawn is drawn from that by the
//! scripts beside this file. Invariants: nothing of the run is ever markup (the scripts set text, here `<` is escaped);
//! no script, style or address but the page's own is let in, which a policy with a nonce of the content holds; the
//! network is not asked for anything.

mod data;

use cas_engine::chronicle::Chronicle;
use cas_engine::memo::Memo;
use cas_store::Digest;

pub(crate) use self::data::command;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 7] = [
    include_str!("model.js"),
    include_str!("layout.js"),
    include_str!("graph.js"),
    include_str!("timeline.js"),
    include_str!("panel.js"),
    include_str!("table.js"),
    include_str!("main.js"),
];

/// The data of the page as JSON.
pub(crate) fn data(memo: &Memo, chronicle: &Chronicle, made_ms: u64) -> serde_json::Value {
    data::document(memo, chronicle, made_ms)
}

/// The page.
pub(crate) fn page(memo: &Memo, chronicle: &Chronicle, made_ms: u64) -> String {
    let data = in_script(&data::document(memo, chronicle, made_ms).to_string());
    // Whoever chose a name or printed a log cannot know what it is: it is made of all of them.
    let nonce = Digest::of(data.as_bytes()).to_string();
    let of = chronicle.record.combination.as_ref().map(|name| format!(" · {name}")).unwrap_or_default();
    let title = format!("{} · run {}{of}", chronicle.record.pipeline, chronicle.run);
    filled(&[
        ("nonce", &nonce),
        ("title", &in_markup(&title)),
        ("style", STYLE),
        ("script", &SCRIPTS.concat()),
        ("data", &data),
    ])
}

/// The page with its places filled in, each once read: what is put in is not looked at again.
fn filled(values: &[(&str, &str)]) -> String {
    let mut page =
        String::with_capacity(PAGE.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = PAGE;
    while let Some(open) = rest.find('{') {
        page.push_str(&rest[..open]);
        rest = &rest[open..];
        let place = values
            .iter()
            .find(|(name, _)| rest[1..].strip_prefix(name).is_some_and(|rest| rest.starts_with('}')));
        match place {
            Some((name, value)) => {
                page.push_str(value);
                rest = &rest[name.len() + 2..];
            }
            None => {
                page.push('{');
                rest = &rest[1..];
            }
        }
    }
    page.push_str(rest);
    page
}

/// JSON as it may stand in a script: in it, these characters stand in strings only.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Text as it may stand in markup; control characters are no text.
fn in_markup(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_page_is_filled_and_what_is_put_in_is_not_read_again() {
        let page = filled(&[
            ("nonce", "N"),
            ("title", "{data}"),
            ("style", "S"),
            ("script", "{title}"),
            ("data", "D"),
        ]);
        assert!(page.contains("<title>{data}</title>"), "{page}");
        assert!(page.contains("\"use strict\";\n{title}})();"), "{page}");
        assert_eq!(page.matches("nonce=\"N\"").count(), 3);
        assert_eq!(page.matches("'nonce-N'").count(), 2);
    }

    #[test]
    fn no_text_of_a_run_ends_a_script_or_begins_markup() {
        let json = serde_json::json!({"name": "</script><script>alert(1)</script>&<!--"}).to_string();
        let shown = in_script(&json);
        assert!(!shown.contains(['<', '>', '&']), "{shown}");
        let back: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON still");
        assert_eq!(back["name"], "</script><script>alert(1)</script>&<!--");
        assert_eq!(in_markup("a<b>\u{7}&\"c"), "a&lt;b&gt;&amp;&quot;c");
    }

    #[test]
    fn the_page_names_no_address_and_no_inline_handler() {
        let whole = [PAGE, STYLE, &SCRIPTS.concat()].concat();
        let without_names = whole.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "innerHTML",
            "eval(",
            "onclick=",
            "style=",
            "fetch(",
        ] {
            assert!(!without_names.contains(word), "{word}");
        }
    }
}
