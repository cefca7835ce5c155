//! The authority, what it issues, what it refuses, and what it signs.
#![allow(clippy::unwrap_used, reason = "test helpers, which the lint does not know for tests")]

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use hawser_broker_pki::identity::{not_after, not_before};
use hawser_broker_pki::{Ca, Csr, Error, Identity, PeerIdentity, Pin, Role, csr, roster};
use hawser_model::ClusterId;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn now() -> SystemTime {
    NOW + Duration::from_secs(1_800_000_000)
}

fn west() -> ClusterId {
    ClusterId::new("west").unwrap()
}

fn a_csr() -> Vec<u8> {
    csr::request(&csr::generate_key().unwrap()).unwrap()
}

#[test]
fn a_saved_authority_comes_back_and_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("pki");
    let ca = Ca::create("prod", now()).unwrap();
    ca.save(&place).unwrap();
    for name in ["ca.crt", "ca.key"] {
        let mode = place.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    let loaded = Ca::load(&place).unwrap();
    assert_eq!((loaded.set(), loaded.certificate()), ("prod", ca.certificate()));
    let pin = loaded.pin().unwrap();
    assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
    let issued = loaded.issue_cluster(&a_csr(), &west(), now(), 30).unwrap();
    assert_eq!(Identity::from_cert(&issued.certificate).unwrap().to_string(), "spiffe://prod/cluster/west");

    let error = ca.save(&place).unwrap_err().to_string();
    assert!(error.contains("ca.crt") && error.contains("not replaced"), "{error}");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 2, "a temporary file was left");
}

#[test]
fn an_authority_with_another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        Ca::create("prod", now()).unwrap().save(&dir.path().join(name)).unwrap();
    }
    std::fs::copy(dir.path().join("a/ca.key"), dir.path().join("b/ca.key")).unwrap();
    let error = Ca::load(&dir.path().join("b")).unwrap_err().to_string();
    assert!(error.contains("b/ca.crt: its key must be the one in ca.key"), "{error}");
    let error = Ca::load(&dir.path().join("none")).unwrap_err().to_string();
    assert!(error.contains("none/ca.crt"), "{error}");
    std::fs::write(dir.path().join("a/ca.crt"), "garbage").unwrap();
    let error = Ca::load(&dir.path().join("a")).unwrap_err().to_string();
    assert!(error.contains("it must hold PEM certificates"), "{error}");
}

#[test]
fn only_the_key_of_a_request_is_used() {
    let ca = Ca::create("prod", now()).unwrap();
    let key = csr::generate_key().unwrap();
    let mut params = CertificateParams::new(vec!["hawser-broker".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.subject_alt_names.push(rcgen::SanType::URI("spiffe://prod/admin/mallory".try_into().unwrap()));
    let greedy = params.serialize_request(&key).unwrap();

    // What asks for a CA is refused outright or stripped; here: stripped, as with every other wish.
    let issued = ca.issue_cluster(greedy.der(), &west(), now(), 30);
    let issued = match issued {
        Ok(issued) => issued,
        Err(Error::Csr { .. }) => ca.issue_cluster(&csr::request(&key).unwrap(), &west(), now(), 30).unwrap(),
        Err(other) => panic!("{other}"),
    };
    let peer = PeerIdentity::from_der(&issued.certificate, now()).unwrap();
    assert_eq!(peer.identity, Identity { set: "prod".into(), role: Role::Cluster(west()) });
    assert_eq!(peer.key_hash, Csr::parse(&csr::request(&key).unwrap()).unwrap().key_hash());
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
    assert!(!parsed.is_ca());
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 1, "{names:?}");
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn certificates_begin_an_hour_ago_and_end_when_told() {
    let ca = Ca::create("prod", now()).unwrap();
    let issued = ca.issue_cluster(&a_csr(), &west(), now(), 30).unwrap();
    assert_eq!(not_before(&issued.certificate).unwrap(), now() - Duration::from_secs(3600));
    assert_eq!(not_after(&issued.certificate).unwrap(), now() + Duration::from_secs(30 * 86_400));
    assert_eq!(issued.not_after, not_after(&issued.certificate).unwrap());
    let peer = |at| PeerIdentity::from_der(&issued.certificate, at).unwrap();
    assert!(!peer(issued.not_after).expired);
    assert!(peer(issued.not_after + Duration::from_secs(1)).expired);
}

#[test]
fn two_certificates_for_one_key_have_different_serial_numbers() {
    let ca = Ca::create("prod", now()).unwrap();
    let csr = a_csr();
    let serial = || {
        let issued = ca.issue_cluster(&csr, &west(), now(), 30).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
        parsed.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn names_that_are_not_labels_are_refused() {
    let ca = Ca::create("prod", now()).unwrap();
    for name in ["", "a/b", "Prod", "a b", "..", "é"] {
        assert!(Ca::create(name, now()).is_err(), "set {name:?}");
        assert!(ca.issue_admin(name, now(), 1).is_err(), "admin {name:?}");
    }
    for address in ["", "not a name", "a/b:1", "http://x"] {
        let error = ca.issue_broker(&[address.to_owned()], now(), 1).unwrap_err().to_string();
        assert!(error.starts_with("broker address"), "{error}");
    }
    let addresses = ["10.0.0.1:7443", "[fd00::1]:7443", "fd00::2", "broker.example.org:1", "hawser-broker"];
    let addresses: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
    let issued = ca.issue_broker(&addresses, now(), 1).unwrap();
    assert_eq!(Identity::from_cert(&issued.issued.certificate).unwrap().role, Role::Broker);
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.issued.certificate).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn identities_are_read_exactly() {
    for uri in ["spiffe://prod/cluster/west", "spiffe://prod/admin/root", "spiffe://prod/broker"] {
        assert_eq!(uri.parse::<Identity>().unwrap().to_string(), uri);
    }
    for uri in [
        "",
        "spiffe://prod",
        "spiffe://prod/",
        "spiffe://prod/cluster",
        "spiffe://prod/cluster/",
        "spiffe://prod/cluster/West",
        "spiffe://prod/cluster/west/admin",
        "spiffe://prod/admin/a/b",
        "spiffe://prod/broker/x",
        "spiffe:///broker",
        "SPIFFE://prod/broker",
        "https://prod/broker",
    ] {
        assert!(uri.parse::<Identity>().is_err(), "{uri:?} was taken");
    }
}

#[test]
fn forged_requests_are_refused() {
    let good = a_csr();
    assert!(Csr::parse(&good).is_ok());
    let mut tampered = good.clone();
    let key_byte = good.len() / 2;
    tampered[key_byte] ^= 1;
    let mut unsigned = good.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let other = |alg| csr::request(&KeyPair::generate_for(alg).unwrap()).unwrap();
    let cases = [
        ("tampered", tampered),
        ("unsigned", unsigned),
        ("trailing", [good.clone(), vec![0]].concat()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("empty", vec![]),
        ("long", vec![0x30; 5000]),
        ("P-384", other(&PKCS_ECDSA_P384_SHA384)),
        ("Ed25519", other(&PKCS_ED25519)),
    ];
    for (name, der) in cases {
        assert!(matches!(Csr::parse(&der), Err(Error::Csr { .. })), "{name}: {:?}", Csr::parse(&der));
    }
}

#[test]
fn changed_bytes_never_panic() {
    let ca = Ca::create("prod", now()).unwrap();
    let certificate = ca.issue_cluster(&a_csr(), &west(), now(), 30).unwrap().certificate.to_vec();
    let request = a_csr();
    let key_hash = Csr::parse(&request).unwrap().key_hash();
    for (at, bit) in (0..certificate.len()).flat_map(|at| [(at, 0), (at, 7)]) {
        let mut bytes = certificate.clone();
        bytes[at] ^= 1 << bit;
        let _ = PeerIdentity::from_der(&bytes, now());
        let _ = PeerIdentity::from_der(&bytes[..at], now());
        if let Some(byte) = request.get(at) {
            let mut bytes = request.clone();
            bytes[at] = byte ^ (1 << bit);
            // The wrapping outside the signature may be read leniently; the key may not change.
            let key = Csr::parse(&bytes).map(|csr| csr.key_hash());
            assert!(key.is_err() || key.unwrap() == key_hash, "another key was taken at {at}");
        }
    }
}

#[test]
fn a_roster_is_believed_for_its_signature() {
    let (ca, other) = (Ca::create("prod", now()).unwrap(), Ca::create("prod", now()).unwrap());
    let signature = ca.sign_roster(b"revision 7").unwrap();
    roster::verify(ca.certificate(), b"revision 7", &signature).unwrap();
    let refused = |certificate: &[u8], bytes: &[u8], signature: &[u8]| {
        assert!(matches!(roster::verify(certificate, bytes, signature), Err(Error::Signature)));
    };
    refused(ca.certificate(), b"revision 8", &signature);
    refused(other.certificate(), b"revision 7", &signature);
    refused(ca.certificate(), b"revision 7", &signature[1..]);
    refused(ca.certificate(), b"revision 7", &[]);
    // The signature of a certificate is not one of a roster.
    let (_, parsed) = x509_parser::parse_x509_certificate(ca.certificate()).unwrap();
    refused(ca.certificate(), parsed.tbs_certificate.as_ref(), &parsed.signature_value.data);
}
