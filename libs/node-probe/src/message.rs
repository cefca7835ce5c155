//! What nodes and gateways say.

use hawser_model::NodeName;

use crate::LivePage;

/// One datagram's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A route agent asks a gateway.
    Ask {
        /// Number of the question.
        seq: u64,
        /// The last question that this gateway answered, 0 for none.
        echo: u64,
    },
    /// A gateway answers.
    Answer {
        /// [`Envelope::instance`] of the question: binds the answer to the asker.
        asker: u64,
        /// Number of the question.
        seq: u64,
        /// One page of the gateway's state.
        page: LivePage,
    },
    /// A gateway says unasked that its state changed.
    Notice {
        /// One page of the gateway's state.
        page: LivePage,
    },
    /// A gateway node's route agent says that the gateway's TUN vanished.
    GatewayGone,
}

impl Message {
    /// Which process of a node says this.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Ask { .. } | Self::GatewayGone => Role::RouteAgent,
            Self::Answer { .. } | Self::Notice { .. } => Role::Gateway,
        }
    }
}

/// The processes of a node that speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    RouteAgent,
    Gateway,
}

/// A message with its proven sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's node.
    pub node: NodeName,
    /// The sender's run: grows from start to start of a process.
    pub instance: u64,
    /// Number of the datagram in that run.
    pub counter: u64,
    /// What is said.
    pub message: Message,
}

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Longer than any of ours.
    #[error("longer than 1,200 bytes")]
    TooLong,
    /// Not made with our key.
    #[error("not sealed with this cluster's probe key")]
    Forged,
    /// Sealed with our key, but of another version or malformed.
    #[error("of another version or malformed")]
    Malformed,
    /// Seen before, or older than what was seen.
    #[error("repeated or out of date")]
    Replayed,
    /// The answer to another asker, or to an earlier run of this one.
    #[error("the answer to another asker")]
    NotOurs,
}

impl Refused {
    /// A name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Replayed => "replayed",
            Self::NotOurs => "not_ours",
        }
    }
}
