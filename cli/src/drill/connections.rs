//! What became of TCP connections, as operators read it. The engine is `hawser-drill`.

use hawser_drill::connections::Fate;
use serde::Serialize;

use super::flows::millis;

/// A connection's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRow {
    /// The source port.
    pub port: u16,
    /// Numbers that it exchanged.
    pub exchanges: u64,
    /// The longest time between two of them, milliseconds.
    pub longest_wait_ms: u64,
    /// Whether it went on to the end.
    pub lived: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Heads of the table of connections.
pub const HEAD: [&str; 4] = ["CONNECTION FROM", "EXCHANGES", "LONGEST WAIT", "FATE"];

impl ConnectionRow {
    /// Of one connection.
    #[must_use]
    pub fn of(fate: Fate) -> Self {
        Self {
            port: fate.port,
            exchanges: fate.exchanges,
            longest_wait_ms: millis(fate.longest_wait),
            lived: fate.broke.is_none(),
            why: fate.broke,
        }
    }

    /// The cells of a table with [`HEAD`].
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let fate = self.why.as_ref().map_or_else(|| "lived".to_owned(), |why| format!("broke: {why}"));
        vec![self.port.to_string(), self.exchanges.to_string(), format!("{} ms", self.longest_wait_ms), fate]
    }
}

/// How many broke.
#[must_use]
pub fn broken(rows: &[ConnectionRow]) -> usize {
    rows.iter().filter(|row| !row.lived).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_connection_that_broke_says_why() {
        let fate = |broke: Option<&str>| Fate {
            port: 7,
            exchanges: 40,
            longest_wait: Duration::from_millis(220),
            broke: broke.map(str::to_owned),
        };
        let rows = [ConnectionRow::of(fate(None)), ConnectionRow::of(fate(Some("Connection reset by peer")))];
        assert_eq!(broken(&rows), 1);
        assert_eq!(rows[0].cells(), ["7", "40", "220 ms", "lived"]);
        assert_eq!(rows[1].cells()[3], "broke: Connection reset by peer");
    }
}
