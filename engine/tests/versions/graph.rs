//! Pipelines into steps: order, matrices, config, selections, and what is wrong, in words.

use crate::world::World;
use cas_engine::graph::{Graph, StepInput};

fn graph(text: &str) -> Graph {
    World::new(text).graph().unwrap_or_else(|errors| panic!("{errors}"))
}

fn names(graph: &Graph) -> Vec<String> {
    graph.ids().map(|step| graph.step_name(step)).collect()
}

/// What a step reads, by name, input after input.
fn reads(graph: &Graph, step: &str) -> Vec<String> {
    let step = graph.select(step).unwrap_or_else(|error| panic!("{error}"))[0];
    let mut reads = Vec::new();
    graph.each_input(step, &mut |output| reads.push(graph.output_name(output)));
    reads
}

/// The one error that a pipeline with this run config has; `run_config` may be empty.
fn wrong(text: &str, run_config: &str, expected: &str) {
    let errors = World::new(text).with_run_config(run_config).graph().err().unwrap_or_default();
    assert_eq!(errors, expected);
}

#[test]
fn steps_stand_in_the_order_of_the_file_but_after_what_they_consume() {
    let graph = graph(
        "
solids:
  sentence: {inputs: {a: dog, b: tree}, command: cat, stdout: result}
  alone: {command: cat, stdout: result}
  dog: {command: cat, stdout: result}
  last: {inputs: {a: sentence}, command: cat, stdout: result}
  tree: {command: cat, stdout: result}
",
    );
    assert_eq!(names(&graph), ["alone", "dog", "tree", "sentence", "last"]);
    assert_eq!(reads(&graph, "sentence"), ["dog.result", "tree.result"]);
}

#[test]
fn a_cycle_is_shown_as_its_path() {
    wrong(
        "
solids:
  free: {command: cat, stdout: result}
  a: {inputs: {x: c, y: free}, command: cat, stdout: result}
  b: {inputs: {x: a}, command: cat, stdout: result}
  c: {inputs: {x: b}, command: cat, stdout: result}
  below: {inputs: {x: c}, command: cat, stdout: result}
",
        "",
        "/project/pipeline.yaml:4:3: these steps need each other: a → c → b → a; \
         each needs the next; take one of these inputs away",
    );
}

const SWEEP: &str = "
solids:
  split: {matrix: {seed: [1, 2]}, command: cat, stdout: result}
  train: {matrix: {lr: [0.1, 0.2], seed: [1, 2]}, inputs: {data: split}, command: cat, outputs: [model, log], stdout: log}
  best: {matrix: {seed: [1, 2]}, inputs: {all: 'train[*].model', one: 'train[lr=0.2].log'}, command: cat, stdout: result}
  report: {inputs: {all: 'train[*].model', first: 'best[seed=1]', both: ['best[seed=2]', 'split[*]']}, command: cat, stdout: result}
";

#[test]
fn elements_meet_where_their_values_are_the_same() {
    let graph = graph(SWEEP);
    assert_eq!(reads(&graph, "train[lr=0.2,seed=1]"), ["split[seed=1].result"]);
    assert_eq!(
        reads(&graph, "best[seed=2]"),
        ["train[lr=0.1,seed=2].model", "train[lr=0.2,seed=2].model", "train[lr=0.2,seed=2].log"]
    );
    assert_eq!(
        reads(&graph, "report"),
        [
            "train[lr=0.1,seed=1].model",
            "train[lr=0.1,seed=2].model",
            "train[lr=0.2,seed=1].model",
            "train[lr=0.2,seed=2].model",
            "best[seed=1].result",
            "best[seed=2].result",
            "split[seed=1].result",
            "split[seed=2].result"
        ]
    );
}

#[test]
fn a_gather_labels_by_the_axes_that_its_reader_lacks() {
    let graph = graph(SWEEP);
    let labels = |step: &str| {
        let step = graph.select(step).unwrap_or_else(|error| panic!("{error}"))[0];
        let inputs = &graph.steps[step.0 as usize].inputs;
        inputs
            .iter()
            .find_map(|input| match input {
                StepInput::Gather(elements) => {
                    Some(elements.iter().map(|(label, _)| label.clone()).collect::<Vec<_>>())
                }
                _ => None,
            })
            .unwrap_or_default()
    };
    assert_eq!(labels("best[seed=2]"), ["0.1", "0.2"]);
    assert_eq!(labels("report"), ["lr=0.1,seed=1", "lr=0.1,seed=2", "lr=0.2,seed=1", "lr=0.2,seed=2"]);
}

#[test]
fn names_globs_and_elements_select_steps_and_outputs() {
    let graph = graph(SWEEP);
    let steps = |text: &str| match graph.select(text) {
        Ok(steps) => steps.iter().map(|step| graph.step_name(*step)).collect::<Vec<_>>(),
        Err(error) => vec![format!("{error}; {}", error.hint.clone().unwrap_or_default())],
    };
    assert_eq!(steps("split"), ["split[seed=1]", "split[seed=2]"]);
    assert_eq!(steps("split[*]"), steps("split"));
    assert_eq!(steps("train[seed=2,lr=0.1]"), ["train[lr=0.1,seed=2]"]);
    assert_eq!(steps("train@lr=0.1,seed=2"), ["train[lr=0.1,seed=2]"]);
    assert_eq!(steps("train[lr=\"0.1\",seed=2]"), ["train[lr=0.1,seed=2]"]);
    assert_eq!(steps("train[lr=0.1]"), ["train[lr=0.1,seed=1]", "train[lr=0.1,seed=2]"]);
    assert_eq!(steps(""), ["the name of a step is missing; there is `split`, `train`, `best` or `report`"]);
    assert_eq!(steps("{best,re*}"), ["best[seed=1]", "best[seed=2]", "report"]);
    assert_eq!(steps("tarin"), ["there is no step `tarin`; did you mean `train`?"]);
    assert_eq!(steps("x*"), ["no step matches `x*`; there is `split`, `train`, `best` or `report`"]);
    assert_eq!(steps("train[lr=0.3]"), ["`train` has no element with `lr=0.3`; did you mean `lr=0.1`?"]);
    assert_eq!(steps("train[rate=0.1]"), ["`train` has no axis `rate`; it has `lr` or `seed`"]);
    assert_eq!(steps("train.log"), ["`train.log` names an output, and steps are asked for; write `train`"]);
    let outputs = |text: &str| match graph.select_outputs(text) {
        Ok(outputs) => outputs.iter().map(|output| graph.output_name(*output)).collect::<Vec<_>>(),
        Err(error) => vec![format!("{error}; {}", error.hint.clone().unwrap_or_default())],
    };
    assert_eq!(outputs("report"), ["report.result"]);
    assert_eq!(outputs("train@lr=0.1,seed=2.log"), ["train[lr=0.1,seed=2].log"]);
    assert_eq!(outputs("train@lr=0.1").len(), 4);
    assert_eq!(outputs("train[*].model").len(), 4);
    assert_eq!(outputs("train.lgo"), ["`train` has no output `lgo`; did you mean `train.log`?"]);
}

#[test]
fn what_is_needed_and_what_needs_it() {
    let graph = graph(SWEEP);
    let named = |steps: Vec<_>| steps.iter().map(|step| graph.step_name(*step)).collect::<Vec<_>>();
    let of = |text: &str| graph.select(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        named(graph.closure(&of("best[seed=1]"))),
        ["split[seed=1]", "train[lr=0.1,seed=1]", "train[lr=0.2,seed=1]", "best[seed=1]"]
    );
    assert_eq!(
        named(graph.below(&of("split[seed=2]"))),
        ["split[seed=2]", "train[lr=0.1,seed=2]", "train[lr=0.2,seed=2]", "best[seed=2]", "report"]
    );
    let readers = graph.readers();
    assert_eq!(named(readers.of(of("train[lr=0.2,seed=1]")[0]).to_vec()), ["best[seed=1]", "report"]);
}

#[test]
fn an_axis_that_the_reader_lacks_is_an_error_that_offers_a_gather() {
    wrong(
        "
solids:
  train: {matrix: {lr: [0.1, 0.2]}, command: cat, stdout: result}
  report: {inputs: {x: train}, command: cat, stdout: result}
",
        "",
        "/project/pipeline.yaml:4:24: `report` reads `train`, which has one element for each `lr`, an axis that \
         `report` lacks; write `train[*]` for all of them, or pick one, as `train[lr=0.1]`",
    );
}

#[test]
fn shared_axes_must_have_the_reader_s_values() {
    wrong(
        "
solids:
  train: {matrix: {lr: [0.1, 0.2]}, command: cat, stdout: result}
  test: {matrix: {lr: [0.1, 0.3]}, inputs: {x: train}, command: cat, stdout: result}
",
        "",
        "/project/pipeline.yaml:4:48: `train` has no element with `lr=0.3`, which `test` would read; \
         did you mean `lr=0.1`?",
    );
    wrong(
        "
solids:
  train: {matrix: {n: [1]}, command: cat, stdout: result}
  test: {matrix: {n: ['1']}, inputs: {x: train}, command: cat, stdout: result}
",
        "",
        "/project/pipeline.yaml:4:42: `n=1` is \"1\" in `test` and 1 in `train`; elements meet where label and value \
         are the same: write both alike, or share a named matrix",
    );
}

const CONFIGURED: &str = "
config: {seed: {type: int, default: 3}}
resources:
  tool: {version: '1', config: {threads: int}}
solids:
  dog: {config: {breed: str, seed: $seed}, resources: [tool], command: cat, stdout: result}
  cat: {solid: dog}
";

#[test]
fn config_is_checked_step_by_step() {
    let fine = "
config: {seed: 4}
resources: {tool: {config: {threads: 2}}}
solids: {dog: {config: {breed: pug}}, cat: {config: {breed: tabby, seed: 9}}}
";
    let graph =
        World::new(CONFIGURED).with_run_config(fine).graph().unwrap_or_else(|errors| panic!("{errors}"));
    let config = |step: &str| {
        let step = graph.select(step).unwrap_or_else(|error| panic!("{error}"))[0];
        graph.config(step).to_value().to_string()
    };
    assert_eq!(config("dog"), r#"{"breed":"pug","seed":4}"#);
    assert_eq!(config("cat"), r#"{"breed":"tabby","seed":9}"#);
    wrong(
        CONFIGURED,
        "
solids: {dog: {config: {bred: pug}}, cta: {config: {breed: x}}}
config: {seed: \"4\"}
resources: {tool: {config: {threads: 2}}, tol: {config: {threads: 2}}}
",
        "/project/pipeline.yaml:6:18: config `breed` of `dog` must be given; add `solids.dog.config.breed` to the run \
         config, or `--set dog.breed=…`\n\
         /project/pipeline.yaml:6:18: config `breed` of `cat` must be given; add `solids.cat.config.breed` to the run \
         config, or `--set cat.breed=…`\n\
         run.yaml:2:31: config `bred` of `dog` is not declared; did you mean `breed`?\n\
         run.yaml:2:60: the run config names `cta`, and there is no such step; did you mean `cat`?\n\
         run.yaml:3:16: config `seed` of the pipeline must be int, and \"4\" is str; write it without quotes\n\
         run.yaml:4:67: the run config names resource `tol`, and there is none; did you mean `tool`?",
    );
}

#[test]
fn resources_and_modes() {
    let text = "
resources:
  a: {version: '1', resources: [b]}
  b: {version: '1'}
modes:
  one: {}
  two: {resources: {b: {version: '2', resources: [a]}}}
solids:
  x: {resources: [a], command: cat, stdout: result}
";
    let world = |mode: &str| World { mode: Some(mode.to_owned()), ..World::new(text) };
    let graph = world("one").graph().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        graph.resources.iter().map(|resource| resource.definition.name.as_str()).collect::<Vec<_>>(),
        ["b", "a"]
    );
    let error = |mode: &str| world(mode).graph().err().unwrap_or_default();
    assert_eq!(error("two"), "/project/pipeline.yaml:7:21: these resources need each other: a → b → a");
    assert_eq!(error("three"), "there is no mode `three`; there is `one` or `two`");
}

#[test]
fn a_probe_s_values_are_quoted_and_a_path_s_are_not() {
    let text = "
solids:
  x:
    matrix: {n: [a b]}
    inputs: {day: {probe: 'psql {{ config.n }}'}, p: {path: 'data/{{ matrix.n }}.txt'}}
    command: cat
    stdout: result
";
    let graph = graph(text);
    assert_eq!(graph.probes.iter().map(|probe| probe.command.as_str()).collect::<Vec<_>>(), ["psql 'a b'"]);
    assert_eq!(graph.paths.iter().map(|path| path.path.as_str()).collect::<Vec<_>>(), ["data/a b.txt"]);
}

#[test]
fn a_run_config_gives_defaults_and_nothing_else() {
    let text = "solids: {x: {inputs: {n: {value: 1}, d: {default: 2}}, command: cat, stdout: result}}";
    let graph = World::new(text).with_run_config("solids: {x: {inputs: {d: 5}}}").graph();
    assert!(graph.is_ok());
    wrong(
        text,
        "solids: {x: {inputs: {n: 5}}}",
        "run.yaml:1:26: input `n` of `x` is fixed by the pipeline, so the run config cannot give it; \
         an input that is declared as `{default: …}` can be given",
    );
}

/// The places of elements were computed before they were counted, which went beyond 2^32 and panicked.
#[test]
fn a_matrix_that_is_too_large_is_told_and_no_panic() {
    let hundred = (0..100).map(|point| point.to_string()).collect::<Vec<_>>().join(", ");
    let axes = ["a", "b", "c", "d", "e"].map(|axis| format!("{axis}: [{hundred}]")).join(", ");
    let many = "/project/pipeline.yaml:1:10: the matrix of `x` gives 10000000000 steps; 10000000 is the most";
    for text in [
        format!(
            "solids: {{x: {{matrix: {{{axes}}}, command: cat, stdout: result}}, y: {{matrix: {{{axes}}}, inputs: {{i: x}}, command: cat, stdout: result}}}}"
        ),
        format!(
            "solids: {{x: {{matrix: {{{axes}}}, command: cat, stdout: result}}, y: {{inputs: {{i: 'x[a=99,b=99,c=99,d=99,e=99]'}}, command: cat, stdout: result}}}}"
        ),
    ] {
        let errors = World::new(&text).graph().err().unwrap_or_default();
        assert!(errors.starts_with(many), "{errors}");
    }
}

#[test]
fn an_output_too_many_is_told() {
    let outputs = (0..65_536).map(|output| format!("o{output}")).collect::<Vec<_>>().join(", ");
    let errors = World::new(&format!("solids: {{x: {{outputs: [{outputs}], command: cat}}}}")).graph().err();
    let errors = errors.unwrap_or_default();
    assert!(errors.contains("the solid `x` has 65536 outputs, and 65535 is the most"), "{:.400}", errors);
}

/// `lr=0.1,depth=4` could be one label of one axis and those of two.
#[test]
fn elements_with_odd_labels_have_names_of_their_own() {
    let graph = graph(
        r#"
solids:
  part: {matrix: {a: ["x", "x,b=y"], b: ["y,b=z", "z"]}, command: cat, stdout: result}
  all: {inputs: {i: 'part[*]'}, command: cat, stdout: result}
"#,
    );
    assert_eq!(
        names(&graph)[..4],
        [r#"part[a=x,b="y,b=z"]"#, "part[a=x,b=z]", r#"part[a="x,b=y",b="y,b=z"]"#, r#"part[a="x,b=y",b=z]"#,]
    );
    for name in &names(&graph)[..4] {
        let found = graph.select(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.iter().map(|step| graph.step_name(*step)).collect::<Vec<_>>(), [name.as_str()]);
    }
    let all = graph.select("all").unwrap_or_else(|error| panic!("{error}"))[0];
    let StepInput::Gather(elements) = &graph.steps[all.0 as usize].inputs[0] else { panic!("a gather") };
    let labels: std::collections::BTreeSet<&str> = elements.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels.len(), 4);
}
