//! What a gateway decides about packets and paths. Pure.
