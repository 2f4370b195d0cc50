//! Finished orders by the million, as the platform writes them.
//!
//! The trap is a database that only looks grown: a table forgotten, ids in no order, rows that no order of
//! ours has. So each is a copy of an order that the platform itself has finished just before, in every table
//! and every column that there is, with ids, times, numbers, buyers and keys of its own: its id is a UUIDv7
//! of a moment within the last 90 days, and so its history lies in the partition of its month. A table that
//! is not known here is an error. `guichet check`, which runs after each benchmark, reads all of it.
//!
//! What is not true of a copy: the signature of a ticket is that of its original, a buyer's counters are
//! under a number that is no hash of his address, the provider's books know nothing of it, and of offers there
//! is so much more as was sold. Nothing that is measured looks at these.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

/// Orders of one transaction.
const CHUNK: u64 = 50_000;

/// Columns that are not just copied, each with what it becomes (`t` is the original's row, `g` the copy).
type Special = &'static [(&'static str, &'static str)];

/// The tables that an order has rows in: by which column it is found there, and the columns that are not just
/// copied. Of what is not said, times are as much earlier as the copy is, and texts name the copy where they
/// named the original.
const COPIED: [(&str, &str, Special); 8] = [
    (
        "orders",
        "id",
        &[
            ("id", "g.id"),
            ("email", "'ada.' || md5(g.id::text) || '@example.org'"),
        ],
    ),
    ("order_items", "order_id", &[("order_id", "g.id")]),
    (
        "idempotency_keys",
        "order_id",
        &[
            ("order_id", "g.id"),
            ("key_hash", "sha256(uuid_send(g.id))"),
        ],
    ),
    (
        "sagas",
        "id",
        &[
            ("id", "g.id"),
            ("trace_id", "gen_random_uuid()"),
            // Shards are a power of two.
            (
                "shard",
                "('x' || right(g.id::text, 8))::bit(32)::bigint % (SELECT count(*) FROM shards)",
            ),
        ],
    ),
    (
        "history",
        "saga_id",
        &[("saga_id", "g.id"), ("message_id", "gen_random_uuid()")],
    ),
    ("effects", "saga_id", &[("saga_id", "g.id")]),
    (
        "quota_takes",
        "order_id",
        &[
            ("order_id", "g.id"),
            (
                "subjects",
                "ARRAY(SELECT pg_temp.subject(s, g.id) FROM unnest(t.subjects) WITH ORDINALITY AS u(s, n) ORDER BY n)",
            ),
        ],
    ),
    ("fraud_assessments", "order_id", &[("order_id", "g.id")]),
];

/// Those that are written by statements of their own, below.
const APART: [&str; 5] = ["tickets", "ticket_counters", "stock", "quotas", "velocity"];

/// Those in which a finished order leaves nothing.
const NONE: [&str; 18] = [
    "steps",
    "definitions",
    "shards",
    "orchestrators",
    "signals",
    "audit",
    "venues",
    "sports",
    "events",
    "offers",
    "catalogue_state",
    "blocklist",
    "reviews",
    "attention_owners",
    "incarnation",
    "withdrawals",
    "corrections",
    "__diesel_schema_migrations",
];

const PREPARE: &str = "
    SET work_mem = '64MB';
    SET synchronous_commit = off;
    SELECT make_partitions(now() - interval '3 months', 7);
    CREATE FUNCTION pg_temp.id_at(ms bigint) RETURNS uuid LANGUAGE sql AS $$
      SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(r, 1, 3) || substr('89ab', 1 + (random() * 3)::int, 1)
              || substr(r, 4, 15))::uuid FROM (SELECT md5(random()::text || ms) AS r) AS chance $$;
    CREATE FUNCTION pg_temp.ms_of(id uuid) RETURNS bigint LANGUAGE sql AS $$
      SELECT ('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint $$;
    CREATE FUNCTION pg_temp.subject(original bytea, id uuid) RETURNS bytea LANGUAGE sql AS $$
      SELECT decode(md5(encode(original, 'hex') || id), 'hex') $$;
    CREATE TEMP TABLE original AS
      SELECT s.id, row_number() OVER (ORDER BY s.id) - 1 AS place, coalesce(e.outside_id, '') AS intent
      FROM sagas s LEFT JOIN effects e ON e.saga_id = s.id AND e.step = 'pay' WHERE s.state = 4;
    CREATE TEMP TABLE original_tickets AS
      SELECT t.* FROM tickets t JOIN original o ON o.id = t.order_id;
    CREATE TEMP TABLE original_quotas AS SELECT * FROM quotas;
    CREATE TEMP TABLE original_velocity AS SELECT * FROM velocity;
    CREATE TEMP TABLE grown (original uuid, id uuid, back interval, intent text, new_intent text);";

const AFTER: &str = "
    WITH numbered AS (
      SELECT t.*, g.id AS copy, g.back,
             c.last + row_number() OVER (PARTITION BY t.event_id ORDER BY g.id, t.id) AS next
      FROM grown g JOIN original_tickets t ON t.order_id = g.original JOIN ticket_counters c USING (event_id))
    INSERT INTO tickets (id, order_id, event_id, offer_id, issued_at, revoked_at, number, line, position,
                         companion, holder_name, key_id, signature)
    SELECT pg_temp.id_at(pg_temp.ms_of(copy)), copy, event_id, offer_id, issued_at - back, revoked_at - back,
           next, line, position, companion, holder_name, key_id, signature FROM numbered;
    UPDATE ticket_counters c SET last = last + n.made FROM (
      SELECT t.event_id, count(*) AS made FROM grown g JOIN original_tickets t ON t.order_id = g.original
      GROUP BY 1) AS n
    WHERE n.event_id = c.event_id;
    UPDATE stock s SET taken = taken + n.sold, capacity = capacity + n.sold FROM (
      SELECT i.offer_id, sum(i.quantity) AS sold FROM grown g JOIN original_order_items i ON i.order_id = g.original
      GROUP BY 1) AS n
    WHERE n.offer_id = s.offer_id;
    INSERT INTO quotas (subject, event_id, kind, taken)
    SELECT pg_temp.subject(u.subject, g.id), u.event_id, q.kind, sum(u.quantity)
    FROM grown g JOIN original_quota_takes t ON t.order_id = g.original AND NOT t.returned
    CROSS JOIN LATERAL unnest(t.subjects, t.events, t.quantities) AS u(subject, event_id, quantity)
    JOIN original_quotas q ON q.subject = u.subject AND q.event_id = u.event_id GROUP BY 1, 2, 3;
    INSERT INTO velocity (subject, bucket, kind, orders)
    SELECT DISTINCT pg_temp.subject(v.subject, g.id), v.bucket - g.back, v.kind, v.orders
    FROM grown g JOIN original_quota_takes t ON t.order_id = g.original
    CROSS JOIN LATERAL unnest(t.subjects) AS u(subject)
    JOIN original_velocity v ON v.subject = u.subject WHERE g.back < interval '13 days';
    TRUNCATE grown;";

#[derive(diesel::QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    data_type: String,
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Makes so many finished orders of those that the database holds, and analyses. `made` hears of each part.
///
/// # Errors
/// The database refuses, holds no finished order, or has a table that is not known here.
pub(crate) async fn make(
    connection: &mut AsyncPgConnection,
    orders: u64,
    made: impl Fn(u64),
) -> Result<()> {
    let copies = copies(connection).await?;
    connection.batch_execute(PREPARE).await?;
    for (table, key, _) in COPIED {
        let sql = format!(
            "CREATE TEMP TABLE original_{table} AS SELECT t.* FROM {table} t JOIN original o ON o.id = t.{key}"
        );
        connection.batch_execute(&sql).await?;
    }
    connection.batch_execute("ANALYZE original").await?;
    let originals: Count = diesel::sql_query("SELECT count(*) FROM original")
        .get_result(connection)
        .await?;
    if originals.count == 0 {
        bail!("there is no finished order to copy");
    }
    let mut from = 0;
    while from < orders {
        let to = (from + CHUNK).min(orders);
        let grown = format!(
            "BEGIN;
             INSERT INTO grown
             SELECT o.id, pg_temp.id_at(pg_temp.ms_of(o.id) - (extract(epoch FROM b.back) * 1000)::bigint),
                    b.back, o.intent, 'pi_' || md5(random()::text || s.n)
             FROM generate_series({from}, {to} - 1) AS s (n)
             JOIN original o ON o.place = s.n % {}
             CROSS JOIN LATERAL (
               SELECT s.n AS of_row, interval '5 minutes' + random() * interval '89 days' AS back) AS b;
             {copies} {AFTER} COMMIT;",
            originals.count
        );
        connection.batch_execute(&grown).await?;
        from = to;
        made(from);
    }
    for table in COPIED.map(|copied| copied.0).iter().chain(&APART) {
        connection
            .batch_execute(&format!("VACUUM (ANALYZE) {table}"))
            .await?;
    }
    Ok(())
}

/// The statements that copy the rows of [`COPIED`], column by column as the database has them today.
async fn copies(connection: &mut AsyncPgConnection) -> Result<String> {
    let columns: Vec<Column> = diesel::sql_query(
        "SELECT c.table_name::text, c.column_name::text, c.data_type::text \
         FROM information_schema.columns c JOIN pg_class r \
           ON r.relname = c.table_name AND r.relnamespace = 'public'::regnamespace \
         WHERE c.table_schema = 'public' AND NOT r.relispartition AND c.is_generated = 'NEVER' \
         ORDER BY c.table_name, c.ordinal_position",
    )
    .load(connection)
    .await?;
    let known = |table: &str| {
        COPIED.iter().any(|copied| copied.0 == table)
            || APART.contains(&table)
            || NONE.contains(&table)
    };
    if let Some(strange) = columns.iter().find(|column| !known(&column.table_name)) {
        bail!(
            "what a finished order leaves in the table {} has to be said in grown.rs",
            strange.table_name
        );
    }
    let mut sql = String::new();
    for (table, key, special) in COPIED {
        // Older ones are forgotten.
        let only = match table {
            "idempotency_keys" => " AND g.back < interval '47 hours'",
            _ => "",
        };
        let ours = columns.iter().filter(|column| column.table_name == table);
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in ours {
            names.push(column.column_name.clone());
            values.push(value(column, special));
        }
        let _ = writeln!(
            sql,
            "INSERT INTO {table} ({}) SELECT {} FROM grown g \
             JOIN original_{table} t ON t.{key} = g.original{only};",
            names.join(", "),
            values.join(", ")
        );
    }
    Ok(sql)
}

/// What a copy has in a column.
fn value(column: &Column, special: &[(&str, &str)]) -> String {
    let name = &column.column_name;
    if let Some((_, value)) = special.iter().find(|(special, _)| special == name) {
        return (*value).to_owned();
    }
    let renamed = |text: &str| {
        format!(
            "replace(CASE g.intent WHEN '' THEN {text} ELSE replace({text}, g.intent, g.new_intent) END, \
             g.original::text, g.id::text)"
        )
    };
    match column.data_type.as_str() {
        "timestamp with time zone" => format!("t.{name} - g.back"),
        "jsonb" => renamed(&format!("t.{name}::text")) + "::jsonb",
        "text" => renamed(&format!("t.{name}")),
        _ => format!("t.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_copied_moved_or_replaced() {
        let column = |name: &str, data_type: &str| Column {
            table_name: "history".to_owned(),
            column_name: name.to_owned(),
            data_type: data_type.to_owned(),
        };
        let special = COPIED[4].2;
        assert_eq!(value(&column("saga_id", "uuid"), special), "g.id");
        assert_eq!(value(&column("rev", "integer"), special), "t.rev");
        let at = column("at", "timestamp with time zone");
        assert_eq!(value(&at, special), "t.at - g.back");
        assert!(value(&column("detail", "jsonb"), special).ends_with("::jsonb"));
    }
}
