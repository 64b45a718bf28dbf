//! Tables and JSON, from the file to the journey: Exchange's tracking logs with their `#Fields:` header, accounting
//! files and event streams of services, and what strangers write into them.

use crate::support::Index;
use msgtrk::config::Site;
use msgtrk::ingest::fold::Fold;
use msgtrk::ingest::parse_block::{parse_block, parse_with};
use msgtrk::ledger::Ledger;
use msgtrk::model::event::{Action, decode_all};
use msgtrk::model::journey::By;
use msgtrk::parse::{Matcher, Parsers};
use msgtrk::resolve::StreamState;
use msgtrk::resolve::clock::Anchor;
use proptest::prelude::*;
use proptest::sample;
use std::path::PathBuf;
use std::sync::Arc;

const HEADER: &str = "#Software: Microsoft Exchange Server\r\n#Version: 15.02.0792.003\r\n#Log-type: Message Tracking Log\r\n#Date: 2026-03-02T08:00:00.000Z\r\n#Fields: date-time,client-ip,client-hostname,server-ip,server-hostname,source-context,connector-id,source,event-id,internal-message-id,message-id,network-message-id,recipient-address,recipient-status,total-bytes,recipient-count,related-recipient-address,reference,message-subject,sender-address,return-path,message-info,directionality,tenant-id,original-client-ip,original-server-ip,custom-data,transport-traffic-type,log-id,schema-version\r\n";

/// Cells of a row by what they are; the others are empty.
#[derive(Clone, Default)]
struct Row<'a> {
    second: u32,
    client: &'a str,
    host: &'a str,
    context: &'a str,
    event: &'a str,
    id: &'a str,
    message_id: &'a str,
    to: &'a str,
    status: &'a str,
    related: &'a str,
    reference: &'a str,
    subject: &'a str,
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

fn line(r: &Row) -> String {
    let stamp = format!("2026-03-02T08:{:02}:{:02}.123Z", r.second / 60, r.second % 60);
    let head = [&stamp, "192.0.2.7", r.client, "192.0.2.20", r.host, r.context, "", "SMTP", r.event, r.id, r.message_id, "13fad5b7"];
    let tail = [
        r.to,
        r.status,
        "7852",
        "2",
        r.related,
        r.reference,
        r.subject,
        "alice@sender.test",
        "alice@sender.test",
        "",
        "Incoming",
        "",
        "",
        "",
        "S:a=b",
        "Email",
        "",
        "",
    ];
    head.iter().chain(&tail).map(|c| quoted(c)).collect::<Vec<_>>().join(",") + "\r\n"
}

fn write(index: &Index, name: &str, text: &str) -> PathBuf {
    let path = index.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// How each recipient of a message ended.
fn endings(index: &Index, id: &str) -> Vec<(String, Action, String)> {
    let journeys = index.trace(id);
    assert_eq!(journeys.len(), 1, "{id}: {} journeys", journeys.len());
    let mut all: Vec<_> = journeys[0].endings.iter().map(|e| (e.last.final_recipient.clone(), e.last.action, e.at.clone())).collect();
    all.sort();
    all
}

fn ended(all: &[(&str, Action, &str)]) -> Vec<(String, Action, String)> {
    all.iter().map(|(to, action, at)| (to.to_string(), *action, at.to_string())).collect()
}

/// A message over two Exchange servers: a group, a mailbox, a full one, and one that is sent on.
fn two_servers() -> (String, String) {
    let m = Row { message_id: "<m1@sender.test>", subject: "Hello, \"world\"", ..Row::default() };
    let one = Row { host: "ex1.example.test", id: "138838176", ..m.clone() };
    let two = Row { host: "ex2.example.test", id: "64712272257897", ..m };
    let queued = "250 2.6.0 <m1@sender.test> [InternalId=64712272257897, Hostname=ex2.example.test] Queued mail for delivery";
    let ex1 = [
        Row { event: "RECEIVE", client: "mail.sender.test", to: "team@example.test;bob@example.test", ..one.clone() },
        Row { second: 1, event: "HAREDIRECT", to: "bob@example.test", ..one.clone() },
        Row { second: 1, event: "EXPAND", to: "ann@example.test;cat@example.test", related: "team@example.test", ..one.clone() },
        Row { second: 1, event: "AGENTINFO", to: "bob@example.test", ..one.clone() },
        Row { second: 2, event: "DEFER", to: "bob@example.test", status: "451 4.4.0 later", ..one.clone() },
        Row {
            second: 3,
            event: "SEND",
            to: "bob@example.test;ann@example.test;cat@example.test",
            status: "250 2.1.5 OK;250 2.1.5 OK;250 2.1.5 OK",
            context: queued,
            client: "ex1.example.test",
            host: "ex2.example.test",
            ..one
        },
    ];
    let ex2 = [
        Row {
            second: 3,
            event: "RECEIVE",
            client: "ex1.example.test",
            to: "bob@example.test;ann@example.test;cat@example.test",
            ..two.clone()
        },
        Row { second: 4, event: "DELIVER", to: "bob@example.test;ann@example.test", ..two.clone() },
        Row { second: 4, event: "FAIL", to: "cat@example.test", status: "[{LED=550 5.2.2 mailbox full; sorry};{MSG=}]", ..two.clone() },
        Row { second: 4, event: "NEWEVENT", to: "cat@example.test", ..two },
    ];
    let text = |rows: &[Row]| HEADER.to_string() + &rows.iter().map(line).collect::<String>();
    (text(&ex1), text(&ex2))
}

#[test]
fn exchange_servers_are_hops_of_one_journey() {
    let (ex1, ex2) = two_servers();
    let index = Index::new();
    let done = index.fill(&[write(&index, "MSGTRK20260302-1.LOG", &ex1), write(&index, "MSGTRK20260302-2.LOG", &ex2)], "unused");
    assert_eq!((done.counts.events, done.counts.unparsed_lines()), (7, 1), "{:?}", done.counts);
    assert!(done.counts.unparsed["exchange"].examples[0].contains("NEWEVENT"));
    assert!(done.hostless.is_empty());
    let all = endings(&index, "m1@sender.test");
    let want = [
        ("ann@example.test", Action::Delivered, "ex2.example.test"),
        ("bob@example.test", Action::Delivered, "ex2.example.test"),
        ("cat@example.test", Action::Failed, "ex2.example.test"),
        ("team@example.test", Action::Expanded, "ex1.example.test"),
    ];
    assert_eq!(all, ended(&want));
    let journey = &index.trace("138838176")[0];
    assert!(journey.edges.iter().any(|e| e.by == By::QueueId), "the answer names the next server's number: {:?}", journey.edges);
    let first = journey.records.iter().find(|r| r.reporting_mta == "ex1.example.test").unwrap();
    assert_eq!(
        (first.subject.as_deref(), first.size, first.client.ip.as_deref()),
        (Some("Hello, \"world\""), Some(7852), Some("192.0.2.7"))
    );
}

/// Recipients that get another address, or go on under another number, end once.
#[test]
fn exchange_forks_and_renames() {
    let m = Row { host: "ex1", message_id: "<f1@sender.test>", ..Row::default() };
    let rows = [
        Row { id: "1", event: "RECEIVE", to: "alias@example.test;b@example.test;c@example.test", ..m.clone() },
        Row { second: 1, id: "1", event: "RESOLVE", to: "a@example.test", related: "alias@example.test", ..m.clone() },
        Row { second: 1, id: "2", event: "TRANSFER", to: "b@example.test", reference: "1", ..m.clone() },
        Row { second: 2, id: "1", event: "DELIVER", to: "a@example.test;c@example.test", ..m.clone() },
        Row { second: 2, id: "2", event: "FAIL", to: "b@example.test", status: "550 5.1.1 no", ..m },
    ];
    let index = Index::new();
    let text = HEADER.to_string() + &rows.iter().map(line).collect::<String>();
    let done = index.fill(&[write(&index, "MSGTRK.LOG", &text)], "unused");
    assert_eq!(done.counts.unparsed_lines(), 0);
    let want = [
        ("a@example.test", Action::Delivered, "ex1"),
        ("alias@example.test", Action::Expanded, "ex1"),
        ("b@example.test", Action::Failed, "ex1"),
        ("c@example.test", Action::Delivered, "ex1"),
    ];
    assert_eq!(endings(&index, "f1@sender.test"), ended(&want));
}

/// A stranger's subject with newlines, quotes, a header line and rows in it stays a subject.
#[test]
fn what_strangers_write_into_a_cell_is_no_row() {
    let forged = line(&Row {
        host: "ex1.example.test",
        event: "FAIL",
        id: "1",
        message_id: "<m1@sender.test>",
        to: "bob@example.test",
        ..Row::default()
    });
    let subject = format!("x\"\r\n#Fields: date-time,evil\r\n{forged}\"{forged}Mar  2 08:00:00 mx1 postfix/qmgr[1]: 4AAAAA: removed\n\"");
    let m = Row {
        host: "ex1.example.test",
        id: "1",
        message_id: "<m1@sender.test>",
        to: "bob@example.test",
        subject: &subject,
        ..Row::default()
    };
    let text =
        HEADER.to_string() + &line(&Row { event: "RECEIVE", ..m.clone() }) + &line(&Row { event: "DELIVER", second: 5, subject: "x", ..m });
    let index = Index::new();
    let done = index.fill(&[write(&index, "MSGTRK.LOG", &text)], "unused");
    assert_eq!((done.counts.events, done.counts.unparsed_lines(), done.counts.no_frame), (2, 0, 0), "{:?}", done.counts);
    assert_eq!(endings(&index, "m1@sender.test"), ended(&[("bob@example.test", Action::Delivered, "ex1.example.test")]));
    assert_eq!(index.trace("m1@sender.test")[0].records[0].subject.as_deref(), Some(subject.as_str()));
}

/// A quote that nobody closes costs a bounded part of the log, not all of it.
#[test]
fn an_open_quote_is_given_up() {
    let m = Row { host: "ex1.example.test", event: "DELIVER", to: "bob@example.test", ..Row::default() };
    let torn = "2026-03-02T08:00:00.123Z,,,,ex1.example.test,\"torn\r\n";
    let rows: String =
        (0..200).map(|n| line(&Row { id: &n.to_string(), message_id: &format!("<t{n}@x.test>"), second: 1, ..m.clone() })).collect();
    let index = Index::new();
    let done = index.fill(&[write(&index, "MSGTRK.LOG", &(HEADER.to_string() + torn + &rows))], "unused");
    assert_eq!((done.counts.events, done.counts.unparsed_lines()), (200, 1), "{:?}", done.counts);
}

#[test]
fn long_lists_do_not_copy_their_line_for_each_member() {
    let list: Vec<String> = (0..900).map(|n| format!("u{n}@example.test")).collect();
    let row = Row { host: "ex1", event: "DELIVER", id: "7", message_id: "<l@x.test>", to: &list.join(";"), ..Row::default() };
    let text = HEADER.to_string() + &line(&row);
    let parsers = Parsers::load(None).unwrap();
    let (mut ledger, mut fold) = (Ledger::default(), fold_of(&parsers, StreamState::default()));
    let chunks = parse_block(&parsers, fold.sheet(), text.as_bytes());
    fold.block(&mut ledger, text.as_bytes(), &chunks);
    let changes = ledger.drain();
    assert_eq!(changes.len(), 1);
    let events: Vec<_> = decode_all(&changes[0].events).collect();
    assert_eq!(events.len(), 900);
    assert!(changes[0].events.len() < 20 * text.len(), "{} bytes of events from {} of text", changes[0].events.len(), text.len());
    let to: std::collections::HashSet<_> = events.iter().filter_map(|e| e.text(msgtrk::model::event::Field::FinalRecipient)).collect();
    assert_eq!(to.len(), 900);
}

fn fold_of(parsers: &Arc<Parsers>, state: StreamState) -> Fold {
    Fold::new(parsers, &Arc::new(Site::default()), "h".into(), Anchor::Year(2026), state)
}

/// What the events of a ledger say, whatever their order.
fn said(mut ledger: Ledger) -> Vec<(String, Vec<u64>)> {
    let ids = |events: &[u8]| {
        let mut all: Vec<u64> = decode_all(events).map(|e| e.identity()).collect();
        all.sort_unstable();
        all
    };
    let mut all: Vec<_> = ledger.drain().iter().map(|c| (c.slot.key(), ids(&c.events))).collect();
    all.sort();
    all
}

/// Rows of all sorts: some over several lines, some broken, a second header with other columns.
fn table(rows: &[(u8, u32)]) -> Vec<String> {
    let mut out: Vec<String> = HEADER.split_inclusive('\n').map(str::to_string).collect();
    for (n, (what, text)) in rows.iter().enumerate() {
        let id = (n / 2).to_string();
        let subject = ["plain", "a\nb", "\"\n#Fields: date-time,x\n\"", "x\"\r\n\r\n\"y,"][*text as usize % 4];
        let message_id = format!("<r{id}@x.test>");
        let row =
            Row { second: n as u32 / 3, host: "ex1", id: &id, message_id: &message_id, to: "a@x.test;b@x.test", subject, ..Row::default() };
        let text = match what {
            0 | 1 => line(&Row { event: "RECEIVE", ..row }),
            2 | 3 => line(&Row { event: "DELIVER", ..row }),
            4 => "2026-03-02T08:00:00.123Z,too,few\r\n".to_string(),
            5 => {
                "#Fields: date-time,server-hostname,event-id,internal-message-id,recipient-address,recipient-status,message-id\r\n"
                    .to_string()
                    + &format!("2026-03-02T08:00:59.000Z,ex1,DELIVER,{id},\"c\"\"\n\"\"@x.test\",,{message_id}\r\n")
                    + HEADER.lines().last().unwrap()
                    + "\r\n"
            }
            _ => "Mar  2 08:00:00 mx1 postfix/qmgr[1]: 4AAAAAx1zzz: removed\n".to_string(),
        };
        out.extend(text.split_inclusive('\n').map(str::to_string));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// R1: blocks that end anywhere between two lines, in the midst of a record too, and restarts with a stored state.
    #[test]
    fn blocks_and_restarts_make_no_difference_to_tables(
        rows in prop::collection::vec((0u8..7, 0u32..4), 1..40),
        cuts in prop::collection::vec((any::<sample::Index>(), any::<bool>(), any::<bool>()), 0..12),
    ) {
        let parsers = Parsers::load(None).unwrap();
        let lines = table(&rows);
        let whole = lines.concat();
        let (mut all, mut fold) = (Ledger::default(), fold_of(&parsers, StreamState::default()));
        let chunks = parse_block(&parsers, fold.sheet(), whole.as_bytes());
        fold.block(&mut all, whole.as_bytes(), &chunks);

        let mut cuts: Vec<_> = cuts.iter().map(|(i, stored, small)| (i.index(lines.len() + 1), *stored, *small)).collect();
        cuts.sort_unstable();
        cuts.push((lines.len(), false, false));
        let (mut ledger, mut fold, mut from) = (Ledger::default(), fold_of(&parsers, StreamState::default()), 0);
        let mut matcher = Matcher::new(Arc::clone(&parsers));
        for (to, stored, small) in cuts {
            let block = lines[from..to].concat();
            let chunks = match small {
                true => vec![parse_with(&mut matcher, fold.sheet(), block.as_bytes())],
                false => parse_block(&parsers, fold.sheet(), block.as_bytes()),
            };
            fold.block(&mut ledger, block.as_bytes(), &chunks);
            from = to;
            if stored {
                let json = serde_json::to_string(&fold.state()).unwrap();
                fold = fold_of(&parsers, serde_json::from_str(&json).unwrap());
            }
        }
        prop_assert_eq!(said(ledger), said(all));
    }
}

/// A file of several blocks whose header is in the first, with records over piece and block borders: read at once, in
/// two runs, and as a copy.
#[test]
fn a_large_table_is_read_whole_in_pieces_and_twice() {
    let mut text = HEADER.to_string();
    let mut n = 0;
    while text.len() < 5 << 20 {
        let (id, message_id) = (n.to_string(), format!("<b{n}@x.test>"));
        let subject = "line\r\n".repeat(n % 7);
        let row = Row {
            second: (n % 3600) as u32,
            host: "ex1",
            id: &id,
            message_id: &message_id,
            to: "a@x.test",
            subject: &subject,
            ..Row::default()
        };
        text += &line(&Row { event: if n % 2 == 0 { "DELIVER" } else { "DEFER" }, ..row });
        n += 1;
    }
    let whole = Index::new();
    let done = whole.fill(&[write(&whole, "MSGTRK.LOG", &text)], "unused");
    assert_eq!((done.counts.events, done.counts.unparsed_lines()), (n as u64, 0));

    let parts = Index::new();
    let cut = text.match_indices("line\r\n").nth(9_000).unwrap().0;
    let path = write(&parts, "MSGTRK.LOG", &text[..cut]);
    parts.fill(std::slice::from_ref(&path), "unused");
    std::fs::write(&path, &text).unwrap();
    let again = parts.fill(&[path], "unused");
    assert!(again.counts.events < n as u64, "the second run goes on where the first stopped");
    parts.fill(&[write(&parts, "copy.log", &text)], "unused");
    let keys = |i: &Index| i.records().iter().map(|r| (r.key.clone(), r.events().count())).collect::<Vec<_>>();
    assert_eq!(keys(&parts), keys(&whole));
    assert_eq!(keys(&whole).len(), n);
}

#[test]
fn services_tell_in_json_what_became_of_a_mail() {
    let kumo = [
        r#"{"type":"Reception","id":"k1","sender":"news@example.test","recipient":"bob@other.test","size":27,"response":{"code":250,"enhanced_code":null,"content":"","command":null},"peer_address":{"name":"app","addr":"192.0.2.7"},"timestamp":1772438400,"num_attempts":0,"headers":{"Message-ID":"<j1@example.test>"}}"#,
        r#"{"type":"TransientFailure","id":"k1","sender":"news@example.test","recipient":"bob@other.test","response":{"code":451,"enhanced_code":{"class":4,"subject":7,"detail":1},"content":"later","command":"."},"timestamp":1772438401,"num_attempts":1,"headers":{}}"#,
        r#"{"type":"Delivery","id":"k1","sender":"news@example.test","recipient":"bob@other.test","response":{"code":250,"enhanced_code":{"class":2,"subject":0,"detail":0},"content":"Ok: queued as 4jY4JP4RRjz1XDjj","command":"."},"peer_address":{"name":"mx.other.test.","addr":"198.51.100.4"},"timestamp":1772438500,"num_attempts":1,"delivery_protocol":"ESMTP","headers":{}}"#,
    ];
    // The next hop is a Postfix that logs by syslog.
    let postfix = [
        "2026-03-02T08:01:40.100000+00:00 mx.other.test postfix/smtpd[1]: 4jY4JP4RRjz1XDjj: client=kumo1[192.0.2.10]",
        "2026-03-02T08:01:40.200000+00:00 mx.other.test postfix/cleanup[2]: 4jY4JP4RRjz1XDjj: message-id=<j1@example.test>",
        "2026-03-02T08:01:40.300000+00:00 mx.other.test postfix/local[3]: 4jY4JP4RRjz1XDjj: to=<bob@other.test>, relay=local, delay=0.1, dsn=2.0.0, status=sent (delivered to mailbox)",
        "2026-03-02T08:01:40.400000+00:00 mx.other.test postfix/qmgr[4]: 4jY4JP4RRjz1XDjj: removed",
    ];
    let ses = [
        r#"{"eventType":"Send","mail":{"timestamp":"2026-03-02T08:00:00.000Z","source":"n@example.test","messageId":"ses-1","destination":["a@other.test","b@other.test"],"commonHeaders":{"messageId":"<s1@example.test>","subject":"x"}}}"#,
        r#"{"eventType":"Delivery","mail":{"timestamp":"2026-03-02T08:00:00.000Z","messageId":"ses-1"},"delivery":{"timestamp":"2026-03-02T08:00:02.000Z","recipients":["a@other.test"],"smtpResponse":"250 ok"}}"#,
        r#"{"eventType":"Bounce","mail":{"timestamp":"2026-03-02T08:00:00.000Z","messageId":"ses-1"},"bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":"b@other.test","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 no"}],"timestamp":"2026-03-02T08:00:03.000Z"}}"#,
        r#"{"something":"else","of":"another program"}"#,
    ];
    let index = Index::new();
    let files = [("kumo.log", kumo.join("\n")), ("mail.log", postfix.join("\n")), ("ses.jsonl", ses.join("\n"))];
    let paths: Vec<PathBuf> = files.iter().map(|(name, text)| write(&index, name, &format!("{text}\n"))).collect();
    let done = index.fill(&paths, "kumo1");
    assert_eq!((done.counts.unparsed_lines(), done.counts.no_frame), (0, 1), "{:?}", done.counts);
    assert_eq!(endings(&index, "j1@example.test"), ended(&[("bob@other.test", Action::Delivered, "mx.other.test")]));
    let want = [("a@other.test", Action::Relayed, "amazonses.com"), ("b@other.test", Action::Failed, "amazonses.com")];
    assert_eq!(endings(&index, "s1@example.test"), ended(&want));
}

#[test]
fn accounting_files_are_read_by_their_header() {
    let text = "type,timeLogged,timeQueued,orig,rcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,header_Message-Id\r\n\
        t,1772438401,1772438400,n@example.test,bob@other.test,delayed,4.7.1 (delivery not authorized),smtp;450 4.7.1 later,mx.other.test (198.51.100.4),<p1@example.test>\r\n\
        d,1772438501,1772438400,n@example.test,bob@other.test,relayed,2.0.0 (success),smtp;250 ok,mx.other.test (198.51.100.4),<p1@example.test>\r\n\
        b,1772438402,1772438400,n@example.test,eve@other.test,failed,5.1.1 (bad destination mailbox address),\"smtp;550 5.1.1 \"\"eve\"\", who?\",mx.other.test (198.51.100.4),<p1@example.test>\r\n\
        rb,1772439402,,,bob@other.test,failed,5.1.1,smtp;550 forged,,<p1@example.test>\r\n";
    let index = Index::new();
    let done = index.fill(&[write(&index, "acct.csv", text)], "pmta1");
    assert_eq!((done.counts.events, done.counts.unparsed_lines()), (3, 0), "{:?}", done.counts);
    // One record a recipient: nothing else tells which message a row is about.
    let mut all: Vec<_> =
        index.trace("p1@example.test").iter().flat_map(|j| &j.endings).map(|e| (e.last.final_recipient.clone(), e.last.action)).collect();
    all.sort();
    assert_eq!(all, [("bob@other.test".into(), Action::Relayed), ("eve@other.test".into(), Action::Failed)]);
}

/// A gateway's Postfix hands to Exchange: the answer names Exchange's number, so the join is proven.
#[test]
fn a_gateway_before_exchange() {
    let postfix = [
        "2026-03-02T08:00:00.100000+00:00 mx1.example.test postfix/smtpd[1]: 4jY4JP4RRjz1XDjj: client=mail.sender.test[192.0.2.7]",
        "2026-03-02T08:00:00.200000+00:00 mx1.example.test postfix/cleanup[2]: 4jY4JP4RRjz1XDjj: message-id=<g1@sender.test>",
        "2026-03-02T08:00:00.250000+00:00 mx1.example.test postfix/qmgr[4]: 4jY4JP4RRjz1XDjj: from=<alice@sender.test>, size=100, nrcpt=1 (queue active)",
        "2026-03-02T08:00:00.300000+00:00 mx1.example.test postfix/smtp[3]: 4jY4JP4RRjz1XDjj: to=<bob@example.test>, relay=ex1.example.test[192.0.2.20]:25, delay=0.1, dsn=2.6.0, status=sent (250 2.6.0 <g1@sender.test> [InternalId=138838176, Hostname=ex1.example.test] 1234 bytes in 0.1, 10 KB/sec Queued mail for delivery)",
        "2026-03-02T08:00:00.400000+00:00 mx1.example.test postfix/qmgr[4]: 4jY4JP4RRjz1XDjj: removed",
    ];
    let m = Row { host: "ex1.example.test", id: "138838176", message_id: "<g1@sender.test>", to: "bob@example.test", ..Row::default() };
    let rows = line(&Row { event: "RECEIVE", client: "mx1.example.test", ..m.clone() }) + &line(&Row { event: "DELIVER", second: 1, ..m });
    let index = Index::new();
    index.fill(&[write(&index, "mail.log", &(postfix.join("\n") + "\n")), write(&index, "MSGTRK.LOG", &(HEADER.to_string() + &rows))], "h");
    assert_eq!(endings(&index, "g1@sender.test"), ended(&[("bob@example.test", Action::Delivered, "ex1.example.test")]));
    let journey = &index.trace("g1@sender.test")[0];
    assert_eq!(journey.edges.iter().map(|e| e.by).collect::<Vec<_>>(), [By::QueueId]);
}

/// What Proxmox's filter did with a mail is told beside what Postfix says, which handed it over and knows no more.
#[test]
fn a_filter_quarantines_behind_postfix() {
    let text = "2026-03-02T00:13:20.100000+00:00 gw postfix/smtpd[1]: A1A1A1A101: client=mail.sender.test[192.0.2.7]
2026-03-02T00:13:20.200000+00:00 gw postfix/cleanup[2]: A1A1A1A101: message-id=<q1@sender.test>
2026-03-02T00:13:25.514530+00:00 gw pmg-smtp-filter[1001]: C0FFEE0000000001: new mail message-id=<q1@sender.test>#012
2026-03-02T00:13:26.177019+00:00 gw pmg-smtp-filter[1001]: C0FFEE0000000001: SA score=8/5 time=0.5 bayes=0.00 hits=X(0.5)
2026-03-02T00:13:26.191069+00:00 gw pmg-smtp-filter[1001]: C0FFEE0000000001: moved mail for <bob@example.test> to spam quarantine - B2B2B2B202 (rule: Quarantine/Mark Spam (Level 3))
2026-03-02T00:13:26.195961+00:00 gw postfix/lmtp[1002]: A1A1A1A101: to=<bob@example.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=7.8, dsn=2.5.0, status=sent (250 2.5.0 OK (C0FFEE0000000001))
2026-03-02T00:13:26.196000+00:00 gw postfix/qmgr[1003]: A1A1A1A101: removed
";
    let index = Index::new();
    let done = index.fill(&[write(&index, "mail.log", text)], "h");
    assert_eq!(done.counts.unparsed_lines(), 0);
    let journey = &index.trace("q1@sender.test")[0];
    let end = &journey.endings[0];
    assert_eq!((end.last.action, end.last.disposition.as_deref()), (Action::Opaque, Some("quarantined")), "{:?}", journey.witnesses);
}

#[test]
fn programs_with_their_own_text_forms() {
    let stalwart = r#"2026-03-02T08:00:00Z INFO Queued message for delivery (queue.message-queued) listenerId = "smtp", localPort = 25, remoteIp = 192.0.2.7, remotePort = 47258, queueId = 3137, from = "alice@sender.test", to = ["bob@example.test"], size = 1662, nextRetry = 2026-03-02T08:00:00Z
2026-03-02T08:00:00Z INFO Message ingested (message-ingest.ham) queueId = 3137, accountId = 3, messageId = "st1@sender.test"
2026-03-02T08:00:01Z INFO Message delivered (delivery.delivered) queueId = 3137, queueName = "local", from = "alice@sender.test", to = ["bob@example.test"], size = 1662, total = 1, hostname = "localhost", to = "bob@example.test", code = 250, details = "OK", elapsed = 12ms
2026-03-02T08:00:02Z INFO Delivery completed (delivery.completed) queueId = 3137, queueName = "local", from = "alice@sender.test", to = ["bob@example.test"], size = 1662, total = 1, elapsed = 0ms
"#;
    let maddy = "2026-03-02T08:00:00.123Z submission: incoming message\t{\"msg_id\":\"c8f9d807\",\"sender\":\"a@sender.test\",\"src_host\":\"mx\",\"src_ip\":\"192.0.2.7:5146\",\"username\":\"a\"}
2026-03-02T08:00:00.124Z submission: RCPT ok\t{\"msg_id\":\"c8f9d807\",\"rcpt\":\"x@other.test\"}
2026-03-02T08:00:00.124Z submission: RCPT ok\t{\"msg_id\":\"c8f9d807\",\"rcpt\":\"y@other.test\"}
2026-03-02T08:00:00.125Z submission: accepted\t{\"msg_id\":\"c8f9d807\"}
2026-03-02T08:00:01.000Z queue: delivered\t{\"attempt\":1,\"msg_id\":\"c8f9d807\",\"rcpt\":\"x@other.test\"}
2026-03-02T08:00:01.001Z queue: delivery attempt failed\t{\"msg_id\":\"c8f9d807\",\"rcpt\":\"y@other.test\",\"reason\":\"no\",\"smtp_code\":550,\"smtp_enchcode\":\"5.1.1\",\"smtp_msg\":\"unknown\"}
2026-03-02T08:00:01.002Z queue: not delivered, permanent error\t{\"msg_id\":\"c8f9d807\",\"rcpt\":\"y@other.test\"}
";
    let barracuda = "Mar  2 08:00:04 gw scan[5125]: mail.sender.test[192.0.2.7] 1382041743-0f8241420001-6AQV5q 1382041743 1382041744 SCAN - alice@sender.test bob@example.test - 0 0 - SZ:18402 SUBJ:Hi
Mar  2 08:00:06 gw outbound/smtp[13266]: 1382041743-0f8241420001-6AQV5q 0 0 SEND ENC 1 8B2052296C 250 2.6.0 <m1@sender.test> [InternalId=1547658] Queued mail for delivery
";
    let index = Index::new();
    for (host, name, text) in [("st", "stalwart.log", stalwart), ("mad", "maddy.log", maddy), ("x", "mail.log", barracuda)] {
        let done = index.fill(&[write(&index, name, text)], host);
        assert_eq!((done.counts.unparsed_lines(), done.counts.no_frame, done.counts.foreign), (0, 0, 0), "{name}: {:?}", done.counts);
    }
    assert_eq!(endings(&index, "st1@sender.test"), ended(&[("bob@example.test", Action::Delivered, "st")]));
    let want = [("x@other.test", Action::Relayed, "mad"), ("y@other.test", Action::Failed, "mad")];
    assert_eq!(endings(&index, "c8f9d807"), ended(&want));
    assert_eq!(endings(&index, "1382041743-0f8241420001-6AQV5q"), ended(&[("bob@example.test", Action::Relayed, "gw")]));
}

/// The extended report of a historical search: the tracking log's columns under other names, as UTF-16.
#[test]
fn an_extended_report_of_exchange_online_is_read_as_utf16() {
    let columns = "date_time_utc,client_ip,client_hostname,server_ip,server_hostname,source_context,connector_id,source,event_id,internal_message_id,message_id,network_message_id,recipient_address,recipient_status,total_bytes,recipient_count,related_recipient_address,reference,message_subject,sender_address,return_path,message_info,directionality,tenant_id,original_client_ip,original_server_ip,custom_data";
    let row = |second, client: &str, source: &str, event: &str, to: &str, status: &str| {
        format!(
            "2026-03-02T08:00:0{second}.1230000Z,192.0.2.7,{client},192.0.2.20,db9.prod.example,,,{source},{event},64712272257894,<m1@sender.test>,13fad5b7,{to},{status},7852,2,,,\"Grüße, \u{1f600}\",alice@sender.test,alice@sender.test,,Incoming,,192.0.2.9,,S:a=b"
        )
    };
    let rows = [
        columns.to_string(),
        row(0, "mail.sender.test", "SMTP", "RECEIVE", "bob@example.test;carol@example.test", ""),
        row(1, "db9.prod.example", "STOREDRIVER", "DELIVER", "bob@example.test", ""),
        row(2, "db9.prod.example", "ROUTING", "FAIL", "carol@example.test", "550 5.1.10 RESOLVER.ADR.RecipientNotFound"),
    ];
    let text = rows.join("\r\n") + "\r\n";
    let bytes = |high_first: bool, mark: &str| -> Vec<u8> {
        let units = mark.encode_utf16().chain(text.encode_utf16());
        units.flat_map(|u| if high_first { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    };
    let utf8 = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    for (name, bytes) in [("le", bytes(false, "\u{feff}")), ("be", bytes(true, "\u{feff}")), ("none", bytes(false, "")), ("utf8", utf8)] {
        let index = Index::new();
        let path = index.dir.path().join("report.csv");
        std::fs::write(&path, bytes).unwrap();
        let done = index.fill(std::slice::from_ref(&path), "h");
        assert_eq!(done.counts.unparsed_lines(), 0, "{name}: {:?}", done.counts.unparsed);
        assert_eq!(
            endings(&index, "m1@sender.test"),
            ended(&[
                ("bob@example.test", Action::Delivered, "db9.prod.example"),
                ("carol@example.test", Action::Failed, "db9.prod.example")
            ]),
            "{name}"
        );
        let subject = index.records().iter().map(msgtrk::model::derive::derive).find_map(|r| r.subject);
        assert_eq!(subject.as_deref(), Some("Grüße, \u{1f600}"), "{name}");
        // Read again, it has nothing new.
        assert_eq!(index.fill(&[path], "h").counts.unparsed_lines(), 0);
        assert_eq!(endings(&index, "m1@sender.test").len(), 2, "{name}");
    }
}
