//! Line plots as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
/// Distinguishable, also without seeing red and green apart.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// One line.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A plot with logarithmic axes; points that have no logarithm are left out.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub lines: Vec<Line>,
}

impl Plot<'_> {
    /// The picture, if there is anything to show.
    pub fn svg(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
        let (x_min, x_max) = decades(points().map(|(x, _)| *x))?;
        let (y_min, y_max) = decades(points().map(|(_, y)| *y))?;
        let place_x = |x: f64| LEFT + (x.log10() - x_min) / (x_max - x_min) * (WIDTH - LEFT - RIGHT);
        let place_y =
            |y: f64| HEIGHT - BOTTOM - (y.log10() - y_min) / (y_max - y_min) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
        };
        text(LEFT, TOP - 16.0, "start", self.title);
        text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", self.x);
        text(8.0, TOP - 16.0, "start", self.y);
        let mut grid = String::new();
        let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
            let _ = writeln!(
                grid,
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>"
            );
        };
        for value in marks(x_min, x_max) {
            line(place_x(value), TOP, place_x(value), HEIGHT - BOTTOM);
            text(place_x(value), HEIGHT - BOTTOM + 18.0, "middle", &short(value));
        }
        for value in marks(y_min, y_max) {
            line(LEFT, place_y(value), WIDTH - RIGHT, place_y(value));
            text(LEFT - 6.0, place_y(value) + 4.0, "end", &short(value));
        }
        for (at, (line, colour)) in self.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            text(WIDTH - RIGHT + 32.0, TOP + 12.0 + 20.0 * at as f64, "start", &line.name);
            let y = TOP + 8.0 + 20.0 * at as f64;
            // With the colours used up, dashes tell lines apart.
            let dashes = if at < COLOURS.len() { "" } else { " stroke-dasharray=\"6 3\"" };
            let places: Vec<String> = line
                .points
                .iter()
                .filter(|(x, y)| *x > 0.0 && *y > 0.0)
                .map(|(x, y)| format!("{:.1},{:.1}", place_x(*x), place_y(*y)))
                .collect();
            let _ = writeln!(
                grid,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\n\
                 <line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                places.join(" "),
                WIDTH - RIGHT + 8.0,
                WIDTH - RIGHT + 26.0,
            );
        }
        svg.push_str(&grid);
        svg.push_str("</svg>\n");
        Some(svg)
    }
}

/// The range of logarithms, with a little room.
fn decades(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (min, max) =
        values.map(f64::log10).fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(v), max.max(v)));
    (min <= max).then_some((min - 0.1, max + 0.1))
}

/// 1, 2 and 5 of every decade in the range.
fn marks(min: f64, max: f64) -> impl Iterator<Item = f64> {
    (min.floor() as i32..=max.ceil() as i32)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|mark| mark * 10_f64.powi(decade)))
        .filter(move |value| (min..=max).contains(&value.log10()))
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{}", (v * 1e4).round() / 1e4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_server() {
        let line =
            |name: &str| Line { name: name.to_owned(), points: vec![(1.0, 2.0), (10.0, 0.0), (100.0, 3.0)] };
        let plot = Plot { title: "t", x: "x", y: "y", lines: vec![line("a"), line("b")] };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(Plot { lines: Vec::new(), ..plot }.svg().is_none());
    }
}
