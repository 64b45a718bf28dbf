//! Text for terminals: control bytes made visible, colours, columns that fit.

use crate::model::event::Action;
use crate::resolve::clock::Zone;
use anstyle::{AnsiColor, Style};
use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Log text is written by strangers: control characters and those that turn the writing direction are shown as escapes.
pub fn clean(text: &str) -> String {
    let hostile = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(hostile) {
        return text.to_string();
    }
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push(' '),
            c if hostile(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// A colour for how it went.
pub fn action_style(action: Action) -> Style {
    let colour = match action {
        Action::Delivered => AnsiColor::Green,
        Action::Relayed | Action::Transferred => AnsiColor::Cyan,
        Action::Delayed => AnsiColor::Yellow,
        Action::Failed => AnsiColor::Red,
        Action::Expanded => AnsiColor::Blue,
        Action::Opaque => AnsiColor::Magenta,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Dimmed.
pub fn dim() -> Style {
    Style::new().dimmed()
}

/// Bold.
pub fn bold() -> Style {
    Style::new().bold()
}

/// `text` in `style`; anstream takes the style away where there is no terminal.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Columns of the terminal that standard output is; `None` where it is none. One that does not know its width has 80.
pub fn columns() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let from_env = || std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c >= 20);
    let of_terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(w, _)| usize::from(w.0));
    Some(from_env().or_else(of_terminal).unwrap_or(80).max(20))
}

/// A moment in a zone, with the decimals it was written with (three at most).
pub fn moment(zone: Zone, micros: i64, decimals: bool) -> String {
    match zone.show(micros) {
        Some(t) if decimals => t.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Some(t) => t.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => "?".into(),
    }
}

/// `350 ms`, `12.5 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(micros: i64) -> String {
    let ms = micros / 1000;
    let s = ms / 1000;
    match s {
        _ if ms < 1000 => format!("{ms} ms"),
        0..60 => format!("{}.{} s", s, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `1.5 KiB`, `12 MiB`.
pub fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut v, mut u) = (n as f64, 0);
    while v >= 1024.0 && u + 1 < units.len() {
        v /= 1024.0;
        u += 1;
    }
    let unit = units.get(u).copied().unwrap_or_default();
    if u == 0 || v >= 100.0 { format!("{v:.0} {unit}") } else { format!("{v:.1} {unit}") }
}

/// Cuts to so many columns, with an ellipsis.
pub fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_string();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > width {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push('…');
    out
}

/// A table without lines: cells are padded, and where the terminal is too narrow the widest columns are cut first.
#[derive(Default)]
pub struct Table {
    head: Vec<&'static str>,
    whole: Vec<usize>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&'static str]) -> Self {
        Table { head: head.to_vec(), whole: vec![], rows: vec![] }
    }

    /// Columns (by number) that are cut only when all others are as narrow as can be.
    pub fn whole(mut self, columns: &[usize]) -> Self {
        self.whole = columns.to_vec();
        self
    }

    /// Adds a row; as many cells as heads.
    pub fn row(&mut self, cells: Vec<(String, Style)>) {
        self.rows.push(cells.into_iter().map(|(t, s)| (clean(&t), s)).collect());
    }

    /// The table as text, at most `columns` wide where that is given.
    pub fn render(&self, columns: Option<usize>) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|h| h.width()).collect();
        for row in &self.rows {
            for (w, (cell, _)) in widths.iter_mut().zip(row) {
                *w = (*w).max(cell.width());
            }
        }
        if let Some(columns) = columns {
            let gaps = 2 * widths.len().saturating_sub(1);
            let over = |w: &[usize]| w.iter().sum::<usize>() + gaps > columns;
            for (least, all) in [(10, false), (6, true)] {
                while over(&widths) {
                    let free = |i: &usize| all || !self.whole.contains(i);
                    match widths.iter_mut().enumerate().filter(|(i, w)| free(i) && **w > least).max_by_key(|(_, w)| **w) {
                        Some((_, w)) => *w -= 1,
                        None => break,
                    }
                }
            }
        }
        let heads = self.head.iter().map(|h| (h.to_string(), dim())).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (i, ((cell, style), width)) in row.iter().zip(&widths).enumerate() {
                let text = fit(cell, *width);
                let last = i + 1 == row.len();
                let pad = if last { 0 } else { width - text.width().min(*width) + 2 };
                line.push_str(&paint(*style, &text));
                line.push_str(&" ".repeat(pad));
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_are_shown_not_obeyed() {
        assert_eq!(clean("a\x1b[31mb\r\u{202e}c\n"), "a\\u{1b}[31mb\\u{d}\\u{202e}c\\n");
    }

    #[test]
    fn cells_are_cut_to_the_terminal() {
        let mut t = Table::new(&["A", "B"]);
        t.row(vec![("x".into(), Style::new()), ("a very long cell that does not fit".into(), Style::new())]);
        let shown = t.render(Some(20));
        let plain: String = anstream::adapter::strip_str(&shown).to_string();
        assert!(plain.lines().all(|l| l.trim_end().width() <= 20), "{plain}");
        assert!(plain.contains('…'));
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(duration(350_000), "350 ms");
        assert_eq!(duration(3_725_000_000), "1 h 2 min");
    }
}
