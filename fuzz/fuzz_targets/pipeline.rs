#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let _ = cas_engine::file::pipeline(Path::new("pipeline.yaml"), text, &mut none);
});
