//! Answers as JSON: one document `{"cas":1,"<command>":[…]}` on a line of its own.

use std::io::{self, Write};

use serde::Serialize;

/// The version of the contract: it is raised when a member changes its meaning or goes away.
const CONTRACT: u32 = 1;

/// Writes a document; its items are written one by one, so that many need no memory.
pub(crate) fn document<T: Serialize>(
    to: &mut dyn Write,
    command: &str,
    items: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    document_with(to, command, items, &[])
}

/// The same, with members behind the list.
pub(crate) fn document_with<T: Serialize>(
    to: &mut dyn Write,
    command: &str,
    items: impl IntoIterator<Item = T>,
    members: &[(&str, serde_json::Value)],
) -> io::Result<()> {
    write!(to, "{{\"cas\":{CONTRACT},{}:[", serde_json::Value::from(command))?;
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            to.write_all(b",")?;
        }
        serde_json::to_writer(&mut *to, &item)?;
    }
    to.write_all(b"]")?;
    for (name, value) in members {
        write!(to, ",{}:{value}", serde_json::Value::from(*name))?;
    }
    to.write_all(b"}\n")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_its_contract_and_its_command() {
        let mut text = Vec::new();
        document(&mut text, "versions", [1, 2]).expect("memory takes it");
        document(&mut text, "pins", Vec::<u8>::new()).expect("memory takes it");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "{\"cas\":1,\"versions\":[1,2]}\n{\"cas\":1,\"pins\":[]}\n"
        );
    }
}
