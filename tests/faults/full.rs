//! A disk that is really full: a small file system of the test's own, filled to its last block.

use std::process::{Child, ChildStdin, Command, Stdio};

use crate::kit::{Folder, Ran};

const PIPELINE: &str = "pipeline: full
store: disk/cas
solids:
  a: {command: 'head -c 1000000 /dev/urandom', stdout: result}
  b: {command: 'head -c 1000000 /dev/urandom', stdout: result}
  small: {command: 'echo small', stdout: result}
  later: {command: 'head -c 100000 /dev/urandom', stdout: result}
";

/// No file system here is larger, in bytes.
const LARGEST: u64 = 100 << 20;

/// A folder of the project with a file system of its own, which only those see who enter its namespace.
struct Disk<'a> {
    folder: &'a Folder,
    /// Keeps the namespace until its standard input ends.
    keeper: Child,
    _input: Option<ChildStdin>,
}

impl<'a> Disk<'a> {
    /// Mounts one; where nobody may, why.
    fn mount(folder: &'a Folder, size: &str) -> Result<Self, String> {
        folder.write("disk/.keep", "");
        let script = format!("mount -t tmpfs -o size={size} none disk && echo mounted && exec cat");
        let mut command = folder.command("unshare".as_ref());
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let input = keeper.stdin.take();
        let mut said = String::new();
        let out = keeper.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).expect("it can be read");
        if said == "mounted\n" {
            let disk = Self { folder, keeper, _input: input };
            // Nobody else's file system is filled.
            assert!(disk.free() <= LARGEST, "the folder is not on the file system that was mounted there");
            return Ok(disk);
        }
        drop(input);
        let output = keeper.wait_with_output().expect("it ends");
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A program that sees it.
    fn command(&self, program: &str) -> Command {
        let mut command = self.folder.command("nsenter".as_ref());
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        // Gone to anew: a folder that was entered before is still the one without the file system over it.
        command.args(["--", "sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(self.folder.path("")).arg(program);
        command
    }

    fn cas(&self, line: &str) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_cas"));
        command.args(line.split(' '));
        self.folder.ran(format!("cas {line}"), &command.output().expect("it starts"))
    }

    /// The bytes that are free.
    fn free(&self) -> u64 {
        let output = self.command("stat").args(["-f", "-c", "%a %S", "disk"]).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().map(|number| number.parse::<u64>().expect("a number")).product()
    }

    fn fill(&self) {
        let mut command = self.command("sh");
        let fill = format!("head -c {LARGEST} /dev/zero >> disk/filler");
        command.args(["-c", &fill]).stderr(Stdio::null());
        assert!(!command.status().expect("it starts").success(), "it ends when there is no room");
        // Each processor has some blocks in hand that are counted as free.
        assert!(self.free() < 64 * 1024, "{} bytes are free", self.free());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn collects_when_full(size: &str) {
    let folder = Folder::new();
    folder.write("pipeline.yaml", PIPELINE);
    let disk = match Disk::mount(&folder, size) {
        Ok(disk) => disk,
        Err(why) => {
            skipped(&why);
            return;
        }
    };
    let _ = disk.cas("run a b small").ok();
    disk.fill();
    // What is there can be read, and is as it was.
    assert_eq!(disk.cas("cat small").ok().stdout, "small\n");
    assert_eq!(disk.cas("run a b small").ok().counts(), "nothing to run: 3 reused");
    disk.fill();
    let refused = disk.cas("run later");
    assert!(refused.code != 0 && refused.stderr.contains("the disk is full"), "{}", refused.transcript());
    disk.fill();
    // One of the two goes, and its room is there.
    let collected = disk.cas("gc --max-size 1200K").ok();
    assert!(collected.stdout.contains("gone: 1 result, 2.0 MB → 1.0 MB"), "{}", collected.transcript());
    let free = disk.free();
    assert!(free > 900_000, "{free} bytes");
    assert!(disk.cas("run later").ok().counts().contains("1 ran"));
    let verified = disk.cas("verify").ok();
    assert!(verified.stdout.contains("nothing is wrong"), "{}", verified.transcript());
    // Nothing is left to itself: what is evicted is known, and what stays is there.
    let rows = disk.cas("versions").ok().stdout;
    let status = |step: &str| {
        let row = rows.lines().find(|row| row.starts_with(&format!("| {step}.result")));
        row.map_or("none", |row| row.rsplit('|').nth(1).unwrap_or_default().trim()).to_owned()
    };
    let large = [status("a"), status("b")];
    assert!(large.contains(&"stored".to_owned()) && large.contains(&"to-be-recomputed".to_owned()), "{rows}");
    assert_eq!([status("small"), status("later")], ["stored", "stored"], "{rows}");
}

#[expect(clippy::print_stderr, reason = "a test that was not run should not look like one that was")]
fn skipped(why: &str) {
    eprintln!("skipped: no file system can be mounted here: {why}");
}

/// With what little room a new store needs gone as well.
#[test]
fn gc_frees_room_on_a_full_file_system_that_was_always_small() {
    collects_when_full("12m");
}

/// Large enough that the store keeps a reserve for this day.
#[test]
fn gc_frees_room_on_a_full_file_system_where_a_reserve_is_kept() {
    collects_when_full("80m");
}
