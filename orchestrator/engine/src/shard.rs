//! Which shard a saga belongs to.

use contract::SagaId;

/// The shard of a saga among `shards` shards (at least 1). UUIDv7's last bytes are random, so
/// shards fill evenly.
#[must_use]
pub fn shard_of(saga: SagaId, shards: i16) -> i16 {
    let (_, low) = saga.0.as_u64_pair();
    let shards = u64::from(shards.max(1).cast_unsigned());
    i16::try_from(low % shards).unwrap_or(0)
}
