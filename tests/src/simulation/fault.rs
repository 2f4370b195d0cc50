//! What can go wrong in the world, and how often in one seed.

use super::rng::Rng;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $usual:literal;)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As it is reported.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// How often it strikes, in ten thousand occasions, in a seed that has it.
            fn usual(self) -> u32 {
                match self { $(Self::$name => $usual,)+ }
            }
        }
    };
}

faults! {
    /// The broker loses a message.
    MessageLost = "a message is lost", 800;
    /// It delivers one twice.
    MessageDoubled = "a message comes twice", 1500;
    /// It delivers one late, behind others.
    MessageLate = "a message comes late", 1500;
    /// All its data is gone.
    BrokerEmptied = "the broker is emptied", 150;
    /// It is away for a while, and every session with it is over.
    BrokerAway = "the broker is away", 200;
    /// An orchestrator dies before its next action.
    OrchestratorDies = "an orchestrator dies", 120;
    /// It stalls before its next action, for longer than its lease.
    OrchestratorStalls = "an orchestrator stalls", 60;
    /// While it stalls another one is started under its name.
    NameTwice = "two orchestrators have one name", 4000;
    /// It is stopped in good order.
    OrchestratorStops = "an orchestrator is stopped", 30;
    /// A worker dies before its next action.
    WorkerDies = "a worker dies", 120;
    /// It stalls.
    WorkerStalls = "a worker stalls", 40;
    /// A worker is stopped while it cannot publish.
    ReplyUnpublished = "replies are left unpublished", 150;
    /// A transaction fails.
    StatementFails = "a transaction fails", 300;
    /// It is committed, and the client does not hear it.
    CommitUnheard = "a commit is not heard of", 500;
    /// The database's clock goes forward, by minutes.
    ClockForward = "the clock jumps forward", 150;
    /// It goes back.
    ClockBack = "the clock jumps back", 150;
    /// The provider cannot be reached.
    ProviderAway = "the provider is away", 1200;
    /// Nobody can reach it for a while.
    ProviderOutage = "the provider is away for a while", 250;
    /// It does what was asked, and its answer is lost.
    AnswerLost = "the provider's answer is lost", 1500;
    /// A request comes to it late, maybe after its client gave up.
    RequestLate = "a request reaches the provider late", 800;
    /// It asks to wait.
    ProviderBusy = "the provider is busy", 800;
    /// It shows how a payment was a moment ago.
    ProviderLies = "the provider shows what was", 1000;
    /// It forgets an idempotency key.
    KeyForgotten = "the provider forgets a key", 2000;
    /// An authorisation ends before it is captured.
    AuthorisationEnds = "an authorisation ends", 400;
    /// It refuses to give money back, for good.
    RefundRefused = "a refund is refused", 5000;
    /// It takes a refund as pending.
    RefundPends = "a refund is pending", 2500;
    /// It knows a payment by another id than the ledger.
    PaymentMoved = "a payment has another id", 1500;
    /// A buyer's address is none.
    AddressWrong = "an address is none", 1500;
    /// A mail server is away, now and then that of a buyer for long.
    MailAway = "the mail server is away", 2000;
    /// An operator stops a saga for a while.
    OperatorPauses = "an operator pauses a saga", 1500;
    /// Nobody hears of what became of a payment.
    WebhookLost = "the provider's event never comes", 1500;
    /// A customer ends his order.
    CustomerEnds = "a customer ends an order", 2500;
    /// An operator ends an order.
    OperatorEnds = "an operator ends an order", 2000;
    /// An operator moves a saga to the other version of its definition.
    OperatorMigrates = "an operator moves a saga to another version", 2500;
    /// A version of the definition is withdrawn.
    DefinitionWithdrawn = "a definition is withdrawn", 1500;
    /// One orchestrator cannot reach the broker for a while, and the other can.
    LineCut = "an orchestrator is cut off from the broker", 150;
}

/// How often each fault strikes, in ten thousand occasions.
#[derive(Clone, Debug)]
pub struct Mix(Vec<u32>);

impl Mix {
    /// No faults at all.
    #[must_use]
    pub fn none() -> Self {
        Self(vec![0; Fault::ALL.len()])
    }

    /// Exactly these, three times as often as usual.
    #[must_use]
    pub fn only(faults: &[Fault]) -> Self {
        let of = |fault: &Fault| match faults.contains(fault) {
            true => fault.usual() * 3,
            false => 0,
        };
        Self(Fault::ALL.iter().map(of).collect())
    }

    /// What a seed draws: in one of eight nothing, otherwise about half of the kinds, some of them
    /// often.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        if rng.chance(1_250) {
            return Self::none();
        }
        let of = |fault: &Fault| match rng.below(6) {
            0 | 1 => fault.usual(),
            2 => fault.usual() * 2,
            _ => 0,
        };
        Self(Fault::ALL.iter().map(of).collect())
    }

    /// How often a fault strikes.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    /// Whether nothing goes wrong but with the broker, messages that are late and the database's clock, which
    /// lose no step its time.
    #[must_use]
    pub(super) fn loses_no_step_its_time(&self) -> bool {
        let harmless = [
            Fault::BrokerAway,
            Fault::LineCut,
            Fault::ClockForward,
            Fault::ClockBack,
            Fault::MessageLate,
        ];
        let others = |fault: &&Fault| !harmless.contains(fault);
        Fault::ALL
            .iter()
            .filter(others)
            .all(|fault| self.of(*fault) == 0)
    }

    /// Whether nothing goes wrong.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.0.iter().all(|often| *often == 0)
    }
}
