//! Sagas from the database into memory; what cannot be read is held, and stops nobody else.

use super::{Orchestrator, settle::Given};
use crate::{
    Error, Taken,
    metrics::METRICS,
    store::row::{Hold, ReadSagas, Row},
    trace,
};
use contract::SagaId;
use diesel_async::RunQueryDsl;
use std::collections::HashMap;
use uuid::Uuid;

/// The rows that were read, with whether each saga has ended.
#[derive(Default)]
pub(super) struct Found {
    rows: HashMap<SagaId, bool>,
}

impl Found {
    pub(super) fn exists(&self, id: SagaId) -> bool {
        self.rows.contains_key(&id)
    }

    /// Whether it has ended; not if it is not there.
    pub(super) fn is_over(&self, id: SagaId) -> bool {
        self.rows.get(&id).copied().unwrap_or(false)
    }

    pub(super) fn into_ids(self) -> Vec<SagaId> {
        self.rows.into_keys().collect()
    }
}

impl Orchestrator {
    /// Reads sagas that are not in memory.
    pub(super) async fn load(&mut self, ids: &[SagaId]) -> Result<Found, Error> {
        let mut connection = self.parts.pool.get().await?;
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = ReadSagas { ids }.load(&mut connection).await?;
        drop(connection);
        Ok(self.take_in(rows).await)
    }

    /// Reads the sagas that are not in memory.
    pub(super) async fn load_missing(&mut self, given: &[Given]) -> Result<Found, Error> {
        let missing = self.owner.unknown(given.iter().map(|one| one.saga));
        if missing.is_empty() {
            return Ok(Found::default());
        }
        self.load(&missing).await
    }

    /// Takes rows in: those of our shards that are live; an unreadable one is held.
    pub(super) async fn take_in(&mut self, rows: Vec<Row>) -> Found {
        let mut found = Found::default();
        let mut unreadable = Vec::new();
        for row in rows {
            let (id, shard, trace_id) = (row.id(), row.shard(), row.trace_id());
            let known = row.held() || row.ended();
            found.rows.insert(id, row.ended());
            if !self.owner.holds(shard) {
                continue;
            }
            let taken = row.into_instance().map(|saga| {
                let definition = saga.definition;
                (self.owner.take_in(saga, shard), definition)
            });
            match taken {
                Ok((Taken::In | Taken::NotOurs, _)) => {}
                // Set aside already, or nothing is left to be done: each scan meets it again.
                _ if known => {}
                Ok((Taken::UnknownDefinition, definition)) => {
                    tracing::error!(saga_id = %id, trace_id = trace::id(trace_id), definition, "unknown definition; held");
                    unreadable.push(id.0);
                }
                Err(column) => {
                    tracing::error!(saga_id = %id, trace_id = trace::id(trace_id), column, "unreadable row; held");
                    unreadable.push(id.0);
                }
            }
        }
        if !unreadable.is_empty() {
            self.hold(unreadable).await;
        }
        found
    }

    pub(super) async fn hold(&self, ids: Vec<Uuid>) {
        METRICS.held.inc_by(ids.len() as u64);
        let held = async {
            let mut connection = self.parts.pool.get().await?;
            Hold { ids }.execute(&mut connection).await?;
            Ok::<_, Error>(())
        };
        if let Err(error) = held.await {
            tracing::error!(%error, "sagas that cannot be read could not be marked as held");
        }
    }
}
