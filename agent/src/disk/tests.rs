use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use hawser_model::ClusterId;

use super::*;
use crate::reader::tests::{synced, upsert};

fn identity(generation: u64) -> Identity {
    Identity {
        cluster_set: "fleet".into(),
        cluster: ClusterId::new("west").unwrap(),
        generation,
        namespaces: Vec::new(),
        certificate_expires: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn reader() -> Reader {
    let mut reader = Reader::default();
    reader.interest(1, BTreeSet::from(["shop".to_owned()]));
    reader.snapshot_start(v1::SnapshotStart { epoch: vec![0xab; 16] });
    reader.upsert(upsert("north", 1, "shop/kept", 80)).unwrap();
    let message = synced(&reader, 1, &[]);
    reader.synced(&message);
    reader.snapshot_start(v1::SnapshotStart { epoch: vec![0xcd; 16] });
    reader.upsert(upsert("east", 1, "shop/web", 80)).unwrap();
    let message = synced(&reader, 1, &["north"]);
    reader.synced(&message);
    reader
}

#[test]
fn a_view_comes_back_with_what_was_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path()).unwrap();
    assert!(disk.load_view(&identity(1)).is_none());
    let reader = reader();
    disk.save_view(&Disk::encode_view(&identity(1), &reader).unwrap()).unwrap();
    let mode = fs::metadata(dir.path().join("view")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut back = disk.load_view(&identity(1)).unwrap();
    assert_eq!(back.view(), reader.view());
    assert_eq!(back.position(), reader.position());
    // It resumes where it stood: the digest is that of the present epoch's records alone.
    back.interest(1, BTreeSet::from(["shop".to_owned()]));
    let message = synced(&reader, 1, &["north"]);
    assert_eq!(back.synced(&message), crate::reader::Step::Unchanged);
    assert_eq!(back.view(), reader.view());
    assert!(disk.load_view(&identity(2)).is_none(), "another membership's view is not used");
}

#[test]
fn a_damaged_view_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path()).unwrap();
    let bytes = Disk::encode_view(&identity(1), &reader()).unwrap();
    let first_line = bytes.iter().position(|b| *b == b'\n').unwrap();
    for cut in [0, 1, first_line, first_line + 1, bytes.len() - 1] {
        replace(&dir.path().join("view"), &bytes[..cut]).unwrap();
        assert!(disk.load_view(&identity(1)).is_none(), "cut at {cut}");
    }
}

#[test]
fn a_view_in_motion_is_not_written() {
    let mut reader = reader();
    reader.upsert(upsert("east", 1, "shop/api", 80)).unwrap();
    assert!(Disk::encode_view(&identity(1), &reader).unwrap().is_empty());
    let dir = tempfile::tempdir().unwrap();
    Disk::open(dir.path()).unwrap().save_view(&[]).unwrap();
    assert!(!dir.path().join("view").exists());
}

#[test]
fn replacing_leaves_no_litter_and_keeps_the_old_file_on_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&path, b"one").unwrap();
    replace(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::create_dir(dir.path().join("taken")).unwrap();
    fs::write(dir.path().join("taken/inside"), b"x").unwrap();
    replace(&dir.path().join("taken"), b"three").unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn hexadecimal_goes_both_ways() {
    assert_eq!(from_hex(&to_hex(&[0, 0x0f, 0xff])), Some(vec![0, 0x0f, 0xff]));
    assert_eq!((from_hex("abc"), from_hex("zz")), (None, None));
}
