//! Lines over thread counts, panels side by side, with the spread as bars.

use crate::backend::Failure;
use crate::record::Spread;

use super::{Anchor, Canvas, GREY, GRID, Heading, INK, MARGIN, SMALL, Scale, TEXT, WIDTH, colour, draw};

/// A line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name.
    pub label: String,
    /// Its colour.
    pub colour: (u8, u8, u8),
    /// Whether it is ours; then it is thicker.
    pub is_ours: bool,
    /// Values by thread count.
    pub points: Vec<(usize, Spread)>,
}

/// A panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Its heading.
    pub heading: String,
    /// Its lines.
    pub series: Vec<Series>,
}

/// Whether lines are named at their ends or under the panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// At their ends, in a column of this width.
    AtEnds(i32),
    /// Under the panels.
    Below,
}

/// Room for the numbers of the vertical axis.
const AXIS: i32 = 56;
/// Room between panels.
const GAP: i32 = 14;
/// The least distance of two names.
const LINE: i32 = 15;
/// The least distance of two lines of the grid.
const GRID_LINE: i32 = 32;

/// Draws panels over the same axes: threads to the right, `unit` upwards, logarithmic.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn lines(
    heading: &Heading,
    panels: &[Panel],
    height: i32,
    names: Names,
    unit: fn(f64) -> String,
) -> Result<String, Failure> {
    let legend: Vec<&Series> = legend(panels);
    let legend_rows = match names {
        Names::AtEnds(_) => 0,
        Names::Below => i32::try_from(legend.len().div_ceil(LEGEND_COLUMNS)).unwrap_or(0),
    };
    let total = heading.height() + 30 + height + 40 + legend_rows * 20 + 10;
    draw(total.unsigned_abs(), &heading.noting("logarithmic"), |canvas, y| {
        let (top, bottom) = (y + 30, y + 30 + height);
        let values = panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        let Some(scale) = Scale::log(values.flat_map(|(_, spread)| [spread.low, spread.high]), bottom, top) else {
            return Ok(());
        };
        let mut threads: Vec<usize> = panels
            .iter()
            .flat_map(|panel| &panel.series)
            .flat_map(|series| &series.points)
            .map(|point| point.0)
            .collect();
        threads.sort_unstable();
        threads.dedup();
        let side = if let Names::AtEnds(width) = names { width } else { 0 };
        let count = i32::try_from(panels.len()).unwrap_or(1).max(1);
        let width = (WIDTH as i32 - 2 * MARGIN - AXIS - side - GAP * (count - 1)) / count;
        for tick in scale.ticks(GRID_LINE) {
            canvas.text(MARGIN + AXIS - 8, scale.at(tick), SMALL, Anchor::End, GREY, &unit(tick))?;
        }
        for (place, panel) in (0..).zip(panels) {
            let left = MARGIN + AXIS + (width + GAP) * place;
            let frame = Frame { left, right: left + width, top, bottom, scale, threads: &threads };
            frame.draw(canvas, panel)?;
            if place == count - 1 && side > 0 {
                frame.name_ends(canvas, panel)?;
            }
        }
        for (place, series) in (0..).zip(legend.iter().take(if legend_rows > 0 { usize::MAX } else { 0 })) {
            let columns = LEGEND_COLUMNS as i32;
            let step = (WIDTH as i32 - 2 * MARGIN) / columns;
            let (x, y) = (MARGIN + step * (place % columns), bottom + 54 + 20 * (place / columns));
            canvas.line(&[(x, y), (x + 18, y)], colour(series.colour), if series.is_ours { 3 } else { 2 })?;
            canvas.dot((x + 9, y), 4, colour(series.colour))?;
            canvas.text(x + 24, y, TEXT, Anchor::Start, INK, &series.label)?;
        }
        Ok(())
    })
}

const LEGEND_COLUMNS: usize = 5;

/// Each name once.
fn legend(panels: &[Panel]) -> Vec<&Series> {
    let mut legend: Vec<&Series> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !legend.iter().any(|known| known.label == series.label) {
            legend.push(series);
        }
    }
    legend
}

struct Frame<'a> {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    scale: Scale,
    threads: &'a [usize],
}

impl Frame<'_> {
    /// Thread counts double, so they are as far from each other as their logarithms.
    fn x(&self, threads: usize) -> i32 {
        let place = self.threads.iter().position(|known| *known == threads).unwrap_or(0);
        let steps = self.threads.len().saturating_sub(1).max(1);
        let room = self.right - self.left - 40;
        self.left + 20 + room * i32::try_from(place).unwrap_or(0) / i32::try_from(steps).unwrap_or(1)
    }

    fn draw(&self, canvas: &Canvas<'_>, panel: &Panel) -> Result<(), Failure> {
        let Self { left, right, top, bottom, scale, .. } = *self;
        canvas.bold(left, top - 14, TEXT, INK, &panel.heading)?;
        for tick in scale.ticks(GRID_LINE) {
            canvas.line(&[(left, scale.at(tick)), (right, scale.at(tick))], GRID, 1)?;
        }
        canvas.line(&[(left, bottom), (right, bottom)], GREY, 1)?;
        for &threads in self.threads {
            canvas.text(self.x(threads), bottom + 12, SMALL, Anchor::Middle, GREY, &threads.to_string())?;
        }
        canvas.text(left + (right - left) / 2, bottom + 28, SMALL, Anchor::Middle, GREY, "threads")?;
        // A little to the side of each other, or the bars of equal times would cover each other.
        let count = i32::try_from(panel.series.len()).unwrap_or(1);
        for (place, series) in (0..).zip(&panel.series) {
            let aside = (2 * place - count + 1) * 10 / count.max(1);
            let ink = colour(series.colour);
            let points: Vec<(i32, i32)> = series
                .points
                .iter()
                .map(|(threads, spread)| (self.x(*threads) + aside, scale.at(spread.median)))
                .collect();
            canvas.line(&points, ink, if series.is_ours { 3 } else { 2 })?;
            for ((x, y), (_, spread)) in points.iter().zip(&series.points) {
                canvas.line(&[(*x, scale.at(spread.low)), (*x, scale.at(spread.high))], ink, 1)?;
                canvas.dot((*x, *y), if series.is_ours { 4 } else { 3 }, ink)?;
            }
        }
        Ok(())
    }

    /// Names at the ends of the lines, moved apart where they would touch.
    fn name_ends(&self, canvas: &Canvas<'_>, panel: &Panel) -> Result<(), Failure> {
        let mut ends: Vec<(i32, &Series)> = panel
            .series
            .iter()
            .filter_map(|series| Some((self.scale.at(series.points.last()?.1.median), series)))
            .collect();
        ends.sort_by_key(|(y, _)| *y);
        let wanted: Vec<i32> = ends.iter().map(|(y, _)| *y).collect();
        for ((end, series), y) in ends.iter().zip(apart(&wanted, self.top, self.bottom)) {
            let x = self.right + 14;
            canvas.line(&[(self.right - 14, *end), (x, y)], GRID, 1)?;
            if series.is_ours {
                canvas.bold(x + 4, y, TEXT, colour(series.colour), &series.label)?;
            } else {
                canvas.text(x + 4, y, TEXT, Anchor::Start, colour(series.colour), &series.label)?;
            }
        }
        Ok(())
    }
}

/// Moves sorted places at least a line apart, within the ends where there is room.
fn apart(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut places = wanted.to_vec();
    for place in 1..places.len() {
        places[place] = places[place].max(places[place - 1] + LINE);
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(limit);
        limit = *place - LINE;
    }
    if let Some(first) = places.first().copied()
        && first < top
    {
        for (line, place) in (0..).zip(&mut places) {
            *place = (*place).max(top + LINE * line);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_move_apart_and_stay_inside() {
        assert_eq!(apart(&[10, 11, 12], 0, 100), [10, 25, 40]);
        assert_eq!(apart(&[98, 99, 100], 0, 100), [70, 85, 100]);
        assert_eq!(apart(&[10, 50], 0, 100), [10, 50]);
    }
}
