//! CPU, memory, descriptors and threads of this process, read from `/proc/self` at each scrape.
//!
//! The prometheus crate's own collector asks libc for the clock tick, which is `unsafe` for us and a
//! dependency for one number: Linux fixes `USER_HZ` at 100 on every architecture we run on.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};

const TICKS_PER_SECOND: f64 = 100.0;
const KIBIBYTE: i64 = 1024;

/// The names are those of every Prometheus client, so that common dashboards work.
pub(super) struct ProcessCollector {
    cpu_seconds: Gauge,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_fds: IntGauge,
    threads: IntGauge,
    start_seconds: Gauge,
}

/// What `/proc/self/stat` and `/proc/self/status` say, as far as we show it.
#[derive(Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: i64,
    virtual_bytes: i64,
    threads: i64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let collector = Self {
            cpu_seconds: float("process_cpu_seconds_total", "CPU time spent, in seconds"),
            resident_bytes: whole("process_resident_memory_bytes", "Resident memory"),
            virtual_bytes: whole("process_virtual_memory_bytes", "Virtual memory"),
            open_fds: whole("process_open_fds", "Open file descriptors"),
            threads: whole("process_threads", "Threads"),
            start_seconds: float("process_start_time_seconds", "Start, in Unix seconds"),
        };
        // The registry is made when the process starts, which is near enough and needs no boot clock.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        collector
            .start_seconds
            .set(now.map_or(0.0, |since| since.as_secs_f64()));
        collector
    }

    fn all(&self) -> [&dyn Collector; 6] {
        [
            &self.cpu_seconds,
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.open_fds,
            &self.threads,
            &self.start_seconds,
        ]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Where there is no /proc the last values stay: a scrape must never fail for them.
        if let Some(usage) = parse(&stat, &status) {
            self.cpu_seconds.set(usage.cpu_seconds);
            self.resident_bytes.set(usage.resident_bytes);
            self.virtual_bytes.set(usage.virtual_bytes);
            self.threads.set(usage.threads);
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            self.open_fds
                .set(i64::try_from(fds.count()).unwrap_or(i64::MAX));
        }
        self.all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

fn float(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("a literal, legal metric name")
}

fn whole(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("a literal, legal metric name")
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The command name may hold spaces and brackets, so fields are counted after the last bracket.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let number = |key: &str| -> Option<i64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Usage {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
        resident_bytes: number("VmRSS:")? * KIBIBYTE,
        virtual_bytes: number("VmSize:")? * KIBIBYTE,
        threads: number("Threads:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 7 0 12345 0 0";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t7\n";
        let expected = Usage {
            cpu_seconds: 4.0,
            resident_bytes: 1 << 20,
            virtual_bytes: 2 << 20,
            threads: 7,
        };
        assert_eq!(parse(stat, status), Some(expected));
        assert_eq!(parse("", ""), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let text = crate::metrics::render();
        for name in ["process_resident_memory_bytes", "process_open_fds"] {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value: f64 = line.expect(name).trim().parse().expect("a number");
            assert!(value > 0.0, "{name} is {value}");
        }
    }
}
