//! One check of prefix claims over the whole cluster set.

use hawser_model::{ClusterId, PrefixSet};

use crate::refusal::{Code, Refusal};
use crate::token::Grant;

/// Checks that `cluster` may claim `claims`: each by its grant's policy, none shared with another member.
///
/// # Errors
/// Names the offending prefix, and the other cluster and its prefix where they overlap.
pub fn check<'a>(
    cluster: &ClusterId,
    claims: &PrefixSet,
    grant: &Grant,
    others: impl Iterator<Item = (&'a ClusterId, &'a PrefixSet)>,
) -> Result<(), Refusal> {
    let object = format!("cluster {cluster}");
    if let Err(error) = grant.prefix_policy().check(claims) {
        let rule = format!("{}: {}", error.prefix, error.rule);
        return Err(Refusal::new(Code::Denied, object, "prefixes", rule, error.remedy));
    }
    hawser_model::claim::check_overlap(cluster, claims, others).map_err(|error| {
        let rule = format!("{}: {}", error.prefix, error.rule);
        Refusal::new(Code::Conflict, object, "prefixes", rule, error.remedy)
    })
}
