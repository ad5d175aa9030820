//! The progress of transfers: bars where it is shown on a terminal, a line for
//! each thing that is through elsewhere.
//!
//! On stdout for what only transfers, as docker's `pull` and `push` do; on stderr
//! where stdout is something else's: a container's, or an id's.

use super::help;
use super::ui::{self, Stream};
use crate::types::progress::Report;
use crate::types::size::decimal as human;
use std::time::{Duration, Instant};

/// Between two drawings.
const EVERY: Duration = Duration::from_millis(80);

/// Shows reports; with `quiet` warnings alone.
pub(crate) fn on_stderr(quiet: bool) -> impl FnMut(Report) {
    on(Stream::Stderr, quiet)
}

/// The same on stdout; warnings go to stderr in any case.
pub(crate) fn on_stdout(quiet: bool) -> impl FnMut(Report) {
    on(Stream::Stdout, quiet)
}

fn on(stream: Stream, quiet: bool) -> impl FnMut(Report) {
    let mut bars = Bars::new(stream);
    move |report| {
        if !quiet || matches!(report, Report::Warning(_)) {
            bars.take(report);
        }
    }
}

/// What is under way, drawn below what is through.
struct Bars {
    stream: Stream,
    terminal: bool,
    moving: Vec<Bar>,
    /// Lines on the terminal that the next drawing replaces.
    drawn: usize,
    last: Option<Instant>,
}

struct Bar {
    id: String,
    verb: &'static str,
    done: u64,
    total: u64,
}

impl Bars {
    fn new(stream: Stream) -> Self {
        Self { stream, terminal: stream.is_terminal(), moving: Vec::new(), drawn: 0, last: None }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Line(text) => self.say(&text),
            Report::Warning(text) => {
                self.clear();
                ui::warning(&text);
                self.draw();
            }
            Report::Ended { id, text } => {
                self.moving.retain(|bar| bar.id != id);
                self.say(&format!("{id}: {text}"));
            }
            Report::Moving { .. } if !self.terminal => {}
            Report::Moving { id, verb, done, total } => {
                match self.moving.iter_mut().find(|bar| bar.id == id) {
                    Some(bar) => *bar = Bar { id, verb, done, total },
                    None => self.moving.push(Bar { id, verb, done, total }),
                }
                if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
                    self.draw();
                }
            }
        }
    }

    /// A line that stays.
    fn say(&mut self, text: &str) {
        self.clear();
        self.stream.note(text);
        self.draw();
    }

    fn draw(&mut self) {
        self.clear();
        let width = help::width();
        for bar in &self.moving {
            self.stream.note(&bar.text(width));
        }
        self.drawn = self.moving.len();
        self.last = Some(Instant::now());
    }

    fn clear(&mut self) {
        if self.drawn > 0 {
            self.stream.rewind(std::mem::take(&mut self.drawn));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Bar {
    /// One line that fits into `width` columns.
    fn text(&self, width: usize) -> String {
        let Self { id, verb, done, total } = self;
        let head = format!("{id}: {verb} ");
        let amount = format!(" {}/{}", human(*done), human(*total));
        let room = width.saturating_sub(head.len() + amount.len() + 3).min(50);
        if room < 8 {
            return format!("{head}{}", amount.trim_start()).chars().take(width.saturating_sub(1)).collect();
        }
        let filled = usize::try_from(u128::from(*done) * room as u128 / u128::from(*total).max(1));
        let filled = filled.unwrap_or(room).min(room);
        let arrow = if filled < room { ">" } else { "" };
        let rest = room - filled - arrow.len();
        format!("{head}[{}{arrow}{}]{amount}", "=".repeat(filled), " ".repeat(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fits_and_is_full_at_the_end() {
        let bar = |done| Bar { id: "0123456789ab".into(), verb: "Downloading", done, total: 1000 };
        for width in [20, 40, 60, 80, 200] {
            for done in [0, 1, 500, 999, 1000, 5000] {
                let text = bar(done).text(width);
                assert!(text.len() < width, "{width}: {text}");
            }
        }
        assert!(bar(0).text(80).contains("[>"), "{}", bar(0).text(80));
        assert!(bar(1000).text(80).contains("=]"), "{}", bar(1000).text(80));
        assert!(Bar { total: 0, ..bar(0) }.text(80).contains("[>"));
    }
}
