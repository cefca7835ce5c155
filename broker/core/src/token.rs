//! Join tokens: what they admit, and how a secret finds its token.

use hawser_model::{ClusterId, PrefixPolicy, PrefixSet};
use serde::{Deserialize, Serialize};

use crate::hash::{Hash, prefix_list};
use crate::refusal::{Code, Refusal};

/// Tokens that exist at one time, spent and expired ones included.
pub const MAX_TOKENS: usize = 1_000;
/// How long a spent or expired token is kept, so that its use is refused by name: 7 days, in seconds.
pub const KEEP_DEAD: i64 = 7 * 24 * 3600;
/// The longest life of a token: 30 days, in seconds.
pub const MAX_TTL: u32 = 30 * 24 * 3600;

/// What a cluster may claim and export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Claims must lie inside these; empty: the default policy.
    #[serde(with = "prefix_list")]
    pub prefixes: PrefixSet,
    /// Namespaces it may export from; empty: all but `default` and `kube-*`.
    pub namespaces: Vec<String>,
}

impl Grant {
    /// The rules for its claims.
    #[must_use]
    pub fn prefix_policy(&self) -> PrefixPolicy {
        PrefixPolicy { within: self.prefixes.clone(), ..PrefixPolicy::default() }
    }

    /// Whether exports from `namespace` are allowed.
    #[must_use]
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        if self.namespaces.is_empty() {
            namespace != "default" && !namespace.starts_with("kube-")
        } else {
            self.namespaces.iter().any(|n| n == namespace)
        }
    }
}

/// A use of a token, so that a repeated `Join` gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The hash of the CSR's key.
    pub key: Hash,
    /// The generation it was given.
    pub generation: u64,
}

/// A join token as the roster keeps it: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name in lists and messages.
    pub id: String,
    /// The only cluster it admits.
    pub cluster: ClusterId,
    /// SHA-256 of the secret.
    pub secret: Hash,
    /// Seconds since the epoch.
    pub expires: i64,
    /// Uses left.
    pub uses_left: u32,
    /// What the cluster may claim and export.
    pub grant: Grant,
    /// The admin who made it.
    pub created_by: String,
    /// Its uses so far.
    pub redeemed: Vec<Redeemed>,
}

/// What an admin asks for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The cluster to admit.
    pub cluster: ClusterId,
    /// Life in seconds.
    pub ttl: u32,
    /// Number of uses.
    pub uses: u32,
    /// What the cluster may claim and export.
    pub grant: Grant,
    /// The admin who asks.
    pub created_by: String,
}

/// Random bytes for one token.
#[derive(Clone)]
pub struct TokenSeed {
    /// Becomes the id.
    pub id: [u8; 5],
    /// The secret.
    pub secret: [u8; 32],
}

impl Token {
    /// Checks the request and makes the token.
    ///
    /// # Errors
    /// Names the field that breaks a rule.
    pub(crate) fn make(request: TokenRequest, seed: &TokenSeed, now: i64) -> Result<Self, Refusal> {
        let object = format!("token for cluster {}", request.cluster);
        let refuse = |field: &str, rule: String, remedy: &str| {
            Err(Refusal::new(Code::Invalid, object.clone(), field, rule, remedy))
        };
        if request.ttl == 0 || request.ttl > MAX_TTL {
            return refuse(
                "ttl",
                format!("it must be 1 to {MAX_TTL} seconds, not {}", request.ttl),
                "choose another life, e.g. --ttl 1h",
            );
        }
        if request.uses == 0 || request.uses > 1_000 {
            return refuse(
                "uses",
                format!("it must be 1 to 1000, not {}", request.uses),
                "one use per join is enough: --uses 1",
            );
        }
        if let Some(bad) = request.grant.namespaces.iter().find(|n| !hawser_model::id::is_dns_label(n)) {
            return refuse("namespaces", format!("{bad:?} is not a DNS label"), "list namespaces by name");
        }
        if request.grant.namespaces.len() > 1_000 || request.grant.prefixes.iter().count() > 256 {
            return refuse("grant", "at most 1000 namespaces and 256 prefixes".into(), "shorten the lists");
        }
        Ok(Self {
            id: seed.id.iter().map(|b| format!("{b:02x}")).collect(),
            cluster: request.cluster,
            secret: Hash::of(&seed.secret),
            expires: now + i64::from(request.ttl),
            uses_left: request.uses,
            grant: request.grant,
            created_by: request.created_by,
            redeemed: Vec::new(),
        })
    }

    /// How messages call it.
    #[must_use]
    pub fn object(&self) -> String {
        format!("token {}", self.id)
    }

    pub(crate) fn check(&self, cluster: &ClusterId, now: i64) -> Result<(), Refusal> {
        let again = || format!("create another with `hawser token create --cluster {cluster}`");
        if self.cluster != *cluster {
            let rule = format!("it admits cluster {}, not {cluster}", self.cluster);
            return Err(Refusal::new(Code::Denied, self.object(), "cluster", rule, again()));
        }
        if now >= self.expires {
            let rule = format!("it expired {} s ago", now - self.expires);
            return Err(Refusal::new(Code::Unauthenticated, self.object(), "expires", rule, again()));
        }
        Ok(())
    }

    pub(crate) fn check_use(&self) -> Result<(), Refusal> {
        if self.uses_left == 0 {
            return Err(Refusal::new(
                Code::Unauthenticated,
                self.object(),
                "uses",
                "it has been used as often as it may",
                format!("create another with `hawser token create --cluster {}`", self.cluster),
            ));
        }
        Ok(())
    }
}

/// The token whose secret this is. Looks at all of them, each in constant time.
pub(crate) fn find<'a>(tokens: impl Iterator<Item = &'a Token>, secret: &[u8]) -> Option<&'a Token> {
    let hash = Hash::of(secret);
    tokens.fold(None, |found, token| if token.secret.same(&hash) { Some(token) } else { found })
}
