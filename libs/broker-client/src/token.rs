//! Join tokens: `hawser1.` and base64url of a JSON document. They hold a secret: they are passed by stdin, file or
//! Secret, never as an argument, and never printed by `Debug`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hawser_broker_pki::Pin;
use hawser_model::ClusterId;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::address::{BrokerAddress, parse_all};

const PREFIX: &str = "hawser1.";
/// Room for many addresses; a mistaken file is refused early.
const MAX_BYTES: usize = 8192;

/// What a cluster needs to join.
#[derive(Clone)]
pub struct JoinToken {
    /// Where the broker may be reached.
    pub brokers: Vec<BrokerAddress>,
    /// The CA that vouches for the broker.
    pub ca_pin: Pin,
    /// The only cluster that may use it.
    pub cluster_id: ClusterId,
    /// What the broker knows the token by.
    pub secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("brokers", &self.brokers)
            .field("ca_pin", &self.ca_pin)
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    brokers: Vec<String>,
    ca: String,
    cluster: String,
    secret: String,
}

impl Drop for Document {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl JoinToken {
    /// The token as text; whoever has it can join as this cluster.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let document = Document {
            brokers: self.brokers.iter().map(ToString::to_string).collect(),
            ca: self.ca_pin.to_string(),
            cluster: self.cluster_id.to_string(),
            secret: URL_SAFE_NO_PAD.encode(&self.secret),
        };
        let json = Zeroizing::new(serde_json::to_vec(&document).expect("strings serialise"));
        let mut text = Zeroizing::new(PREFIX.to_owned());
        URL_SAFE_NO_PAD.encode_string(&json, &mut text);
        text
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    /// Reads a token; white space around it is fine.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |rule: &str| Error::Token { rule: rule.to_owned() };
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(wrong("it is too long"));
        }
        let body = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it begins with \"hawser1.\""))?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| wrong("it is cut or changed (base64url)"))?;
        let json = Zeroizing::new(json);
        let document: Document = serde_json::from_slice(&json).map_err(|_| wrong("it is cut or changed (JSON)"))?;
        let secret = URL_SAFE_NO_PAD.decode(&document.secret).map_err(|_| wrong("its secret is not base64url"))?;
        if secret.is_empty() {
            return Err(wrong("it has no secret"));
        }
        Ok(Self {
            brokers: parse_all(&document.brokers).map_err(|e| wrong(&e.to_string()))?,
            ca_pin: document.ca.parse().map_err(|_| wrong("its CA pin is not 64 hexadecimal digits"))?,
            cluster_id: ClusterId::new(&document.cluster).map_err(|e| wrong(&e.to_string()))?,
            secret: Zeroizing::new(secret),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            brokers: parse_all(&["10.0.0.1:7443", "[fd00::1]:7443"]).unwrap(),
            ca_pin: Pin([7; 32]),
            cluster_id: ClusterId::new("west").unwrap(),
            secret: Zeroizing::new(vec![42; 32]),
        }
    }

    #[test]
    fn a_token_comes_back_the_same() {
        let text = token().reveal();
        let back: JoinToken = format!("  {}\n", text.as_str()).parse().unwrap();
        assert_eq!((back.brokers, back.ca_pin, back.cluster_id), (token().brokers, token().ca_pin, token().cluster_id));
        assert_eq!(back.secret, token().secret);
    }

    #[test]
    fn debug_shows_no_secret() {
        let printed = format!("{:?}", token());
        assert!(printed.contains("west") && !printed.contains("42") && !printed.contains("Kioq"), "{printed}");
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let text = token().reveal();
        let cut = &text[..text.len() - 4];
        let flipped = text.replacen('e', "f", 5);
        for text in ["", "hawser1.", "hawser2.abc", cut, &flipped, &"x".repeat(10_000)] {
            let error = text.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains("hawser token create"), "{error}");
            assert!(text.len() < 20 || !error.contains(text), "{error}");
        }
    }
}
