//! Sections `[network]` and `[wallet]`.

use std::path::PathBuf;
use std::time::Duration;

use forecastd_core::NetUid;

use crate::config::diff::ReloadClass::{Part, Start};
use crate::config::section::section;
use crate::config::text::is_url;
use crate::config::value::Rule::{Any, Int, Name, Span, Url};
use crate::config::value::{Rule, Secret, Value, quote};

/// Public endpoints of the main network, in the order of use.
const FINNEY: [&str; 2] =
    ["wss://entrypoint-finney.opentensor.ai:443", "wss://lite.sub.latent.to:443"];
/// Public endpoint of the test network.
const TEST: [&str; 1] = ["wss://test.finney.opentensor.ai:443"];
/// A node on this machine.
const LOCAL: [&str; 1] = ["ws://127.0.0.1:9944"];

/// Which chain the daemon works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The main network.
    Finney,
    /// The public test network.
    Test,
    /// A node on this machine, or the embedded network.
    Local,
    /// Any other chain, by its URL.
    Custom(String),
}

impl Network {
    /// Tells whether well-known development keys may sign here.
    pub const fn allows_dev_keys(&self) -> bool {
        !matches!(self, Self::Finney | Self::Test)
    }

    /// Returns the name as in the file.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Finney => "finney",
            Self::Test => "test",
            Self::Local => "local",
            Self::Custom(url) => url,
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Value for Network {
    const EXPECTED: &'static str = "one of finney, test, local, or a ws:// or wss:// URL";

    fn read(value: &toml_edit::Value, _: &Rule) -> Option<Self> {
        match value.as_str()? {
            "finney" => Some(Self::Finney),
            "test" => Some(Self::Test),
            "local" => Some(Self::Local),
            url => is_url(url, &["ws", "wss"]).then(|| Self::Custom(url.to_owned())),
        }
    }

    fn literal(&self) -> String {
        quote(self.as_str())
    }
}

section! {
    /// The chain and the subnet.
    NetworkConfig
    keys {
        /// The network's name, or the URL of a chain node.
        name: Network = "local", Any, "", Start;
        /// Nodes to use in this order; when empty, the public ones of the named network.
        endpoints: Vec<String> = [], Url(&["ws", "wss"]), "", Start;
        /// Number of the subnet: 8 on finney, 3 on test.
        netuid: u16 = 8, Int(0, 65535), "", Start;
        /// Longest wait for one answer of a node.
        call_timeout: Duration = "20s", Span("1s", "5m"), "", Start;
        /// Blocks for which a signed transaction stays valid; a power of two.
        mortality_blocks: u64 = 32, Int(4, 65536), "blocks", Start;
        /// How often the metagraph (hotkeys, stakes, permits, addresses) is read.
        metagraph_every: Duration = "10m", Span("10s", "1d"), "market time", Part("metagraph");
    }
    parts {}
}

impl NetworkConfig {
    /// Returns the subnet's number.
    pub const fn net_uid(&self) -> NetUid {
        NetUid(self.netuid)
    }

    /// Returns the nodes to use, in order, never empty.
    pub fn node_urls(&self) -> Vec<String> {
        if !self.endpoints.is_empty() {
            return self.endpoints.clone();
        }
        let known: &[&str] = match &self.name {
            Network::Finney => &FINNEY,
            Network::Test => &TEST,
            Network::Local => &LOCAL,
            Network::Custom(url) => return vec![url.clone()],
        };
        known.iter().map(|url| (*url).to_owned()).collect()
    }
}

section! {
    /// The hotkey that signs. The coldkey is never needed here and never belongs on a server.
    WalletConfig
    keys {
        /// Directory of the wallets; `~` is the home directory.
        path: PathBuf = "~/.bittensor/wallets", Any, "", Start;
        /// The wallet's name.
        name: String = "default", Name, "", Start;
        /// The hotkey's name within the wallet.
        hotkey: String = "default", Name, "", Start;
        /// A well-known development key such as `//Alice`, instead of a file. Everybody knows these
        /// keys, so they are refused on finney and test. No mnemonic and no seed belongs here.
        uri: Secret = "", Any, "", Start;
    }
    parts {}
}

impl WalletConfig {
    /// Returns the wallets' directory with `~` replaced by `home`.
    pub fn directory(&self, home: Option<&std::path::Path>) -> PathBuf {
        match (self.path.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.path.clone(),
        }
    }
}
