//! One condition of a query, as the engine's term lookups: which documents of a segment may meet it.

use super::schema;
use super::snapshot::Parts;
use crate::model::query::Pattern;
use tantivy::index::InvertedIndexReader;
use tantivy::postings::{SegmentPostings, TermInfo};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, SegmentReader, TERMINATED};

/// Terms whose documents are read only where they are needed; of more, all are read first.
const FEW: usize = 4;

/// One condition on what a document is found by.
pub(super) enum Clause {
    /// It may bear one of these ids ([`super::ids::hash`]).
    Ids(Vec<u32>),
    /// It has one of these terms.
    Terms(Field, Vec<String>),
    /// A term that begins with the prefix and whose rest meets the pattern.
    Wild(Field, &'static str, Pattern),
    /// A word that holds (begins with, ends with) a piece of text, or the mark of records with unindexed words.
    Word(Field, String, Place),
}

/// Where in a word a piece of text is to be.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub start: bool,
    pub end: bool,
}

impl Clause {
    /// The terms of a segment that meet the clause.
    fn terms(&self, inverted: &InvertedIndexReader) -> std::io::Result<Vec<TermInfo>> {
        let dictionary = inverted.terms();
        let mut found = Vec::new();
        match self {
            Clause::Ids(_) => {}
            Clause::Terms(_, terms) => {
                for term in terms {
                    found.extend(dictionary.get(term.as_bytes())?);
                }
            }
            Clause::Wild(_, prefix, pattern) => {
                let start = pattern.as_str().split('*').next().unwrap_or_default();
                let start = format!("{prefix}{start}");
                let mut stream = dictionary.range().ge(start.as_bytes()).into_stream()?;
                while let Some((key, info)) = stream.next() {
                    if !key.starts_with(start.as_bytes()) {
                        break;
                    }
                    let value = key.get(prefix.len()..).and_then(|v| std::str::from_utf8(v).ok());
                    if value.is_some_and(|v| pattern.matches(v)) {
                        found.push(info.clone());
                    }
                }
            }
            Clause::Word(_, piece, place) => {
                let piece = piece.as_bytes();
                let finder = memchr::memmem::Finder::new(piece);
                let mut stream = dictionary.stream()?;
                while let Some((key, info)) = stream.next() {
                    let holds = match (place.start, place.end) {
                        (true, true) => key == piece,
                        (true, false) => key.starts_with(piece),
                        (false, true) => key.ends_with(piece),
                        (false, false) => finder.find(key).is_some(),
                    };
                    if holds || key == schema::MORE_WORDS.as_bytes() {
                        found.push(info.clone());
                    }
                }
            }
        }
        Ok(found)
    }

    /// The documents of a segment that meet the clause, and about how many; `None` if there are none.
    pub fn documents(&self, segment: &SegmentReader, parts: &Parts) -> tantivy::Result<Option<(u64, Box<dyn DocSet>)>> {
        let field = match self {
            Clause::Ids(hashes) => {
                let mut found: Vec<DocId> = hashes.iter().flat_map(|h| parts.ids.documents(*h)).collect();
                found.sort_unstable();
                found.dedup();
                let set = Listed { docs: found, at: 0 };
                return Ok((!set.docs.is_empty()).then(|| (set.docs.len() as u64, Box::new(set) as Box<dyn DocSet>)));
            }
            Clause::Terms(f, _) | Clause::Wild(f, _, _) | Clause::Word(f, _, _) => *f,
        };
        let inverted = segment.inverted_index(field)?;
        let terms = self.terms(&inverted)?;
        let count = terms.iter().map(|t| u64::from(t.doc_freq)).sum();
        let mut sets = terms.iter().map(|info| inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic));
        Ok(match terms.len() {
            0 => None,
            n if n <= FEW => Some((count, Box::new(AnyOf(sets.collect::<std::io::Result<_>>()?)))),
            _ => {
                let mut set = BitSet::with_max_value(segment.max_doc());
                sets.try_for_each(|postings| -> tantivy::Result<()> {
                    let mut postings = postings?;
                    while postings.doc() != TERMINATED {
                        set.insert(postings.doc());
                        postings.advance();
                    }
                    Ok(())
                })?;
                Some((count, Box::new(tantivy::query::BitSetDocSet::from(set))))
            }
        })
    }
}

/// Documents that are in one of few sets, each of which is only read where it is needed.
struct AnyOf(Vec<SegmentPostings>);

impl AnyOf {
    fn first(&self) -> DocId {
        self.0.iter().map(DocSet::doc).min().unwrap_or(TERMINATED)
    }
}

impl DocSet for AnyOf {
    fn advance(&mut self) -> DocId {
        let doc = self.first();
        self.0.iter_mut().filter(|set| set.doc() == doc).for_each(|set| _ = set.advance());
        self.first()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.0.iter_mut().filter(|set| set.doc() < target).for_each(|set| _ = set.seek(target));
        self.first()
    }

    fn doc(&self) -> DocId {
        self.first()
    }

    fn size_hint(&self) -> u32 {
        self.0.iter().map(DocSet::size_hint).sum()
    }
}

/// Documents of a list, in their order.
struct Listed {
    docs: Vec<DocId>,
    at: usize,
}

impl DocSet for Listed {
    fn advance(&mut self) -> DocId {
        self.at += 1;
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.docs.get(self.at).copied().unwrap_or(TERMINATED)
    }

    fn size_hint(&self) -> u32 {
        self.docs.len() as u32
    }
}
