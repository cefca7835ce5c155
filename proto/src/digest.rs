//! The digest of a view: both ends of a stream compute it, and a difference makes the reader ask for a snapshot.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::v1::{Record, RecordKey, RecordKind, record::Body};

/// SHA-256 of a record or of a view.
pub type Hash = [u8; 32];

/// The hash of a record's content. Its bytes are canonical: protobuf fields in order, map entries sorted.
#[must_use]
pub fn record_hash(record: &Record) -> Hash {
    Sha256::digest(record.encode_to_vec()).into()
}

/// The key of a record; none where it has no body.
#[must_use]
pub fn record_key(record: &Record) -> Option<RecordKey> {
    let kind = match record.body.as_ref()? {
        Body::Gateway(_) => RecordKind::Gateway,
        Body::ExportHeader(_) => RecordKind::ExportHeader,
        Body::ExportEndpoints(_) => RecordKind::ExportEndpoints,
    };
    Some(RecordKey { kind: kind.into(), name: record.name.clone() })
}

/// One record of a view, as the digest sees it. Ordered by cluster, generation, kind, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry<'a> {
    /// The record's cluster.
    pub cluster: &'a str,
    /// Which membership of it wrote the record.
    pub generation: u64,
    /// The record's kind, as on the wire.
    pub kind: i32,
    /// The record's name.
    pub name: &'a str,
    /// Its content, see [`record_hash`].
    pub hash: Hash,
}

/// The digest of a view, in whatever order its entries come.
#[must_use]
pub fn digest<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Hash {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable();
    let mut sum = Sha256::new();
    for entry in &entries {
        for text in [entry.cluster, entry.name] {
            sum.update((text.len() as u64).to_be_bytes());
            sum.update(text);
        }
        sum.update(entry.generation.to_be_bytes());
        sum.update(entry.kind.to_be_bytes());
        sum.update(entry.hash);
    }
    sum.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{ExportHeader, Gateway};

    fn entry(cluster: &'static str, generation: u64, kind: i32, name: &'static str, byte: u8) -> Entry<'static> {
        Entry { cluster, generation, kind, name, hash: [byte; 32] }
    }

    #[test]
    fn order_does_not_count_and_every_part_does() {
        let base = vec![entry("east", 1, 1, "gw", 1), entry("west", 1, 2, "shop/web", 2)];
        let whole = digest(base.clone());
        assert_eq!(digest(base.iter().rev().cloned()), whole);
        let others = [
            vec![base[0].clone()],
            vec![base[0].clone(), entry("west", 2, 2, "shop/web", 2)],
            vec![base[0].clone(), entry("west", 1, 3, "shop/web", 2)],
            vec![base[0].clone(), entry("west", 1, 2, "shop/webb", 2)],
            vec![base[0].clone(), entry("west", 1, 2, "shop/web", 3)],
            vec![base[0].clone(), entry("wests", 1, 2, "hop/web", 2)],
        ];
        for other in others {
            assert_ne!(digest(other.clone()), whole, "{other:?}");
        }
    }

    #[test]
    fn a_record_hashes_the_same_however_its_maps_were_filled() {
        let header = |keys: [&str; 3]| Record {
            name: "shop/web".into(),
            body: Some(Body::ExportHeader(ExportHeader {
                labels: keys.iter().map(|k| ((*k).to_owned(), "v".to_owned())).collect(),
                ..Default::default()
            })),
        };
        assert_eq!(record_hash(&header(["a", "b", "c"])), record_hash(&header(["c", "a", "b"])));
        assert_ne!(record_hash(&header(["a", "b", "c"])), record_hash(&header(["a", "b", "d"])));
    }

    #[test]
    fn a_record_knows_its_key() {
        let gateway = Record { name: "gw-1".into(), body: Some(Body::Gateway(Gateway::default())) };
        assert_eq!(record_key(&gateway), Some(RecordKey { kind: 1, name: "gw-1".into() }));
        assert_eq!(record_key(&Record::default()), None);
    }
}
