#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cas_store::fuzzing::feed("tree", bytes));
