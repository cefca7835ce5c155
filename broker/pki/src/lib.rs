//! The cluster set's certificate authority, CSRs and SPIFFE ids.
