//! The fuzz targets' entries over random bytes and pieces of what the protocol has.

#[path = "../../../fuzz/smtp_entries.rs"]
mod entries;

use proptest::prelude::*;

const WORDS: &[&str] = &[
    "EHLO c\r\n",
    "MAIL FROM:<a@b>",
    " MTRK=",
    "qUqP5cyxm6YcTAhz05Hph5gvu9M",
    ":86400",
    " ENVID=1@h",
    "+2B",
    " RET=HDRS",
    "RCPT TO:<c@d>",
    " ORCPT=rfc822;c@d",
    "DATA\r\n",
    "BDAT 5 LAST\r\n",
    "BDAT 3\r\n",
    "RSET\r\n",
    "STARTTLS\r\n",
    "AUTH LOGIN\r\n",
    "QUIT\r\n",
    "GET / HTTP/1.1\r\n",
    "XCLIENT ADDR=::1\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ".",
    "\r\n.\r\n",
    "\n.\n",
    "\"",
    "\\",
    "<",
    ">",
    "220 x\r\n",
    "250\r\n",
    "250-\r\n",
    "250 Ok\r\n",
    "250-x\r\n250-DSN\r\n250-CHUNKING\r\n250 AUTH LOGIN\r\n",
    "354 go\r\n",
    "334 x\r\n",
    "421 bye\r\n",
    "550 5.1.1 no\r\n",
    "250 2.0.0 Ok: queued as 4AbC\r\n",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        5 => proptest::sample::select(WORDS).prop_map(|w| w.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (1usize..9000).prop_map(|n| vec![b'a'; n]),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|v| v.concat())
}

/// Pieces with their owner and length in front, as [`entries::session`] takes them: mostly those that belong to whom speaks.
fn moves() -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<bool>(), proptest::sample::select(WORDS)).prop_map(|(odd, w)| {
        let backend = w.as_bytes()[0].is_ascii_digit() ^ (odd && w.len() % 7 == 0);
        let mut out = vec![((w.len() as u8) << 1) | u8::from(backend)];
        out.extend_from_slice(w.as_bytes());
        out
    });
    proptest::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn line(data in bytes()) { entries::line(&data); }

    #[test]
    fn reply(data in bytes()) { entries::reply(&data); }

    #[test]
    fn content(data in bytes()) { entries::content(&data); }

    #[test]
    fn session(data in prop_oneof![moves(), bytes()]) { entries::session(&data); }
}
