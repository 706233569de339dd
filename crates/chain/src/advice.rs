//! What the chain's refusals mean to an operator.
//!
//! Error indices move between runtime versions, so refusals are told apart by the *name* in the
//! node's metadata. The table is keyed by that name. Refusals before the pool carry a number
//! instead; the numbers 0..=14 are the same since runtime 300.

/// Whether the same call can succeed later without a change by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It cannot: the operator or the caller must change something first.
    Never,
    /// It can, after some blocks.
    Later,
}

/// A hint for the operator and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// What to do, one phrase.
    pub hint: &'static str,
    /// Whether waiting helps.
    pub retry: Retry,
}

const fn never(hint: &'static str) -> Advice {
    Advice { hint, retry: Retry::Never }
}

const fn later(hint: &'static str) -> Advice {
    Advice { hint, retry: Retry::Later }
}

/// Returns what an error name of the chain asks for.
pub fn advice(name: &str) -> Advice {
    match name {
        "HotKeyNotRegisteredInSubNet" | "HotKeyNotRegisteredInNetwork" => {
            never("the hotkey is not registered in this subnet (any more): register it again")
        }
        "NotEnoughStakeToSetWeights" => later(
            "the hotkey's stake is below the chain's threshold for setting weights: add stake",
        ),
        "NeuronNoValidatorPermit" => later(
            "no validator permit: stake is too low among the validators; next chance is the next epoch",
        ),
        "SettingWeightsTooFast" | "CommittingWeightsTooFast" => {
            later("weights were set too recently: wait until last update + rate limit")
        }
        "IncorrectWeightVersionKey" => {
            never("the subnet demands a higher version key: upgrade this daemon")
        }
        "CommitRevealEnabled" | "CommitRevealDisabled" => later(
            "the subnet switched commit-reveal of weights: the hyperparameters are read again",
        ),
        "IncorrectCommitRevealVersion" => {
            never("the commit-reveal protocol moved on: upgrade this daemon")
        }
        "InvalidRevealRound" => {
            never("the reveal round lies in the past: check this machine's clock")
        }
        "TooManyUnrevealedCommits" => {
            later("ten commits wait for their reveal: stop for this epoch")
        }
        "NoWeightsCommitFound"
        | "RevealTooEarly"
        | "ExpiredWeightCommit"
        | "InvalidRevealCommitHashNotMatch" => {
            never("the weight reveal does not fit a commit on the chain")
        }
        "WeightVecNotEqualSize"
        | "InputLengthsUnequal"
        | "DuplicateUids"
        | "UidVecContainInvalidOne"
        | "UidsLengthExceedUidsInSubNet" => later(
            "the weights do not fit the subnet's neurons: refresh the metagraph and rebuild them",
        ),
        "WeightVecLengthIsLow" | "MaxWeightExceeded" => later(
            "the weights break the subnet's minimum or maximum: the hyperparameters are read again",
        ),
        "ServingRateLimitExceeded" => {
            later("the axon was announced too recently: wait for the serving rate limit")
        }
        "InvalidIpType" | "InvalidIpAddress" | "InvalidPort" => {
            never("the announced address is not acceptable: set the external address and port")
        }
        "SubNetRegistrationDisabled"
        | "NoNeuronIdAvailable"
        | "NotEnoughBalanceToStake"
        | "HotKeyAlreadyRegisteredInSubNet"
        | "NonAssociatedColdKey" => {
            never("registration is not possible: see the name of the error")
        }
        "DisabledTemporarily" | "CallDisabled" | "CallFiltered" => {
            later("the chain has paused this call: it is tried again slowly")
        }
        "Stale" | "Future" | "AncientBirthBlock" => {
            later("nonce or era is out of date: the call is built again in a later block")
        }
        "BadProof" => later(
            "signature not accepted, the runtime may have been upgraded: the call is built again",
        ),
        "TooLowPriority" | "ImmediatelyDropped" | "TemporarilyBanned" | "ExhaustsResources" => {
            later("the node's pool does not take the call now: it is tried again in a later block")
        }
        "Payment" => never("the account cannot pay for this call"),
        "SubnetNotExists" | "SubNetworkDoesNotExist" | "MechanismDoesNotExist" => {
            never("the subnet does not exist on this chain: check the netuid and the endpoint")
        }
        _ => never("the chain refused the call: see its name in the subtensor documentation"),
    }
}

/// Returns the name of a `Custom error: N` with which the chain refuses calls before the pool.
///
/// Source: the custom codes of runtime 425.
pub(crate) fn custom_name(code: u8) -> &'static str {
    match code {
        1 => "NotEnoughStakeToSetWeights",
        2 => "NotEnoughBalanceToStake",
        6 => "SettingWeightsTooFast",
        10 => "HotKeyNotRegisteredInNetwork",
        11 => "InvalidIpAddress",
        12 => "ServingRateLimitExceeded",
        13 => "InvalidPort",
        15 => "InvalidRevealRound",
        16 => "NoWeightsCommitFound",
        17 => "RevealTooEarly",
        18 => "InputLengthsUnequal",
        19 => "HotKeyNotRegisteredInSubNet",
        25 => "NonAssociatedColdKey",
        _ => "BadRequest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_helps_against_rate_limits_and_not_against_a_lost_registration() {
        assert_eq!(advice("SettingWeightsTooFast").retry, Retry::Later);
        assert_eq!(advice(custom_name(6)).retry, Retry::Later);
        assert_eq!(advice("HotKeyNotRegisteredInSubNet").retry, Retry::Never);
        assert_eq!(advice(custom_name(19)), advice("HotKeyNotRegisteredInSubNet"));
        assert_eq!(advice("NobodyKnowsThis").retry, Retry::Never);
        assert_eq!(custom_name(255), "BadRequest");
    }
}
