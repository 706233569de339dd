//! What a node does in its subnet.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which side of the subnet's work a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Forecasts and answers validators.
    Miner,
    /// Asks miners, scores them, sets weights.
    Validator,
    /// Both in one process, with one hotkey.
    Both,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Miner, Self::Validator, Self::Both];

    /// Tells whether the miner's part runs.
    pub const fn is_miner(self) -> bool {
        matches!(self, Self::Miner | Self::Both)
    }

    /// Tells whether the validator's part runs.
    pub const fn is_validator(self) -> bool {
        matches!(self, Self::Validator | Self::Both)
    }

    /// Returns the name on the command line, in records and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Validator => "validator",
            Self::Both => "both",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
