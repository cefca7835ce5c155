//! Logs, metrics, admin server, readiness and shutdown for every process.
