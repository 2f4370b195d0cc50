//! What customers want and how they behave: drawn from the seed alone, so that a seed orders the same in
//! every run.

use ::tests::simulation::rng::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

/// An offer of the catalogue, as the public API shows it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: Uuid,
    pub(crate) remaining: i64,
}

/// What is on sale, sorted by what can be done with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnSale {
    /// With many places, each of another event.
    pub(crate) plenty: Vec<Offer>,
    /// With so few that they are sold out soon.
    pub(crate) few: Vec<Offer>,
}

/// Mails to addresses that end so are refused for good.
pub(crate) const BOUNCES: &str = "@bounces.example.org";
/// Charges to it are disputed, and the provider refuses to give them back.
pub(crate) const DISPUTED: &str = "pm_card_createDispute";
/// Cards that are good for everything.
pub(crate) const GOOD: [&str; 2] = ["pm_card_visa", "pm_card_mastercard"];
pub(crate) const DECLINED: [&str; 3] = [
    "pm_card_chargeDeclined",
    "pm_card_chargeDeclinedInsufficientFunds",
    "pm_card_chargeDeclinedExpiredCard",
];

/// What a customer does beside ordering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behaviour {
    /// Waits for the end.
    Waits,
    /// Authenticates the payment.
    Approves,
    /// Refuses to.
    Refuses,
    /// Never comes to the bank's page, and asks for the end of the order later.
    Abandons,
    /// Asks for the end of the order while the payment is under way: the provider has taken the money, and its
    /// answer is late and then lost.
    EndsWhilePaying,
    /// Asks for the end of the order after so many milliseconds.
    Cancels(u64),
}

/// A customer.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) key: String,
    pub(crate) body: Value,
    pub(crate) behaviour: Behaviour,
    /// Sends the same order once more, at the same time or after the answer.
    pub(crate) twice: Option<bool>,
    /// Follows the order's stream, else looks at it from time to time.
    pub(crate) streams: bool,
    /// Which gateway first.
    pub(crate) gateway: usize,
}

/// The customer with this number of a run. `run` makes his address and key his own.
pub(crate) fn draw(rng: &mut Rng, run: Uuid, number: u64, on_sale: &OnSale) -> Wish {
    let buyer = letters(run, number);
    let mut email = format!("ada.{buyer}@example.org");
    let (mut method, mut behaviour, mut quantity) = (
        GOOD[rng.below(GOOD.len())],
        Behaviour::Waits,
        1 + rng.range(0, 3),
    );
    let mut offers = &on_sale.plenty;
    let mut lines = 1;
    let mut gateway = rng.below(2);
    match rng.range(0, 100) {
        0..36 => {}
        36..41 => lines = 2,
        41..50 => offers = &on_sale.few,
        // More than anybody may have of one event.
        50..54 => quantity = 7,
        54..62 => method = DECLINED[rng.below(DECLINED.len())],
        // By the version that takes the money before its pivot: it has to be given back.
        62..71 => {
            method = [DISPUTED, GOOD[1]][rng.below(2)];
            (behaviour, gateway) = (Behaviour::EndsWhilePaying, 0);
        }
        71..74 => email = format!("ada.{buyer}{BOUNCES}"),
        74..80 => (method, behaviour) = ("pm_card_authenticationRequired", Behaviour::Approves),
        80..83 => (method, behaviour) = ("pm_card_authenticationRequired", Behaviour::Refuses),
        83..85 => (method, behaviour) = ("pm_card_authenticationRequired", Behaviour::Abandons),
        // Such an address is looked at by a person.
        85..89 => email = format!("{}{number}@yopmail.com", run.as_u128() % 1_000_000_007),
        89..95 => behaviour = Behaviour::Cancels(rng.range(0, 300).unsigned_abs()),
        _ => behaviour = Behaviour::Cancels(rng.range(0, 2_500).unsigned_abs()),
    }
    let first = rng.below(offers.len());
    let items: Vec<Value> = (0..lines)
        .map(|line| json!({"offer_id": offers[(first + line) % offers.len()].id, "quantity": quantity}))
        .collect();
    Wish {
        key: format!("{run}-{number}"),
        body: json!({ "items": items, "payment": {"method": method}, "email": email, "name": "Ada Buyer",
                      "locale": if rng.chance(5_000) { "en" } else { "fr" } }),
        behaviour,
        twice: rng.chance(1_500).then(|| rng.chance(5_000)),
        streams: rng.chance(4_000),
        gateway,
    }
}

/// A good order, as of somebody who only wants to know whether anything is sold; `whose` marks its key.
pub(crate) fn plain(run: Uuid, whose: &str, number: u64, on_sale: &OnSale) -> Wish {
    let offer = &on_sale.plenty[usize::try_from(number).unwrap_or(0) % on_sale.plenty.len()];
    Wish {
        key: format!("{run}-{whose}-{number}"),
        body: json!({ "items": [{"offer_id": offer.id, "quantity": 1}], "payment": {"method": GOOD[0]},
                      "email": format!("eve.{}@example.org", letters(run, number)), "name": "Eve Buyer", "locale": "en" }),
        behaviour: Behaviour::Waits,
        twice: None,
        streams: false,
        gateway: usize::from(number % 2 == 1),
    }
}

/// Letters: addresses full of digits are suspicious.
fn letters(run: Uuid, number: u64) -> String {
    let digits = format!("{:032x}{number}", run.as_u128());
    let letter = |digit: u32| char::from(b'a' + u8::try_from(digit).unwrap_or_default());
    digits
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_orders_the_same_every_time_and_has_every_kind_of_customer() {
        let offer = |id| Offer {
            id: Uuid::from_u128(id),
            remaining: 100,
        };
        let on_sale = OnSale {
            plenty: vec![offer(1), offer(2)],
            few: vec![offer(3)],
        };
        let all = |seed| {
            let mut rng = Rng::new(seed);
            let draw = |number| format!("{:?}", draw(&mut rng, Uuid::nil(), number, &on_sale));
            (0..500).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        let text = all(7).concat();
        for path in [
            "Waits",
            "Approves",
            "Refuses",
            "Abandons",
            "Cancels",
            "yopmail",
            "chargeDeclined\"",
            "InsufficientFunds",
            "ExpiredCard",
            "Number(7)",
            "EndsWhilePaying",
            "createDispute",
            "bounces",
        ] {
            assert!(text.contains(path), "{path}");
        }
    }
}
