//! Samples of parser files: what each line must give.

use super::{Matcher, Outcome, Parsed};
use crate::model::event::Field;
use crate::parse::file::{Expect, ParserFile, Sample};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Matcher {
    /// Checks every sample of every file; each disagreement is one message naming file, pattern, sample and field.
    pub fn check_samples(&mut self) -> Vec<String> {
        let parsers = Arc::clone(&self.parsers);
        let mut wrong = parsers.replies.check();
        for (i, file) in parsers.files.iter().enumerate() {
            if !file.samples.iter().any(|s| matches!(&s.expect, Expect::Word(w) if w == "none")) {
                wrong.push(format!("{}: has no sample that must not match", file.origin));
            }
            for sample in &file.samples {
                self.set_table(file.csv.as_ref().map_or(b"", |c| c.example.as_bytes()));
                let outcome = self.line(sample.line.as_bytes());
                if let Err(message) = self.check_sample(i, file, sample, &outcome) {
                    let pattern = sample.pattern.map_or("(file)", |p| file.name_of(p as u16));
                    wrong.push(format!("{}: pattern `{pattern}`: {message}\n    {}", file.origin, sample.line));
                }
            }
        }
        wrong
    }

    fn check_sample(&mut self, file: usize, parser: &ParserFile, sample: &Sample, outcome: &Outcome) -> Result<(), String> {
        let name = |n: u16| parser.name_of(n);
        match (&sample.expect, outcome) {
            (Expect::Word(w), Outcome::Ignored) if w == "ignored" => Ok(()),
            (Expect::Word(w), Outcome::Unparsed(..) | Outcome::Foreign | Outcome::NoFrame) if w == "none" => Ok(()),
            (Expect::Word(w), Outcome::Event(p)) => Err(format!("expected `{w}`, but pattern `{}` matches", name(p.pattern))),
            (Expect::Word(w), Outcome::Rows(..)) => Err(format!("expected `{w}`, but it makes events")),
            (Expect::Word(w), _) => Err(format!("expected `{w}`, but it is not")),
            (Expect::Fields(fields), Outcome::Event(p)) => {
                if p.file as usize != file {
                    return Err("another parser file took the line".into());
                }
                if sample.pattern.is_some_and(|n| n != p.pattern as usize) {
                    return Err(format!("pattern `{}` took the line", name(p.pattern)));
                }
                fields.iter().try_for_each(|(field, want)| self.check_field(sample.line.as_bytes(), p, field, want))
            }
            (Expect::Fields(fields), Outcome::Rows(..)) => self.check_rows(file, sample, outcome, &[fields]),
            (Expect::Several(all), Outcome::Rows(..)) => self.check_rows(file, sample, outcome, &all.iter().collect::<Vec<_>>()),
            (Expect::Fields(_) | Expect::Several(_), _) => Err("no pattern matches".into()),
        }
    }

    fn check_rows(&mut self, file: usize, sample: &Sample, outcome: &Outcome, want: &[&BTreeMap<String, String>]) -> Result<(), String> {
        let Outcome::Rows(frame, inner, by, events) = outcome else { return Err("no row is for it".into()) };
        if usize::from(*by) != file {
            return Err("another parser file took the line".into());
        }
        if events.len() != want.len() {
            return Err(format!("expected {} events, got {}", want.len(), events.len()));
        }
        for (event, fields) in events.iter().zip(want) {
            let parsed = self.row_event(sample.line.as_bytes(), *frame, *inner, *by, event);
            if sample.pattern.is_some_and(|n| n != parsed.pattern as usize) {
                return Err(format!("row `{}` took the line", self.parsers().files.get(file).map_or("?", |f| f.name_of(parsed.pattern))));
            }
            fields.iter().try_for_each(|(field, want)| self.check_field(sample.line.as_bytes(), &parsed, field, want))?;
        }
        Ok(())
    }

    fn check_field(&self, line: &[u8], parsed: &Parsed, field: &str, want: &str) -> Result<(), String> {
        let got = match field {
            "action" => parsed.action.map(|a| a.as_str().to_string()),
            "host" => Some(String::from_utf8_lossy(parsed.frame.host).into_owned()),
            "event" => Some(parsed.kind.as_str().to_string()),
            _ => {
                let field = Field::from_name(field).ok_or_else(|| format!("unknown field `{field}` in expect"))?;
                self.fields.value(line, field).map(|v| String::from_utf8_lossy(v).into_owned())
            }
        };
        match got {
            Some(got) if got == want => Ok(()),
            got => Err(format!("{field}: expected `{want}`, got {}", got.map_or("nothing".into(), |g| format!("`{g}`")))),
        }
    }
}
