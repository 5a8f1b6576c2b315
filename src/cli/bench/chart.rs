//! The latencies as SVG: a line for each row, nanoseconds over percentiles, both on scales that show the slow ones.

use std::fmt::Write;

use super::report::{About, Row, shown};

/// The field that lines are in, and what stands around it.
const LEFT: f64 = 70.0;
const TOP: f64 = 64.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;

/// For the names of the lines.
const RIGHT: f64 = 300.0;

/// Each a tenth of what the one before leaves out.
const PERCENTILES: [(f64, &str); 5] = [(0.0, "min"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9"), (99.99, "p99.99")];

/// Told apart by those who see colours in another way, too (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a00"];

/// Draws the rows.
pub(super) fn draw(about: &About, rows: &[Row]) -> String {
    let scale = Scale::of(rows);
    let (width, height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + 40.0);
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>Latency of authorization</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" font-weight=\"bold\">Latency of authorization</text>\n\
         <text x=\"8\" y=\"38\" fill=\"#555555\">{} users, {} services, {} grants ({}); {}</text>",
        about.users,
        about.services,
        about.grants,
        escaped(about.population),
        escaped(&about.machine),
    );
    grid(&mut svg, &scale);
    for (number, row) in rows.iter().enumerate() {
        line(&mut svg, &scale, row, number);
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, scale: &Scale) {
    let (bottom, right) = (TOP + HEIGHT, LEFT + WIDTH);
    for (percentile, name) in PERCENTILES {
        let x = Scale::x(percentile);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            bottom + 18.0
        );
    }
    for power in scale.low..=scale.high {
        let nanoseconds = 10_u64.pow(power);
        let y = scale.y(nanoseconds);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            shown(nanoseconds)
        );
    }
}

/// The line of a row, and its name beside the others' in the order of the table.
fn line(svg: &mut String, scale: &Scale, row: &Row, number: usize) {
    let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or_default();
    let dashes = if number < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
    let points: Vec<String> = row
        .percentiles
        .iter()
        .map(|(percentile, time)| format!("{:.1},{:.1}", Scale::x(*percentile), scale.y(*time)))
        .collect();
    let (x, y) = (LEFT + WIDTH + 14.0, TOP + 12.0 + 22.0 * f64::from(u16::try_from(number).unwrap_or(u16::MAX)));
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes} points=\"{}\"/>\n\
         <path d=\"M{x} {y}h22\" stroke=\"{colour}\" stroke-width=\"3\"{dashes}/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        points.join(" "),
        x + 28.0,
        y + 4.0,
        escaped(row.what)
    );
}

/// Powers of ten of nanoseconds, the lowest and the highest.
struct Scale {
    low: u32,
    high: u32,
}

impl Scale {
    fn of(rows: &[Row]) -> Self {
        let times = || rows.iter().flat_map(|row| row.percentiles.iter().map(|(_, time)| (*time).max(1)));
        let low = times().min().unwrap_or(1).ilog10();
        Self { low, high: (times().max().unwrap_or(1).ilog10() + 1).max(low + 1) }
    }

    /// Where a percentile is: as far from the next as that leaves out a tenth of it.
    fn x(percentile: f64) -> f64 {
        let nines = -((1.0 - percentile / 100.0).max(1e-4)).log10();
        LEFT + WIDTH * nines / 4.0
    }

    fn y(&self, nanoseconds: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a drawing has fewer digits")]
        let power = (nanoseconds.max(1) as f64).log10();
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        TOP + HEIGHT * (1.0 - (power - low) / (high - low))
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
