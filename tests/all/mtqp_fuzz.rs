//! The fuzz targets' entries over random bytes: pure ones, and pieces of what the protocol has.

#[path = "../../fuzz/entries.rs"]
mod entries;

use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&str] = &[
        "TRACK ",
        "<a@b>",
        " YWJj",
        "COMMENT",
        "STARTTLS ",
        "a.b",
        "QUIT",
        "\r\n",
        "\n",
        ".\r\n",
        "..",
        "+OK",
        "+OK+",
        "-ERR/noinfo",
        "/MTQP",
        "mtqp://",
        "h.test:1",
        "/track/",
        "a%2Fb@c",
        "/",
        "%",
        "Content-Type: multipart/related; boundary=b\n\n",
        "--b\n",
        "--b--\n",
        "Content-Type: message/tracking-status\n\n",
        "Original-Envelope-Id: a@b\n",
        "Reporting-MTA: dns; x\n",
        "Arrival-Date: Mon, 1 Jan 2001 15:15:15 -0500\n",
        "\nFinal-Recipient: rfc822; a@b\n",
        "Final-Recipient: utf-8; \\x{E9}\\x{\n",
        "Action: delayed\n",
        "Action: opaque\n",
        "Status: 4.0.0\n",
        "Status 2.0.0 (x)\n",
        "Remote-MTA: y\n",
        "Last-Attempt-Date: Mon, 1 Jan 2001 15:15:15 GMT\n",
        " folded\n",
        "X-Y: z\n",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(words).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..2000).prop_map(|n| vec![b'a'; n]),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn command(data in bytes()) { entries::command(&data); }

    #[test]
    fn reply(data in bytes()) { entries::reply(&data); }

    #[test]
    fn session(data in bytes()) { entries::session(&data); }

    #[test]
    fn uri(data in bytes()) { entries::uri(&data); }

    #[test]
    fn trkstat(data in bytes()) { entries::trkstat(&data); }
}
