//! What every process needs: configuration, telemetry, the accept loop, health, batching and shutdown
