//! What operators type, while everything runs: exit codes and outputs, as scripts rely on them.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{
    checkout::{Checkout, eventually, text},
    http,
};

/// A saga that nobody started.
const UNKNOWN: &str = "01930000-0000-7000-8000-000000000001";

/// Where an operator sits.
pub(crate) struct Desk<'a> {
    checkout: &'a Checkout,
    /// The gateway.
    address: &'a str,
    database_url: String,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(checkout: &'a Checkout, address: &'a str) -> Self {
        let env = fs::read_to_string(checkout.path("env")).expect("up has written it");
        let url = env
            .lines()
            .find_map(|line| line.strip_prefix("export GUICHET_DATABASE_URL='"))
            .and_then(|rest| rest.strip_suffix('\''));
        Self {
            checkout,
            address,
            database_url: url.expect("the database's URL").to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = self.checkout.guichet(arguments);
        command.env("GUICHET_DATABASE_URL", &self.database_url);
        command.output().expect("the binary runs")
    }

    /// Why the command fails on a database in which nobody has made a table.
    fn on_an_empty_database(&self, arguments: &[&str]) -> String {
        let (server, _) = self
            .database_url
            .rsplit_once('/')
            .expect("it names a database");
        let mut command = self.checkout.guichet(arguments);
        command.env("GUICHET_DATABASE_URL", format!("{server}/postgres"));
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    }

    /// What the command writes to standard output when it ends with this exit code.
    fn says(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let exit = output.status.code();
        assert_eq!(exit, Some(code), "{arguments:?}: {}", text(&output));
        if code != 0 {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!told.is_empty(), "{arguments:?}: it does not say why");
            // Whoever reads it in a log wants one line; how a command is used takes more.
            let lines = told.lines().count();
            assert!(code == 2 || lines == 1, "{arguments:?}: {told}");
        }
        String::from_utf8(output.stdout).expect("it writes UTF-8")
    }

    /// The same in each form: a table for people, and two that are the same for programs.
    fn in_each_form(&self, code: i32, arguments: &[&str]) -> (String, Value) {
        let with = |form| [arguments, &["-o", form][..]].concat();
        let table = self.says(code, &with("table"));
        assert!(!table.trim().is_empty(), "{arguments:?}: an empty table");
        let parsed = |text: &str| -> Value {
            serde_json::from_str(text)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
        };
        let document = parsed(&self.says(code, &with("json")));
        let lines = self.says(code, &with("jsonl"));
        let mut lines: Vec<Value> = lines.lines().map(parsed).collect();
        let same = match document.is_array() {
            true => json!(lines),
            false => lines.pop().expect("one line"),
        };
        assert_eq!(same, document, "{arguments:?}: jsonl says something else");
        (table, document)
    }

    fn sql(&self, sql: &str) {
        let mut psql = Command::new("psql");
        psql.args(["-qv", "ON_ERROR_STOP=1", &self.database_url, "-c", sql]);
        let output = psql.output().expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", text(&output));
    }

    /// An offer that is on sale.
    fn offer(&self) -> String {
        let path = "/v1/events?available=true&accessible=false&sort=price&limit=20";
        let events = http::get(self.address, path);
        let event = events["data"][0]["id"].as_str().expect("on sale");
        let event = http::get(self.address, &format!("/v1/events/{event}"));
        let offers = event["offers"].as_array().expect("offers");
        let roomy = |offer: &&Value| offer["remaining"].as_u64() > Some(100);
        let offer = offers.iter().find(roomy).expect("places are left");
        offer["id"].as_str().expect("an id").to_owned()
    }

    /// An order that the fraud rules hold.
    fn held_order(&self) -> String {
        let order = json!({
            "items": [{"offer_id": self.offer(), "quantity": 1}],
            "payment": {"method": "pm_card_visa"},
            "email": "80218375123@yopmail.com", "name": "Kim Sato", "locale": "en",
        });
        let placed = http::post(
            self.address,
            "/v1/orders",
            "an-operators-test-order",
            &order,
        );
        let id = placed["id"].as_str().expect("an id").to_owned();
        eventually("the order waits for a reviewer", || {
            let open: Value = serde_json::from_str(&self.says(0, &["review", "ls", "-o", "json"]))
                .expect("it is JSON");
            let open = open.as_array().expect("a list");
            open.iter().any(|review| review["order_id"] == *id)
        });
        id
    }
}

/// After the demo orders, one of each end.
pub(crate) fn looking_changes_nothing(desk: &Desk) {
    let (table, sagas) = desk.in_each_form(0, &["saga", "ls"]);
    let sagas = sagas.as_array().expect("a list");
    let states: Vec<&str> = sagas
        .iter()
        .filter_map(|saga| saga["state"].as_str())
        .collect();
    assert_eq!(states.len(), sagas.len());
    assert!(
        states.contains(&"completed") && states.contains(&"compensated"),
        "{table}"
    );
    assert!(table.starts_with("SAGA "), "{table}");
    let id = sagas[0]["id"].as_str().expect("an id");
    assert!(table.contains(id), "{table}");

    let (table, shown) = desk.in_each_form(0, &["saga", "show", id]);
    assert!(
        table.contains("reserve do #1") && table.contains("start"),
        "{table}"
    );
    assert_eq!(shown["id"], id);
    assert_eq!(shown["timeline"][0]["rev"], 1, "{shown}");
    assert!(!shown["effects"].as_array().expect("a list").is_empty());

    let live = desk.says(0, &["saga", "ls", "--live", "-o", "json"]);
    assert_eq!(live.trim(), "[]");
    desk.in_each_form(0, &["review", "ls", "--state", "all"]);
    let (_, done) = desk.in_each_form(0, &["audit", "ls"]);
    assert_eq!(done[0]["actor"], "demo", "{done}");
    let (_, whole) = desk.in_each_form(0, &["audit", "verify"]);
    assert!(whole["rows"].as_u64() > Some(0), "{whole}");
    let (table, sound) = desk.in_each_form(0, &["check"]);
    assert!(table.contains("ok") && !table.contains("BROKEN"), "{table}");
    assert_eq!(sound["findings"], json!([]));

    let (_, migrated) = desk.in_each_form(0, &["migrate"]);
    assert_eq!(migrated["migrations"], json!([]), "nothing was left to do");
    let elsewhere = desk.on_an_empty_database(&["check"]);
    assert!(elsewhere.contains("run `guichet migrate`"), "{elsewhere}");
    let printed = desk.says(0, &["config", "print", "-o", "json"]);
    let config: Value = serde_json::from_str(&printed).expect("it is JSON");
    assert_eq!(config["database"]["url"], "***");
    assert!(desk.says(0, &["completions", "bash"]).contains("guichet"));
}

pub(crate) fn what_makes_no_sense_is_refused_with_its_exit_code(desk: &Desk) {
    for wrong in [
        &["frobnicate"][..],
        &["saga", "show", "not-an-id"],
        &["saga", "ls", "--limit", "0"],
        &["saga", "ls", "-o", "xml"],
        &["review", "approve", UNKNOWN, "--as", "ann"],
        &["review", "approve", UNKNOWN, "--as", "ann", "--reason", " "],
    ] {
        assert_eq!(desk.says(2, wrong), "", "{wrong:?}");
    }
    for unknown in [
        &["saga", "show", UNKNOWN][..],
        &["saga", "retry", UNKNOWN, "--as", "ann", "--reason", "x"],
        &["review", "approve", UNKNOWN, "--as", "ann", "--reason", "x"],
    ] {
        assert_eq!(desk.says(3, unknown), "", "{unknown:?}");
    }
    let nowhere = |url| {
        let mut command = desk.checkout.guichet(&["check"]);
        let output = command.env("GUICHET_DATABASE_URL", url).output();
        output.expect("the binary runs").status.code()
    };
    assert_eq!(nowhere("mysql://h/d"), Some(2));
    assert_eq!(nowhere("postgres://u:p@127.0.0.1:1/d"), Some(1));
}

pub(crate) fn a_review_is_decided_once(desk: &Desk) {
    let order = desk.held_order();
    let (table, _) = desk.in_each_form(0, &["review", "ls"]);
    assert!(table.contains(&order), "{table}");
    let decide = |verb, form| {
        [
            "review",
            verb,
            &order,
            "--as",
            "ann",
            "--reason",
            "a known customer",
            "-o",
            form,
        ]
    };
    let decided = desk.says(0, &decide("approve", "json"));
    let decided: Value = serde_json::from_str(&decided).expect("it is JSON");
    assert_eq!(decided, json!({"order": order, "decision": "approved"}));
    for verb in ["approve", "reject"] {
        assert_eq!(desk.says(4, &decide(verb, "json")), "");
    }
    eventually("the order is confirmed", || {
        let shown = desk.says(0, &["saga", "show", &order, "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
        shown["state"] == "completed" && shown["status"] == "confirmed"
    });
    let (table, shown) = desk.in_each_form(0, &["saga", "show", &order]);
    let by_ann = json!({"by": "ann", "reason": "a known customer"});
    let timeline = shown["timeline"].as_array().expect("a list");
    let decision = timeline.iter().find(|moment| moment["input"] == "signal");
    assert_eq!(decision.expect("it is there")["person"], by_ann, "{shown}");
    assert!(table.contains("ann: a known customer"), "{table}");
    let (_, done) = desk.in_each_form(0, &["audit", "ls", "--subject", &order]);
    let rows = done.as_array().expect("a list");
    assert_eq!(rows.len(), 1, "what was refused is not among what was done");
    assert_eq!(
        (&rows[0]["actor"], &rows[0]["reason"]),
        (&json!("ann"), &json!("a known customer"))
    );
}

/// No order of the demo asks for a person, so one is made to.
pub(crate) fn what_asks_for_a_person_is_taken_on_and_given_back(desk: &Desk) {
    let done = desk.says(0, &["saga", "ls", "--state", "compensated", "-o", "json"]);
    let done: Value = serde_json::from_str(&done).expect("it is JSON");
    let order = done[0]["id"].as_str().expect("an order that was undone");
    let stuck = |flags, state, ended| {
        desk.sql(&format!(
            "UPDATE sagas SET flags = {flags}, state = {state}, ended = {ended}, failed_undo = 0,
                    flagged_at = now() - interval '90 min' WHERE id = '{order}'"
        ));
    };
    stuck(4, 3, false);
    let asking = |more: &[&str]| {
        // Not in each form: for how long it asks is another number a second later.
        let said = |form| {
            let list = ["saga", "ls", "--attention", "-o", form];
            desk.says(0, &[&list[..], more].concat())
        };
        let rows: Value = serde_json::from_str(&said("json")).expect("it is JSON");
        (said("table"), rows)
    };
    let (table, rows) = asking(&["--untaken"]);
    assert!(table.contains("1 h 3"), "{table}");
    assert_eq!(rows[0]["id"], *order, "{rows}");
    let take = ["saga", "take", order, "--as", "ann"];
    desk.says(0, &[&take[..], &["--reason", "case 12"]].concat());
    assert_eq!(desk.says(4, &["saga", "take", order, "--as", "bob"]), "");
    let (table, rows) = asking(&["--taken-by", "ann"]);
    assert!(table.contains(" ann "), "{table}");
    assert_eq!(rows[0]["taken_by"], "ann", "{rows}");
    assert_eq!(asking(&["--untaken"]).1, json!([]));
    let (table, shown) = desk.in_each_form(0, &["saga", "show", order]);
    assert!(table.contains("by ann at "), "{table}");
    assert_eq!(shown["taken"]["reason"], "case 12", "{shown}");
    assert_eq!(shown["people"][0]["action"], "saga.take", "{shown}");
    desk.says(0, &[&take[..], &["--release"]].concat());
    assert_eq!(desk.says(4, &[&take[..], &["--release"]].concat()), "");
    assert_eq!(asking(&["--untaken"]).1[0]["id"], *order);
    // What was set aside is released, once it can be read; it has nothing left to undo.
    let release = [
        "saga", "release", order, "--as", "ann", "--reason", "mended",
    ];
    assert_eq!(desk.says(4, &release), "", "it is not held");
    desk.sql(&format!(
        "UPDATE sagas SET definition = definition + 70, rev = rev + 1 WHERE id = '{order}'"
    ));
    stuck(2, 3, false);
    assert_eq!(desk.says(4, &["saga", "show", order]), "");
    let again = desk.says(4, &[&release[..], &["-o", "json"]].concat());
    assert!(again.contains("held_again"), "{again}");
    desk.sql(&format!(
        "UPDATE sagas SET definition = definition - 70 WHERE id = '{order}'"
    ));
    let released = desk.says(0, &[&release[..], &["-o", "json"]].concat());
    assert!(released.contains("\"released\""), "{released}");
    let (table, _) = desk.in_each_form(0, &["saga", "show", order]);
    assert!(table.contains("ann: mended"), "{table}");
    // What was written behind the engine's back goes again, and with it what followed.
    stuck(0, 5, true);
    desk.sql(&format!(
        "DELETE FROM history WHERE saga_id = '{order}' AND code = 'release'"
    ));
    assert_eq!(desk.says(4, &take), "");
}

pub(crate) fn a_broken_promise_is_found_and_named(desk: &Desk) {
    let offer = desk.offer();
    let stock = |more| {
        desk.sql(&format!(
            "UPDATE stock SET taken = taken + {more} WHERE offer_id = '{offer}'"
        ))
    };
    stock(1);
    let (table, report) = desk.in_each_form(1, &["check"]);
    assert!(table.contains("BROKEN  stock-is-held-by-orders"), "{table}");
    assert!(table.contains(&format!("offer {offer}")), "{table}");
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0]["subject"], format!("offer {offer}"));
    assert_eq!(findings[0]["promise"], "no-oversell");
    stock(-1);

    desk.sql("UPDATE audit SET reason = reason || '!' WHERE id = 1");
    assert_eq!(desk.says(1, &["audit", "verify"]), "");
    assert!(
        desk.says(1, &["check", "-o", "jsonl"])
            .contains("\"audit 1\"")
    );
    desk.sql("UPDATE audit SET reason = rtrim(reason, '!') WHERE id = 1");
    desk.says(0, &["check"]);
}
