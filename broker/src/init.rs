//! `hawser broker init`: a cluster set begins.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use hawser_broker_core::{Hash, Roster};
use hawser_broker_pki::{ADMIN_DAYS, Ca, Pin};
use hawser_broker_store::RedbStore;

use crate::state::{self, Settings};

/// `broker init`.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// The broker's directory; it is made, and must not hold a cluster set already.
    #[arg(long, env = "HAWSER_BROKER_DIR", value_name = "DIR", default_value = "/var/lib/hawser/broker")]
    pub dir: PathBuf,
    /// The cluster set's name, a DNS label.
    #[arg(long, env = "HAWSER_CLUSTER_SET", value_name = "NAME")]
    pub set: String,
    /// Where clusters reach the broker: HOST:PORT, IPv6 in brackets; repeatable. Tokens carry it.
    #[arg(long, env = "HAWSER_BROKER_ADDRESS", value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub address: Vec<String>,
    /// The first administrator's name, a DNS label.
    #[arg(long, env = "HAWSER_ADMIN_NAME", value_name = "NAME", default_value = "admin")]
    pub admin: String,
}

/// What [`init`] made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The cluster set.
    pub set: String,
    /// The first administrator's identity: `admin.crt`, `admin.key`, `ca.crt`, `broker.json`.
    pub admin_dir: PathBuf,
    /// What tokens say of the CA.
    pub ca_pin: Pin,
}

/// Makes the CA, the roster and the first administrator's identity (`DIR/admin/`). Overwrites nothing.
///
/// # Errors
/// A name or address that breaks its rule; a directory that holds a cluster set, or one that can't be written.
pub fn init(args: &InitArgs) -> anyhow::Result<Initialised> {
    let InitArgs { dir, set, address, admin } = args;
    for address in address {
        check_address(address)?;
    }
    let admin_dir = dir.join("admin");
    for name in ["ca.key", "roster.redb", "records.redb", "broker.json", "admin"] {
        if dir.join(name).exists() {
            bail!("{}: a cluster set has begun here already ({name} exists); choose an empty directory", dir.display());
        }
    }
    let now = state::now();
    let ca = Ca::create(set, now)?;
    let issued = ca.issue_admin(admin, now, ADMIN_DAYS)?;
    let seconds = state::unix(now);
    let mut roster = Roster::new(set);
    roster.add_admin(admin, Hash(issued.issued.key_hash), seconds);

    state::private_dir(dir)?;
    ca.save(dir).context("save the CA")?;
    let settings = Settings { cluster_set: set.clone(), brokers: address.clone() };
    settings.save(&dir.join("broker.json"))?;
    write_admin(&admin_dir, &ca, &issued, &settings)?;
    // The roster comes last: a directory in which an interrupted `init` left a CA alone does not start.
    RedbStore::create(dir, &roster, state::random()?, seconds)?;
    Ok(Initialised { set: set.clone(), admin_dir, ca_pin: ca.pin()? })
}

pub(crate) fn write_admin(
    dir: &Path,
    ca: &Ca,
    issued: &hawser_broker_pki::IssuedWithKey,
    settings: &Settings,
) -> anyhow::Result<()> {
    state::private_dir(dir)?;
    let certificate = hawser_broker_pki::pem::encode_certificates([issued.issued.certificate.as_ref()]);
    state::write_private(&dir.join("admin.crt"), certificate.as_bytes())?;
    state::write_private(&dir.join("admin.key"), issued.key_pem.as_bytes())?;
    state::write_private(&dir.join("ca.crt"), ca.certificate_pem().as_bytes())?;
    settings.save(&dir.join("broker.json"))
}

fn check_address(address: &str) -> anyhow::Result<()> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    ensure!(
        !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0),
        "--address {address:?}: it must be HOST:PORT, e.g. broker.example.net:7443 or [2001:db8::1]:7443"
    );
    ensure!(
        !host.contains(':') || (host.starts_with('[') && host.ends_with(']')),
        "--address {address:?}: an IPv6 address needs brackets, e.g. [2001:db8::1]:7443"
    );
    Ok(())
}
