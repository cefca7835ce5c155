//! How many TCP connections are open, in all and by client: one client must not take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// TCP connections at a time, over all listeners.
pub const MAX_CONNECTIONS: usize = 512;
/// TCP connections of one address at a time: many, as it may be a forwarding resolver.
pub const MAX_PER_CLIENT: usize = 128;

/// The open connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Leave for one connection; ends when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    clients: Arc<Clients>,
    address: IpAddr,
}

impl Clients {
    /// Leave for one more connection of `address`, unless it has enough or there are too many.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let mut open = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        // At most MAX_CONNECTIONS entries: cheaper to add up than to keep a second number right.
        if open.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        let own = open.entry(address).or_insert(0);
        if *own >= MAX_PER_CLIENT {
            return None;
        }
        *own += 1;
        Some(Admitted { clients: self.clone(), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.clients.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(i: u8) -> IpAddr {
        Ipv4Addr::new(10, 1, 0, i).into()
    }

    #[test]
    fn both_bounds_hold_and_give_way_again() {
        let clients = Arc::new(Clients::default());
        let mut open: Vec<Admitted> = (0..MAX_PER_CLIENT).map(|_| clients.admit(client(1)).unwrap()).collect();
        assert!(clients.admit(client(1)).is_none());
        for i in 2u8.. {
            if open.len() == MAX_CONNECTIONS {
                break;
            }
            open.extend((0..MAX_PER_CLIENT).map_while(|_| clients.admit(client(i))));
        }
        assert!(clients.admit(client(200)).is_none());
        open.pop();
        assert!(clients.admit(client(200)).is_some());
        open.clear();
        assert!(clients.by_address.lock().unwrap().is_empty());
    }
}
