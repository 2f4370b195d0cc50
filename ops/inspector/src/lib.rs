//! Looking inside: sagas, their timelines, reviews, the audit log and the invariants as queries
