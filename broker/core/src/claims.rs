//! One check of prefix claims over the whole cluster set.

use hawser_model::{ClusterId, PrefixSet};

use crate::refusal::{Code, Refusal};
use crate::token::Grant;

/// Prefixes one cluster can claim.
pub const MAX_CLAIMS: usize = 512;
/// Prefixes all clusters together can claim: a roster that holds them all still fits into one message (4 MiB).
pub const MAX_ALL_CLAIMS: usize = 64_000;

/// Checks that `cluster` may claim `claims`: each by its grant's policy, none shared with another member.
///
/// # Errors
/// Names the offending prefix, and the other cluster and its prefix where they overlap.
pub fn check<'a>(
    cluster: &ClusterId,
    claims: &PrefixSet,
    grant: &Grant,
    others: impl Iterator<Item = (&'a ClusterId, &'a PrefixSet)> + Clone,
) -> Result<(), Refusal> {
    let object = format!("cluster {cluster}");
    check_number(&object, claims.len(), others.clone().filter(|(id, _)| *id != cluster).map(|(_, c)| c.len()).sum())?;
    if let Err(error) = grant.prefix_policy().check(claims) {
        let rule = format!("{}: {}", error.prefix, error.rule);
        return Err(Refusal::new(Code::Denied, object, "prefixes", rule, error.remedy));
    }
    hawser_model::claim::check_overlap(cluster, claims, others).map_err(|error| {
        let rule = format!("{}: {}", error.prefix, error.rule);
        Refusal::new(Code::Conflict, object, "prefixes", rule, error.remedy)
    })
}

fn check_number(object: &str, own: usize, others: usize) -> Result<(), Refusal> {
    let refuse = |rule, remedy| Err(Refusal::new(Code::Quota, object, "prefixes", rule, remedy));
    if own > MAX_CLAIMS {
        return refuse(
            format!("{own} prefixes; at most {MAX_CLAIMS}"),
            "claim aggregates instead of single nodes' prefixes",
        );
    }
    if own + others > MAX_ALL_CLAIMS {
        let rule = format!("all clusters together would claim {} prefixes; at most {MAX_ALL_CLAIMS}", own + others);
        return refuse(rule, "claim aggregates, and revoke clusters that are gone");
    }
    Ok(())
}
