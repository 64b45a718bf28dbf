//! The SMTP side of message tracking (RFC 3885): gateways that stand before and behind an MTA that knows nothing of it.
//!
//! ```text
//! client --> [gateway] --> MTA --> [gateway behind it] --> next hosts
//!                |          |             |
//!                |         log            | who tracks
//!                v          v             v
//!            bindings -> records <- next hosts of recipients
//! ```
//! * [`command`], [`reply`], [`data`], [`session`], [`proxy`]: the protocol, without I/O (DESIGN R5). A session is fed what
//!   both sides send and says what both sides get; it never takes responsibility for mail: each yes is the backend's own.
//! * [`server`]: sockets and TLS around sessions. [`outbound`]: the gateway behind an MTA, with [`hosts`] to find next hosts and
//!   [`client`] to speak to them (and for `msgtrk submit`).
//! * [`binding`]: what was learnt, as events in the running ledger, so that a tracking query finds it at once.
//! * [`config`]: `[smtp]` of the config file. [`start`]: opens it all.
//!
//! # What stands where in RFC 3885
//! | RFC 3885 | requirement | how | test |
//! |---|---|---|---|
//! | 2 (1-3) | EHLO keyword MTRK, no parameters | offered where the backend offers DSN, or MTRK itself | `rfc3885_2_mtrk_is_offered_with_dsn_..` |
//! | 2 (4) | ENVID and ORCPT MUST be supported, with all of RFC 3461 | passed on untouched to a backend that offers DSN; the DSN rules are that MTA's; ORCPT is Original-Recipient in the answer | `rfc3885_3_3_the_mark_is_taken_off_and_noted_..`, `the_gateway_is_transparent`, `where_the_envelope_is_known_..`, `every_state_behind_..` |
//! | 2 (5) | longer MAIL and RCPT lines | lines of up to 4,096 bytes | `control_characters_and_long_lines_stay_here` |
//! | 3.1 | A MUST be 128 to 1,024 bits, hard to predict (4.2) | 256 random bits of the system (`msgtrk submit`) | `as_sendmail_it_takes_recipients_..` |
//! | 3.1 | certifier, timeout of 1 to 9 digits | 27 characters of base64 (28 with `=`), 20 octets; not 0 | `rfc3885_3_1_a_mark_is_..`, `rfc3885_3_what_is_no_mark_..` |
//! | 3.1 | limits of retention at least a day, default 8 to 10 days | `track_days` (10), `max_track_days` (30), both at least 1; for marks found in logs, too | `how_long_a_message_can_be_tracked`, `a_mark_is_bound_to_the_next_message_..` |
//! | 3.1 | no denial while the message is queued | the tracking server's (`mtqp::tracker`), which sees the record's queue state | MTQP's table |
//! | 3.1 | SHOULD pass the remaining life on; not a used-up one | inbound at once, so undiminished; outbound what is left until expiry | `rfc3885_3_1_a_timeout_that_is_used_up_ends_the_mark`, `rfc3885_3_3_the_mark_goes_along_..` |
//! | 3.2 | ENVID MUST be there, `local@fqhn`, at most 100 characters | 501 5.5.4 with the reason | `rfc3885_3_what_is_no_mark_is_refused_with_its_reason` |
//! | 3.2 | likewise for marks that only a log bears | what is not whole binds nothing | `a_mark_that_is_not_whole_binds_nothing_and_is_counted` |
//! | 3.2 | unique, new for a resubmission; a long fqhn SHOULD be hashed | 128 random bits a message; SHA-1 in base64 | `rfc3885_3_2_an_envelope_id_fits_whatever_the_hosts_name` |
//! | 3.3 | SHOULD forward to compliant hosts; MUST delete for others; ENVID and ORCPT stay for DSN | by what the next host offers | `rfc3885_3_3_the_mark_goes_along_to_a_host_that_tracks_..`, `a_message_is_tracked_over_two_sites_..` |
//! | 3.3 | one recipient redirected to one: SHOULD forward | not done: at the moment of handing over no log line tells whether it became one or several, and several MUST NOT get it | none |
//! | 3.3 | MUST NOT copy for several recipients of one, nor for lists | only the sender's own recipient, from the sender's own address, takes it along | `rfc3885_3_3_no_mark_for_an_alias_a_list_..` |
//! | 4.1 | floods | bounds of connections, recipients noted, memory; `max_track_days` | `connections_are_bounded_..`, `a_client_that_pipelines_without_end_waits` |
//! | 4.2 | the secret is kept from others | files 0600 in a folder 0700, never listed, never an argument | `as_sendmail_it_takes_recipients_..` |
//!
//! What RFC 5321 leaves to a relay is the backend's. Where the gateway itself differs from a bare backend: a lone dot
//! between line ends other than CR LF is refused ([`data`]); control characters in commands, BDAT without CHUNKING offered, and
//! XCLIENT and its like are refused; AUTH outside TLS is refused unless the config says otherwise.
//!
//! LMTP, RFC 2033, is spoken by the same sessions; each recipient's last word is noted for itself.

pub mod binding;
pub mod client;
pub mod command;
pub mod config;
pub mod data;
pub mod hosts;
pub mod net;
pub mod outbound;
pub mod proxy;
pub mod reply;
pub mod server;
pub mod session;
pub mod start;
#[cfg(test)]
mod tests;
