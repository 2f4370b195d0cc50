//! The pure core of a saga: definition, instance, step(), settling and retry policy
