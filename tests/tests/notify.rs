//! The step `notify` against a real SMTP server that goes down, refuses and falls silent, and against
//! a directory that goes away.

use contract::{Outcome, Reply, StepKind, StepName};
use database::testing::TestDatabase;
use futures_util::future::join_all;
use runtime::Secret;
use std::path::{Path, PathBuf};
use tests::{
    orders::Order,
    smtp_sink::{Mood, SmtpSink},
};
use uuid::Uuid;
use workers::{
    kit::testing::{OutsideBench, command},
    notify::{Config, Notify, TransportKind},
};

/// A worker and its database.
struct Desk {
    _database: TestDatabase,
    pool: database::Pool,
    worker: OutsideBench<Notify>,
}

impl Desk {
    async fn open(config: Config) -> Self {
        assert_eq!(config.problems(), Vec::<String>::new());
        let database = TestDatabase::create().await;
        let pool = database.pool();
        let step = Notify::new(&config).expect("a sound configuration");
        Self {
            worker: OutsideBench::new(step, pool.clone(), 64),
            _database: database,
            pool,
        }
    }

    /// With an order of two tickets that are issued.
    async fn order(&self) -> Order {
        let mut order = Order::new("pm_card_visa");
        order.quantity = 2;
        self.write(&order).await;
        order
    }

    async fn write(&self, order: &Order) {
        order.insert(&self.pool).await;
        order.issue(&self.pool).await;
    }

    async fn ask(&self, order: &Order) -> Reply {
        let command = command(&StepName::NOTIFY, order.id, StepKind::Do);
        self.worker.one(command).await
    }
}

fn smtp(sink: &SmtpSink) -> Config {
    Config {
        transport: TransportKind::Smtp,
        smtp_url: Some(Secret::new(sink.url())),
        timeout_ms: 500,
        connections_max: 3,
        ..Config::default()
    }
}

fn code(reply: &Reply) -> &str {
    reply.error.as_ref().map_or("", |error| &error.code)
}

#[tokio::test]
async fn the_buyer_gets_his_tickets_in_his_language() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let order = desk.order().await;
    let reply = desk.ask(&order).await;
    assert_eq!(reply.outcome, Outcome::Done, "{reply:?}");
    // What is done is not done again.
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Done);
    let [mail] = &sink.mails()[..] else {
        panic!("one mail: {:?}", sink.mails());
    };
    assert_eq!(mail.to, std::slice::from_ref(&order.email));
    let id = format!("<{}.confirmation@guichet.example>", order.id);
    assert_eq!(mail.header("Message-ID"), Some(id));
    assert_eq!(mail.header("Content-Language").as_deref(), Some("fr"));
    assert!(mail.text.contains("multipart/alternative"));
    for ending in ["text/plain", "text/html"] {
        assert!(mail.text.contains(ending), "{}", mail.text);
    }
    assert!(mail.text.contains("31 janvier 2027"), "{}", mail.text);
}

#[tokio::test]
async fn a_mail_server_that_is_down_is_waited_for() {
    let mut sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let (before, during) = (desk.order().await, desk.order().await);
    assert_eq!(desk.ask(&before).await.outcome, Outcome::Done);
    sink.stop().await;
    for _ in 0..3 {
        let reply = desk.ask(&during).await;
        assert_eq!(
            (reply.outcome, code(&reply)),
            (Outcome::Retry, "mail_unavailable")
        );
    }
    sink.resume().await;
    assert_eq!(desk.ask(&during).await.outcome, Outcome::Done);
    assert_eq!(sink.mails().len(), 2);
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again_and_what_is_refused_for_good_is_not() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    for (mood, outcome, expected) in [
        (
            Mood::RefusesRecipient("450 4.2.1 mailbox busy"),
            Outcome::Retry,
            "mail_unavailable",
        ),
        (
            Mood::RefusesText("452 4.3.1 no space left"),
            Outcome::Retry,
            "mail_unavailable",
        ),
        // About us, not about the recipient.
        (
            Mood::RefusesRecipient("530 5.7.0 log in first"),
            Outcome::Retry,
            "mail_unavailable",
        ),
        (
            Mood::RefusesRecipient("550 5.1.1 no such user"),
            Outcome::Rejected,
            "mail_refused",
        ),
        (
            Mood::RefusesText("554 5.7.1 not wanted"),
            Outcome::Rejected,
            "mail_refused",
        ),
    ] {
        sink.set_mood(mood.clone());
        let order = desk.order().await;
        let reply = desk.ask(&order).await;
        assert_eq!(
            (reply.outcome, code(&reply)),
            (outcome, expected),
            "{mood:?}"
        );
        sink.set_mood(Mood::Takes);
        // A recorded refusal stays one; the rest goes through.
        let again = desk.ask(&order).await;
        let expected = if outcome == Outcome::Retry {
            Outcome::Done
        } else {
            outcome
        };
        assert_eq!(again.outcome, expected, "{mood:?}");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_costs_one_mail_its_time_and_no_other_its_answer() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let orders = join_all((0..4).map(|_| desk.order())).await;
    sink.set_mood(Mood::FallsSilent);
    let reply = desk.ask(&orders[0]).await;
    assert_eq!(reply.outcome, Outcome::Retry);
    // The connection on which that answer is still owed is used by nobody: a refusal now is one.
    sink.set_mood(Mood::RefusesText("554 5.7.1 not wanted"));
    assert_eq!(desk.ask(&orders[1]).await.outcome, Outcome::Rejected);
    sink.set_mood(Mood::Takes);
    assert_eq!(desk.ask(&orders[0]).await.outcome, Outcome::Done);
    assert_eq!(desk.ask(&orders[2]).await.outcome, Outcome::Done);
    assert_eq!(sink.mails().len(), 2);
}

#[tokio::test]
async fn a_mail_that_may_have_been_taken_comes_again_with_the_same_message_id() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let order = desk.order().await;
    sink.set_mood(Mood::HangsUp);
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Retry);
    sink.set_mood(Mood::Takes);
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Done);
    let ids: Vec<_> = sink
        .mails()
        .iter()
        .map(|mail| mail.header("Message-ID"))
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn many_mails_share_few_connections() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let orders = join_all((0..40).map(|_| desk.order())).await;
    let replies = join_all(orders.iter().map(|order| desk.ask(order))).await;
    assert!(replies.iter().all(|reply| reply.outcome == Outcome::Done));
    assert_eq!(sink.mails().len(), 40);
    // Three at a time; each may have one more that it is just closing.
    assert!(sink.most_connections() <= 6, "{}", sink.most_connections());
}

#[tokio::test]
async fn an_address_that_is_none_is_given_up_and_a_wild_name_is_only_a_name() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let mut nobody = Order::new("pm_card_visa");
    nobody.email = "not an address".into();
    desk.write(&nobody).await;
    let reply = desk.ask(&nobody).await;
    assert_eq!(
        (reply.outcome, code(&reply)),
        (Outcome::Rejected, "recipient_invalid")
    );

    let mut wild = Order::new("pm_card_visa");
    wild.name = "x\r\nBcc: everyone@example.org\r\n\r\n.\r\nQUIT".into();
    desk.write(&wild).await;
    assert_eq!(desk.ask(&wild).await.outcome, Outcome::Done);
    let [mail] = &sink.mails()[..] else {
        panic!("one mail: {:?}", sink.mails());
    };
    assert_eq!((mail.header("Bcc"), &mail.to), (None, &vec![wild.email]));
}

/// A directory that is not there yet.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("guichet-mail-{}", Uuid::now_v7())))
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the directory is there");
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries
            .map(|entry| name(entry.expect("an entry")))
            .collect()
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Gone already, or in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_directory_that_is_away_is_a_mail_server_that_is_down() {
    let directory = Directory::new();
    let config = Config {
        directory: directory.path().to_owned(),
        ..Config::default()
    };
    let desk = Desk::open(config).await;
    let order = desk.order().await;
    std::fs::remove_dir(directory.path()).expect("start-up has made it");
    for _ in 0..2 {
        let reply = desk.ask(&order).await;
        assert_eq!(
            (reply.outcome, code(&reply)),
            (Outcome::Retry, "mail_unavailable")
        );
    }
    std::fs::create_dir(directory.path()).expect("it can be made again");
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Done);
    assert_eq!(directory.files(), [format!("{}.eml", order.id)]);
    let file = directory.path().join(format!("{}.eml", order.id));
    let mail = std::fs::read_to_string(file).expect("the mail");
    assert!(mail.contains(&order.email), "{mail}");
}

#[tokio::test]
async fn an_order_without_tickets_waits() {
    let directory = Directory::new();
    let config = Config {
        directory: directory.path().to_owned(),
        ..Config::default()
    };
    let desk = Desk::open(config).await;
    let order = Order::new("pm_card_visa");
    order.insert(&desk.pool).await;
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Retry);
    order.issue(&desk.pool).await;
    assert_eq!(desk.ask(&order).await.outcome, Outcome::Done);
}

/// A refusal is tried once more for each correction, by whoever was sent after it, and goes to the new
/// address; what was sent is not sent again.
#[tokio::test]
async fn a_corrected_address_opens_the_refusal_once_and_nothing_that_is_done() {
    let sink = SmtpSink::start().await;
    let desk = Desk::open(smtp(&sink)).await;
    let order = desk.order().await;
    let ask = async |seq| {
        let mut command = command(&StepName::NOTIFY, order.id, StepKind::Do);
        command.seq = seq;
        desk.worker.one(command).await.outcome
    };
    let correct = async |audit, after_seq, email| {
        let saga = order.id.0;
        tests::orders::correct(
            &desk.pool,
            saga,
            ("notify", 1),
            (audit, after_seq),
            ("email", email),
        )
        .await;
    };
    sink.set_mood(Mood::RefusesRecipient("550 5.1.1 no such user"));
    assert_eq!(ask(1).await, Outcome::Rejected);
    correct(40, 1, "first@example.org").await;
    sink.set_mood(Mood::Takes);
    assert_eq!(ask(1).await, Outcome::Rejected, "a duplicate of the elder");
    sink.set_mood(Mood::RefusesRecipient("550 5.1.1 no such user"));
    assert_eq!(ask(2).await, Outcome::Rejected, "it was tried");
    sink.set_mood(Mood::Takes);
    for seq in [2, 3] {
        assert_eq!(
            ask(seq).await,
            Outcome::Rejected,
            "once for each correction"
        );
    }
    assert!(sink.mails().is_empty());
    correct(41, 3, "second@example.org").await;
    assert_eq!(ask(4).await, Outcome::Done);
    correct(42, 4, "third@example.org").await;
    for seq in [4, 5] {
        assert_eq!(ask(seq).await, Outcome::Done);
    }
    let to: Vec<Vec<String>> = sink.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, [["second@example.org"]]);
}
