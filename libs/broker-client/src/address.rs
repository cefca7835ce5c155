//! `host:port` of a broker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hawser_model::defaults::BROKER_PORT;
use rustls_pki_types::DnsName;

use crate::Error;

/// Where a broker may be reached: `10.0.0.1:7443`, `[fd00::1]:7443`, `broker.example.org`; the port may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerAddress {
    /// An address or a DNS name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for BrokerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |rule| Error::Address { value: text.to_owned(), rule };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("'[' without ']'"))?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("between '[' and ']' stands an IPv6 address"))?;
                match rest {
                    "" => (host, None),
                    rest => {
                        (host, Some(rest.strip_prefix(':').ok_or_else(|| wrong("after ']' comes ':' and the port"))?))
                    }
                }
            }
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.parse::<IpAddr>().is_err() && DnsName::try_from(host).is_err() {
            return Err(wrong("the host is an IP address (IPv6 in '[' and ']') or a DNS name"));
        }
        let port = match port.map(str::parse) {
            None => BROKER_PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err(wrong("the port is a number from 1 to 65535")),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// All of a list.
///
/// # Errors
/// Where the list is empty, or an entry is no address.
pub fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Vec<BrokerAddress>, Error> {
    if texts.is_empty() {
        return Err(Error::Address { value: String::new(), rule: "at least one is needed" });
    }
    texts.iter().map(|text| text.as_ref().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_form() {
        let cases = [
            ("10.0.0.1:7443", "10.0.0.1:7443"),
            ("10.0.0.1", "10.0.0.1:7443"),
            ("[::1]:9000", "[::1]:9000"),
            ("[fd00::1]", "[fd00::1]:7443"),
            ("fd00::1", "[fd00::1]:7443"),
            ("broker.example.org:1", "broker.example.org:1"),
            ("broker", "broker:7443"),
        ];
        for (text, expected) in cases {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(address.to_string().parse::<BrokerAddress>().unwrap(), address);
        }
        for text in ["", ":7443", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "[::1", "[::1]7443", "[host]:1", "a b:1"]
        {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text:?} was taken");
        }
    }
}
