//! A catalogue of two events, small enough to be written anew for each test.

use uuid::Uuid;

/// An offer of this catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its id.
    pub id: Uuid,
    /// Its event's id.
    pub event: Uuid,
    /// The price of one, in minor units of EUR.
    pub amount_minor: i64,
    /// How many there are.
    pub capacity: i32,
}

const fn offer(id: u128, event: Uuid, amount_minor: i64, capacity: i32) -> Offer {
    Offer {
        id: Uuid::from_u128(id),
        event,
        amount_minor,
        capacity,
    }
}

/// Diving, in Saint-Denis.
pub const DIVING: Uuid = Uuid::from_u128(0xd1);
/// Swimming, at the same place.
pub const SWIMMING: Uuid = Uuid::from_u128(0xd2);

/// Category A of the diving.
pub const DIVING_A: Offer = offer(0xa1, DIVING, 12_500, 200);
/// Category B of the diving.
pub const DIVING_B: Offer = offer(0xa2, DIVING, 5_000, 200);
/// Category C of the diving, of which there are few.
pub const DIVING_FEW: Offer = offer(0xa3, DIVING, 2_400, 10);
/// Wheelchair places at the diving, each with a companion's ticket.
pub const DIVING_WHEELCHAIR: Offer = offer(0xa4, DIVING, 5_000, 4);
/// Category A of the swimming.
pub const SWIMMING_A: Offer = offer(0xb1, SWIMMING, 8_000, 200);

/// All of them.
pub const OFFERS: [Offer; 5] = [
    DIVING_A,
    DIVING_B,
    DIVING_FEW,
    DIVING_WHEELCHAIR,
    SWIMMING_A,
];

/// Writes it.
pub(crate) fn sql() -> String {
    let mut sql = format!(
        "INSERT INTO sports VALUES ('DIV', 'Diving', 'Plongeon', 'sport'),
           ('SWM', 'Swimming', 'Natation', 'sport');
         INSERT INTO venues VALUES ('AQC', 'Aquatics Centre', 'Centre aquatique', 'Saint-Denis',
           'Europe/Paris', 48.9, 2.3, 5000);
         INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue, name,
           status, tier, currency)
         SELECT id::uuid, now() + interval '60 days', now() + interval '60 days 2 hours', now(), code,
           sport, 'AQC', name, 'on_sale', 'standard', 'EUR'
         FROM (VALUES ('{DIVING}', 'DIV01', 'DIV', 'Women''s 10m Platform Final'),
                      ('{SWIMMING}', 'SWM01', 'SWM', 'Men''s 100m Freestyle Final'))
           AS e(id, code, sport, name);"
    );
    for (offer, category) in OFFERS.iter().zip(["A", "B", "C", "A", "A"]) {
        let Offer {
            id,
            event,
            amount_minor,
            capacity,
        } = offer;
        let wheelchair = *offer == DIVING_WHEELCHAIR;
        sql += &format!(
            "INSERT INTO offers (id, event_id, amount_minor, category, currency, accessible, companion)
               VALUES ('{id}', '{event}', {amount_minor}, '{category}', 'EUR', {wheelchair}, {wheelchair});
             INSERT INTO stock (offer_id, capacity) VALUES ('{id}', {capacity});"
        );
    }
    sql
}
