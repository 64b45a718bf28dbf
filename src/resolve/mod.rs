//! What needs the order of one source: year and zone of a stamp ([`clock`]), equal lines and split entries ([`order`]),
//! lines that name a session instead of the message ([`sessions`]), the header of a table ([`sheet`]).

pub mod clock;
pub mod order;
pub mod sessions;
pub mod sheet;

use serde::{Deserialize, Serialize};

/// All that later lines of one stream (a log and its rotated siblings) need to know of the earlier ones.
///
/// It is stored with the stream's position, in the commit that holds the records of the lines before, so that
/// reading goes on as if it had never stopped. As JSON it has at most about 150 KiB (where many sessions are open), a few hundred bytes for most logs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StreamState {
    /// Where the clock stands.
    #[serde(default)]
    pub clock: clock::Position,
    /// Equal lines, split entries, latest lines.
    #[serde(default)]
    pub order: order::Order,
}
