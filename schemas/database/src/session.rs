//! What each connection is set to.

use crate::Config;

/// How long the server lets a transaction stand idle before it ends the session.
const IDLE_IN_TRANSACTION_MS: u64 = 30_000;

/// Characters of the name under which the server shows a connection; it cuts longer ones itself.
const NAME_MAX_CHARS: usize = 60;

/// A deadlock and the like are told by PostgreSQL's words ([`crate::is_transient`]), for diesel keeps most of
/// its codes to itself. So its words have to be those: to set their language takes a superuser, or somebody
/// to whom one has granted it. Who may not, and is told what goes wrong in another language, is not let on:
/// he would take what only has to be tried again for poison. Which language it is no setting says for sure
/// (the server's environment counts as well), so something is made to go wrong.
const IN_ENGLISH: &str = "
DO $$ BEGIN
  PERFORM set_config('lc_messages', 'C', false);
EXCEPTION WHEN insufficient_privilege THEN
  BEGIN
    PERFORM 1 / (SELECT 0);
  EXCEPTION WHEN division_by_zero THEN
    IF SQLERRM <> 'division by zero' THEN
      RAISE 'PostgreSQL says what goes wrong in another language than English. Set lc_messages to C, or as a superuser: GRANT SET ON PARAMETER lc_messages TO %',
        quote_ident(current_user);
    END IF;
  END;
END $$";

/// For a transaction that reads whole tables: its statements are planned as PostgreSQL sees fit.
pub const WHOLE_TABLES: &str = "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on";

/// Statements are planned once and keep their plan. Planned while a table is still empty, one would
/// read the whole table for ever, so reading by a key is preferred from the start, row by row: no
/// reading of whole tables, and no joins that begin with it. (Where there is no key the whole table is
/// read all the same, at a pretended cost that must not start the JIT.) So joins of what has no key (two
/// arrays, what a part of the statement returned) take the square of their rows: they are written as
/// `= ANY (ARRAY(SELECT ...))`. Who does read whole tables sets [`WHOLE_TABLES`].
pub(crate) fn settings(config: &Config) -> String {
    let name: String = config
        .application_name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_. ".contains(*c))
        .take(NAME_MAX_CHARS)
        .collect();
    format!(
        "SET application_name = '{name}'; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; SET timezone = 'UTC'; \
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; {IN_ENGLISH}",
        config.statement_timeout_ms,
        config.lock_timeout_ms.unwrap_or(0)
    )
}
