//! On which line of a document a field is: the parent reads values, this reads places.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Document;

/// The line of the file, from 1, that `field` is on or, where it is absent, what should hold it. `field` is written like
/// `spec.ports[0].port`; none for a document that is no YAML.
#[must_use]
pub fn line_of(document: Document<'_>, field: &str) -> Option<u64> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let root: Node = serde_saphyr::from_str_with_options(document.text, options).ok()?;
    let (mut node, mut rest, mut line) = (&root, field, None);
    while let Some((child, at, after)) = node.step(rest.trim_start_matches('.')) {
        (node, rest, line) = (child, after, Some(at));
    }
    Some(document.line + line.unwrap_or(1).max(1) - 1)
}

/// What is where.
enum Node {
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

impl Node {
    /// The child that a path begins with, its line in the document, and the rest of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Node, u64, &'p str)> {
        match self {
            // Keys may contain dots themselves: the longest that fits is meant.
            Self::Map(entries) => entries
                .iter()
                .filter_map(|(key, node)| {
                    let rest = path.strip_prefix(key.value.as_str())?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then(|| (node, key.referenced.line(), rest))
                })
                .min_by_key(|(.., rest)| rest.len()),
            Self::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((&item.value, item.referenced.line(), rest))
            }
            Self::Leaf => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents;
    use super::line_of;

    #[test]
    fn every_field_has_its_line_and_an_absent_one_its_parent_s() {
        let text = "# first\n---\nkind: Service\nmetadata:\n  labels: {a: 1}\n  annotations:\n    a.b/c: x\nspec:\n  ports:\n  - name: x\n    port: 80\n  - port: many\n  flag: yes\n  none: ~\n";
        let document = documents(text).next().unwrap();
        let line = |field| line_of(document, field);
        assert_eq!(line("kind"), Some(3));
        assert_eq!(line("metadata.labels.a"), Some(5));
        assert_eq!(line("metadata.annotations.a.b/c"), Some(7));
        assert_eq!(line("spec.ports[0].port"), Some(11));
        assert_eq!(line("spec.ports[1].port"), Some(12));
        assert_eq!(line("spec.ports[1].name"), Some(12), "absent");
        assert_eq!(line("spec.ports[7]"), Some(9), "absent");
        assert_eq!(line("spec.none"), Some(14));
        assert_eq!(line("."), Some(2), "the document");
        assert_eq!(line_of(documents("a: [").next().unwrap(), "a"), None);
    }
}
