//! The agent process: this cluster's records up, the others' down.
