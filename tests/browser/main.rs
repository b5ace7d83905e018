//! The page of `cas report` in a real browser: what it shows, how it is used, and that it asks for nothing.
//!
//! Needs Chromium, so it is no part of `cargo test`: `cargo test --release -p cas-cli --test browser` runs it, and the
//! gate does.

#[path = "../kit/mod.rs"]
mod kit;

mod chromium;

use std::path::PathBuf;

use cas_engine::typed::{Axis, Builder, Options, run};

use crate::chromium::Chromium;
use crate::kit::Folder;

/// One step of each kind that a page has to tell apart.
const PIPELINE: &str = "\
pipeline: flowers
solids:
  seed:
    config: {kind: {type: str, default: rose}}
    command: echo {{ config.kind }} > {{ outputs.result }}
  soil: {command: seq 1 2000, stdout: result}
  grow:
    inputs: {seed: seed, soil: soil}
    matrix: {water: [1, 2, 3, 4]}
    command: cat {{ inputs.seed }} > {{ outputs.result }}
  pick:
    inputs: {flower: grow}
    matrix: {water: [1, 2, 3, 4]}
    command: echo picking number {{ config.water }}; test {{ config.water }} != 3; echo ok > {{ outputs.result }}
  bunch: {inputs: {all: 'pick[*]'}, command: ls inputs/all, stdout: result}
";

/// The page of the second run of that pipeline: `seed` is another, `soil` is reused, `pick[water=3]` fails.
fn flowers() -> (Folder, PathBuf) {
    let folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    let _ = folder.cas("run -k -j 2").code(1);
    let _ = folder.cas("run -k -j 2 --set seed.kind=tulip").code(1);
    let _ = folder.cas("report -o page.html").ok();
    let page = folder.path("page.html");
    (folder, page)
}

/// What every text of the page has as its contrast to what lies behind it; those below the bound.
const FAINT: &str = "(() => {
  const rgb = colour => { const at = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    at.fillStyle = colour; at.fillRect(0, 0, 1, 1); return [...at.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const node = element.closest('.row, .node, .attempt');
    if (node && element.closest('svg')) return rgb(getComputedStyle(node.querySelector('rect:not(.back)')).fill);
    for (let at = element; at; at = at.parentElement) { const c = rgb(getComputedStyle(at).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255, 255];
  };
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll('body *')) {
    if (['SCRIPT', 'STYLE', 'title', 'NOSCRIPT'].includes(element.tagName) || !element.checkVisibility()) continue;
    if (![...element.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const front = light(rgb(drawn ? style.fill : style.color)), back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    seen++;
    if (ratio < 4.5) faint.push(`${element.tagName}.${element.getAttribute('class')} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  if (seen < 40) faint.push(`only ${seen} texts were looked at`);
  return faint;
})()";

#[test]
fn the_page_shows_statuses_causes_failures_and_changes_and_asks_for_nothing() {
    let (_folder, page) = flowers();
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    browser.open(&page);
    assert_eq!(browser.text("document.title"), "flowers · run 2");
    assert_eq!(
        browser.text("[...document.querySelectorAll('.chip')].map(chip => chip.textContent).join(', ')"),
        "1 reused, 8 ran, 1 failed, 1 skipped"
    );
    // One node an invocation, with its elements counted and its outcome as a shape and a word.
    assert_eq!(
        browser.text(
            "[...document.querySelectorAll('.node .name')].map(name => name.textContent).sort().join(', ')"
        ),
        "bunch, grow ×4, pick ×4, seed, soil"
    );
    assert_eq!(
        browser.text("[...document.querySelectorAll('.node .line')].map(line => line.textContent).find(line => line.includes('failed'))"),
        "1 failed, 3 ran"
    );
    // Every node has the shape of its outcome; the edges are there.
    assert_eq!(browser.value("document.querySelectorAll('.node > g > .glyph').length"), 5);
    assert_eq!(
        browser.value("document.querySelector('.edge.all').getAttribute('d').split('M').length - 1"),
        4
    );
    // Selecting a step shows its cause.
    browser.value("location.hash = '#step=seed'");
    browser.frame();
    assert_eq!(browser.text("document.getElementById('cause').textContent"), "config.kind: rose → tulip");
    // The failure is told with the end of its log.
    let failure = browser.text("document.querySelector('.failure').textContent");
    assert!(failure.contains("pick[water=3]") && failure.contains("exit status 1"), "{failure}");
    assert_eq!(browser.text("document.querySelector('.failure pre').textContent"), "picking number 3\n");
    assert_eq!(
        browser.text("[...document.querySelectorAll('#nav a')].map(link => link.textContent).join(', ')"),
        "Failures, Graph, Timeline, Changes, Steps"
    );
    // The run before is compared, cause by cause.
    assert_eq!(browser.text("document.getElementById('since-title').textContent"), "Since run 1");
    let causes = browser
        .text("[...document.querySelectorAll('.change .what')].map(what => what.textContent).join('\\n')");
    let expected = "command: run -k -j 2 → run -k -j 2 --set seed.kind=tulip\n\
                    config.kind: rose → tulip\n\
                    input seed: config.kind: rose → tulip";
    assert!(causes.starts_with(expected), "{causes}");
    // Lanes of workers, and what was reused apart from them.
    assert_eq!(
        browser.text("[...document.querySelectorAll('.lane')].map(lane => lane.textContent).join(', ')"),
        "worker 1, worker 2"
    );
    assert_eq!(browser.value("document.querySelectorAll('.attempt').length"), 9);
    assert_eq!(browser.text("document.querySelector('.blocks').textContent"), "soil");
    assert_eq!(browser.value("document.querySelectorAll('#table tbody tr').length"), 11);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_run_of_a_sweep_says_in_its_head_which_combination_it_was() {
    let folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    let _ = folder.cas("run seed -j 1 --sweep seed.kind=rose,<b>tulip</b>").ok();
    let _ = folder.cas("report -o page.html").ok();
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    browser.open(&folder.path("page.html"));
    assert_eq!(browser.text("document.title"), "flowers · run 2 · seed.kind=<b>tulip</b>");
    let head = "document.getElementById('pipeline')";
    assert_eq!(browser.text(&format!("{head}.textContent")), "flowersrun 2seed.kind=<b>tulip</b>");
    assert_eq!(
        browser.text(&format!("{head}.querySelector('.combination').textContent")),
        "seed.kind=<b>tulip</b>"
    );
    let causes = browser
        .text("[...document.querySelectorAll('.change .what')].map(what => what.textContent).join('\\n')");
    assert!(causes.starts_with("combination: seed.kind=rose → seed.kind=<b>tulip</b>\n"), "{causes}");
    // It breaks where the screen is narrow, and nothing of it is markup.
    browser.look(360, 800, "light");
    assert_eq!(
        browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth"),
        0
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn elements_unfold_and_fold_and_what_is_searched_stands_out() {
    let (_folder, page) = flowers();
    let mut browser = Chromium::start();
    browser.look(1280, 900, "dark");
    browser.open(&page);
    let rows = "document.querySelectorAll('.node .row').length";
    assert_eq!(browser.value(rows), 0);
    browser.click("#fold");
    assert_eq!(
        (browser.value(rows), browser.text("document.getElementById('fold').textContent")),
        (8.into(), "Fold all".to_owned())
    );
    browser.click("#fold");
    assert_eq!(browser.value(rows), 0);
    // A click on a folded node selects what matters most of it, and unfolds it.
    browser.click(".node.failed .box");
    assert_eq!(browser.value(rows), 4);
    assert_eq!(browser.text("document.getElementById('selected').textContent"), "pick[water=3]");
    // `/` goes to the search; what is found is counted, the rest steps back, also in the table.
    browser.press("/");
    for key in "soil".chars() {
        browser.press(&key.to_string());
    }
    assert_eq!(browser.text("document.getElementById('hits').textContent"), "1 found");
    assert_eq!(
        browser.text(
            "[...document.querySelectorAll('.node:not(.dim) .name')].map(name => name.textContent).join(', ')"
        ),
        "soil"
    );
    assert_eq!(browser.value("document.querySelectorAll('#table tbody tr').length"), 1);
    browser.press("Enter");
    assert_eq!(browser.text("document.getElementById('selected').textContent"), "soil");
    browser.press("Escape");
    // An outcome alone can be asked for, too.
    browser.click(".chip.failed");
    assert_eq!(browser.text("document.querySelector('#table tbody').textContent.slice(0, 6)"), "failed");
    assert_eq!(browser.value("document.querySelectorAll('#table tbody tr').length"), 1);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_graph_is_used_with_the_keyboard_alone() {
    let (_folder, page) = flowers();
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    browser.open(&page);
    browser.value("document.getElementById('canvas').focus()");
    let selected = "document.getElementById('selected').textContent";
    browser.press("ArrowRight");
    let first = browser.text(selected);
    assert!(["seed", "soil"].contains(&first.as_str()), "{first}");
    browser.press("ArrowRight");
    assert_eq!(browser.text(selected), "grow[water=1]");
    browser.press("Enter");
    assert_eq!(browser.value("document.querySelectorAll('.node .row').length"), 4);
    browser.press("ArrowDown");
    assert_eq!(browser.text(selected), "grow[water=2]");
    // Everything above it and below it is marked.
    assert_ne!(browser.text("document.querySelector('.edge.up').getAttribute('d')"), "");
    assert_ne!(browser.text("document.querySelector('.edge.down').getAttribute('d')"), "");
    let scale = "Number(/scale\\(([^)]*)\\)/.exec(document.querySelector('svg.world > g').getAttribute('transform'))[1])";
    let before = browser.value(scale).as_f64().expect("it is a number");
    browser.press("+");
    let after = browser.value(scale).as_f64().expect("it is a number");
    assert!(after > before * 1.2, "{before} {after}");
    browser.press("0");
    assert!(browser.value(scale).as_f64().expect("it is a number") < after);
    browser.press("Escape");
    assert_eq!(browser.value("document.getElementById('selected')"), serde_json::Value::Null);
    // Every control can be reached and says what it is.
    let nameless = "[...document.querySelectorAll('button, input, a, [tabindex=\"0\"]')]\
        .filter(it => !(it.textContent.trim() || it.getAttribute('aria-label') || it.labels?.length)).length";
    assert_eq!(browser.value(nameless), 0);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn every_text_can_be_read_in_light_and_in_dark_wide_and_narrow() {
    let (_folder, page) = flowers();
    let mut browser = Chromium::start();
    for scheme in ["light", "dark"] {
        for width in [1280, 400] {
            browser.look(width, 900, scheme);
            browser.open(&page);
            browser.click("#fold");
            browser.value("location.hash = '#step=pick%5Bwater%3D3%5D'");
            browser.frame();
            let faint = browser.value(FAINT);
            assert_eq!(faint, serde_json::json!([]), "{scheme}, {width}");
            // Nothing makes the page wider than its window.
            let wider =
                browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wider, 0, "{scheme}, {width}");
        }
    }
    let paper = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.text(paper);
    browser.look(1280, 900, "light");
    assert_ne!(browser.text(paper), dark);
}

#[test]
fn what_a_step_is_called_or_printed_is_text_and_secrets_are_not_there() {
    let folder = Folder::with(&[(
        "pipeline.yaml",
        "pipeline: hostile\nsolids:\n  say:\n    matrix: {what: ['</script><img src=x onerror=alert(1)>', \"a\\tb\\u202Ec\"]}\n    \
         config: {key: {type: str, secret: true}}\n    \
         command: printf '\\033[31m</pre><script>alert(2)</script>\\007 %s\\n' {{ config.key }}; exit 1\n    outputs: []\n",
    )]);
    let _ = folder.cas("run -k -j 1 --set say.key=hunter2").code(1);
    let _ = folder.cas("report -o page.html").ok();
    assert!(!folder.read("page.html").contains("hunter2"));
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    browser.open(&folder.path("page.html"));
    assert_eq!(browser.value("document.images.length"), 0);
    assert_eq!(browser.value("document.scripts.length"), 2);
    let log = browser.text("document.querySelector('.failure pre').textContent");
    assert!(log.starts_with("</pre><script>alert(2)</script>␇ "), "{log}");
    let names = browser
        .text("[...document.querySelectorAll('.failure h3')].map(name => name.textContent).join('\\n')");
    assert!(names.contains("</script><img src=x onerror=alert(1)>"), "{names}");
    assert!(!names.contains('\u{202e}'), "{names}");
    // Even markup that came in would be let do nothing.
    browser.value(
        "new Promise(done => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; \
         document.body.append(script); const image = new Image(); image.onerror = done; image.onload = done; image.src = 'http://127.0.0.1:9/x.png'; })",
    );
    assert_eq!(browser.value("window.ran"), serde_json::Value::Null);
}

/// The page of a run whose times are these: the end of the run, and of each step on the first worker when it began,
/// how long it took, and how long each of its attempts did, where there were several.
fn timed(elapsed_ms: u64, steps: &[(u64, u64, &[(u64, u64)])]) -> (Folder, PathBuf) {
    let folder =
        Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids: {a: {command: 'true', outputs: []}}\n")]);
    let _ = folder.cas("run -q").ok();
    let _ = folder.cas("report -o page.html").ok();
    let page = folder.read("page.html");
    let (before, rest) = page.split_once("<script type=\"application/json\"").expect("the data is there");
    let (head, rest) = rest.split_once('>').expect("it begins");
    let (json, after) = rest.split_once("</script>").expect("it ends");
    let mut data: serde_json::Value = serde_json::from_str(json).expect("it is JSON");
    data["summary"]["elapsed_ms"] = elapsed_ms.into();
    data["ended"] = (data["started"].as_u64().expect("it has begun") + elapsed_ms).into();
    data["steps"] = steps
        .iter()
        .enumerate()
        .map(|(n, (start, elapsed, attempts))| {
            let attempts: serde_json::Value = match attempts {
                [] => 0.into(),
                all => {
                    all.iter().map(|(start, took)| serde_json::json!([start, took, -1, -1, -1, -1])).collect()
                }
            };
            serde_json::json!([
                format!("step_{n}"),
                -1,
                "",
                2,
                0,
                start,
                start,
                start + elapsed,
                elapsed,
                -1,
                [],
                0,
                0,
                0,
                attempts
            ])
        })
        .collect();
    folder.write(
        "page.html",
        format!("{before}<script type=\"application/json\"{head}>{data}</script>{after}"),
    );
    let page = folder.path("page.html");
    (folder, page)
}

/// A step that was made twice in one run, because what it had made was lost, has taken as long as both together; the
/// axis of a run of 14.5 s went to a minute for it. It ends where what is drawn on it does.
#[test]
fn the_axis_of_time_ends_with_the_run_and_its_words_tell_neighbours_apart() {
    let ticks = "[...document.querySelectorAll('.tick')].map(tick => tick.textContent).join(', ')";
    let bars = "document.querySelectorAll('.attempt').length";
    let cases: [(u64, &[(u64, u64, &[(u64, u64)])], &str, u64); 4] = [
        (14_500, &[(1, 30_000, &[(1, 2_000), (2_001, 12_400)]), (9_000, 5_000, &[])], "0, 5 s, 10 s", 3),
        (80, &[(10, 60, &[])], "0, 20 ms, 40 ms, 60 ms, 80 ms", 1),
        (62_000, &[(1, 61_000, &[])], "0, 10 s, 20 s, 30 s, 40 s, 50 s, 1 min", 1),
        (7_260_000, &[(1, 7_000_000, &[])], "0, 30 min, 1 h, 1 h 30 min, 2 h", 1),
    ];
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    for (elapsed, steps, expected, drawn) in cases {
        let (_folder, page) = timed(elapsed, steps);
        browser.open(&page);
        assert_eq!(
            (browser.text(ticks).as_str(), browser.value(bars)),
            (expected, drawn.into()),
            "{elapsed}"
        );
        // However far one looks into it, no two neighbours have the same words. With the keyboard alone.
        browser.value("document.getElementById('lanes').focus()");
        for _ in 0..14 {
            browser.press("+");
            let repeated = browser.value(
                "(() => { const all = [...document.querySelectorAll('.tick')].map(tick => tick.textContent); \
                 return all.length < 2 || new Set(all).size < all.length ? all : null; })()",
            );
            assert_eq!(repeated, serde_json::Value::Null, "{elapsed}");
        }
        let near = browser.text(ticks);
        browser.press("End");
        assert_ne!(browser.text(ticks), near);
        browser.press("0");
        assert_eq!(browser.text(ticks), expected);
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}

fn begin() -> u64 {
    1
}

fn double(n: u64, element: u32) -> u64 {
    n * 2 + u64::from(element)
}

#[test]
fn three_thousand_steps_are_a_page_that_opens_at_once() {
    let folder = Folder::new();
    let mut p = Builder::new("many").folder(folder.path(""));
    let axis = Axis::new("element", 0..1500_u32);
    let begin = p.solid("begin", "1").run(begin);
    let one = p.solid("one", "1").input("n", begin).over(&axis).run(double);
    let _two = p.solid("two", "1").input("n", one).over(&axis).run(double);
    let pipeline = p.build().expect("it is right");
    let ran = run(&pipeline, &folder.path(".cas"), Options::default(), |_| {}).expect("it runs");
    assert_eq!(ran.summary().ran, 3001);
    drop(ran);
    let _ = folder.cas("report --store .cas -o page.html").ok();
    let size = folder.read("page.html").len();
    assert!(size < 2_000_000, "{size}");
    let mut browser = Chromium::start();
    browser.look(1280, 900, "light");
    browser.open(&folder.path("page.html"));
    assert_eq!(browser.value("document.querySelectorAll('.node').length"), 3);
    browser.click("#fold");
    assert_eq!(browser.value("document.querySelectorAll('.node .one').length"), 3000);
    // Zoomed in, only what is in sight is in the document; the table shows a page of rows.
    for _ in 0..6 {
        browser.click("#zoom-in");
    }
    assert!(browser.value("document.querySelectorAll('.node').length").as_u64() < Some(3));
    assert_eq!(browser.value("document.querySelectorAll('#table tbody tr').length"), 60);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
