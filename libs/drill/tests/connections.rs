//! Connections over loopback, both families.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hawser_drill::{Connections, connections};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn connections_live_while_they_are_answered_and_break_when_the_other_end_is_gone() {
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let listener = TcpListener::bind(to).unwrap();
        let to = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let server = thread::spawn(move || connections::serve(&listener, &stopping).unwrap());
        let lasting = Connections::open(to, 3, LIMIT).unwrap();
        assert_eq!((lasting.count(), lasting.alive(LIMIT)), (3, 3));
        let fates = Connections::open(to, 2, LIMIT).unwrap().finish(LIMIT);
        assert!(fates.iter().all(|fate| fate.broke.is_none() && fate.exchanges >= 2), "{fates:?}");
        assert!(fates.iter().all(|fate| fate.longest_wait > Duration::ZERO && fate.port > 0), "{fates:?}");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(server.join().unwrap(), 5);
        assert_eq!(lasting.alive(LIMIT), 0, "nobody answers any more");
        let fates = lasting.finish(LIMIT);
        assert!(fates.iter().all(|fate| fate.broke.is_some() && fate.exchanges >= 2), "{fates:?}");
        assert!(Connections::open(to, 1, LIMIT).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_connection_that_is_not_answered_is_broken_after_the_limit() {
    // Taken up by the kernel, and answered by nobody.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let fates = Connections::open(listener.local_addr().unwrap(), 1, LIMIT).unwrap().finish(Duration::from_millis(50));
    let [fate] = &fates[..] else { panic!("{fates:?}") };
    assert_eq!(fate.exchanges, 0);
    assert!(fate.broke.as_deref().is_some_and(|why| why.starts_with("no answer for")), "{fate:?}");
    assert!(fate.longest_wait >= Duration::from_millis(50), "{fate:?}");
}
