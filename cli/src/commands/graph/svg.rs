//! The DAG as a picture: a column per depth, each node as near to its inputs as the column allows. Pure.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::Node;

/// Pixels; a character of the font is taken to be so wide.
const CHARACTER: usize = 8;
const PADDING: usize = 12;
const HEIGHT: usize = 44;
const GAP_X: usize = 60;
const GAP_Y: usize = 16;
const MARGIN: usize = 16;

/// Where a node stands: its left upper corner and its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Spot {
    x: usize,
    y: usize,
    width: usize,
}

/// The DAG as SVG; its colours follow the reader's light or dark scheme.
pub(super) fn svg(to: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    let spots = layout(nodes);
    let width = spots.iter().map(|spot| spot.x + spot.width).max().unwrap_or(0) + MARGIN;
    let height = spots.iter().map(|spot| spot.y + HEIGHT).max().unwrap_or(0) + MARGIN;
    writeln!(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">"
    )?;
    to.write_all(STYLE.as_bytes())?;
    for (node, end) in nodes.iter().zip(&spots) {
        for input in &node.inputs {
            let start = spots[*input];
            let (x1, y1) = (start.x + start.width, start.y + HEIGHT / 2);
            let (x2, y2) = (end.x, end.y + HEIGHT / 2);
            let middle = usize::midpoint(x1, x2);
            writeln!(to, "<path class=\"edge\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>")?;
        }
    }
    for (node, Spot { x, y, width }) in nodes.iter().zip(&spots) {
        let (name, state) = (escaped(&label(node)), escaped(&node.state()));
        let centre = x + width / 2;
        writeln!(
            to,
            "<g class=\"{}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"5\"/>\
             <text x=\"{centre}\" y=\"{}\">{name}</text>\
             <text class=\"state\" x=\"{centre}\" y=\"{}\">{state}</text></g>",
            node.look(),
            y + 18,
            y + 35,
        )?;
    }
    writeln!(to, "</svg>")
}

const STYLE: &str = "\
<style>
rect{fill:#f6f8fa;stroke:#57606a;stroke-width:1.2}
text{fill:#1f2328;text-anchor:middle}
.state{font-size:11px;fill:#57606a}
.edge{fill:none;stroke:#8c959f;stroke-width:1.2}
.stored rect{fill:#dafbe1;stroke:#1a7f37}
.to-be-recomputed rect{fill:#fff8c5;stroke:#9a6700;stroke-width:2.4}
.not-needed rect,.absent rect{stroke-dasharray:5 3}
@media(prefers-color-scheme:dark){
rect{fill:#161b22;stroke:#8b949e}text{fill:#e6edf3}.state{fill:#9da7b3}.edge{stroke:#6e7681}
.stored rect{fill:#12261e;stroke:#3fb950}.to-be-recomputed rect{fill:#272115;stroke:#d29922}}
</style>
";

fn label(node: &Node) -> String {
    if node.elements == 1 { node.name.clone() } else { format!("{} ×{}", node.name, node.elements) }
}

fn layout(nodes: &[Node]) -> Vec<Spot> {
    let mut depth = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        depth[index] = node.inputs.iter().map(|input| depth[*input] + 1).max().unwrap_or(0);
    }
    let mut spots = vec![Spot::default(); nodes.len()];
    let mut x = MARGIN;
    for column in 0..=depth.iter().copied().max().unwrap_or(0) {
        let mut members: Vec<usize> = (0..nodes.len()).filter(|index| depth[*index] == column).collect();
        // The height at which its inputs stand on average; the order of the file decides between equals.
        let wish = |index: usize, spots: &[Spot]| {
            let inputs = &nodes[index].inputs;
            inputs.iter().map(|input| spots[*input].y).sum::<usize>() / inputs.len().max(1)
        };
        members.sort_by_key(|index| (wish(*index, &spots), *index));
        let width = members
            .iter()
            .map(|index| label(&nodes[*index]).width().max(nodes[*index].state().width()))
            .max()
            .unwrap_or(0)
            * CHARACTER
            + 2 * PADDING;
        let mut free = MARGIN;
        for index in members {
            let y = wish(index, &spots).max(free);
            spots[index] = Spot { x, y, width };
            free = y + HEIGHT + GAP_Y;
        }
        x += width + GAP_X;
    }
    spots
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{example, written};
    use super::*;

    #[test]
    fn no_two_nodes_overlap_and_edges_go_to_the_right() {
        let mut nodes = example();
        for index in 0..20 {
            let inputs = vec![index % 3];
            nodes.push(Node {
                name: format!("n{index}"),
                elements: 1,
                statuses: vec![("stored", 1)],
                inputs,
            });
        }
        let spots = layout(&nodes);
        for (index, a) in spots.iter().enumerate() {
            for b in &spots[index + 1..] {
                let apart =
                    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y.abs_diff(b.y) >= HEIGHT + GAP_Y;
                assert!(apart, "{a:?} {b:?}");
            }
            for input in &nodes[index].inputs {
                assert!(spots[*input].x + spots[*input].width < a.x);
            }
        }
    }

    #[test]
    fn the_picture_holds_every_name_and_state_escaped() {
        let mut nodes = example();
        nodes[0].name = "a<b&c".to_owned();
        let text = written(|to| svg(to, &nodes));
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert!(text.contains("a&lt;b&amp;c") && !text.contains("a<b"), "{text}");
        assert!(text.contains("train ×6") && text.contains("4 stored, 2 to-be-recomputed"), "{text}");
    }
}
