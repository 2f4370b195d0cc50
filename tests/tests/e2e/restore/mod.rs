//! PostgreSQL is brought back to an earlier point, while the broker and the payment provider are ahead of
//! it. What an operator types is read from the runbook, and typed.

pub(crate) mod server;

use contract::{StepKind, StepName};
use database::testing::TestDatabase;
use serde_json::{Value, json};
use server::Server;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};
use tests::{
    provider::Balance,
    world::{
        PATIENCE, Placed, Processes, Wish,
        catalogue::{DIVING, DIVING_A},
        processes::{Name, binary},
        until,
    },
};

const POINT: &str = "before_the_accident";

const AT_WORK: [Name; 3] = [Name::Gateway, Name::Orchestrator, Name::Worker];

/// The commands of the runbook, in their order, as an operator finds them.
struct Runbook(std::vec::IntoIter<String>);

impl Runbook {
    fn open() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/runbooks/restore.md");
        let text = std::fs::read_to_string(file).expect("it is there");
        let blocks = text.split("```sh\n").skip(1);
        let commands = blocks.map(|block| {
            let indented = block.split("```").next().unwrap_or_default().lines();
            let lines = indented.map(|line| line.strip_prefix("   ").unwrap_or(line));
            lines.fold(String::new(), |text, line| text + line + "\n")
        });
        Self(commands.collect::<Vec<_>>().into_iter())
    }

    /// The next ones, which have to be about this.
    fn turn_to(&mut self, about: &str) -> String {
        let block = self.0.next().expect("the runbook goes on");
        assert!(block.contains(about), "not about {about}:\n{block}");
        block
    }
}

/// What the operator's shell knows, as the runbook's first lines ask.
fn environment(server: &Server, guichet: &[(&str, &str)]) -> Vec<(String, String)> {
    let path = |path: &Path| path.display().to_string();
    let programs = binary();
    let programs = programs.parent().expect("in a folder");
    let own = [
        ("PGDATA", path(&server.data)),
        ("BACKUP", path(&server.backup)),
        ("ARCHIVE", path(&server.archive)),
        ("POINT", POINT.to_owned()),
        ("SINCE", "48h".to_owned()),
        ("WHO", "ann".to_owned()),
        ("PATH", format!("{}:/usr/bin:/bin", path(programs))),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let of_guichet = guichet.iter();
    let of_guichet = of_guichet.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    own.chain(of_guichet).collect()
}

/// Types commands as an operator of Guichet.
fn operator(commands: &str, environment: &[(String, String)]) {
    let output = std::process::Command::new("timeout")
        .args(["60", "sh", "-euc", commands])
        .env_clear()
        .envs(environment.iter().cloned())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{said}");
}

fn lines(path: &Path) -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(path).expect("it was written");
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let of = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        (of("order"), (of("kind"), of("outcome")))
    });
    rows.collect()
}

async fn authorised(world: &Processes, placed: &Placed) {
    until("it is authorised", async || {
        let entries = world.provider.entries(placed.id.0).await;
        entries
            .iter()
            .any(|it| it.kind == "authorised")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_restore_old_messages_are_dropped_and_money_of_the_lost_time_is_given_back() {
    let mut server = Server::create().await;
    let mut world = Processes::start_on(&server.url()).await;
    let (kept, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    server.back_up();

    // One is being paid at the point to which the database comes back; it is captured thereafter.
    let wish = Wish::of(DIVING_A, 1);
    let buyer = json!({ "receipt_email": wish.email() });
    let slow = json!({"slow": {"ms": 3_000}});
    world.provider.plan_for(&buyer, "confirm", &slow, 1).await;
    let paying = world.shop.place(&wish).await;
    until("it is being paid", async || {
        let pay = world.judge.effect(paying.id, &StepName::PAY).await?;
        pay.outside_id
    })
    .await;
    server.name_this_moment(POINT).await;

    // The time that will be lost: that one is confirmed, and three are placed that nobody will know.
    assert_eq!(world.shop.ended(&paying).await.status(), "confirmed");
    let (lost, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let second = ("GUICHET_GATEWAY_ORDER_DEFINITION", "order@2".to_owned());
    world.kill(Name::Gateway);
    world.restart_with(Name::Gateway, &[second]).await;
    let wish = Wish::of(DIVING_A, 1);
    let buyer = json!({ "receipt_email": wish.email() });
    let never = json!("timeout_before");
    world.provider.plan_for(&buyer, "capture", &never, 99).await;
    let held = world.shop.place(&wish).await;
    authorised(&world, &held).await;
    world.kill(Name::Worker);
    let unheard = world.shop.place(&Wish::of(DIVING_A, 1)).await;
    let raw = world.ground.namespace.raw().await;
    let topology = world.ground.namespace.topology();
    let queue = topology.command_queue(&StepName::RESERVE, StepKind::Do);
    until("its command is in the broker", async || {
        raw.waiting(&queue).await.filter(|waiting| *waiting > 0)
    })
    .await;

    // As the runbook says: nobody is at work, and the server is brought back.
    world.kill(Name::Gateway);
    world.kill(Name::Orchestrator);
    world.provider.forget_plans().await;
    server.fail();
    let notes = world.ground.path("notes");
    std::fs::create_dir(&notes).expect("writable");
    let environment = environment(
        &server,
        &[
            ("NOTES", notes.to_str().expect("UTF-8")),
            ("GUICHET_DATABASE_URL", &world.ground.database.url()),
            ("GUICHET_PAY_PROVIDER_URL", world.provider.url()),
        ],
    );
    let mut runbook = Runbook::open();
    server.sh_with(&runbook.turn_to("recovery.signal"), &environment);
    server.launch();
    operator(&runbook.turn_to("pg_is_in_recovery"), &environment);
    operator(&runbook.turn_to("guichet incarnation renew"), &environment);
    operator(&runbook.turn_to("lost.jsonl"), &environment);
    let listed = lines(&notes.join("lost.jsonl"));
    let of = |placed: &Placed, kind: &str, outcome: &str| {
        (placed.id.to_string(), (kind.to_owned(), outcome.to_owned()))
    };
    let expected = [
        of(&lost, "captured-without-order", ""),
        of(&held, "authorised-and-forgotten", ""),
    ];
    assert_eq!(listed, BTreeMap::from(expected));
    for name in [Name::Orchestrator, Name::Worker] {
        world.restart(name).await;
    }
    operator(&runbook.turn_to("--apply"), &environment);
    let settled = lines(&notes.join("settled.jsonl"));
    let expected = [
        of(&lost, "captured-without-order", "refunded"),
        of(&held, "authorised-and-forgotten", "cancelled"),
    ];
    assert_eq!(settled, BTreeMap::from(expected));
    world.restart(Name::Gateway).await;

    // What was sent before the accident did nothing.
    let dropped = until("the old command is dropped", async || {
        let metrics = world.metrics(Name::Worker).await;
        let of_queue = metrics.into_iter().filter(|(series, _)| {
            series.starts_with("guichet_bus_foreign_dropped_total") && series.contains("reserve")
        });
        let dropped: f64 = of_queue.map(|(_, count)| count).sum();
        (dropped > 0.0).then_some(dropped)
    })
    .await;
    assert!(dropped >= 1.0);
    assert!(world.judge.effects(unheard.id).await.is_empty());
    for unknown in [&lost, &held, &unheard] {
        assert!(world.shop.look(unknown).await.is_none(), "{}", unknown.id);
        let balance = world.provider.balance(unknown.id.0).await;
        assert_eq!(balance.captured_minor, balance.refunded_minor);
    }
    // What was there goes on from there, and is paid once.
    assert_eq!(world.shop.ended(&paying).await.status(), "confirmed");
    let (sold, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let once = Balance {
        captures: 1,
        captured_minor: DIVING_A.amount_minor,
        refunded_minor: 0,
    };
    for placed in [&kept, &paying, &sold] {
        world.judge.at_rest(placed.id).await;
        assert_eq!(world.provider.balance(placed.id.0).await, once);
    }
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3]);
    operator(&runbook.turn_to("guichet check"), &environment);
    assert!(runbook.0.next().is_none(), "the runbook has more commands");
    world.close().await;
}

/// Each is on timeline 2, which neither could know that the other has taken.
#[tokio::test]
async fn two_clones_of_one_backup_are_two_lives() {
    let server = Server::create().await;
    let database = TestDatabase::create_on(&server.url()).await;
    let before = database::incarnation(&mut database.connection().await).await;
    server.back_up();
    server.name_this_moment(POINT).await;
    let mut lives = BTreeSet::from([before.expect("readable")]);
    let mut places = BTreeSet::new();
    for name in ["one", "two"] {
        let mut clone = server.clone_of_its_backup(name);
        let commands = Runbook::open().turn_to("recovery.signal");
        clone.sh_with(&commands, &environment(&clone, &[]));
        clone.stand_alone();
        clone.start().await;
        let config = database::Config::new(clone.url_of(&database), "clone");
        let mut connection = database::connect(&config).await.expect("it answers");
        // At once: the control file's last checkpoint may still be of the timeline before.
        let life = database::incarnation(&mut connection)
            .await
            .expect("readable");
        let again = database::incarnation(&mut connection)
            .await
            .expect("readable");
        assert_eq!(life, again);
        assert!(lives.insert(life), "{lives:?} {life}");
        places.insert(clone.place(&database).await);
    }
    let place = places.first().expect("a place");
    assert!(places.len() == 1 && place.contains("/2/"), "{places:?}");
}

/// Waits until each role has ended by itself, having said in one line why.
async fn each_has_ended(world: &mut Processes, why: &str) {
    for name in AT_WORK {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = world.ended(name) {
                break status;
            }
            assert!(Instant::now() < deadline, "{name:?} goes on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(status.code(), Some(1), "{name:?}");
        let said = world.last_words(name);
        let begins = "guichet: incarnation failed: the database is ";
        assert!(
            said.starts_with(begins) && said.contains(why),
            "{name:?}: {said}"
        );
    }
}

/// Whoever of the roles writes is noted, with the table and the moment.
const NOTES: &str = "
    CREATE TABLE written (by text, what text, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO written VALUES (current_setting('application_name'), tg_table_name);
        RETURN NULL;
      END $$;
    DO $$
      DECLARE name text;
      BEGIN
        FOR name IN SELECT oid::regclass FROM pg_class
                    WHERE relkind IN ('r', 'p') AND NOT relispartition
                      AND relnamespace = 'public'::regnamespace AND relname <> 'written' LOOP
          EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON %s
                            FOR EACH STATEMENT EXECUTE FUNCTION note()', name);
        END LOOP;
      END $$";

#[derive(diesel::QueryableByName)]
struct Written {
    #[diesel(sql_type = diesel::sql_types::Text)]
    what: String,
}

/// What the roles have written, of that for which this is so.
async fn written(world: &Processes, of: &str) -> Vec<String> {
    let sql = format!(
        "SELECT by || ': ' || what AS what FROM written
         WHERE by ~ '^guichet (gateway|orchestrator|worker)' AND {of} ORDER BY at"
    );
    let mut connection = world.ground.database.connection().await;
    let rows: Vec<Written> =
        diesel_async::RunQueryDsl::load(diesel::sql_query(sql), &mut connection)
            .await
            .expect("readable");
    rows.into_iter().map(|row| row.what).collect()
}

async fn sells(world: &mut Processes) {
    for name in AT_WORK {
        world.restart(name).await;
    }
    let (placed, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.judge.at_rest(placed.id).await;
}

/// What a process remembers is of the life that it began in; nothing of that is written into another one.
#[tokio::test]
async fn a_role_whose_database_begins_another_life_ends() {
    let mut world = Processes::start().await;
    world.judge.execute(NOTES).await;
    let customers = world.shop.clone();
    let busy = tokio::spawn(async move {
        loop {
            customers.try_place(&Wish::of(DIVING_A, 1)).await;
        }
    });
    for role in ["gateway", "orchestrator", "worker"] {
        until("each role is at work", async || {
            let of_role = format!("by = 'guichet {role}'");
            (!written(&world, &of_role).await.is_empty()).then_some(())
        })
        .await;
    }
    let of_operator = [
        ("GUICHET_DATABASE_URL", world.ground.database.url()),
        ("PATH", "/usr/bin:/bin".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let renew = "incarnation renew --as ann --reason restored";
    let renew = format!("{} {renew}", binary().display());
    let typed = tokio::task::spawn_blocking(move || operator(&renew, &of_operator));
    typed.await.expect("it is done");
    let before = written(&world, "true").await;
    each_has_ended(&mut world, "in another life").await;
    busy.abort();
    let after = written(&world, "true").await;
    assert_eq!(after[before.len()..], [] as [String; 0]);
    sells(&mut world).await;
    world.close().await;
}

/// Nobody has stopped them, and the database that they find again knows nothing of what they know.
#[tokio::test]
async fn a_role_under_which_the_database_was_brought_back_ends() {
    let mut server = Server::create().await;
    let mut world = Processes::start_on(&server.url()).await;
    world.judge.execute(NOTES).await;
    let (_, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let waits = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let waits = world.shop.place(&waits).await;
    world.shop.until_status(&waits, "action_required").await;
    server.back_up();
    server.name_this_moment(POINT).await;
    server.fail();
    let commands = Runbook::open().turn_to("recovery.signal");
    server.sh_with(&commands, &environment(&server, &[]));
    server.start().await;
    each_has_ended(&mut world, "elsewhere").await;
    let since = "at > pg_postmaster_start_time()";
    assert_eq!(written(&world, since).await, Vec::<String>::new());
    sells(&mut world).await;
    let cancelled = world.shop.cancel(&waits).await;
    assert_eq!(cancelled.status, 202);
    assert_eq!(world.shop.ended(&waits).await.status(), "cancelled");
    world.close().await;
}
