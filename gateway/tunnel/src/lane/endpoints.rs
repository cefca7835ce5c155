//! Which sessions are with whom, by address: asked where ICMP or the kernel tells something of an address.

use std::collections::HashMap;
use std::net::SocketAddr;

/// See the module. Made when it is first asked after sessions changed, as nearly never somebody asks.
#[derive(Debug, Default)]
pub(super) struct Endpoints(Option<HashMap<SocketAddr, Vec<usize>>>);

impl Endpoints {
    /// The sessions with `address`; `all` are those that have one.
    pub(super) fn at(&mut self, address: SocketAddr, all: impl Iterator<Item = (usize, SocketAddr)>) -> &[usize] {
        let map = self.0.get_or_insert_with(|| {
            let mut map = HashMap::<_, Vec<usize>>::new();
            all.for_each(|(session, address)| map.entry(address).or_default().push(session));
            map
        });
        map.get(&address).map_or(&[], Vec::as_slice)
    }

    /// A session has another address.
    pub(super) fn moved(&mut self, session: usize, from: Option<SocketAddr>, to: SocketAddr) {
        let Some(map) = &mut self.0 else { return };
        if let Some(from) = from
            && let Some(there) = map.get_mut(&from)
        {
            there.retain(|&other| other != session);
            if there.is_empty() {
                map.remove(&from);
            }
        }
        map.entry(to).or_default().push(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_where_they_are_now() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (here, there, port) = (at("192.0.2.1:1"), at("[2001:db8::1]:1"), at("192.0.2.1:2"));
        let mut all = [Some(here), Some(here), None, Some(there)];
        let mut endpoints = Endpoints::default();
        let look = |endpoints: &mut Endpoints, all: &[Option<SocketAddr>; 4]| {
            let sessions = || all.iter().enumerate().filter_map(|(session, at)| Some((session, (*at)?)));
            let found = [here, there, port].map(|address| endpoints.at(address, sessions()).to_vec());
            let expected = [here, there, port].map(|address| {
                sessions().filter(|(_, at)| *at == address).map(|(session, _)| session).collect::<Vec<_>>()
            });
            let sorted = found.map(|mut sessions| {
                sessions.sort_unstable();
                sessions
            });
            assert_eq!(sorted, expected);
        };
        // Before anybody asked there is nothing to keep up.
        for (session, to) in [(0, port), (0, here)] {
            endpoints.moved(session, all[session].replace(to), to);
        }
        look(&mut endpoints, &all);
        for (session, to) in [(0, port), (3, here), (2, there), (2, here), (0, here), (1, port), (1, port)] {
            endpoints.moved(session, all[session].replace(to), to);
            look(&mut endpoints, &all);
        }
        let map = endpoints.0.as_ref().unwrap();
        assert_eq!(map.len(), 2, "none is kept for an address that nobody has: {map:?}");
    }
}
