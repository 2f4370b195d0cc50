//! Each way an order can end.

    Stands, Wish, World,
    catalogue::{DIVING, DIVING_A, DIVING_B, DIVING_WHEELCHAIR, SWIMMING, SWIMMING_A},
    until,
};

#[tokio::test]
async fn an_order_is_confirmed_with_signed_tickets_and_a_mail_in_its_language() {
    let world = World::start().await;
    for (locale, language) in [("fr-CA", "fr"), ("en", "en")] {
        let wish = Wish::of(DIVING_A, 2).with("locale", locale);
        let (placed, ended) = world.shop.buy(&wish).await;
        assert_eq!(ended.told, ["pending", "confirmed"]);
        let shown = ended.order["tickets"].as_array().expect("tickets");
        assert_eq!(shown.len(), 2, "{}", ended.order);
        world.judge.at_rest(placed.id).await;
        let tickets = world.judge.tickets(placed.id).await;
        assert_eq!(tickets.len(), 2);
        for ticket in &tickets {
            assert!(ticket.verifies(&world.ground.signatory()));
            assert_eq!(ticket.holder_name, "Ada Buyer");
        }
        let mails = world.ground.mail.mails();
        let to = [wish.email().to_owned()];
        let mails: Vec<_> = mails.iter().filter(|mail| mail.to == to).collect();
        let [mail] = mails[..] else {
            panic!("one mail: {mails:?}");
        };
        assert_eq!(mail.header("Content-Language").as_deref(), Some(language));
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 4);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3, 4]);
    world.close().await;
}
