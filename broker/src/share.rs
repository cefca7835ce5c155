//! A bounded share of something for each of many: connections by source, by identity.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// What everybody holds of it. Clones count together.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self { held: self.held.clone() }
    }
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { held: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// One more for `holder`, unless it has `most` already.
    pub(crate) fn take(&self, holder: K, most: usize) -> Option<Share<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(&holder).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        held.insert(holder.clone(), count + 1);
        Some(Share { shares: self.clone(), holder })
    }
}

/// One of somebody's, given back on drop.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash + Clone> {
    shares: Shares<K>,
    holder: K,
}

impl<K: Eq + Hash + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.get_mut(&self.holder) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(held.remove(&self.holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_gives_it_back() {
        let shares = Shares::default();
        let (one, two) = (shares.take("a", 2).unwrap(), shares.take("a", 2).unwrap());
        assert!(shares.take("a", 2).is_none() && shares.take("b", 2).is_some());
        drop(one);
        let again = shares.clone().take("a", 2).unwrap();
        drop((two, again));
        assert!(shares.held.lock().unwrap().is_empty(), "nothing is kept of those who are gone");
    }
}
