//! The worker kit and the five steps of an order
