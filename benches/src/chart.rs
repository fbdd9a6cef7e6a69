//! Charts as SVG. This file knows paper and ink; what is drawn is in `chart/`, one file a kind of picture.
//!
//! A chart takes records and nothing else, so it can be drawn again without measuring again.

pub mod figures;
pub mod lines;
pub mod matrix;
pub mod over_time;
pub mod stack;
pub mod strips;

use std::fmt::Display;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::backend::Failure;

/// The width of every chart: a README's column.
pub const WIDTH: u32 = 900;
/// Space around a chart.
pub const MARGIN: i32 = 16;
/// Letters.
pub const TEXT: i32 = 12;
/// Small letters.
pub const SMALL: i32 = 11;
/// Text.
pub const INK: RGBColor = RGBColor(0x1c, 0x1c, 0x1c);
/// Less important text.
pub const GREY: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Lines of a grid.
pub const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Every other row's background.
pub const STRIPE: RGBColor = RGBColor(0xf5, 0xf5, 0xf5);

/// Where a text is relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Is centred there.
    Middle,
    /// Ends there.
    End,
}

/// Something to draw on, in pixels.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// The colour of a contender.
#[must_use]
pub fn colour((red, green, blue): (u8, u8, u8)) -> RGBColor {
    RGBColor(red, green, blue)
}

/// Draws a chart.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn draw(
    height: u32,
    heading: &Heading,
    body: impl FnOnce(&Canvas<'_>, i32) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let canvas = Canvas { area };
        canvas.area.fill(&WHITE).map_err(|error| failed(&error))?;
        canvas.bold(MARGIN, 20, 16, INK, &heading.title)?;
        let mut y = 40;
        for line in &heading.lines {
            canvas.text(MARGIN, y, SMALL, Anchor::Start, GREY, line)?;
            y += 16;
        }
        body(&canvas, y)?;
        canvas.area.present().map_err(|error| failed(&error))?;
    }
    Ok(svg)
}

fn failed(error: &dyn Display) -> Failure {
    Failure::of("could not draw a chart", error)
}

/// What stands over a chart.
#[derive(Debug, Clone)]
pub struct Heading {
    /// What it shows.
    pub title: String,
    /// How to read it, and where the numbers are from.
    pub lines: Vec<String>,
}

impl Heading {
    /// The same with one more thing in the last line.
    #[must_use]
    pub fn noting(&self, note: &str) -> Self {
        let mut heading = self.clone();
        match heading.lines.last_mut() {
            Some(line) => *line = format!("{line}; {note}"),
            None => heading.lines.push(note.to_owned()),
        }
        heading
    }

    /// The pixels it takes.
    #[must_use]
    pub fn height(&self) -> i32 {
        40 + 16 * i32::try_from(self.lines.len()).unwrap_or(0)
    }
}

impl Canvas<'_> {
    fn put(&self, x: i32, y: i32, style: TextStyle<'_>, text: &str) -> Result<(), Failure> {
        self.area.draw(&Text::new(text.to_owned(), (x, y), style)).map_err(|error| failed(&error))
    }

    /// Writes a line of text, centred vertically on `y`.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn; so for all that follow.
    pub fn text(&self, x: i32, y: i32, size: i32, anchor: Anchor, ink: RGBColor, text: &str) -> Result<(), Failure> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = ("sans-serif", size).into_font().color(&ink).pos(Pos::new(horizontal, VPos::Center));
        self.put(x, y, style, text)
    }

    /// Writes a line of bold text from `x` on.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn bold(&self, x: i32, y: i32, size: i32, ink: RGBColor, text: &str) -> Result<(), Failure> {
        let font = FontDesc::new(FontFamily::SansSerif, f64::from(size), FontStyle::Bold);
        self.put(x, y, font.color(&ink).pos(Pos::new(HPos::Left, VPos::Center)), text)
    }

    /// Draws a line through points.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn line(&self, points: &[(i32, i32)], ink: RGBColor, width: u32) -> Result<(), Failure> {
        self.area.draw(&PathElement::new(points.to_vec(), ink.stroke_width(width))).map_err(|error| failed(&error))
    }

    /// Fills a rectangle.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn block(&self, from: (i32, i32), to: (i32, i32), ink: RGBColor) -> Result<(), Failure> {
        self.area.draw(&Rectangle::new([from, to], ink.filled())).map_err(|error| failed(&error))
    }

    /// Fills what is inside a line through points.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn area(&self, points: &[(i32, i32)], ink: RGBColor) -> Result<(), Failure> {
        self.area.draw(&Polygon::new(points.to_vec(), ink.filled())).map_err(|error| failed(&error))
    }

    /// Draws a dot.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn dot(&self, at: (i32, i32), radius: i32, ink: RGBColor) -> Result<(), Failure> {
        self.area.draw(&Circle::new(at, radius, ink.filled())).map_err(|error| failed(&error))
    }
}

/// From values to pixels.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    from: i32,
    to: i32,
}

impl Scale {
    /// A logarithmic scale that shows `values`, with some room at both ends. `None` when there is nothing to show.
    #[must_use]
    pub fn log(values: impl IntoIterator<Item = f64>, from: i32, to: i32) -> Option<Self> {
        let (low, high) = range(values.into_iter().filter(|value| *value > 0.0))?;
        // At least half a decade, or small differences would look large.
        let widen = (10f64.powf(0.5) / (high / low)).max(1.0).sqrt() * 1.12;
        Some(Self { low: low / widen, high: high * widen, is_log: true, from, to })
    }

    /// A linear scale from zero that shows `values`. `None` when there is nothing to show.
    #[must_use]
    pub fn linear(values: impl IntoIterator<Item = f64>, from: i32, to: i32) -> Option<Self> {
        let (_, high) = range(values)?;
        Some(Self { low: 0.0, high: high.max(f64::MIN_POSITIVE) * 1.04, is_log: false, from, to })
    }

    /// The same scale on other pixels.
    #[must_use]
    pub fn on(self, from: i32, to: i32) -> Self {
        Self { from, to, ..self }
    }

    /// The pixel of a value; values beyond the ends are at the ends.
    #[must_use]
    #[expect(clippy::cast_possible_truncation)]
    pub fn at(&self, value: f64) -> i32 {
        let part = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (f64::from(self.to - self.from) * part.clamp(0.0, 1.0)).round() as i32
    }

    /// Values to mark, `apart` pixels from each other or more. On a logarithmic scale there are at least two, however close
    /// they must be, since nobody can read such a scale from one.
    #[must_use]
    pub fn ticks(&self, apart: i32) -> Vec<f64> {
        if !self.is_log {
            let most = ((self.to - self.from).abs() / apart).max(1);
            let step = nice_step(self.high / f64::from(most));
            return (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.high).collect();
        }
        let decades = |steps: &[f64], every: i32| -> Vec<f64> {
            #[expect(clippy::cast_possible_truncation)]
            let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
            (first..=last)
                .filter(|decade| decade.rem_euclid(every) == 0)
                .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
                .filter(|tick| (self.low..=self.high).contains(tick))
                .collect()
        };
        let choices = [
            decades(&[1.0, 2.0, 5.0], 1),
            decades(&[1.0, 3.0], 1),
            decades(&[1.0], 1),
            decades(&[1.0], 2),
            decades(&[1.0], 3),
            // For a range so narrow that it has one of the others or none.
            decades(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], 1),
        ];
        let are_apart = |one: f64, other: f64| (self.at(one) - self.at(other)).abs() >= apart;
        let fits = |ticks: &&Vec<f64>| ticks.len() > 1 && ticks.windows(2).all(|pair| are_apart(pair[0], pair[1]));
        if let Some(ticks) = choices.iter().find(fits) {
            return ticks.clone();
        }
        let ends = |ticks: &Vec<f64>| Some([*ticks.first()?, *ticks.last()?]);
        let coarse = ends(&choices[0]).filter(|[first, last]| are_apart(*first, *last));
        coarse.or_else(|| ends(choices.last()?)).unwrap_or_default().to_vec()
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// The next of 1, 2, 5, 10, … at or above.
fn nice_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * decade).find(|nice| *nice >= step).unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_scale_keeps_its_ends_and_its_order() {
        let scale = Scale::log([1.0, 1000.0], 100, 200).unwrap();
        assert!(scale.at(1.0) > 100 && scale.at(1000.0) < 200);
        assert!(scale.at(10.0) < scale.at(100.0));
        assert_eq!(scale.at(0.0), 100);
        assert_eq!(scale.ticks(25), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(scale.ticks(5), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        assert!(Scale::log([0.0], 0, 1).is_none());
    }

    #[test]
    fn a_log_scale_has_two_ticks_however_narrow_it_is() {
        for first in 10..100 {
            for ratio in [1.0, 2.0, 4.0, 20.0, 1e3, 1e6] {
                let first = f64::from(first) / 10.0;
                let scale = Scale::log([first, first * ratio], 0, 72).unwrap();
                let ticks = scale.ticks(40);
                let (from, to) = (scale.at(ticks[0]), scale.at(*ticks.last().unwrap()));
                assert!(ticks.len() > 1 && to - from >= 28, "{first} times {ratio}: {ticks:?} at {from} to {to}");
            }
        }
    }

    #[test]
    fn a_linear_scale_begins_at_zero() {
        let scale = Scale::linear([3.0, 9.0], 0, 104).unwrap();
        assert_eq!((scale.at(0.0), scale.at(9.0)), (0, 100));
        assert_eq!(scale.ticks(20), [0.0, 2.0, 4.0, 6.0, 8.0]);
    }
}
