//! The checked-in code is what the .proto files generate. `UPDATE=1 cargo test -p hawser-proto current` writes it anew.

use std::fs;
use std::path::Path;

const FILES: [&str; 1] = ["hawser/broker/v1/broker.proto"];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .btree_map(".") // the order of a map's entries is part of a record's bytes
        .skip_debug(["hawser.broker.v1.JoinRequest", "hawser.broker.v1.CreateTokenResponse"]) // they hold secrets
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();

    let checked_in = root.join("src/gen");
    let mut names: Vec<_> = fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(!names.is_empty(), "nothing was generated");
    for name in names {
        let new = fs::read_to_string(out.path().join(&name)).unwrap();
        let place = checked_in.join(&name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&place, &new).unwrap();
        }
        let old = fs::read_to_string(&place).unwrap_or_default();
        assert!(old == new, "{} is out of date: UPDATE=1 cargo test -p hawser-proto current", place.display());
    }
}
