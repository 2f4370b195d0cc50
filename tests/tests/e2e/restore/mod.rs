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

/// What a process remembers is of the life that it began in.
#[tokio::test]
async fn a_role_whose_database_begins_another_life_ends() {
    let mut world = Processes::start().await;
    let mut connection = world.ground.database.connection().await;
    let renewed = inspector::incarnation::renew(&mut connection, "ann", "restored").await;
    renewed.expect("it is written");
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
        world.restart(name).await;
    }
    let (placed, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.judge.at_rest(placed.id).await;
    world.close().await;
}
