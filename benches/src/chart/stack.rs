//! Stacked bars: what a whole consists of.

use crate::backend::Failure;

use super::{Anchor, Canvas, GREY, GRID, Heading, INK, MARGIN, SMALL, Scale, TEXT, WIDTH, colour, draw};

/// A part that all bars have.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name.
    pub label: &'static str,
    /// Its colour.
    pub colour: (u8, u8, u8),
}

/// A bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Whether it is ours.
    pub is_ours: bool,
    /// How long each part is.
    pub parts: Vec<f64>,
    /// What is written at its end.
    pub note: String,
}

/// Bars over one axis.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Its heading.
    pub heading: String,
    /// Its bars.
    pub bars: Vec<Bar>,
}

/// The width of the column with the names.
const NAMES: i32 = 206;
/// The least distance of two lines of the grid.
const GRID_LINE: i32 = 58;
/// The room for the notes.
const NOTES: i32 = 190;
/// The height of a bar and its surroundings.
const ROW: i32 = 22;
const ABOVE: i32 = 30;
const BELOW: i32 = 30;

/// Draws panels under each other.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn stack(heading: &Heading, parts: &[Part], panels: &[Panel], unit: fn(f64) -> String) -> Result<String, Failure> {
    let height = |panel: &Panel| ABOVE + ROW * i32::try_from(panel.bars.len()).unwrap_or(0) + BELOW;
    let total = heading.height() + 30 + panels.iter().map(height).sum::<i32>();
    draw(total.unsigned_abs(), heading, |canvas, mut y| {
        let step = (WIDTH as i32 - 2 * MARGIN) / i32::try_from(parts.len()).unwrap_or(1).max(1);
        for (place, part) in (0..).zip(parts) {
            let x = MARGIN + step * place;
            canvas.block((x, y + 6), (x + 14, y + 20), colour(part.colour))?;
            canvas.text(x + 20, y + 13, TEXT, Anchor::Start, INK, part.label)?;
        }
        y += 30;
        for panel in panels {
            draw_panel(canvas, parts, panel, y, unit)?;
            y += height(panel);
        }
        Ok(())
    })
}

fn draw_panel(
    canvas: &Canvas<'_>,
    parts: &[Part],
    panel: &Panel,
    top: i32,
    unit: fn(f64) -> String,
) -> Result<(), Failure> {
    canvas.bold(MARGIN, top + 14, 13, INK, &panel.heading)?;
    let rows = top + ABOVE;
    let bottom = rows + ROW * i32::try_from(panel.bars.len()).unwrap_or(0);
    let (from, to) = (MARGIN + NAMES, WIDTH as i32 - MARGIN - NOTES);
    let Some(scale) = Scale::linear(panel.bars.iter().map(|bar| bar.parts.iter().sum()), from, to) else {
        return Ok(());
    };
    for tick in scale.ticks(GRID_LINE) {
        let x = scale.at(tick);
        canvas.line(&[(x, rows), (x, bottom)], GRID, 1)?;
        let label = if tick == 0.0 { "0".to_owned() } else { unit(tick) };
        canvas.text(x, bottom + 12, SMALL, Anchor::Middle, GREY, &label)?;
    }
    for (row, bar) in (0..).zip(&panel.bars) {
        let y = rows + ROW * row + ROW / 2;
        if bar.is_ours {
            canvas.bold(MARGIN, y, TEXT, INK, &bar.label)?;
        } else {
            canvas.text(MARGIN, y, TEXT, Anchor::Start, INK, &bar.label)?;
        }
        let mut sum = 0.0;
        for (part, length) in parts.iter().zip(&bar.parts) {
            let start = scale.at(sum);
            sum += length;
            if scale.at(sum) > start {
                canvas.block((start, y - 8), (scale.at(sum), y + 8), colour(part.colour))?;
            }
        }
        canvas.text(scale.at(sum) + 6, y, SMALL, Anchor::Start, INK, &bar.note)?;
    }
    Ok(())
}
