//! What was measured: a table while it goes, and JSON and a drawing of the same at the end.

use std::io::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::chart;
use crate::cli::Failure;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Layer {
    /// To read the clock, which all times have in them.
    Clock,
    /// Who calls.
    Token,
    /// Whether they may.
    Decision,
    /// Their secret into the request.
    Secret,
    /// A change of the policy, which no call waits for.
    Change,
    /// A whole call, over the network.
    Walk,
    /// The same call of the upstream itself.
    Upstream,
}

/// The times of one thing, in nanoseconds.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) layer: Layer,
    pub(super) what: &'static str,
    /// How many times were noted.
    pub(super) times: u64,
    pub(super) mean_ns: f64,
    pub(super) p50_ns: u64,
    pub(super) p90_ns: u64,
    pub(super) p99_ns: u64,
    #[serde(rename = "p99.9_ns")]
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
    /// Of a hundred, and the nanoseconds that so many did not take longer than.
    pub(super) percentiles: Vec<(f64, u64)>,
}

/// On what it was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct About {
    pub(super) version: &'static str,
    pub(super) machine: String,
    /// `made up`, or `store`.
    pub(super) population: &'static str,
    pub(super) users: usize,
    pub(super) services: usize,
    pub(super) grants: usize,
    /// Seconds until there was a policy to ask.
    pub(super) ready_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<Loaded>,
}

/// What the full load took.
#[derive(Debug, Serialize)]
pub(super) struct Loaded {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) bytes_a_grant: Option<u64>,
}

/// Rows, shown as they come.
pub(super) struct Report<'o> {
    pub(super) out: &'o mut dyn Write,
    pub(super) about: About,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Whole<'r> {
    #[serde(flatten)]
    about: &'r About,
    latencies: &'r [Row],
}

impl<'o> Report<'o> {
    pub(super) fn new(out: &'o mut dyn Write, about: About) -> Self {
        Self { out, about, rows: Vec::new() }
    }

    /// The line over the rows.
    pub(super) fn head(&mut self) -> Result<(), Failure> {
        let (p50, p90, p99, p999, max) = ("p50", "p90", "p99", "p99.9", "max");
        Ok(writeln!(self.out, "{:<38} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}", "latency")?)
    }

    /// Shows and keeps a row.
    pub(super) fn row(&mut self, layer: Layer, what: &'static str, times: &Histogram<u64>) -> Result<(), Failure> {
        let row = Row::of(layer, what, times);
        let [p50, p90, p99, p999, max] = [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns].map(shown);
        writeln!(self.out, "{what:<38} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}")?;
        self.out.flush()?;
        self.rows.push(row);
        Ok(())
    }

    /// Writes all that was shown to these files.
    pub(super) fn keep(&self, json: Option<&Path>, svg: Option<&Path>) -> Result<(), Failure> {
        if let Some(path) = json {
            let whole = Whole { about: &self.about, latencies: &self.rows };
            write(path, &format!("{}\n", serde_json::to_string_pretty(&whole).map_err(std::io::Error::from)?))?;
        }
        svg.map_or(Ok(()), |path| write(path, &chart::draw(&self.about, &self.rows)))
    }
}

impl Row {
    fn of(layer: Layer, what: &'static str, times: &Histogram<u64>) -> Self {
        let at = |quantile: f64| times.value_at_quantile(quantile);
        // From the middle to the slowest, twice as fine with each halving of what is left.
        let percentiles = times.iter_quantiles(2).map(|step| (step.percentile(), step.value_iterated_to()));
        Self {
            layer,
            what,
            times: times.len(),
            mean_ns: times.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: times.max(),
            percentiles: percentiles.collect(),
        }
    }
}

/// Nanoseconds for people.
pub(super) fn shown(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} µs", nanoseconds / 1_000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Usage(format!("cannot write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_people_read() {
        for (nanoseconds, text) in [(120, "120 ns"), (12_000, "12 µs"), (9_999_999, "9999 µs"), (10_000_000, "10 ms")]
        {
            assert_eq!(shown(nanoseconds), text);
        }
    }

    #[test]
    fn percentiles_rise_from_the_first_to_the_slowest() {
        let mut times = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        (1..=1000_u64).for_each(|time| times.record(time).unwrap());
        let row = Row::of(Layer::Token, "token", &times);
        assert!(row.percentiles.is_sorted());
        assert_eq!(row.percentiles.last(), Some(&(100.0, 1000)));
        assert_eq!((row.p50_ns, row.p999_ns, row.max_ns, row.times), (500, 999, 1000, 1000));
    }
}
