//! The local API over a directory of YAML manifests.
