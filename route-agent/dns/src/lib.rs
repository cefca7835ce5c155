//! clusterset.local: the zone and its server.
