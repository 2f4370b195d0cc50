//! `overload`: far more is offered than can be done. What is confirmed meanwhile, what a refusal costs and
//! how soon it comes, whether memory stays, and how soon everything is as before.
//!
//! Three phases without a pause: half of the most (what is normal), 3 or 10 times the most, and half of the
//! most again. The generator runs on the same cores, and so does refusing; the share of the CPU that they
//! take is told, and what is left is what goodput is measured by at 10 times.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::{
    entry::Entry,
    latency::Latency,
    load::{Load, Phase},
    machine::Machine,
    outcome::Outcome,
    report,
    run::{self, Run},
    sampler::{Sample, Sampler, within},
    session::{ALLOWANCE_S, Bench, spread},
    shop::Placed,
    targets::number,
};

const BEFORE_S: (u32, u32) = (5, 20);
const AFTER_S: u32 = 20;
/// Enough for what arrives in the time that a refusal may take.
const CONNECTIONS: usize = 2_000;
/// Normal again: in slots of this length nothing is refused any more, and p99 is at most so much longer
/// than before.
const SLOT: Duration = Duration::from_millis(500);
const NORMAL: f64 = 2.0;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Serialize)]
struct Overload {
    maximum_per_s: u32,
    overload_offered_per_s: u32,
    overload_sent_per_s: f64,
    goodput_per_s: f64,
    goodput_of_maximum: f64,
    /// Of the maximum times the share of the CPU that is neither generating nor refusing.
    goodput_of_rest: Option<f64>,
    cpu_share_generating: Option<f64>,
    cpu_share_refusing: Option<f64>,
    refused: usize,
    unanswered: usize,
    refused_without_retry_after: usize,
    refused_after: Option<Latency>,
    refusal_cpu_us: Option<f64>,
    normal: Option<Latency>,
    admitted: Option<Latency>,
    admitted_p99_of_normal: Option<f64>,
    memory_growth: Option<f64>,
    /// From the end of the overload; nothing if it did not become normal while it was looked at.
    normal_after_s: Option<f64>,
}

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let maximum = bench.known_maximum().await?;
    for times in [3, 10] {
        let mut world = bench.open(bench.plain()).await?;
        let seconds = bench.arguments.seconds();
        let phase = |rate_per_s: u32, seconds| Phase {
            rate_per_s: rate_per_s.max(1),
            seconds,
        };
        let load = Load {
            phases: vec![
                phase(maximum / 2, (seconds / 3).clamp(BEFORE_S.0, BEFORE_S.1)),
                phase(maximum * times, seconds),
                phase(maximum / 2, AFTER_S),
            ],
            connections: bench.arguments.connections.max(CONNECTIONS),
        };
        let orders = spread(&mut world, load.requests()).await?;
        let sampler = Sampler::start(SAMPLE_EVERY, None);
        let run = run::run(&mut world, &orders, &load).await?;
        let samples = sampler.stop().await?;
        let overload = Overload::of(&run, &samples, maximum);
        let outcome = Outcome::of(run, ALLOWANCE_S);
        let text = report::orders(&outcome) + &overload.text();
        let mut entry = Entry::new(&format!("{times} x"), text, &outcome)?;
        entry
            .figures
            .extend(Entry::new("", String::new(), &overload)?.figures);
        bench.close(world, entry).await?;
    }
    Ok(())
}

/// One phase of a run.
struct Span {
    from: Instant,
    to: Instant,
}

impl Span {
    fn has(&self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }

    fn seconds(&self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64()
    }
}

impl Overload {
    fn of(run: &Run, samples: &[Sample], maximum: u32) -> Self {
        let [normal, over, after] = spans(run);
        let mut this = Self {
            maximum_per_s: maximum,
            overload_offered_per_s: run.load.phases[1].rate_per_s,
            goodput_per_s: run.confirmed(over.from, over.to) as f64 / over.seconds(),
            ..Self::default()
        };
        this.goodput_of_maximum = this.goodput_per_s / f64::from(maximum.max(1));
        let of_over = || {
            run.answers
                .iter()
                .filter(|answer| over.has(answer.intended))
        };
        this.overload_sent_per_s =
            of_over().filter(|a| over.has(a.sent)).count() as f64 / over.seconds();
        this.unanswered = of_over().filter(|a| a.status.is_none()).count();
        let refusals = || of_over().filter(|a| matches!(a.read, Some(Placed::Refused { .. })));
        this.refused = refusals().count();
        let silent =
            |read: &Option<Placed>| matches!(read, Some(Placed::Refused { retry_after: false }));
        this.refused_without_retry_after = refusals().filter(|a| silent(&a.read)).count();
        this.refused_after = Latency::between(refusals().map(|a| (a.intended, a.answered)));
        this.normal = waits_in(run, &normal);
        this.admitted = waits_in(run, &over);
        if let (Some(normal), Some(admitted)) = (this.normal, this.admitted) {
            this.admitted_p99_of_normal = Some(admitted.p99_ms / normal.p99_ms);
            this.normal_after_s = normal_after(run, &after, normal.p99_ms * NORMAL);
        }
        this.spend(run, samples, [&normal, &over]);
        this.memory_growth = growth(within(samples, over.from, over.to));
        this
    }

    /// What the gateway uses for what it takes is known from the normal phase; the rest is refusing.
    fn spend(&mut self, run: &Run, samples: &[Sample], [normal, over]: [&Span; 2]) {
        let used = |span: &Span| {
            let samples = within(samples, span.from, span.to);
            let (first, last) = (samples.first()?, samples.last()?);
            let seconds = last.at.duration_since(first.at).as_secs_f64();
            (seconds > 0.0).then(|| (last.cpu.since(&first.cpu).us, seconds))
        };
        let (Some((usual, usual_s)), Some((busy, busy_s))) = (used(normal), used(over)) else {
            return;
        };
        let us = |used: &std::collections::BTreeMap<String, u64>, name: &str| {
            used.get(name).copied().unwrap_or(0) as f64
        };
        let per_s = |span: &Span| {
            let taken = run
                .accepted
                .iter()
                .filter(|(_, answer)| span.has(answer.answered));
            taken.count() as f64 / span.seconds()
        };
        let per_order = us(&usual, "gateway") / usual_s / per_s(normal).max(1.0);
        let refusing_us_per_s = (us(&busy, "gateway") / busy_s - per_order * per_s(over)).max(0.0);
        let refused_per_s = self.refused as f64 / over.seconds();
        if refused_per_s > 0.0 {
            self.refusal_cpu_us = Some(refusing_us_per_s / refused_per_s);
        }
        let all_us_per_s = Machine::here().cpus as f64 * 1e6;
        let generating = us(&busy, "load generator") / busy_s / all_us_per_s;
        let refusing = refusing_us_per_s / all_us_per_s;
        self.cpu_share_generating = Some(generating);
        self.cpu_share_refusing = Some(refusing);
        self.goodput_of_rest =
            Some(self.goodput_of_maximum / (1.0 - generating - refusing).max(0.01));
    }

    fn text(&self) -> String {
        let or_none = |value: Option<f64>| value.map_or("not known".to_owned(), number);
        format!(
            "\n  the overload: {} orders/s offered, {:.0} sent, {:.1} confirmed: {} of the most ({})\n\
             \x20 of the CPU: generating {}, refusing {}; of the most times the rest confirmed {}\n\
             \x20 refused {}, without Retry-After {}, unanswered {}; a refusal costs the gateway {} µs\n{}\
             \x20 p99 of what was admitted is {} times the normal one; memory grew to {} times\n\
             \x20 normal again after {} s\n",
            self.overload_offered_per_s,
            self.overload_sent_per_s,
            self.goodput_per_s,
            number(self.goodput_of_maximum),
            self.maximum_per_s,
            or_none(self.cpu_share_generating),
            or_none(self.cpu_share_refusing),
            or_none(self.goodput_of_rest),
            self.refused,
            self.refused_without_retry_after,
            self.unanswered,
            or_none(self.refusal_cpu_us),
            report::latencies(&[
                ("to a refusal", self.refused_after),
                ("to confirmed, normally", self.normal),
                ("to confirmed, overloaded", self.admitted),
            ]),
            or_none(self.admitted_p99_of_normal),
            or_none(self.memory_growth),
            or_none(self.normal_after_s),
        )
    }
}

fn spans(run: &Run) -> [Span; 3] {
    let mut from_s = 0;
    [0, 1, 2].map(|index| {
        let to_s = from_s + run.load.phases[index].seconds;
        let span = Span {
            from: run.after(from_s),
            to: run.after(to_s),
        };
        from_s = to_s;
        span
    })
}

fn waits_in(run: &Run, span: &Span) -> Option<Latency> {
    let waits = run.waits().filter(|(at, _)| span.has(*at));
    Latency::of(waits.map(|(_, wait)| wait))
}

/// When the last slot that was not normal ended; nothing if it is the last of all.
fn normal_after(run: &Run, after: &Span, p99_ms: f64) -> Option<f64> {
    let slots = (after.seconds() / SLOT.as_secs_f64()).round() as u32;
    let normal = |slot: u32| {
        let from = after.from + SLOT * slot;
        let span = Span {
            from,
            to: from + SLOT,
        };
        let mut sent = run
            .answers
            .iter()
            .filter(|answer| span.has(answer.intended));
        sent.all(|answer| matches!(answer.read, Some(Placed::As(_))))
            && waits_in(run, &span).is_none_or(|waits| waits.p99_ms <= p99_ms)
    };
    let last_bad = (0..slots).rev().find(|slot| !normal(*slot));
    match last_bad {
        None => Some(0.0),
        Some(slot) if slot + 1 == slots => None,
        Some(slot) => Some((SLOT * (slot + 1)).as_secs_f64()),
    }
}

/// The memory of the last third by that of the first.
fn growth(samples: &[Sample]) -> Option<f64> {
    let third = samples.len() / 3;
    let mean = |part: &[Sample]| {
        part.iter().map(Sample::resident_of_ours).sum::<f64>() / part.len() as f64
    };
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    (third > 0).then(|| mean(last) / mean(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Answer, observer::Seen, run::tests::run_of};
    use uuid::Uuid;

    /// A second each of normal, overload and after; in the overload every second order is refused.
    fn overloaded(began: Instant, slow_until_ms: u64) -> Run {
        let mut seen = Seen::default();
        let mut answers = Vec::new();
        for n in 0..300_u64 {
            let (id, intended) = (
                Uuid::from_u128(n.into()),
                began + Duration::from_millis(n * 10),
            );
            let refused = (100..200).contains(&n) && n % 2 == 0;
            let slow = n >= 100 && n * 10 < 2_000 + slow_until_ms;
            let wait = Duration::from_millis(if slow { 300 } else { 100 });
            if !refused {
                seen.confirmed.insert(id, intended + wait);
            }
            let read = match refused {
                true => Placed::Refused {
                    retry_after: n != 100,
                },
                false => Placed::As(id),
            };
            answers.push(Answer {
                intended,
                sent: intended,
                answered: intended + Duration::from_millis(2),
                status: Some(http::StatusCode::OK),
                read: Some(read),
            });
        }
        let mut run = run_of(began, &[], seen);
        let phase = Phase {
            rate_per_s: 100,
            seconds: 1,
        };
        run.load.phases = vec![phase; 3];
        let placed = |answer: &Answer<Placed>| match answer.read {
            Some(Placed::As(id)) => Some((id, answer.clone())),
            _ => None,
        };
        run.accepted = answers.iter().filter_map(placed).collect();
        run.answers = answers;
        run
    }

    #[test]
    fn what_happens_in_each_phase_is_told_apart() {
        let run = overloaded(Instant::now(), 400);
        let overload = Overload::of(&run, &[], 50);
        assert_eq!(
            (overload.refused, overload.refused_without_retry_after),
            (50, 1)
        );
        assert!(overload.refused_after.is_some_and(|l| l.max_ms < 3.0));
        let times = overload.admitted_p99_of_normal.expect("both were measured");
        assert!((times - 3.0).abs() < 0.01, "{times}");
        assert_eq!(overload.normal_after_s, Some(0.5));
        assert!(
            overload.goodput_of_maximum > 0.5,
            "{}",
            overload.goodput_per_s
        );
        assert_eq!(overload.refusal_cpu_us, None, "nothing was read of /proc");
        let never = Overload::of(&overloaded(Instant::now(), 1_000), &[], 50);
        assert_eq!(never.normal_after_s, None);
    }
}
