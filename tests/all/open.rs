//! Open records: what is asked before a commit is what is found after it, wherever the line between both is drawn.

use crate::support::Index;
use msgtrk::config::Site;
use msgtrk::ingest::commit::{Committer, Sink, Work};
use msgtrk::ingest::fold::Fold;
use msgtrk::ingest::open::{OpenRecords, View};
use msgtrk::ingest::parse_block::parse_with;
use msgtrk::model::record::StoredRecord;
use msgtrk::parse::{Matcher, Parsers};
use msgtrk::resolve::StreamState;
use msgtrk::resolve::clock::Anchor;
use std::sync::Arc;

fn sorted(mut records: Vec<StoredRecord>) -> Vec<StoredRecord> {
    records.sort_by(|a, b| a.key.cmp(&b.key));
    records
}

#[test]
fn a_view_answers_as_the_store_will() {
    let log = std::fs::read_to_string("sample-logs/postfix/mail.log").unwrap();
    let lines: Vec<&str> = log.split_inclusive('\n').take(900).collect();
    let index = Index::new();
    let store = Arc::new(index.store());
    let open = Arc::new(OpenRecords::default());
    let view = View::new(Arc::clone(&store), Arc::clone(&open));
    let parsers = Parsers::load(None).unwrap();
    let mut matcher = Matcher::new(Arc::clone(&parsers));
    let mut fold = Fold::new(&parsers, &Arc::new(Site::default()), "x".into(), Anchor::Year(2026), StreamState::default());
    let mut committer = Committer::new(&store).unwrap();
    let mut asked = 0;
    for (n, some) in lines.chunks(47).enumerate() {
        let block = some.concat();
        let chunk = parse_with(&mut matcher, &Default::default(), block.as_bytes());
        open.with(|ledger| fold.block(ledger, block.as_bytes(), &[chunk]));
        // Every queue id and Message-ID of these lines, asked for in all three states.
        let mut ids: Vec<String> = Vec::new();
        for line in some {
            ids.extend(
                line.split([' ', '=', '<', '>', ':', ',', ')'])
                    .filter(|w| w.len() > 9 && w.bytes().any(|b| b.is_ascii_digit()))
                    .map(str::to_string),
            );
        }
        ids.sort();
        ids.dedup();
        let ask = |ids: &[String]| ids.iter().map(|id| sorted(view.by_id(id).unwrap())).collect::<Vec<_>>();
        let before = ask(&ids);
        if n % 3 == 2 {
            continue; // some stay open over several rounds
        }
        let changes = open.begin_commit();
        assert_eq!(ask(&ids), before, "handed to the writer");
        committer.commit(Work { changes: changes.to_vec(), ..Work::default() }).unwrap();
        assert_eq!(ask(&ids), before, "stored, and still in the table");
        open.committed();
        assert_eq!(ask(&ids), before, "stored");
        asked += before.iter().filter(|b| !b.is_empty()).count();
    }
    assert!(asked > 200, "only {asked} ids named a record");
}
