//! Everything together, over real HTTP, a real broker, a real database, a payment provider with books
//! of its own and a mail server: each way an order can end, and what goes wrong on the way there.

mod attention;
mod away;
mod capture;
mod corrected;
mod crash_points;
mod crowd;
mod duplicates;
mod ends;
mod kills;
mod language;
mod migrate;
mod near;
mod outage;
mod outside;
mod own_connections;
mod poison;
mod provider_away;
mod reconcile;
mod restore;
mod troubles;
mod versions;
mod watched;
mod withdraw;
