//! A person corrects what a step was given, with the real command, and the step is tried again with it.

use contract::StepName;
use saga::State;
use std::process::Output;
use tests::{
    smtp_sink::Mood,
    world::{Wish, World, catalogue::DIVING_A, until},
};

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

async fn asks(world: &World, order: contract::OrderId) {
    until("a person is asked", async || {
        let saga = world.judge.saga(order).await.instance;
        (saga.flags.attention && saga.wake_at.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mail_that_bounces_goes_to_the_address_that_a_person_has_corrected() {
    let world = World::start().await;
    let bounces = Mood::RefusesRecipient("550 5.1.1 no such user");
    world.ground.mail.set_mood(bounces.clone());
    let wish = Wish::of(DIVING_A, 1);
    let placed = world.shop.place(&wish).await;
    let id = placed.id.to_string();
    asks(&world, placed.id).await;

    let by = ["--as", "ann", "--reason", "called him"];
    let retry = async |more: &[&str]| {
        let typed = world
            .types(&[&["saga", "retry", &id], more, &by].concat())
            .await;
        (typed.status.code(), text(&typed))
    };
    // What was refused for good is not refused otherwise for being asked again.
    assert_eq!(retry(&[]).await.0, Some(4));
    for (step, input, says) in [
        (
            "notify",
            r#"{"email": "kim"}"#,
            "`email` has to be an e-mail address",
        ),
        ("notify", r#"{"name": "Kim"}"#, "what can: email"),
        (
            "issue",
            r#"{"email": "kim@example.org"}"#,
            "nothing of the do of issue",
        ),
        ("notify", r#"{"email": "kim@example.org""#, "is not JSON"),
        ("notify", "no-such-file", "nor a file that can be read"),
    ] {
        let (code, said) = retry(&["--step", step, "--input", input]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(retry(&["--step", "notify"]).await.0, Some(2));

    // The first correction bounces as well, and the second, from a file, does not.
    let first = r#"{"email": "wrong.again@example.org"}"#;
    let (code, said) = retry(&["--step", "notify", "--input", first]).await;
    assert_eq!(code, Some(0), "{said}");
    asks(&world, placed.id).await;
    world.ground.mail.set_mood(Mood::Takes);
    let file = std::env::temp_dir().join(format!("guichet-correction-{id}.json"));
    std::fs::write(&file, r#"{"email": "kim@example.org"}"#).expect("written");
    let (code, said) = retry(&["--step", "notify", "--input", &file.display().to_string()]).await;
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!(code, Some(0), "{said}");
    let saga = world.judge.at_rest(placed.id).await;
    assert_eq!(saga.instance.state, State::Completed);
    let mails = world.ground.mail.mails();
    let to: Vec<&[String]> = mails.iter().map(|mail| &mail.to[..]).collect();
    assert_eq!(to, [["kim@example.org".to_owned()]]);

    // The timeline says who and which fields; the values are nowhere but where the worker reads them.
    let shown = text(&world.types(&["saga", "show", &id]).await);
    assert!(shown.contains("correct email"), "{shown}");
    assert!(shown.contains("ann: called him"), "{shown}");
    let audit = text(
        &world
            .types(&["audit", "ls", "--subject", &id, "-o", "json"])
            .await,
    );
    assert!(
        audit.contains("saga.correct") && audit.contains("email"),
        "{audit}"
    );
    let history = serde_json::to_string(&saga.timeline).expect("it is JSON");
    for public in [&shown, &audit, &history] {
        assert!(!public.contains("@example.org"), "{public}");
    }
    let notify = world.judge.effect(placed.id, &StepName::NOTIFY).await;
    assert_eq!(notify.expect("it is there").outside_id, None);
    world.close().await;
}
