//! How a member or an administrator reaches the broker: tokens, identity files, pinned and mutual TLS.
