#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut config = cas_engine::config::RunConfig::default();
    let _ = cas_engine::file::run_config(Path::new("run.yaml"), text, &mut config);
});
