//! What an owner does once in an hour: it deletes what is old, and makes the partitions of the months to come.

use super::Orchestrator;
use crate::{
    Error,
    store::{
        lease::{ForgetNodes, MakePartitions},
        signal::ForgetSignals,
    },
};
use diesel_async::RunQueryDsl;

/// Months, this one included, whose partitions are there before they are needed.
const MONTHS_AHEAD: i32 = 3;
/// Hours that a process is remembered which died.
const NODE_HOURS: i32 = 24;
/// Days that a signal is kept after it was applied; what came of it is in the history.
const SIGNAL_DAYS: i32 = 7;
/// Old signals deleted in one round; while there are more, the next round goes on.
const FORGET_MAX: usize = 5_000;

impl Orchestrator {
    pub(super) async fn forget_old(&self) {
        let forgotten = self.forget_takings().await;
        self.report("deleting old takings", forgotten);
        let forgotten = self.forget_nodes().await;
        self.report("deleting the rows of processes that are gone", forgotten);
    }

    /// While somebody is in the way they are left, and it is tried again with the next round.
    pub(super) async fn make_partitions(&mut self) -> Result<(), Error> {
        self.partitions_due = false;
        let mut connection = self.parts.pool.get().await?;
        let months = MONTHS_AHEAD;
        let made: Option<i32> = MakePartitions { months }
            .get_result(&mut connection)
            .await?;
        self.partitions_due = made.is_none();
        Ok(())
    }

    async fn forget_nodes(&self) -> Result<(), Error> {
        let mut connection = self.parts.pool.get().await?;
        let hours = NODE_HOURS;
        ForgetNodes { hours }.execute(&mut connection).await?;
        Ok(())
    }

    /// A few at a time: sagas wait meanwhile.
    pub(super) async fn forget_signals(&mut self) -> Result<(), Error> {
        self.signals_due = false;
        let mut connection = self.parts.pool.get().await?;
        let forget = ForgetSignals {
            days: SIGNAL_DAYS,
            most: i32::try_from(FORGET_MAX).unwrap_or(i32::MAX),
        };
        self.signals_due = forget.execute(&mut connection).await? == FORGET_MAX;
        Ok(())
    }
}
