//! The corpora of the fuzzing targets for text that people write, and changes of them: whatever it is, it is
//! understood or refused with places, and nothing panics.

use std::fs;
use std::path::Path;

use cas_engine::config::RunConfig;
use cas_engine::file;

/// Each file as it is, cut at many places, with single bytes in the place of others, and with lines doubled.
fn feed(name: &str, decode: fn(&str)) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut fed = 0;
    for entry in fs::read_dir(corpus).expect("there is a corpus") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("read");
        decode(&text);
        let step = (text.len() / 60).max(1);
        for at in (0..text.len()).step_by(step).filter(|at| text.is_char_boundary(*at)) {
            let (head, tail) = text.split_at(at);
            decode(head);
            decode(tail);
            let rest = tail.get(1..).unwrap_or_default();
            for other in ["{", "}}", "\"", ":", "- ", "\t", "\0", "&a *a", "é", "\n"] {
                decode(&format!("{head}{other}{rest}"));
                fed += 1;
            }
        }
        let lines: Vec<&str> = text.lines().collect();
        for at in 0..lines.len() {
            let mut changed = lines.clone();
            changed.insert(at, lines[(at * 7) % lines.len()]);
            decode(&changed.join("\n"));
            changed.remove(at / 2);
            decode(&changed.join("\n"));
            fed += 2;
        }
    }
    assert!(fed > 500, "{fed}");
}

#[test]
fn a_pipeline_file_may_hold_anything() {
    feed("pipeline", |text| {
        let mut none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        if let Err(diagnostics) = file::pipeline(Path::new("pipeline.yaml"), text, &mut none) {
            assert!(!diagnostics.is_empty(), "a refusal says why");
            assert!(diagnostics.iter().all(|one| one.place.is_some()), "{diagnostics:?}\n{text}");
        }
    });
}

#[test]
fn a_run_config_may_hold_anything() {
    feed("run_config", |text| {
        let mut config = RunConfig::default();
        if let Err(diagnostics) = file::run_config(Path::new("run.yaml"), text, &mut config) {
            assert!(!diagnostics.is_empty(), "a refusal says why");
        }
    });
}
