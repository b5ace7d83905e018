//! What differs in how two runs were started. Pure.

use cas_engine::record::RunRecord;

/// What it is, and what it was in the one and in the other, for each thing that differs.
pub(crate) fn differences(was: &RunRecord, is: &RunRecord) -> Vec<[String; 3]> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let of = |run: &RunRecord| {
        [
            ("pipeline", run.pipeline.clone()),
            // By what path the program was called says nothing.
            ("command", run.command_line.iter().skip(1).cloned().collect::<Vec<_>>().join(" ")),
            ("combination", or_none(&run.combination)),
            ("mode", or_none(&run.mode)),
            ("machine", run.host.clone()),
            ("program", run.program.clone()),
        ]
    };
    let pairs = of(was).into_iter().zip(of(is));
    let differing = pairs.filter(|((_, was), (_, is))| was != is);
    differing.map(|((what, was), (_, is))| [what.to_owned(), was, is]).collect()
}
