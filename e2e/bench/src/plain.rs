//! The other implementations: started as their manuals say, configured by the control socket that they all have.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use boringtun::x25519::{PublicKey, StaticSecret};
use hawser_model::IpFamily;
use hawser_testbed::{Netns, Process, wait_for};
use sha2::{Digest as _, Sha256};

use crate::bed::{End, TUNNEL_MTU, hosts, inner_of, network, outer_of, tool};
use crate::subject::Subject;

const DEVICE: &str = "wg0";
const SOCKET: &str = "/run/wireguard/wg0.sock";
const PORT: u16 = 51820;

/// The program of an implementation, as `scripts/bench-setup` installs it.
///
/// # Errors
/// When it has none.
pub fn program(subject: Subject) -> Result<&'static str> {
    match subject {
        Subject::WireguardGo | Subject::WireguardGoV6 => Ok("wireguard-go"),
        Subject::Gotatun => Ok("gotatun"),
        Subject::Boringtun => Ok("boringtun-cli"),
        _ => bail!("{subject} is none of the others"),
    }
}

/// Two hosts with `subject` between them.
///
/// # Errors
/// When its program is missing or refuses.
pub fn ends(subject: Subject, dir: &Path) -> Result<[End; 2]> {
    let [a, b] = hosts(subject)?;
    Ok([end(subject, a, 1, 2, dir)?, end(subject, b, 2, 1, dir)?])
}

fn end(subject: Subject, ns: Netns, number: u8, other: u8, dir: &Path) -> Result<End> {
    // The control socket has a fixed place in the file system; each host gets its own.
    ns.output("sh", &["-c", "mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard"], None)?;
    let name = program(subject)?;
    let mut process = Process::start(&ns, name, command(subject)?, dir)?;
    let (family, inner) = (subject.family(), inner_of(subject.family(), number));
    let request = configuration(family, number, other)?;
    wait_for(&format!("{subject} to take its configuration"), Duration::from_secs(10), || {
        ensure!(process.is_running(), "it ended: {}", process.log());
        let request = request.clone();
        let answer = ns.run(move || ask(&request)).context("its control socket does not answer")?;
        ensure!(answer.lines().any(|line| line == "errno=0"), "it answers {answer:?}; {}", process.log());
        Ok(())
    })?;
    ns.ip(&format!("addr add {inner} dev {DEVICE}"))?;
    ns.ip(&format!("link set {DEVICE} mtu {TUNNEL_MTU} up"))?;
    ns.ip(&format!("route add {} dev {DEVICE}", network(family, other)))?;
    Ok(End { measured: vec![process], ns, inner })
}

fn command(subject: Subject) -> Result<Command> {
    let mut command = Command::new(tool(program(subject)?)?);
    match subject {
        Subject::WireguardGo | Subject::WireguardGoV6 => {
            command.args(["-f", DEVICE]).env("WG_PROCESS_FOREGROUND", "1").env("LOG_LEVEL", "error")
        }
        // Dropping privileges concerns programs that were started by sudo.
        _ => command.args(["--foreground", "--disable-drop-privileges", "--verbosity", "error", DEVICE]),
    };
    Ok(command)
}

/// Keys that are good for a measurement only: anybody can derive them.
fn key(number: u8) -> StaticSecret {
    StaticSecret::from(<[u8; 32]>::from(Sha256::digest(format!("hawser-bench end {number}"))))
}

fn configuration(family: IpFamily, number: u8, other: u8) -> Result<String> {
    let hex = |bytes: &[u8]| -> Result<String> {
        let mut text = String::new();
        bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        Ok(text)
    };
    Ok(format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\npublic_key={}\nendpoint={}\nallowed_ip={}\n\n",
        hex(key(number).as_bytes())?,
        hex(PublicKey::from(&key(other)).as_bytes())?,
        SocketAddr::new(outer_of(family, other), PORT),
        network(family, other),
    ))
}

fn ask(request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    let mut part = [0; 256];
    // Some keep the connection open for more requests: an empty line ends an answer.
    while !answer.ends_with("\n\n") {
        let n = stream.read(&mut part)?;
        if n == 0 {
            break;
        }
        answer.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_knows_the_other() {
        let [one, two] = [(1, 2), (2, 1)].map(|(own, other)| configuration(IpFamily::V4, own, other).unwrap());
        let field = |text: &str, name: &str| {
            text.lines().find_map(|l| l.strip_prefix(&format!("{name}="))).map(str::to_owned).unwrap()
        };
        assert_ne!(field(&one, "private_key"), field(&two, "private_key"));
        let secret = field(&two, "private_key");
        let bytes: Vec<u8> = (0..64).step_by(2).map(|i| u8::from_str_radix(&secret[i..i + 2], 16).unwrap()).collect();
        let public = PublicKey::from(&StaticSecret::from(<[u8; 32]>::try_from(bytes).unwrap()));
        assert!(public.as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>() == field(&one, "public_key"));
        assert_eq!(
            (field(&one, "endpoint"), field(&one, "allowed_ip")),
            ("192.0.2.2:51820".into(), "10.2.0.0/16".into())
        );
        assert!(one.ends_with("\n\n"));
        let v6 = configuration(IpFamily::V6, 1, 2).unwrap();
        assert_eq!(
            (field(&v6, "endpoint"), field(&v6, "allowed_ip")),
            ("[2001:db8::2]:51820".into(), "fd10:2::/32".into())
        );
    }

    #[test]
    fn only_the_others_have_programs() {
        assert!(program(Subject::Raw).is_err() && program(Subject::Hawser(1)).is_err());
        assert_eq!(program(Subject::Gotatun).unwrap(), "gotatun");
    }
}
