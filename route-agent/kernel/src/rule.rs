//! Routing rules of our priorities.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use hawser_model::defaults::{OUTER_MARK, OUTER_MARK_MASK, TUN_DEVICE, VXLAN_DEVICE};
use hawser_route_plan::Rule;
use hawser_route_plan::routes::{PRIORITY_REMOTE, PRIORITY_SITE, PRIORITY_SITE_MAIN, PRIORITY_TRANSIT};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Handle, IpVersion};

use crate::error::{Error, unless_exists, unless_gone};

const OURS: [u32; 4] = [PRIORITY_TRANSIT, PRIORITY_REMOTE, PRIORITY_SITE_MAIN, PRIORITY_SITE];

/// A rule in the kernel: what it says in our terms, if it does, and itself.
pub(crate) type Found = (Option<Rule>, RuleMessage);

/// The rules of our priorities of one family.
pub(crate) async fn ours(handle: &Handle, family: IpVersion) -> Result<Vec<Found>, Error> {
    let all: Vec<RuleMessage> =
        handle.rule().get(family).execute().try_collect().await.map_err(Error::netlink("list rules"))?;
    let ours = all.into_iter().filter(|m| priority(m).is_some_and(|p| OURS.contains(&p)));
    Ok(ours.map(|m| (parse(&m), m)).collect())
}

fn find<T>(message: &RuleMessage, pick: impl Fn(&RuleAttribute) -> Option<T>) -> Option<T> {
    message.attributes.iter().find_map(pick)
}

fn priority(message: &RuleMessage) -> Option<u32> {
    find(message, |a| if let RuleAttribute::Priority(priority) = a { Some(*priority) } else { None })
}

fn parse(message: &RuleMessage) -> Option<Rule> {
    let priority = priority(message)?;
    let attribute = find(message, |a| if let RuleAttribute::Table(table) = a { Some(*table) } else { None });
    let table = attribute.unwrap_or(u32::from(message.header.table));
    let device = find(message, |a| if let RuleAttribute::Iifname(name) = a { Some(name.clone()) } else { None });
    if let Some(device) = device {
        let device = [VXLAN_DEVICE, TUN_DEVICE].into_iter().find(|d| *d == device)?;
        return Some(Rule::From { device, priority, table });
    }
    let has = |wanted: RuleAttribute| message.attributes.contains(&wanted);
    let unmarked = message.header.flags.contains(RuleFlags::Invert)
        && has(RuleAttribute::FwMark(OUTER_MARK))
        && has(RuleAttribute::FwMask(OUTER_MARK_MASK));
    if !unmarked {
        return None;
    }
    let specific = has(RuleAttribute::SuppressPrefixLen(0));
    Some(if specific { Rule::UnmarkedSpecific { priority, table } } else { Rule::Unmarked { priority, table } })
}

/// Adds a rule for one family.
pub(crate) async fn add(handle: &Handle, family: AddressFamily, rule: Rule) -> Result<(), Error> {
    let mut request = handle.rule().add().action(RuleAction::ToTable).priority(rule.priority()).table_id(rule.table());
    let message = request.message_mut();
    message.header.family = family;
    match rule {
        Rule::From { device, .. } => message.attributes.push(RuleAttribute::Iifname(device.to_owned())),
        Rule::Unmarked { .. } | Rule::UnmarkedSpecific { .. } => {
            message.header.flags = RuleFlags::Invert;
            message.attributes.push(RuleAttribute::FwMark(OUTER_MARK));
            message.attributes.push(RuleAttribute::FwMask(OUTER_MARK_MASK));
        }
    }
    if let Rule::UnmarkedSpecific { .. } = rule {
        message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
    }
    unless_exists(request.execute().await).map_err(Error::netlink(format!("add rule {rule:?}")))
}

/// Removes a rule.
pub(crate) async fn remove(handle: &Handle, message: RuleMessage) -> Result<(), Error> {
    unless_gone(handle.rule().del(message).execute().await).map_err(Error::netlink("remove a rule"))
}

/// What is missing and what is too much, of one family.
pub(crate) fn diff(found: Vec<Found>, wanted: &BTreeSet<Rule>) -> (Vec<Rule>, Vec<RuleMessage>) {
    let mut seen = BTreeSet::new();
    let mut extra = Vec::new();
    for (rule, message) in found {
        match rule {
            Some(rule) if wanted.contains(&rule) && seen.insert(rule) => {}
            _ => extra.push(message),
        }
    }
    (wanted.difference(&seen).copied().collect(), extra)
}
