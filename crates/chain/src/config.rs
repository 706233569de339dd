//! Settings of the chain client.

use std::time::Duration;

use forecastd_core::NetUid;

use crate::error::ChainError;

/// Blocks for which an extrinsic stays valid. The SDKs choose 128, 26 minutes; after an unknown
/// outcome nothing is sent until these have passed, and a uid may have another owner by then.
pub const DEFAULT_MORTALITY_BLOCKS: u64 = 32;
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Five blocks of 12 s: a pool that has not placed the extrinsic by then has likely dropped it.
const DEFAULT_INCLUSION_TIMEOUT: Duration = Duration::from_mins(1);
const CALL_TIMEOUT_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_mins(1));
const INCLUSION_TIMEOUT_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_hours(1));
/// Range of an era's period by the encoding of mortal eras.
const MORTALITY_RANGE: (u64, u64) = (4, 65_536);
const MAX_ENDPOINTS: usize = 16;

/// Settings of a [`crate::Subtensor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainConfig {
    /// WebSocket addresses in order of preference, `wss://` or `ws://`, all of the same chain.
    pub endpoints: Vec<String>,
    /// Genesis hash of the chain; `None` takes that of the first connection. Endpoints of another
    /// chain are refused.
    pub genesis: Option<[u8; 32]>,
    /// The subnet.
    pub netuid: NetUid,
    /// Deadline of one read or of one step of a submission, 100 ms to 60 s.
    pub call_timeout: Duration,
    /// Deadline from the submission of an extrinsic to its block, 100 ms to 1 h.
    pub inclusion_timeout: Duration,
    /// Blocks for which an extrinsic stays valid: a power of two, 4 to 65536.
    pub mortality_blocks: u64,
    /// Allows `ws://` to other machines than this one: everybody on the way reads along and may
    /// change the answers.
    pub allow_plain_text: bool,
}

impl ChainConfig {
    /// Creates settings with the defaults: 30 s a call, 60 s to a block, 128 blocks of validity.
    pub fn new(endpoints: Vec<String>, netuid: NetUid) -> Self {
        Self {
            endpoints,
            genesis: None,
            netuid,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            inclusion_timeout: DEFAULT_INCLUSION_TIMEOUT,
            mortality_blocks: DEFAULT_MORTALITY_BLOCKS,
            allow_plain_text: false,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ChainError::Config`] names the setting, its value and the rule.
    pub fn validate(&self) -> Result<(), ChainError> {
        if self.endpoints.is_empty() || self.endpoints.len() > MAX_ENDPOINTS {
            return Err(invalid(
                "endpoints",
                format!("a list of {}", self.endpoints.len()),
                "must hold 1 to 16 addresses",
            ));
        }
        for endpoint in &self.endpoints {
            self.validate_endpoint(endpoint)?;
        }
        in_range("call_timeout", self.call_timeout, CALL_TIMEOUT_RANGE, "must be 100ms..60s")?;
        in_range(
            "inclusion_timeout",
            self.inclusion_timeout,
            INCLUSION_TIMEOUT_RANGE,
            "must be 100ms..1h",
        )?;
        let (least, most) = MORTALITY_RANGE;
        if !self.mortality_blocks.is_power_of_two()
            || !(least..=most).contains(&self.mortality_blocks)
        {
            return Err(invalid(
                "mortality_blocks",
                self.mortality_blocks.to_string(),
                "must be a power of two, 4..=65536",
            ));
        }
        Ok(())
    }

    fn validate_endpoint(&self, endpoint: &str) -> Result<(), ChainError> {
        let plain = endpoint.starts_with("ws://");
        if !plain && !endpoint.starts_with("wss://") {
            return Err(invalid(
                "endpoints",
                endpoint.to_owned(),
                "must start with wss:// or ws://",
            ));
        }
        match subxt_rpcs::utils::url_is_secure(endpoint) {
            Err(_) => Err(invalid("endpoints", endpoint.to_owned(), "must be an address")),
            Ok(false) if !self.allow_plain_text => Err(invalid(
                "endpoints",
                endpoint.to_owned(),
                "must be wss:// unless it is this machine or plain text is allowed",
            )),
            Ok(_) => Ok(()),
        }
    }
}

fn invalid(key: &'static str, value: String, rule: &'static str) -> ChainError {
    ChainError::Config { key, value, rule }
}

fn in_range(
    key: &'static str,
    value: Duration,
    (least, most): (Duration, Duration),
    rule: &'static str,
) -> Result<(), ChainError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(invalid(key, format!("{value:?}"), rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> ChainConfig {
        ChainConfig::new(vec![endpoint.to_owned()], NetUid(8))
    }

    fn reason(config: &ChainConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn real_and_local_endpoints_pass() {
        config("wss://entrypoint-finney.opentensor.ai:443").validate().unwrap();
        config("ws://127.0.0.1:9944").validate().unwrap();
        let lan = ChainConfig { allow_plain_text: true, ..config("ws://10.0.0.5:9944") };
        lan.validate().unwrap();
    }

    #[test]
    fn each_bad_setting_is_named_with_its_value_and_rule() {
        assert_eq!(
            reason(&config("ws://10.0.0.5:9944")),
            "chain setting `endpoints` is ws://10.0.0.5:9944, must be wss:// unless it is this \
             machine or plain text is allowed"
        );
        assert!(reason(&config("http://127.0.0.1:9944")).contains("must start with"));
        assert!(reason(&config("wss://")).contains("must be an address"));
        assert!(reason(&ChainConfig::new(Vec::new(), NetUid(8))).contains("1 to 16"));
        let local = config("ws://127.0.0.1:9944");
        for mortality_blocks in [0, 2, 100, 131_072] {
            let config = ChainConfig { mortality_blocks, ..local.clone() };
            assert!(reason(&config).contains("`mortality_blocks`"), "{mortality_blocks}");
        }
        let config = ChainConfig { call_timeout: Duration::ZERO, ..local.clone() };
        assert!(reason(&config).contains("`call_timeout` is 0ns, must be 100ms..60s"));
        let config = ChainConfig { inclusion_timeout: Duration::MAX, ..local };
        assert!(reason(&config).contains("`inclusion_timeout`"));
    }
}
