//! The tables for people.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use anyhow::Result;

use crate::{latency::Latency, meter::Budget, outcome::Outcome};

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A run of orders.
pub(crate) fn orders(run: &Outcome) -> String {
    let o = &run.orders;
    let mut text = format!(
        "{} orders/s offered for {} s, over {} of {} offers\n\
         \x20 confirmed in the window   {:.1} orders/s on the stream, {:.1} by committed rows; rate {}\n\
         \x20 ended in the window       {:.1} orders/s, cancelled ones included\n\
         \x20 sent {}, accepted (202) {}\n\
         \x20 committed rows {}: confirmed {}, cancelled {}; confirmed on the stream {}\n\
         \x20 unconfirmed: {} at the end of the window, {} at the end\n",
        run.offered_per_s,
        run.seconds,
        run.offers_used,
        run.offers_all,
        run.rate_per_s,
        run.rate_by_rows_per_s,
        if run.sustained {
            "kept up"
        } else {
            "NOT kept up"
        },
        run.ended_per_s,
        o.sent,
        o.accepted,
        o.rows,
        o.rows_confirmed,
        o.rows_cancelled,
        o.seen_confirmed,
        o.unconfirmed_at_window_end,
        o.unconfirmed,
    );
    let not = &run.not_confirmed;
    let _ = writeln!(
        text,
        "  not confirmed: refused {}, unanswered {}, cancelled {}, without an end on the stream {} {:?}\n",
        counts(&not.refused),
        not.unanswered,
        counts(&not.cancelled),
        not.without_end,
        not.some_without_end
    );
    text += &latencies(&[
        ("to 202", run.accepted_after),
        ("to confirmed", run.confirmed_after),
        ("to cancelled", run.cancelled_after),
        ("sent late (included)", run.sent_late),
    ]);
    text += "\n  second     sent/s  confirmed/s   p50 ms   p99 ms to confirmed\n";
    for slot in &run.slots {
        let _ = writeln!(
            text,
            "  {:>6}  {:>9.1}  {:>11.1}  {:>7.1}  {:>7.1}",
            slot.from_s, slot.sent_per_s, slot.confirmed_per_s, slot.p50_ms, slot.p99_ms
        );
    }
    text + &budget(&run.budget, "order")
}

/// Numbers with what they count.
fn counts<K: std::fmt::Display, V: std::fmt::Display>(counts: &BTreeMap<K, V>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    let each: Vec<String> = counts
        .iter()
        .map(|(what, n)| format!("{n} ({what})"))
        .collect();
    each.join(" + ")
}

/// Quantiles, a line each.
pub(crate) fn latencies(rows: &[(&str, Option<Latency>)]) -> String {
    let mut text = String::from(
        "  ms from the intended sending      p50       p90       p99     p99.9       max\n",
    );
    for (what, latency) in rows {
        let Some(l) = latency else { continue };
        let _ = writeln!(
            text,
            "  {what:<28}{:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms
        );
    }
    text
}

/// What a unit of work cost.
pub(crate) fn budget(budget: &Budget, unit: &str) -> String {
    let mut text = format!(
        "\n  per {unit}\n\
         \x20   transactions        {:>9.3}   (PostgreSQL, reading ones included)\n\
         \x20   log forced to disk  {:>9.3}   times\n\
         \x20   WAL                 {:>9.0}   bytes, with {:.3} whole pages\n\
         \x20   AMQP messages       {:>9.3}   of {:.2} envelopes\n",
        budget.commits_per_unit,
        budget.wal_syncs_per_unit,
        budget.wal_bytes_per_unit,
        budget.wal_full_pages_per_unit,
        budget.messages_per_unit,
        budget.envelopes_per_message,
    );
    for queue in &budget.queues {
        let _ = writeln!(
            text,
            "      {:<18}{:>9.3}   of {:.2} envelopes",
            queue.queue, queue.messages_per_unit, queue.envelopes_per_message
        );
    }
    let _ = writeln!(
        text,
        "    rows written        {:>9.3}",
        budget.rows_written_per_unit
    );
    for (table, rows) in &budget.rows_written_per_unit_by_table {
        let _ = writeln!(text, "      {table:<18}{rows:>9.3}");
    }
    let _ = writeln!(
        text,
        "    CPU                 {:>9.0}   µs",
        budget.cpu_us_per_unit
    );
    for (process, us) in &budget.cpu_us_per_unit_by_process {
        let resident = budget.resident_mb_by_process.get(process);
        let resident = resident.copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "      {process:<18}{us:>9.0}   µs, {resident:.0} MB resident at the end"
        );
    }
    text += "    allocations         not counted: that takes an allocator of our own in what is measured\n";
    let again: Vec<String> = budget
        .done_again
        .iter()
        .filter(|(_, count)| **count > 0.0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let _ = writeln!(
        text,
        "  done again: {}",
        if again.is_empty() {
            "nothing".to_owned()
        } else {
            again.join(", ")
        }
    );
    let cpu = &budget.cpu_percent;
    let _ = writeln!(
        text,
        "  the machine: {:.0} % for this, {:.0} % for others and the kernel, {:.0} % taken by the host",
        cpu.ours, cpu.others, cpu.stolen
    );
    text
}
