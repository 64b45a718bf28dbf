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
//! Tests are named for the section; `all::` are those over real sockets (`tests/all`), `golden/` the dialogues in
//! `tests/golden/mtqp`, one for each of RFC 3887's 14 examples, with a remark where it cannot be the RFC's word for word. A test holds
//! this table against the tests that there are. RFC 3885's other half, the SMTP side, has its table in module `smtp`.
//!
//! | RFC | requirement | test |
//! |---|---|---|
//! | 3885 3.1 | A has 128 to 1024 bits, B = SHA-1(A) in base64 | `command::tests::rfc3885_3_1_*`, `all::mtqp::grant_track_revoke_*` |
//! | 3885 3.1 | kept 8 to 10 days by default, one at least | `all::mtqp::rfc3885_3_1_*`, `mtqp::config::tests::rfc3887_2_4_*` |
//! | 3885 3.1 | never denied while the message is queued | `all::mtqp::rfc3885_3_1_*` |
//! | 3885 3.2 | unique-envid is xtext | `trkstat::tests::xtext_*`, `command::tests::rfc3887_4_*` |
//! | 3885 3.3 | one new recipient is an ordinary hop, several are not followed | `answer::tests::rfc3886_4_2_a_list_forwarded_*` |
//! | 3885 4.2 | sites choose whether aliases and inner hosts are shown | `answer::tests::rfc3886_4_2_forwarding_*`, `answer::tests::rfc3887_2_4_*` |
//! | 3886 3 | multipart/related of message/tracking-status, one a record | `trkstat::tests::rfc3886_3_a_part_*`, `golden/06-*` |
//! | 3886 3.1 | 7bit, folded, RFC 2822's fields; blank lines between groups | `trkstat::tests::rfc3886_3_1_*`, `trkstat::tests::line_breaks_*`, `answer::tests::log_text_*` |
//! | 3886 3.1.1-2 | xtext, types of addresses and hosts as in RFC 3464 | `trkstat::tests::xtext_*`, `trkstat::tests::what_is_written_is_read` |
//! | 3886 3.2.1-3 | Original-Envelope-Id, Reporting-MTA, Arrival-Date are required | `trkstat::tests::rfc3886_3_2_*` |
//! | 3886 3.3.1-4 | Original-Recipient, Final-Recipient, Action, Status are required | `trkstat::tests::rfc3886_3_a_part_*`, `golden/10-*` |
//! | 3886 3.3.3 | transferred only where more can be had: the next part, or a host known to track | `answer::tests::rfc3886_3_3_3_*`, `all::mtqp_chain::rfc3886_3_3_3_*`, `golden/07-*` |
//! | 3886 3.3.3 | downstream SHOULD be asked for "transferred", SHOULD NOT for others | `track::tests::rfc3886_3_3_3_*`, `all::mtqp_chain::a_message_from_a_to_b_to_c_is_tracked_by_referral_*` |
//! | 3886 3.3.3 | opaque: no more is said | `all::mtqp::n4_*`, `trkstat::tests::rfc3886_3_3_6_*` |
//! | 3886 3.3.4 | status; 2.1.9 with relayed only | `trkstat::tests::rfc3886_3_3_4_*`, `answer::tests::rfc3886_3_3_4_*` |
//! | 3886 3.3.5 | Remote-MTA not before an attempt, not with opaque | `trkstat::tests::rfc3886_3_3_5_*` |
//! | 3886 3.3.6 | Last-Attempt-Date after an attempt, unless opaque | `trkstat::tests::rfc3886_3_3_6_*`, `golden/08-*` |
//! | 3886 3.3.7 | Will-Retry-Until while queued, and then only | `trkstat::tests::rfc3886_3_3_7_*`, `answer::tests::rfc3886_3_3_7_*` |
//! | 3886 3.4 | extension fields of others are borne, and not passed on | `trkstat::tests::what_is_written_is_read`, `all::mtqp_chain::b_lies` |
//! | 3886 3.5 | an LDA that tracks gets the mark by LMTP | not ours: the SMTP gateway's, which passes it on |
//! | 3886 4.1 | servers may lie: other messages' parts, what no server may say, endless answers | `all::mtqp_chain::b_lies`, `trkstat::tests::any_bytes_*`, `trkstat::tests::half_an_answer_*` |
//! | 3886 4.2 | lists are "expanded", members never shown; forwarding can be hidden | `answer::tests::rfc3886_4_2_*`, `all::mtqp::rfc3886_4_2_*` |
//! | 3887 2 | SRV, then addresses; port 1038 | `names::tests::*`, `all::dns::rfc3887_2_*` |
//! | 3887 2.1 | all messages of the mail system are answered for | not ours: whoever runs it has every host's log read |
//! | 3887 2.2 | keywords without case, white space, 998 characters, CR LF | `tests::session::rfc3887_2_2_*`, `command::tests::rfc3887_2_2_*` |
//! | 3887 2.3 | status indicators, response information, dot-stuffing, 998 characters | `reply::tests::*` |
//! | 3887 2.3 | `-BAD` for what is no command, `-ERR` in the wrong state | `tests::session::rfc3887_2_3_*`, `command::tests::rfc3887_2_3_*`, `tests::session::rfc3887_6_*` |
//! | 3887 2.4 | firewall: how far inside, final hops only, names hidden | `answer::tests::rfc3887_2_4_*`, `golden/firewall-edge-only` |
//! | 3887 2.4 | chaining answers within two minutes, with what is known | `mtqp::config::tests::rfc3887_2_4_*`, `all::mtqp_chain::b_is_dead_or_slow` |
//! | 3887 2.5 | inactivity of ten minutes at least; other bounds | `mtqp::config::tests::rfc3887_2_4_and_2_5_*`, `all::mtqp::n2_*`, `all::mtqp::n3_*` |
//! | 3887 2.5 | the client waits two minutes at least (one that chains: as long as 2.4 leaves it) | `all::mtqp::rfc3887_2_5_*` |
//! | 3887 3 | greeting with `/MTQP`, options, STARTTLS where there is a certificate, "required" | `tests::session::rfc3887_3_the_greeting_*`, `golden/01-*`, `golden/04-*`, `golden/05-*` |
//! | 3887 3 | negative greetings with a reason; `/admin`, `/unavailable` | `tests::session::rfc3887_3_out_of_service_*`, `all::mtqp::rfc3887_3_*`, `all::mtqp::n3_connections_*`, `golden/02-*`, `golden/03-*` |
//! | 3887 3 | options without case, continued, of vendors | `reply::tests::rfc3887_3_*` |
//! | 3887 4 | TRACK, validation by SHA-1 | `tests::session::rfc3887_4_*`, `all::mtqp::r8_*` |
//! | 3887 4 | the answer is multi-line, multipart/related | `answer::tests::rfc3887_4_*`, `golden/06-*`, `golden/07-*`, `golden/08-*`, `golden/09-*`, `golden/10-*`, `golden/11-*`, `golden/12-*` |
//! | 3887 4 | `/tls-required` | `all::mtqp_tls::rfc3887_4_*`, `golden/05-*` |
//! | 3887 4 | not seen: `noinfo` or `opaque` | `all::mtqp::n4_*` |
//! | 3887 4.1 | what the examples write otherwise than the grammar is read | `trkstat::tests::rfc3887_4_1_*` |
//! | 3887 5 | COMMENT is successful | `tests::session::rfc3887_5_*` |
//! | 3887 6 | STARTTLS by name; `/unsupported`, `/unavailable`, `/tls-in-progress`, `/bad-fqdn` | `tests::session::rfc3887_6_starttls_*`, `all::mtqp_tls::rfc3887_6_starttls_*`, `golden/01-*` |
//! | 3887 6 | the client names the host it means, and begins TLS before all else | `all::mtqp_tls::rfc3887_6_the_client_*` |
//! | 3887 6.1 | a failed handshake ends it; `/insecure` for all but QUIT | `all::mtqp_tls::rfc3887_6_1_*`, `tests::session::rfc3887_6_1_*` |
//! | 3887 6.2 | all knowledge dropped on both sides, no STARTTLS afterwards | `tests::session::rfc3887_6_2_*`, `tests::session::n1_*`, `all::mtqp_tls::n1_*`, `all::mtqp_tls::rfc3887_6_the_client_*` |
//! | 3887 7 | QUIT | `tests::session::rfc3887_7_*` |
//! | 3887 8 | pipelining in order | `tests::session::rfc3887_8_*`, `all::mtqp::n3_ten_thousand_*`, `golden/13-*`, `golden/14-*` |
//! | 3887 9 | the URL | `uri::tests::*` |
//! | 3887 11 | a server that stops offering TLS, or shows another certificate, is noticed | `memory::tests::rfc3887_11_*`, `all::mtqp_tls::the_client_requires_*` |
//! | 3887 11 | the next hop gets the same security or better | `all::mtqp_chain::rfc3887_11_*` |
//!
//! RFC 3887's SHA-1 value is no hash of its examples' secret, and their "relayed" beside a part that follows is "transferred" here
//! (RFC 3886, 3.3.3).

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
