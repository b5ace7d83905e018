//! The store's own settings, in `config.toml`, and the words for sizes and ages.
//!
//! Everything is optional; an unknown key is an error, because a misspelt limit would be none. What is
//! written ([`Config::save_policy`]) leaves the rest of the file, comments included, as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use toml_edit::{Document, DocumentMut, Item, Table, value};

use crate::collect::Policy;
use crate::error::{At, StoreError};
use crate::layout::{INLINE_LIMIT_BYTES, INLINE_LIMIT_MAX_BYTES};
use crate::plain_file;

/// When a commit may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// At once; it is on disk at most 5 s later.
    #[default]
    Batch,
    /// When it is on disk.
    Strict,
}

/// Who may use the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Its owner.
    #[default]
    Private,
    /// The users of its folder's group.
    Group,
}

/// What `config.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `durability = "batch"` or `"strict"`.
    pub durability: Durability,
    /// `sharing = "private"` or `"group"`.
    pub sharing: Sharing,
    /// `network_file_system = true`: the store may lie on one, because a single machine uses it.
    pub network_file_system: bool,
    /// `inline_limit = "4K"`: values up to this size live in the index.
    pub inline_limit_bytes: u64,
    /// The table `[limits]`: how much there is of each named limit that the processes which use the store share.
    /// `memory` is in bytes.
    pub limits: BTreeMap<String, u64>,
    /// The table `[policy]`: what garbage collection keeps.
    pub policy: Policy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            sharing: Sharing::default(),
            network_file_system: false,
            inline_limit_bytes: INLINE_LIMIT_BYTES,
            limits: BTreeMap::new(),
            policy: Policy::default(),
        }
    }
}

impl Config {
    /// Reads the settings; a file that is not there sets nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Config`] with the line of what is not understood.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        match text(path) {
            Ok(text) => text.and_then(|text| Self::parse(&text)).map_err(|wrong| wrong.at(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).at("read", path),
        }
    }

    /// Replaces the policy in the file, and nothing else.
    ///
    /// # Errors
    ///
    /// When the file is not understood as it is, or cannot be written.
    pub fn save_policy(path: &Path, policy: &Policy) -> Result<(), StoreError> {
        let mut document = document(path)?;
        let table = document.entry("policy").or_insert(Item::Table(Table::new()));
        let Some(table) = table.as_table_like_mut() else {
            let what = "`policy` should be a table".to_owned();
            return Err(StoreError::Config { path: path.to_owned(), line: 1, what });
        };
        let mut set = |key: &str, text: Option<Item>| match text {
            Some(item) => drop(table.insert(key, item)),
            None => drop(table.remove(key)),
        };
        set("max_size", policy.max_size_bytes.map(|bytes| value(size_text(bytes))));
        set("max_age", policy.max_age.map(|age| value(age_text(age))));
        set("min_free", policy.min_free_bytes.map(|bytes| value(size_text(bytes))));
        let keep_last = policy.keep_last.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        set("keep_last", keep_last.map(value));
        set("max_record_age", policy.max_record_age.map(|age| value(age_text(age))));
        save(path, &document)
    }

    /// Replaces who may use the store in the file, and nothing else.
    pub(crate) fn save_sharing(path: &Path, sharing: Sharing) -> Result<(), StoreError> {
        let mut document = document(path)?;
        let name = match sharing {
            Sharing::Private => "private",
            Sharing::Group => "group",
        };
        // (Set like this, a comment before it stays.)
        document["sharing"] = value(name);
        save(path, &document)
    }

    /// The line of a setting; 1 where it cannot be told.
    pub(crate) fn line_of(path: &Path, key: &str) -> usize {
        let text = text(path).ok().and_then(Result::ok).unwrap_or_default();
        let item = Document::parse(text.as_str())
            .ok()
            .and_then(|document| document.get(key).map(|item| line_of(&text, item)));
        item.unwrap_or(1)
    }

    /// Whether this text is understood.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn understood(text: &str) -> bool {
        Self::parse(text).is_ok()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let document = Document::parse(text).map_err(|error| Wrong {
            line: line_at(text, error.span().map_or(0, |span| span.start)),
            what: error.message().lines().next().unwrap_or_default().to_owned(),
        })?;
        let mut config = Self::default();
        for (key, item) in document.as_table() {
            let line = line_of(text, item);
            match key {
                "durability" => {
                    config.durability = one_of(
                        key,
                        item,
                        line,
                        &[("batch", Durability::Batch), ("strict", Durability::Strict)],
                    )?;
                }
                "sharing" => {
                    let known = [("private", Sharing::Private), ("group", Sharing::Group)];
                    config.sharing = one_of(key, item, line, &known)?;
                }
                "network_file_system" => {
                    config.network_file_system = item.as_bool().ok_or_else(|| Wrong {
                        line,
                        what: "`network_file_system` should be true or false".to_owned(),
                    })?;
                }
                "inline_limit" => {
                    let bytes = size_of(key, item, line)?;
                    if bytes > INLINE_LIMIT_MAX_BYTES {
                        let what =
                            format!("`inline_limit` is at most `{}`", size_text(INLINE_LIMIT_MAX_BYTES));
                        return Err(Wrong { line, what });
                    }
                    config.inline_limit_bytes = bytes;
                }
                "limits" => config.limits = parse_limits(text, item, line)?,
                "policy" => config.policy = parse_policy(text, item, line)?,
                other if POLICY.contains(&other) => {
                    let what = format!("`{other}` belongs under `[policy]`: write that line above it");
                    return Err(Wrong { line, what });
                }
                other => {
                    return Err(unknown(
                        other,
                        line,
                        "durability, sharing, network_file_system, inline_limit, limits, policy",
                    ));
                }
            }
        }
        Ok(config)
    }
}

/// A number of bytes as people write it: `4096`, `10G`, `1.5T`. K, M, G and T are powers of 1024, with or
/// without `iB`; kB, MB, GB and TB are powers of 1000.
///
/// # Errors
///
/// Says what can be written instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write `500M` or `10G`");
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    scaled(number, factor).ok_or_else(wrong)
}

/// A span of time as people write it: `30d`, `12h`, `90m`, `45s`, `2w`, `1y`.
///
/// # Errors
///
/// Says what can be written instead.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not an age; write `30d` or `12h`");
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => DAY,
        "w" => 7 * DAY,
        "y" => 365 * DAY,
        _ => return Err(wrong()),
    };
    scaled(number, factor.checked_mul(1000).ok_or_else(wrong)?).map(Duration::from_millis).ok_or_else(wrong)
}

/// The shortest text that [`parse_size`] reads back as this.
pub fn size_text(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// The shortest text that [`parse_age`] reads back as this, to the second.
pub fn age_text(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(DAY, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(factor, _)| seconds >= *factor && seconds.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", seconds / factor),
        None => format!("{seconds}s"),
    }
}

const DAY: u64 = 24 * 3600;

/// The text of the file, or what is wrong with it. A pipe would be waited for, and a device may have no end.
fn text(path: &Path) -> io::Result<Result<String, Wrong>> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let bad = |line: usize, what: &str| Ok(Err(Wrong { line, what: what.to_owned() }));
    if !file.metadata()?.is_file() {
        return bad(1, "it is no regular file");
    }
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return bad(1, "it has more than 16 MB, which is the most");
    }
    String::from_utf8(bytes).map(Ok).or_else(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        bad(line, "it holds bytes that are no UTF-8 text")
    })
}

/// The largest file of settings.
const LIMIT_BYTES: u64 = 16_000_000;

/// The file as it can be changed: what is not touched stays as it is, comments included.
fn document(path: &Path) -> Result<DocumentMut, StoreError> {
    Config::read(path)?;
    let text = match text(path) {
        Ok(text) => text.map_err(|wrong| wrong.at(path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).at("read", path),
    };
    text.parse().map_err(|error: toml_edit::TomlError| StoreError::Config {
        path: path.to_owned(),
        line: 1,
        what: error.message().to_owned(),
    })
}

/// Whole or not at all: beside it first, then in its place.
fn save(path: &Path, document: &DocumentMut) -> Result<(), StoreError> {
    let temporary = path.with_extension("toml.new");
    let mut file = plain_file::replace(&temporary).at("write", &temporary)?;
    file.write_all(document.to_string().as_bytes()).and_then(|()| file.sync_all()).at("write", &temporary)?;
    fs::rename(&temporary, path).at("rename", &temporary)
}

#[derive(Debug)]
struct Wrong {
    line: usize,
    what: String,
}

impl Wrong {
    /// The error that this is in the file at `path`.
    fn at(self, path: &Path) -> StoreError {
        StoreError::Config { path: path.to_owned(), line: self.line, what: self.what }
    }
}

/// The settings of the policy.
const POLICY: [&str; 5] = ["max_size", "max_age", "min_free", "keep_last", "max_record_age"];

fn parse_policy(text: &str, item: &Item, line: usize) -> Result<Policy, Wrong> {
    let Some(table) = item.as_table_like() else {
        return Err(Wrong { line, what: "`policy` should be a table: `[policy]`".to_owned() });
    };
    let mut policy = Policy::default();
    for (key, item) in table.iter() {
        let line = line_of(text, item);
        match key {
            "max_size" => policy.max_size_bytes = Some(size_of(key, item, line)?),
            "max_age" => policy.max_age = Some(age_of(key, item, line)?),
            "min_free" => policy.min_free_bytes = Some(size_of(key, item, line)?),
            "keep_last" => {
                let count = item.as_integer().and_then(|count| u64::try_from(count).ok());
                policy.keep_last = Some(count.filter(|count| *count > 0).ok_or_else(|| Wrong {
                    line,
                    what: "`keep_last` should be a number from 1 on".to_owned(),
                })?);
            }
            "max_record_age" => policy.max_record_age = Some(age_of(key, item, line)?),
            other => {
                return Err(unknown(other, line, &POLICY.join(", ")));
            }
        }
    }
    Ok(policy)
}

fn parse_limits(text: &str, item: &Item, line: usize) -> Result<BTreeMap<String, u64>, Wrong> {
    let Some(table) = item.as_table_like() else {
        return Err(Wrong { line, what: "`limits` should be a table: `[limits]`".to_owned() });
    };
    let mut limits = BTreeMap::new();
    for (key, item) in table.iter() {
        let line = line_of(text, item);
        let amount = match key {
            "memory" => size_of(key, item, line)?,
            _ => item.as_integer().and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        };
        if amount == 0 {
            return Err(Wrong { line, what: format!("the limit `{key}` should be a number from 1 on") });
        }
        limits.insert(key.to_owned(), amount);
    }
    Ok(limits)
}

fn one_of<T: Copy>(key: &str, item: &Item, line: usize, known: &[(&str, T)]) -> Result<T, Wrong> {
    let found = item.as_str().and_then(|text| known.iter().find(|(name, _)| *name == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        Wrong { line, what: format!("`{key}` should be {}", names.join(" or ")) }
    })
}

fn size_of(key: &str, item: &Item, line: usize) -> Result<u64, Wrong> {
    let bytes = match (item.as_integer(), item.as_str()) {
        (Some(bytes), _) => u64::try_from(bytes).map_err(|_| "it should not be negative".to_owned()),
        (None, Some(text)) => parse_size(text),
        (None, None) => Err("it should be a size such as \"10G\"".to_owned()),
    };
    bytes.map_err(|what| Wrong { line, what: format!("`{key}`: {what}") })
}

fn age_of(key: &str, item: &Item, line: usize) -> Result<Duration, Wrong> {
    let age = match item.as_str() {
        Some(text) => parse_age(text),
        None => Err("it should be an age such as \"30d\"".to_owned()),
    };
    age.map_err(|what| Wrong { line, what: format!("`{key}`: {what}") })
}

fn unknown(key: &str, line: usize, known: &str) -> Wrong {
    Wrong { line, what: format!("`{key}` is not a setting; those are {known}") }
}

fn line_of(text: &str, item: &Item) -> usize {
    line_at(text, item.span().map_or(0, |span| span.start))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number` (digits, perhaps a point and more digits) times `factor`, rounded down, without floats: `0.1G`
/// is what it says.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if number.ends_with('.') || whole.is_empty() {
        return None;
    }
    let mut value = u128::from(whole.parse::<u64>().ok()?) * u128::from(factor);
    if !part.is_empty() {
        let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9)?;
        value += u128::from(part.parse::<u64>().ok()?) * u128::from(factor) / 10u128.pow(digits);
    }
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str, expected: Option<u64>) {
        assert_eq!(parse_size(text).ok(), expected, "{text}");
    }

    fn wrong(text: &str, line: usize, what: &str) {
        let wrong = Config::parse(text).expect_err("it is not understood");
        assert_eq!((wrong.line, wrong.what.as_str()), (line, what));
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        size("0", Some(0));
        size("4096", Some(4096));
        size("4K", Some(4096));
        size("10G", Some(10 << 30));
        size("10 GiB", Some(10 << 30));
        size("1.5K", Some(1536));
        size("2GB", Some(2_000_000_000));
        size("", None);
        size("G", None);
        size("1.G", None);
        size("10X", None);
        size("-1", None);
        size("99999999999999999999", None);
        size("99999999999T", None);
    }

    #[test]
    fn ages_are_read_as_people_write_them() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_secs(30 * DAY)));
        assert_eq!(parse_age("1y"), Ok(Duration::from_secs(365 * DAY)));
        assert_eq!(parse_age("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_age("30").unwrap_err(), "`30` is not an age; write `30d` or `12h`");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for bytes in [0, 1, 1023, 1024, 10 << 30, (10 << 30) + 1] {
            assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
        for seconds in [0, 59, 60, 3600, DAY, DAY + 1] {
            let age = Duration::from_secs(seconds);
            assert_eq!(parse_age(&age_text(age)), Ok(age));
        }
    }

    #[test]
    fn settings_are_read() {
        let text =
            "durability = \"strict\"\ninline_limit = \"1K\"\n\n[policy]\nmax_size = \"10G\"\nkeep_last = 3\n";
        let config = Config::parse(text).expect("it is understood");
        assert_eq!(config.durability, Durability::Strict);
        assert_eq!(config.inline_limit_bytes, 1024);
        assert_eq!(config.policy.max_size_bytes, Some(10 << 30));
        assert_eq!(config.policy.keep_last, Some(3));
        assert_eq!(config.policy.max_age, None);
    }

    #[test]
    fn limits_are_read() {
        let config =
            Config::parse("[limits]\ngpu = 2\ncpus = 8\nmemory = \"4K\"\n").expect("it is understood");
        let limits: Vec<(&str, u64)> = config.limits.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(limits, [("cpus", 8), ("gpu", 2), ("memory", 4096)]);
        wrong("limits = 3", 1, "`limits` should be a table: `[limits]`");
        wrong("[limits]\ngpu = 0", 2, "the limit `gpu` should be a number from 1 on");
        wrong("[limits]\ngpu = \"two\"", 2, "the limit `gpu` should be a number from 1 on");
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        wrong("durability = \"often\"", 1, "`durability` should be \"batch\" or \"strict\"");
        wrong("\n\ninline_limit = \"1M\"", 3, "`inline_limit` is at most `16K`");
        wrong(
            "[policy]\nmax_sise = \"1G\"",
            2,
            "`max_sise` is not a setting; those are max_size, max_age, min_free, keep_last, max_record_age",
        );
        wrong(
            "durability = \"batch\"\nmax_size = \"1G\"",
            2,
            "`max_size` belongs under `[policy]`: write that line above it",
        );
        wrong("[policy]\nmax_size = \"big\"", 2, "`max_size`: `big` is not a size; write `500M` or `10G`");
        wrong("[policy]\nmax_age = 30", 2, "`max_age`: it should be an age such as \"30d\"");
        wrong("[policy]\nkeep_last = 0", 2, "`keep_last` should be a number from 1 on");
    }

    #[test]
    fn saving_the_policy_leaves_the_rest_of_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.toml");
        fs::write(&path, "# ours\ndurability = \"strict\" # slow disk\n[policy]\nmax_age = \"1d\"\n")
            .expect("write");
        let policy = Policy { max_size_bytes: Some(10 << 30), ..Policy::default() };
        Config::save_policy(&path, &policy).expect("it is saved");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, "# ours\ndurability = \"strict\" # slow disk\n[policy]\nmax_size = \"10G\"\n");
        assert_eq!(Config::read(&path).expect("it is read").policy, policy);
    }
}
