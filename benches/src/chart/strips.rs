//! What happened over time: a strip for each contender under the same clock, so that nothing covers anything.

use crate::backend::Failure;

use super::{Anchor, Canvas, GREY, GRID, Heading, INK, MARGIN, SMALL, STRIPE, Scale, TEXT, WIDTH, colour, draw};

/// What went wrong.
const FAILED: plotters::style::RGBColor = plotters::style::RGBColor(0x99, 0x1b, 0x1b);
/// A time in which everything is different.
const BAND: plotters::style::RGBColor = plotters::style::RGBColor(0xff, 0xee, 0xd6);

/// The width of the column with the names, and of that with the notes.
const NAMES: i32 = 150;
const NOTES: i32 = 214;
/// Room between columns.
const GAP: i32 = 14;
/// The height of a strip, and of what is drawn in it.
const ROW: i32 = 42;
const INNER: i32 = 36;
/// The space above the strips of a section, for its headings, and below them, for the clock.
const ABOVE: i32 = 48;
const BELOW: i32 = 34;

/// What is drawn in a strip.
#[derive(Debug, Clone)]
pub enum Track {
    /// Areas from a line up and, for what went wrong, down.
    Areas {
        /// Upwards, in the contender's colour.
        up: Vec<f64>,
        /// Downwards, in dark red.
        down: Vec<f64>,
    },
    /// Lines on a logarithmic scale, the first one thick.
    Lines(Vec<Vec<f64>>),
}

/// A contender's strip.
#[derive(Debug, Clone)]
pub struct Strip {
    /// Its name.
    pub label: String,
    /// Its colour.
    pub colour: (u8, u8, u8),
    /// Whether it is ours.
    pub is_ours: bool,
    /// One for each column.
    pub tracks: Vec<Track>,
    /// Lines beside it, at most two.
    pub notes: Vec<String>,
}

/// A column of a section.
#[derive(Debug, Clone)]
pub struct Column {
    /// What it shows; what the height of a strip stands for is added.
    pub heading: String,
    /// How long a step is.
    pub step_ms: u64,
    /// How a value is written.
    pub unit: fn(f64) -> String,
    /// What the height of areas stands for at least.
    pub at_least: f64,
}

/// Strips under one heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The strips.
    pub strips: Vec<Strip>,
    /// A time to mark, in seconds.
    pub band: Option<(f64, f64)>,
}

/// Draws sections under each other.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn strips(heading: &Heading, sections: &[Section]) -> Result<String, Failure> {
    let height = heading.height() + sections.iter().map(Section::height).sum::<i32>();
    draw(height.unsigned_abs(), heading, |canvas, mut y| {
        for section in sections {
            section.draw(canvas, y)?;
            y += section.height();
        }
        Ok(())
    })
}

impl Section {
    fn height(&self) -> i32 {
        ABOVE + ROW * i32::try_from(self.strips.len()).unwrap_or(0) + BELOW
    }

    fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), Failure> {
        canvas.bold(MARGIN, top + 14, 13, INK, &self.heading)?;
        let rows = top + ABOVE;
        let bottom = rows + ROW * i32::try_from(self.strips.len()).unwrap_or(0);
        let right = WIDTH as i32 - MARGIN;
        for (row, strip) in (0..).zip(&self.strips) {
            let (from, y) = (rows + ROW * row, rows + ROW * row + ROW / 2);
            if row % 2 == 0 {
                canvas.block((MARGIN, from), (right, from + ROW), STRIPE)?;
            }
            canvas.block((MARGIN + 2, y - 4), (MARGIN + 10, y + 4), colour(strip.colour))?;
            if strip.is_ours {
                canvas.bold(MARGIN + 16, y, TEXT, INK, &strip.label)?;
            } else {
                canvas.text(MARGIN + 16, y, TEXT, Anchor::Start, INK, &strip.label)?;
            }
            let first = if strip.notes.len() > 1 { y - 8 } else { y };
            for (line, note) in (0..).zip(strip.notes.iter().take(2)) {
                canvas.text(right - NOTES + 10, first + 16 * line, SMALL, Anchor::Start, INK, note)?;
            }
        }
        let count = i32::try_from(self.columns.len()).unwrap_or(1).max(1);
        let width = (right - NOTES - MARGIN - NAMES - GAP * (count - 1)) / count;
        for (place, column) in self.columns.iter().enumerate() {
            let left = MARGIN + NAMES + (width + GAP) * i32::try_from(place).unwrap_or(0);
            let frame = Frame { left, right: left + width, top: rows, bottom };
            self.draw_column(canvas, column, place, frame)?;
        }
        Ok(())
    }

    fn draw_column(&self, canvas: &Canvas<'_>, column: &Column, place: usize, frame: Frame) -> Result<(), Failure> {
        let Frame { left, right, top, bottom } = frame;
        let tracks: Vec<Option<&Track>> = self.strips.iter().map(|strip| strip.tracks.get(place)).collect();
        let steps = tracks.iter().flatten().map(|track| track.len()).max().unwrap_or(0);
        #[expect(clippy::cast_precision_loss)]
        let seconds = (steps as u64 * column.step_ms) as f64 / 1e3;
        let Some(clock) = Scale::linear([seconds], left, right) else { return Ok(()) };
        if let Some((from, to)) = self.band {
            canvas.block((clock.at(from), top), (clock.at(to), bottom), BAND)?;
        }
        for tick in clock.ticks(60) {
            let x = clock.at(tick);
            canvas.line(&[(x, top), (x, bottom)], GRID, 1)?;
            let label = if tick == 0.0 { "0".to_owned() } else { crate::units::time(tick * 1e9) };
            canvas.text(x, bottom + 12, SMALL, Anchor::Middle, GREY, &label)?;
        }
        let Some(heights) = Heights::of(tracks.iter().copied().flatten(), column.at_least) else { return Ok(()) };
        let heading = format!("{}; {}", column.heading, heights.words(column.unit));
        canvas.text(left, top - 12, SMALL, Anchor::Start, GREY, &heading)?;
        for (row, (track, strip)) in (0..).zip(tracks.iter().zip(&self.strips)) {
            let from = top + ROW * row + (ROW - INNER) / 2;
            if let Some(track) = track {
                let x = |step: usize| {
                    #[expect(clippy::cast_precision_loss)]
                    let at = (step as u64 * column.step_ms) as f64 / 1e3;
                    clock.at(at)
                };
                heights.draw(canvas, track, colour(strip.colour), from, x)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Track {
    /// How many steps it has.
    fn len(&self) -> usize {
        match self {
            Self::Areas { up, down } => up.len().max(down.len()),
            Self::Lines(lines) => lines.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}

/// What the height of a strip stands for, the same in all strips of a column.
#[derive(Debug, Clone, Copy)]
enum Heights {
    Linear { up: f64, down: f64 },
    Log(Scale, f64, f64),
}

impl Heights {
    fn of<'a>(tracks: impl Iterator<Item = &'a Track>, at_least: f64) -> Option<Self> {
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let (mut up, mut down) = (at_least, 0.0);
        let mut lines = Vec::new();
        for track in tracks {
            match track {
                Track::Areas { up: high, down: low } => {
                    up = f64::max(up, most(high));
                    down = f64::max(down, most(low));
                }
                Track::Lines(values) => lines.extend(values.iter().flatten().copied().filter(|value| *value > 0.0)),
            }
        }
        if lines.is_empty() {
            return (up + down > 0.0).then_some(Self::Linear { up, down });
        }
        let low = lines.iter().copied().fold(f64::INFINITY, f64::min);
        let high = lines.iter().copied().fold(0.0, f64::max);
        Scale::log(lines, INNER, 0).map(|scale| Self::Log(scale, low, high))
    }

    fn words(&self, unit: fn(f64) -> String) -> String {
        match self {
            Self::Linear { up, down } if *down > 0.0 => format!("full height: {}", unit(up + down)),
            Self::Linear { up, .. } => format!("full height: {}", unit(*up)),
            Self::Log(_, low, high) => format!("{} to {}", unit(*low), unit(*high)),
        }
    }

    fn draw(
        &self,
        canvas: &Canvas<'_>,
        track: &Track,
        ink: plotters::style::RGBColor,
        top: i32,
        x: impl Fn(usize) -> i32,
    ) -> Result<(), Failure> {
        match (self, track) {
            (Self::Linear { up: most_up, down: most_down }, Track::Areas { up, down }) => {
                #[expect(clippy::cast_possible_truncation)]
                let pixels = |value: f64| (value / (most_up + most_down) * f64::from(INNER)).round() as i32;
                let zero = top + pixels(*most_up);
                if let Some(outline) = outline(up, &x, |value| zero - pixels(value), zero) {
                    canvas.area(&outline, ink)?;
                }
                if let Some(outline) = outline(down, &x, |value| zero + pixels(value), zero) {
                    canvas.area(&outline, FAILED)?;
                }
                canvas.line(&[(x(0), zero), (x(up.len()), zero)], GREY, 1)
            }
            (Self::Log(scale, ..), Track::Lines(lines)) => {
                for (place, values) in lines.iter().enumerate() {
                    let points: Vec<(i32, i32)> = values
                        .iter()
                        .enumerate()
                        .flat_map(|(step, value)| {
                            let y = top + scale.at(*value);
                            [(x(step), y), (x(step + 1), y)]
                        })
                        .collect();
                    if !points.is_empty() {
                        canvas.line(&points, ink, if place == 0 { 2 } else { 1 })?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The corners of the steps over a line; `None` when there is nothing over it.
fn outline(values: &[f64], x: impl Fn(usize) -> i32, y: impl Fn(f64) -> i32, zero: i32) -> Option<Vec<(i32, i32)>> {
    if values.iter().all(|value| *value == 0.0) {
        return None;
    }
    let mut corners = vec![(x(0), zero)];
    for (step, value) in values.iter().enumerate() {
        // Steps of the same height are one.
        if step == 0 || values[step - 1] != *value {
            corners.push((x(step), corners.last().map_or(zero, |corner| corner.1)));
            corners.push((x(step), y(*value)));
        }
    }
    let last = corners.last().map_or(zero, |corner| corner.1);
    corners.push((x(values.len()), last));
    corners.push((x(values.len()), zero));
    Some(corners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_goes_along_the_steps() {
        let x = |step: usize| i32::try_from(step).unwrap() * 10;
        let y = |value: f64| 100 - value as i32;
        let corners = outline(&[0.0, 5.0, 5.0, 2.0], x, y, 100).unwrap();
        assert_eq!(
            corners,
            [(0, 100), (0, 100), (0, 100), (10, 100), (10, 95), (30, 95), (30, 98), (40, 98), (40, 100)]
        );
        assert_eq!(outline(&[0.0, 0.0], x, y, 100), None);
    }

    #[test]
    fn all_strips_of_a_column_have_the_same_height() {
        let tracks =
            [Track::Areas { up: vec![3.0, 8.0], down: vec![] }, Track::Areas { up: vec![1.0], down: vec![2.0] }];
        let Some(Heights::Linear { up, down }) = Heights::of(tracks.iter(), 1.0) else { panic!("linear") };
        assert_eq!((up, down), (8.0, 2.0));
        assert!(Heights::of([Track::Areas { up: vec![0.0], down: vec![] }].iter(), 0.0).is_none());
    }
}
