//! The sagas that ask for a person, counted for whoever is to be alarmed.

use super::Orchestrator;
use crate::{
    Error,
    attention::{CountAsking, ForgetTakings},
    metrics::METRICS,
};
use diesel_async::RunQueryDsl;

/// For how long they have asked, by the numbers of the statement.
const AGES: [&str; 4] = ["1h", "4h", "24h", "more"];
/// Old takings deleted in one hour.
const FORGET_TAKINGS_MAX: i32 = 10_000;

impl Orchestrator {
    /// Each process counts those of its shards, so that the sum over all of them is the whole.
    pub(super) async fn count_asking(&self) -> Result<(), Error> {
        let shards = self.owner.shards();
        let counted: Vec<(bool, i32, i64, i64)> = if shards.is_empty() {
            Vec::new()
        } else {
            let mut connection = self.parts.pool.get().await?;
            CountAsking { shards }.load(&mut connection).await?
        };
        let mut oldest_untaken_s = 0;
        for taken in [false, true] {
            for (number, age) in (0..).zip(AGES) {
                let row = counted.iter().find(|row| (row.0, row.1) == (taken, number));
                let (sagas, oldest_s) = row.map_or((0, 0), |row| (row.2, row.3));
                METRICS
                    .asking
                    .with_label_values(&[if taken { "yes" } else { "no" }, age])
                    .set(sagas);
                if !taken {
                    oldest_untaken_s = oldest_s.max(oldest_untaken_s);
                }
            }
        }
        METRICS.oldest_untaken_s.set(oldest_untaken_s);
        Ok(())
    }

    pub(super) async fn forget_takings(&self) -> Result<(), Error> {
        let mut connection = self.parts.pool.get().await?;
        let most = FORGET_TAKINGS_MAX;
        ForgetTakings { most }.execute(&mut connection).await?;
        Ok(())
    }
}
