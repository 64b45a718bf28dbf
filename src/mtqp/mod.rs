//! MTQP (RFC 3887): who may know asks any tracking server on a message's way what became of it.
//!
//! * Without I/O (R5): [`command`], [`reply`], [`session`] (the dialogue), [`uri`], [`answer`] (a journey's records as
//!   RFC 3886 parts: by proof only, R8, and by policy).
//! * [`tracker`] is where records come from: the server asks it for what a secret opens.
//! * [`cache`] keeps answers until something is committed.
//! * [`server`] listens, [`config`] is what it is told, [`limits`] who may come in, [`tls`] its certificates.
//! * [`client`] asks, [`names`] finds whom (SRV), [`chain`] asks on the client's behalf, [`addresses`] says where never to.
//!
//! A secret opens the records that bear a binding of its hash and of the envelope id asked for. The look-up is by the hash:
//! an envelope id that does not exist and a wrong secret are one and the same miss. A lost answer, a wrong answer and
//! none look alike to a stranger, and so does the time they take.
//!
//! # What the RFCs ask for, and the test that shows it
//! Tests are named for the section; `all::` are those over real sockets (`tests/all`), `golden` the dialogues in `tests/golden/mtqp`.
//!
//! | RFC | requirement | test |
//! |---|---|---|
//! | 3885 3.1 | A has 128 to 1024 bits, B = SHA-1(A) in base64 | `command::tests::rfc3885_3_1_*`, `all::mtqp::grant_track_revoke_*` |
//! | 3885 3.1 | kept 8 to 10 days by default, one at least | `all::mtqp::rfc3885_3_1_*`, `config::tests::rfc3887_2_4_*` |
//! | 3885 3.1 | never denied while the message is queued | `all::mtqp::rfc3885_3_1_*` |
//! | 3885 3.2 | unique-envid is xtext | `trkstat::tests::xtext_*`, `command::tests::rfc3887_4_*` |
//! | 3885 3.3 | one new recipient is an ordinary hop, several are not followed | `answer::tests::rfc3886_4_2_a_list_forwarded_*` |
//! | 3886 3 | multipart/related of message/tracking-status, one a record | `trkstat::tests::rfc3886_3_a_part_*`, golden |
//! | 3886 3.1 | 7bit, folded | `trkstat::tests::rfc3886_3_1_*`, `answer::tests::log_text_*` |
//! | 3886 3.2.1-3 | Original-Envelope-Id, Reporting-MTA, Arrival-Date | `trkstat::tests::rfc3886_3_2_*` |
//! | 3886 3.3.1-2 | Original-Recipient, Final-Recipient | `trkstat::tests::rfc3886_3_2_*`, golden 10 |
//! | 3886 3.3.3 | actions; transferred only where more can be had | `answer::tests::rfc3886_3_3_3_*` |
//! | 3886 3.3.4 | status; 2.1.9 with relayed only | `trkstat::tests::rfc3886_3_3_4_*`, `answer::tests::rfc3886_3_3_4_*` |
//! | 3886 3.3.5 | Remote-MTA not before an attempt, not with opaque | `trkstat::tests::rfc3886_3_3_5_*` |
//! | 3886 3.3.6 | Last-Attempt-Date after an attempt, unless opaque | `trkstat::tests::rfc3886_3_3_6_*`, golden |
//! | 3886 3.3.7 | Will-Retry-Until while queued only | `trkstat::tests::rfc3886_3_3_7_*`, `answer::tests::rfc3886_3_3_7_*` |
//! | 3886 4.2 | members of lists never shown; forwarding can be hidden | `answer::tests::rfc3886_4_2_*` |
//! | 3887 2 | SRV, then addresses; port 1038 | `names::tests::*` |
//! | 3887 2.2 | keywords without case, white space, 998 characters, CR LF | `tests::session::rfc3887_2_2_*`, `command::tests::rfc3887_2_2_*` |
//! | 3887 2.3 | status indicators, response information, dot-stuffing | `reply::tests::*` |
//! | 3887 2.3 | `-BAD` for what is no command, `-ERR` in the wrong state | `tests::session::rfc3887_2_3_*`, `tests::session::rfc3887_6_*` |
//! | 3887 2.4 | firewall: how far inside, names hidden; two minutes | `answer::tests::rfc3887_2_4_*`, golden 10 to 12, `all::mtqp_chain::*` |
//! | 3887 2.5 | inactivity of ten minutes at least; other bounds | `config::tests::rfc3887_2_4_and_2_5_*`, `all::mtqp::n2_*`, `n3_*` |
//! | 3887 3 | greeting with `/MTQP`, options, reasons | `tests::session::rfc3887_3_*`, `reply::tests::rfc3887_3_*`, golden 01 |
//! | 3887 4 | TRACK, validation by SHA-1, multi-line answer, reasons | golden 06 to 12, `tests::session::rfc3887_4_*`, `all::mtqp_tls::rfc3887_4_*` |
//! | 3887 4 | not seen: `noinfo` or `opaque` | `all::mtqp::n4_*` |
//! | 3887 5 | COMMENT is successful | `tests::session::rfc3887_5_*` |
//! | 3887 6 | STARTTLS by name; `/unsupported`, `/unavailable`, `/tls-in-progress`, `/bad-fqdn` | `tests::session::rfc3887_6_*`, `all::mtqp_tls::rfc3887_6_*` |
//! | 3887 6.1 | failed handshake ends it; `/insecure` | `all::mtqp_tls::rfc3887_6_1_*` |
//! | 3887 6.2 | all knowledge dropped, no STARTTLS afterwards | `tests::session::n1_*`, `all::mtqp_tls::n1_*` |
//! | 3887 7 | QUIT | `tests::session::rfc3887_7_*` |
//! | 3887 8 | pipelining in order | `tests::session::rfc3887_8_*`, golden 13 and 14 |
//! | 3887 9 | the URL | `uri::tests::*` |
//! | 3887 11 | a server that stops offering TLS is noticed; the next hop gets the same security | `all::mtqp_tls::the_client_*`, `all::mtqp_chain::rfc3887_11_*` |
//!
//! Left to whoever sends: RFC 3885's ESMTP parameters (an event of their own kind is ready for them).
//! RFC 3887's example 11 (blocks of two hops combined) is a choice that is not taken; its examples' SHA-1 value is no hash of
//! their secret, and their "relayed" beside a part that follows is "transferred" here (RFC 3886, 3.3.3).

pub mod addresses;
pub mod answer;
pub mod cache;
pub mod chain;
pub mod client;
pub mod command;
pub mod config;
mod connection;
pub mod limits;
pub mod names;
pub mod reply;
pub mod server;
pub mod session;
pub mod tls;
pub mod tracker;
pub mod uri;

#[cfg(test)]
mod tests;
