//! Slot tables: even, steady, the same everywhere.

#![allow(clippy::unwrap_used, reason = "test code outside test functions")]

use hawser_route_plan::slots::{MAX_SLOTS, MIN_SLOTS, count, fill};
use proptest::prelude::*;

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("10.0.{}.{} 80", i / 256, i % 256)).collect()
}

fn shares(table: &[usize], endpoints: usize) -> Vec<usize> {
    (0..endpoints).map(|e| table.iter().filter(|s| **s == e).count()).collect()
}

#[test]
fn no_endpoints_have_no_slots_and_too_many_leave_some_idle() {
    assert!(fill("a", &[]).is_empty());
    let table = fill("a", &names(MAX_SLOTS + 100));
    assert_eq!(table.len(), MAX_SLOTS);
    assert_eq!(shares(&table, MAX_SLOTS), vec![1; MAX_SLOTS]);
}

#[test]
fn an_endpoint_that_goes_moves_little_but_its_own_slots() {
    for n in [2, 3, 5, 10, 16] {
        let all = names(n);
        let before = fill("a", &all);
        for gone in 0..n {
            let rest: Vec<String> =
                all.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, e)| e.clone()).collect();
            if count(rest.len()) != before.len() {
                continue;
            }
            let after = fill("a", &rest);
            let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && all[**b] != rest[**a]).count();
            assert!(
                moved * 3 <= before.len(),
                "{n} endpoints without {gone}: {moved} of {} others moved",
                before.len()
            );
        }
    }
}

proptest! {
    #[test]
    fn shares_differ_by_one_at_most(n in 1..300_usize, name in "[a-z]{1,8}") {
        let table = fill(&name, &names(n));
        prop_assert!(table.len() >= MIN_SLOTS && table.len() >= n && table.len() <= MAX_SLOTS);
        let shares = shares(&table, n);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", shares);
        prop_assert_eq!(&table, &fill(&name, &names(n)));
    }
}
