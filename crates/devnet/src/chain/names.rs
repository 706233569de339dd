//! Names of storage items, events, errors and calls that the development chain touches.
//!
//! Indices move between runtime versions, names do not: everything here is looked up in the served
//! metadata when the chain starts, and a name that the metadata lacks stops the start.

/// Defines an enum whose variants are named exactly like items of the metadata.
macro_rules! metadata_names {
    ($(#[$attribute:meta])* $name:ident { $($variant:ident),* $(,)? }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name { $($variant),* }

        impl $name {
            /// All names, in the order of the discriminants.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name as the metadata spells it.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),* }
            }
        }
    };
}

metadata_names! {
    /// Storage items, of all pallets; [`Item::pallet`] tells which.
    Item {
        // System
        Account, BlockHash, EventCount, Events, LastRuntimeUpgrade, Number, ParentHash,
        // Timestamp
        Now,
        // SubtensorModule: the subnet
        AdjustmentInterval, BlocksSinceLastStep, Burn, BurnRegistrationsThisInterval,
        CommitRevealWeightsEnabled, CommitRevealWeightsVersion, ImmunityPeriod, Kappa,
        LastAdjustmentBlock, LastMechansimStepBlock, MaxAllowedUids, MaxAllowedValidators,
        MaxRegistrationsPerBlock, MaxWeightsLimit, MechanismCountCurrent, MinAllowedWeights,
        NetworkRegisteredAt, NetworkRegistrationAllowed, NetworksAdded, RegistrationsThisBlock,
        RegistrationsThisInterval, RevealPeriodEpochs, ServingRateLimit, StakeThreshold,
        SubnetOwner, SubnetOwnerHotkey, SubnetworkN, TargetRegistrationsPerInterval, Tempo,
        TotalNetworks, WeightsSetRateLimit, WeightsVersionKey, ActivityCutoff,
        // SubtensorModule: hyperparameters that are only shown
        AdjustmentAlpha, AlphaValues, BondsMovingAverage, Difficulty, LiquidAlphaOn, MaxBurn,
        MaxDifficulty, MinBurn, MinDifficulty, Rho,
        // SubtensorModule: one column a subnet
        Active, Consensus, Dividends, Emission, Incentive, LastUpdate, PruningScores, Rank, Trust,
        ValidatorPermit, ValidatorTrust,
        // SubtensorModule: neurons
        Axons, BlockAtRegistration, IsNetworkMember, Keys, OwnedHotkeys, Owner, Prometheus,
        TotalHotkeyAlpha, Uids, Weights,
    }
}

impl Item {
    /// Returns the pallet that owns the item.
    pub(super) const fn pallet(self) -> &'static str {
        match self {
            Self::Account
            | Self::BlockHash
            | Self::EventCount
            | Self::Events
            | Self::LastRuntimeUpgrade
            | Self::Number
            | Self::ParentHash => "System",
            Self::Now => "Timestamp",
            _ => "SubtensorModule",
        }
    }
}

metadata_names! {
    /// Events that the development chain emits.
    EventName {
        ExtrinsicSuccess, ExtrinsicFailed, NewAccount,
        WeightsSet, AxonServed, PrometheusServed, NeuronRegistered,
        ItemCompleted, ItemFailed, BatchCompleted, BatchCompletedWithErrors, BatchInterrupted,
    }
}

impl EventName {
    /// Returns the pallet that emits the event.
    pub(super) const fn pallet(self) -> &'static str {
        match self {
            Self::ExtrinsicSuccess | Self::ExtrinsicFailed | Self::NewAccount => "System",
            Self::WeightsSet
            | Self::AxonServed
            | Self::PrometheusServed
            | Self::NeuronRegistered => "SubtensorModule",
            Self::ItemCompleted
            | Self::ItemFailed
            | Self::BatchCompleted
            | Self::BatchCompletedWithErrors
            | Self::BatchInterrupted => "Utility",
        }
    }
}

metadata_names! {
    /// Errors of the pallet `SubtensorModule` that a call can end with.
    Fault {
        CanNotSetRootNetworkWeights, CommitRevealEnabled, DuplicateUids,
        HotKeyAlreadyRegisteredInSubNet, HotKeyNotRegisteredInNetwork,
        HotKeyNotRegisteredInSubNet, IncorrectWeightVersionKey, InvalidIpAddress, InvalidIpType,
        InvalidPort, MaxWeightExceeded, MechanismDoesNotExist, NeuronNoValidatorPermit,
        NoNeuronIdAvailable, NonAssociatedColdKey, NotEnoughBalanceToStake,
        NotEnoughStakeToSetWeights, RegistrationNotPermittedOnRootSubnet,
        ServingRateLimitExceeded, SettingWeightsTooFast, SubNetRegistrationDisabled,
        SubnetNotExists, TooManyRegistrationsThisBlock, TooManyRegistrationsThisInterval,
        UidVecContainInvalidOne, UidsLengthExceedUidsInSubNet, WeightVecLengthIsLow,
        WeightVecNotEqualSize,
    }
}

/// Pallet of every [`Fault`].
pub(super) const FAULT_PALLET: &str = "SubtensorModule";

metadata_names! {
    /// Calls that the development chain executes.
    #[expect(non_camel_case_types, reason = "spelt as in the metadata")]
    CallName {
        set, set_weights, set_mechanism_weights, serve_axon, serve_prometheus, burned_register,
        batch, batch_all, force_batch,
    }
}

impl CallName {
    /// Returns the pallet that owns the call.
    pub(super) const fn pallet(self) -> &'static str {
        match self {
            Self::set => "Timestamp",
            Self::batch | Self::batch_all | Self::force_batch => "Utility",
            _ => "SubtensorModule",
        }
    }
}

/// Transaction extensions in the order in which their bytes are signed. Only the metadata's exact
/// list is accepted, because signatures are checked over these bytes.
pub(super) const TRANSACTION_EXTENSIONS: [&str; 13] = [
    "CheckNonZeroSender",
    "CheckSpecVersion",
    "CheckTxVersion",
    "CheckGenesis",
    "CheckMortality",
    "CheckNonce",
    "CheckWeight",
    "ChargeTransactionPayment",
    "SudoTransactionExtension",
    "CheckShieldedTxValidity",
    "SubtensorTransactionExtension",
    "DrandPriority",
    "CheckMetadataHash",
];
