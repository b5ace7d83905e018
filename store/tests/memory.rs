//! Memory does not grow with the size of a blob. Alone in its file, because memory is the process's.

use std::io::{self, Read, Write};
use std::time::Duration;

use cas_store::{Commit, Create, Hosting, Open, Output, Store, Trace};

const LEN: u64 = 400 << 20;

/// Something like a log: it compresses, but not to nothing.
struct Lines(u64);

impl Read for Lines {
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line = format!("a line of a log that goes on and on: {:020}, and so forth\n", self.0);
        buffer.write(line.as_bytes())
    }
}

/// Counts what it is given.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that this process has had.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has the line");
    line.trim().strip_suffix(" kB").expect("its unit").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_large_blob_goes_in_and_out_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let open = Open {
        create: Create::IfAbsent,
        hosting: Hosting::Willing,
        wait: Duration::ZERO,
        owner: "a test".to_owned(),
        on_wait: &mut |_| (),
    };
    let store = Store::open(&dir.path().join("store"), open).unwrap();
    let before = peak_bytes();
    let staged = store.stage_reader(&mut io::BufReader::new(Lines(1)).take(LEN)).unwrap();
    let artifact = staged.artifact("file");
    let outputs = vec![Output { name: "result".to_owned(), artifact: Some(artifact.clone()) }];
    store.commit(Commit::bare(Trace::from_bytes([1; 32]), outputs, vec![staged])).unwrap();
    let mut count = Count(0);
    assert_eq!(store.read(&artifact.digest, &mut count).unwrap(), LEN);
    assert_eq!(count.0, LEN);
    let grown = peak_bytes() - before;
    assert!(grown < 100_000_000, "{grown} bytes");
}
