//! The orchestrator: leases, the batch loop, timers, recovery, signals and the SQL of sagas
