//! The DAG in the words of programs that draw: Graphviz and Mermaid. Pure.

use std::io::{self, Write};

use super::Node;

/// The DAG for Graphviz.
pub(super) fn dot(to: &mut dyn Write, name: &str, nodes: &[Node]) -> io::Result<()> {
    writeln!(to, "digraph {} {{", quoted(name))?;
    writeln!(to, "  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];")?;
    for (index, node) in nodes.iter().enumerate() {
        // The state stands in the label too: no meaning in the look alone.
        let style = match node.look() {
            "stored" => "solid",
            "to-be-recomputed" => "bold",
            _ => "dashed",
        };
        writeln!(
            to,
            "  n{index} [label={}, style={style}];",
            quoted(&format!("{}\n{}", node.name, node.state()))
        )?;
    }
    for (index, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            writeln!(to, "  n{input} -> n{index};")?;
        }
    }
    writeln!(to, "}}")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The DAG for Mermaid.
pub(super) fn mermaid(to: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    writeln!(to, "flowchart LR")?;
    for (index, node) in nodes.iter().enumerate() {
        let label = escaped(&format!("{}\n{}", node.name, node.state()));
        let class = node.look().replace('-', "_");
        writeln!(to, "  n{index}[\"{label}\"]:::{class}")?;
    }
    for (index, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            writeln!(to, "  n{input} --> n{index}")?;
        }
    }
    writeln!(to, "  classDef to_be_recomputed stroke-width:3px")?;
    writeln!(to, "  classDef not_needed stroke-dasharray:4")?;
    writeln!(to, "  classDef absent stroke-dasharray:4")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{example, written};
    use super::*;

    #[test]
    fn dot_names_every_node_and_edge() {
        let text = written(|to| dot(to, "a \"b\"", &example()));
        assert_eq!(
            text,
            "digraph \"a \\\"b\\\"\" {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n\
             \x20 n0 [label=\"load\\nstored\", style=solid];\n\
             \x20 n1 [label=\"train\\n4 stored, 2 to-be-recomputed\", style=bold];\n\
             \x20 n2 [label=\"report\\nto-be-recomputed\", style=bold];\n\
             \x20 n0 -> n1;\n  n0 -> n2;\n  n1 -> n2;\n}\n"
        );
    }

    #[test]
    fn mermaid_names_every_node_and_edge() {
        let text = written(|to| mermaid(to, &example()));
        assert!(text.starts_with("flowchart LR\n  n0[\"load<br>stored\"]:::stored\n"), "{text}");
        assert_eq!(text.matches("-->").count(), 3);
        assert_eq!(escaped("a<\"b\"&c"), "a&lt;&quot;b&quot;&amp;c");
    }
}
