//! Path liveness: probes, suspicion, hold-down, as a pure state machine.
