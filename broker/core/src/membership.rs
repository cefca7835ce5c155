//! How the roster changes: tokens, joining, claiming, departing, catching up after a restore.
//!
//! Every operation checks first and changes afterwards: a refused one changes nothing.

use hawser_model::{ClusterId, PrefixSet};

use crate::claims;
use crate::hash::Hash;
use crate::refusal::{Code, Refusal};
use crate::roster::{Departed, How, Member, PublicRoster, Roster};
use crate::token::{self, KEEP_DEAD, MAX_TOKENS, Redeemed, Token, TokenRequest, TokenSeed};

/// Members one cluster set can have.
pub const MAX_MEMBERS: usize = 1_000;

/// A request to join; the CSR's signature is checked already.
#[derive(Debug, Clone)]
pub struct JoinRequest<'a> {
    /// The id it wants.
    pub cluster: &'a ClusterId,
    /// The token's secret.
    pub secret: &'a [u8],
    /// SHA-256 of the CSR's public key (SPKI).
    pub key: Hash,
    /// Whether to take the id over from another identity.
    pub replace: bool,
    /// What it wants to route.
    pub claims: &'a PrefixSet,
}

/// The outcome of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The membership's generation.
    pub generation: u64,
    /// The namespaces its exports may be in; empty: the default rule.
    pub namespaces: Vec<String>,
    /// Whether the roster changed; false for a repeated request.
    pub changed: bool,
}

impl Roster {
    /// Adds a token.
    ///
    /// # Errors
    /// Names the field that breaks a rule, or the quota of tokens.
    pub fn create_token(&mut self, request: TokenRequest, seed: &TokenSeed, now: i64) -> Result<&Token, Refusal> {
        let made = Token::make(request, seed, now)?;
        let dead = |t: &Token| t.expires.saturating_add(KEEP_DEAD) <= now;
        if self.tokens.values().filter(|t| !dead(t)).count() >= MAX_TOKENS {
            return Err(Refusal::new(
                Code::Quota,
                made.object(),
                "tokens",
                format!("there are {MAX_TOKENS} tokens already"),
                "remove some with `hawser token revoke ID`",
            ));
        }
        self.tokens.retain(|_, t| !dead(t));
        Ok(self.tokens.entry(made.id.clone()).insert_entry(made).into_mut())
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub fn revoke_token(&mut self, id: &str) -> Result<(), Refusal> {
        self.tokens.remove(id).map(|_| ()).ok_or_else(|| {
            Refusal::new(
                Code::NotFound,
                format!("token {id}"),
                "id",
                "there is no such token",
                "see `hawser token list`",
            )
        })
    }

    /// Admits a cluster. The same token and key get the same membership again while the token lives.
    ///
    /// # Errors
    /// Unknown, foreign, expired or used token; an id that another identity holds, without `replace`; a revoked key;
    /// claims that break a rule.
    pub fn join(&mut self, request: &JoinRequest<'_>, now: i64) -> Result<Joined, Refusal> {
        let cluster = request.cluster;
        let found = token::find(self.tokens.values(), request.secret).ok_or_else(|| {
            Refusal::new(
                Code::Unauthenticated,
                "token",
                "secret",
                "it is no token of this cluster set",
                format!("create one with `hawser token create --cluster {cluster}`"),
            )
        })?;
        found.check(cluster, now)?;
        let current = self.members.get(cluster);
        let repeated = found.redeemed.iter().any(|r| {
            r.key == request.key && current.is_some_and(|m| m.generation == r.generation && m.key == request.key)
        });
        if repeated {
            let (member, namespaces) = (current.expect("repeated means current"), found.grant.namespaces.clone());
            return Ok(Joined { generation: member.generation, namespaces, changed: false });
        }
        found.check_use()?;
        self.check_takeover(request)?;
        claims::check(cluster, request.claims, &found.grant, self.claims())?;
        let id = found.id.clone();
        Ok(self.admit(request, &id, now))
    }

    fn check_takeover(&self, request: &JoinRequest<'_>) -> Result<(), Refusal> {
        let object = format!("cluster {}", request.cluster);
        if let Some(gone) = self.departed.get(request.cluster)
            && gone.how == How::Revoked
            && gone.key == request.key
        {
            return Err(Refusal::new(
                Code::Denied,
                object,
                "key",
                format!("generation {} was revoked with this key", gone.generation),
                "join with a new key: remove the site's secrets/cluster.key first",
            ));
        }
        match self.members.get(request.cluster) {
            Some(member) if member.key != request.key && !request.replace => Err(Refusal::new(
                Code::Conflict,
                object,
                "id",
                format!("another identity holds this id (generation {})", member.generation),
                "choose another id, or take it over with --replace: the other is then revoked",
            )),
            None if self.members.len() >= MAX_MEMBERS => Err(Refusal::new(
                Code::Quota,
                object,
                "members",
                format!("the cluster set has {MAX_MEMBERS} members already"),
                "revoke clusters that are gone",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn admit(&mut self, request: &JoinRequest<'_>, token: &str, now: i64) -> Joined {
        let cluster = request.cluster;
        let token = self.tokens.get_mut(token).expect("the token was found above");
        let generation = match (self.members.get(cluster), self.departed.get(cluster)) {
            (Some(member), _) if member.key == request.key => member.generation,
            (Some(member), _) => member.generation + 1,
            (None, gone) => gone.map_or(0, |g| g.generation) + 1,
        };
        token.uses_left -= 1;
        token.redeemed.push(Redeemed { key: request.key, generation });
        let grant = token.grant.clone();
        let namespaces = grant.namespaces.clone();
        let member = Member { generation, key: request.key, claims: request.claims.clone(), grant, joined: now };
        let before = self.members.insert(cluster.clone(), member);
        match before {
            Some(old) if old.generation < generation => {
                let gone = Departed { generation: old.generation, key: old.key, how: How::Replaced };
                self.departed.insert(cluster.clone(), gone);
            }
            Some(_) | None => {}
        }
        self.revision += 1;
        Joined { generation, namespaces, changed: true }
    }

    /// Replaces the claims of a member. Equal claims are no change.
    ///
    /// # Errors
    /// Claims that break a rule; no such member.
    pub fn claim(&mut self, cluster: &ClusterId, claims: &PrefixSet) -> Result<bool, Refusal> {
        let member = self.members.get(cluster).ok_or_else(|| no_member(cluster))?;
        if member.claims == *claims {
            return Ok(false);
        }
        claims::check(cluster, claims, &member.grant, self.claims())?;
        self.members.get_mut(cluster).expect("looked up above").claims = claims.clone();
        self.revision += 1;
        Ok(true)
    }

    /// Ends a membership; its unused tokens go with it when it is revoked.
    ///
    /// # Errors
    /// [`Code::NotFound`].
    pub fn depart(&mut self, cluster: &ClusterId, how: How) -> Result<u64, Refusal> {
        let member = self.members.remove(cluster).ok_or_else(|| no_member(cluster))?;
        let gone = Departed { generation: member.generation, key: member.key, how };
        self.departed.insert(cluster.clone(), gone);
        if how == How::Revoked {
            self.tokens.retain(|_, token| token.cluster != *cluster);
        }
        self.revision += 1;
        Ok(member.generation)
    }

    /// Learns from a roster that the CA signed and that somebody presents, as after a restore from a backup: continues
    /// above its revision, and ends the memberships that had ended by then, whatever revision this roster has reached
    /// meanwhile. Returns those. A roster of this one's own past changes nothing.
    pub fn adopt(&mut self, seen: &PublicRoster) -> Vec<ClusterId> {
        if seen.set != self.set {
            return Vec::new();
        }
        let (mut ended, mut learnt) = (Vec::new(), false);
        for (id, generation) in &seen.revoked {
            if let Some(member) = self.members.get(id).filter(|m| m.generation <= *generation) {
                let gone = Departed { generation: *generation, key: member.key, how: How::Revoked };
                self.members.remove(id);
                self.departed.insert(id.clone(), gone);
                self.tokens.retain(|_, token| token.cluster != *id);
                ended.push(id.clone());
            } else if self.remember(id, *generation) {
                learnt = true;
                // It may be the very token with which the revoked generation joined.
                self.tokens.retain(|_, token| token.cluster != *id);
            }
        }
        for (id, generation, _) in &seen.members {
            if self.members.get(id).is_none_or(|m| m.generation < *generation) {
                learnt |= self.remember(id, *generation);
            }
        }
        // Two rosters of one revision: who holds the other one would never take ours.
        let fork = seen.revision == self.revision && *seen != self.public();
        if seen.revision > self.revision || fork || learnt || !ended.is_empty() {
            self.revision = self.revision.max(seen.revision).saturating_add(1);
        }
        ended
    }

    /// Generations up to `generation` existed: later ones are above it. Whether that is news.
    fn remember(&mut self, id: &ClusterId, generation: u64) -> bool {
        if self.members.get(id).is_some_and(|m| m.generation > generation) {
            return false;
        }
        let known = self.departed.get(id).map_or(0, |gone| gone.generation);
        if known >= generation {
            return false;
        }
        let gone =
            self.departed.entry(id.clone()).or_insert(Departed { generation, key: Hash([0; 32]), how: How::Left });
        gone.generation = generation;
        true
    }

    /// Takes all uses that are left out of all tokens; how many lost some. After a restore nobody knows which were used
    /// since the backup. Repeating a join that the backup knows of still works.
    pub fn void_tokens(&mut self) -> usize {
        let usable = self.tokens.values_mut().filter(|token| token.uses_left > 0);
        usable.map(|token| token.uses_left = 0).count()
    }
}

fn no_member(cluster: &ClusterId) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("cluster {cluster}"),
        "id",
        "it is no member of this cluster set",
        "see the members with `hawser status`",
    )
}
