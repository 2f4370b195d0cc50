//! `guichet up` from outside: the real binary, each test in a folder of its own. That the tests run
//! side by side shows that two checkouts do not collide.

mod checkout;
mod http;
mod operator;
mod roles;
mod servers;
