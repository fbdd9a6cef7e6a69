//! Contenders as rows, circumstances as columns, a dot in each field: nothing overlaps however close the numbers are.

use crate::backend::Failure;
use crate::record::Spread;

use super::{Anchor, Canvas, GREY, GRID, Heading, INK, MARGIN, SMALL, STRIPE, Scale, TEXT, WIDTH, colour, draw};

/// The least distance of two lines of the grid: the room for a label.
const GRID_LINE: i32 = 40;
/// The least width of the column with the names, and what a letter of the longest of them takes.
const NAMES: i32 = 158;
const LETTER: i32 = 6;
/// The width of the numbers at the right of each column.
const NUMBERS: i32 = 50;
/// The height of a row.
const ROW: i32 = 18;
/// The space above the rows of a section, for its headings, and below them, for the axis.
const ABOVE: i32 = 50;
const BELOW: i32 = 26;

/// A row's name.
#[derive(Debug, Clone)]
pub struct Name {
    /// The text.
    pub label: String,
    /// Its colour.
    pub colour: (u8, u8, u8),
    /// Whether it is ours.
    pub is_ours: bool,
}

/// What is in a field.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// A dot at the median, a line over the spread.
    Dot(Spread),
    /// A line from the median to the far tail, a tick between, a dot at its end.
    Tail {
        /// Where it begins.
        p50: f64,
        /// The tick.
        p99: f64,
        /// Where it ends.
        p999: f64,
    },
}

impl Mark {
    fn values(self) -> [f64; 3] {
        match self {
            Self::Dot(Spread { low, median, high, .. }) => [low, median, high],
            Self::Tail { p50, p99, p999 } => [p50, p99, p999],
        }
    }

    /// The number that is written.
    fn value(self) -> f64 {
        match self {
            Self::Dot(spread) => spread.median,
            Self::Tail { p999, .. } => p999,
        }
    }
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// What it is about.
    pub heading: String,
    /// A field for each row; `None` where nothing was measured.
    pub marks: Vec<Option<Mark>>,
}

/// Rows and columns under one heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// The rows.
    pub names: Vec<Name>,
    /// The columns.
    pub columns: Vec<Column>,
    /// How a number is written.
    pub unit: fn(f64) -> String,
    /// Whether all columns share a scale.
    pub is_shared: bool,
}

impl Section {
    fn height(&self) -> i32 {
        ABOVE + ROW * i32::try_from(self.names.len()).unwrap_or(0) + BELOW
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.columns.iter().flat_map(Column::values)
    }

    fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), Failure> {
        canvas.bold(MARGIN, top + 14, 13, INK, &self.heading)?;
        let rows = top + ABOVE;
        let bottom = rows + ROW * i32::try_from(self.names.len()).unwrap_or(0);
        let right = WIDTH as i32 - MARGIN;
        for (row, name) in (0..).zip(&self.names) {
            let y = rows + ROW * row + ROW / 2;
            if row % 2 == 0 {
                canvas.block((MARGIN, y - ROW / 2), (right, y + ROW / 2), STRIPE)?;
            }
            canvas.block((MARGIN + 2, y - 4), (MARGIN + 10, y + 4), colour(name.colour))?;
            if name.is_ours {
                canvas.bold(MARGIN + 16, y, TEXT, INK, &name.label)?;
            } else {
                canvas.text(MARGIN + 16, y, TEXT, Anchor::Start, INK, &name.label)?;
            }
        }
        let columns = i32::try_from(self.columns.len()).unwrap_or(1).max(1);
        let letters = self.names.iter().map(|name| name.label.chars().count()).max();
        let names = NAMES.max(24 + LETTER * i32::try_from(letters.unwrap_or(0)).unwrap_or(0));
        let width = (right - MARGIN - names) / columns;
        let shared = Scale::log(self.values(), 0, 1);
        for (place, column) in (0..).zip(&self.columns) {
            let left = MARGIN + names + width * place;
            let (from, to) = (left + 12, left + width - NUMBERS - 8);
            canvas.text(left + 8, top + 36, TEXT, Anchor::Start, INK, &column.heading)?;
            let own = if self.is_shared { shared } else { Scale::log(column.values(), 0, 1) };
            let Some(scale) = own.map(|scale| scale.on(from, to)) else { continue };
            for tick in scale.ticks(GRID_LINE) {
                let x = scale.at(tick);
                canvas.line(&[(x, rows), (x, bottom)], GRID, 1)?;
                canvas.text(x, bottom + 12, SMALL, Anchor::Middle, GREY, &(self.unit)(tick))?;
            }
            for (row, mark) in (0..).zip(&column.marks) {
                let y = rows + ROW * row + ROW / 2;
                let ink = usize::try_from(row)
                    .ok()
                    .and_then(|row| self.names.get(row))
                    .map_or(INK, |name| colour(name.colour));
                let Some(mark) = mark else {
                    canvas.text(left + width - 8, y, SMALL, Anchor::End, GREY, "–")?;
                    continue;
                };
                let [low, middle, high] = mark.values().map(|value| scale.at(value));
                canvas.line(&[(low, y), (high, y)], ink, 2)?;
                match mark {
                    Mark::Dot(_) => canvas.dot((middle, y), 4, ink)?,
                    Mark::Tail { .. } => {
                        canvas.line(&[(low, y - 4), (low, y + 4)], ink, 2)?;
                        canvas.line(&[(middle, y - 4), (middle, y + 4)], ink, 2)?;
                        canvas.dot((high, y), 4, ink)?;
                    }
                }
                canvas.text(left + width - 8, y, SMALL, Anchor::End, INK, &(self.unit)(mark.value()))?;
            }
        }
        Ok(())
    }
}

impl Column {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.marks.iter().flatten().flat_map(|mark| mark.values())
    }
}

/// Draws sections under each other.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn matrix(heading: &Heading, sections: &[Section]) -> Result<String, Failure> {
    let height = heading.height() + sections.iter().map(Section::height).sum::<i32>();
    let is_shared = sections.iter().all(|section| section.is_shared);
    let note = if is_shared { "logarithmic" } else { "logarithmic, column by column" };
    draw(height.unsigned_abs(), &heading.noting(note), |canvas, mut y| {
        for section in sections {
            section.draw(canvas, y)?;
            y += section.height();
        }
        Ok(())
    })
}
