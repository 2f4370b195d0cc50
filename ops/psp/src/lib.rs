//! A payment-provider simulator that speaks the subset of Stripe's API that Guichet uses
