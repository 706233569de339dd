//! Sections `[miner]` and `[validator]`.

use std::net::SocketAddr;
use std::time::Duration;

use forecastd_core::{Compatibility, Hotkey, NewMinerStart, Rao};

use crate::config::diff::ReloadClass::{Live, Part, Start};
use crate::config::section::section;
use crate::config::text::ByteSize;
use crate::config::value::Rule::{Any, Float, Int, Size, Span};
use crate::config::value::readable;

readable!(Compatibility, "one of standard, seed" { Standard = "standard", Seed = "seed", });
readable!(NewMinerStart, "one of zero, average" { Zero = "zero", Average = "average", });

section! {
    /// The miner: its public server (axon) and who may ask it.
    MinerConfig
    keys {
        /// Address that the server binds.
        listen: SocketAddr = "0.0.0.0:8091", Any, "", Start;
        /// Address that validators reach it at, published on the chain; nothing is published when
        /// empty.
        external: Option<SocketAddr> = "", Any, "", Start;
        /// Threads that check signatures and answer.
        workers: usize = 2, Int(1, 64), "threads", Start;
        /// Largest request body.
        max_body: ByteSize = "1MiB", Size("1KiB", "16MiB"), "", Start;
        /// Most open connections.
        max_connections: usize = 1024, Int(1, 65536), "connections", Start;
        /// A request that has not arrived as a whole by then is refused.
        request_timeout: Duration = "10s", Span("100ms", "2m"), "", Start;
        /// Greatest age of a signed request.
        nonce_window: Duration = "4s", Span("1s", "1m"), "", Start;
        /// Whether only hotkeys with a validator permit may ask.
        require_permit: bool = true, Any, "", Live;
        /// Least stake of a hotkey that may ask.
        min_stake: Rao = 0.0, Float(0.0, 21_000_000.0), "TAO", Live;
        /// Hotkeys that may ask whatever their permit and stake.
        allow: Vec<Hotkey> = [], Any, "", Live;
        /// Hotkeys that may never ask.
        deny: Vec<Hotkey> = [], Any, "", Live;
        /// How long a query waits for the forecast of the candle that has just closed.
        fresh_wait: Duration = "5s", Span("0s", "30s"), "", Live;
        /// Questions of one hotkey that are answered in an hour; each is kept on disk.
        max_questions: u32 = 120, Int(1, 1_000_000), "questions, market time", Live;
        /// A forecast older than this is not given out.
        max_age_candles: u32 = 3, Int(1, 100), "candles", Live;
    }
    parts {}
}

section! {
    /// The validator: its rounds and how answers are judged.
    ValidatorConfig
    keys {
        /// Time that a miner has for an answer.
        query_timeout: Duration = "30s", Span("1s", "2m"), "market time", Live;
        /// Least time for an answer, however fast the market's clock runs.
        query_timeout_floor: Duration = "500ms", Span("10ms", "30s"), "real time", Live;
        /// Time between the commitment query and the reveal query.
        reveal_after: Duration = "1m", Span("1s", "1h"), "market time", Live;
        /// Time between the end of a horizon and its evaluation.
        settle_delay: Duration = "1h", Span("0s", "2d"), "market time", Live;
        /// Time after the due time at which a round without realised closes becomes void.
        realised_wait: Duration = "1d", Span("5m", "14d"), "market time", Live;
        /// Most candles missing in a horizon that are filled from the past; with more the round is
        /// void.
        max_missing_candles: usize = 3, Int(0, 1000), "candles", Live;
        /// A forecast with a value further than this factor above or below the last close is
        /// refused.
        absurd_factor: f64 = 10.0, Float(1.01, 1000.0), "", Live;
        /// Miners asked at the same time.
        concurrency: usize = 256, Int(1, 4096), "queries", Start;
        /// Largest answer of a miner.
        max_answer: ByteSize = "1MiB", Size("4KiB", "16MiB"), "", Start;
        /// Whether miners at loopback and private addresses are asked; only for networks on one
        /// machine, elsewhere it would let a miner point the validator at its own neighbours.
        allow_local_axons: bool = false, Any, "", Live;
    }
    parts {
        /// How errors become scores.
        "scoring" => scoring: ValidatorScoring;
        /// How scores become weights on the chain.
        "weights" => weights: ValidatorWeights;
    }
}

section! {
    /// How a round's errors become scores.
    ValidatorScoring
    keys {
        /// Length of the moving average of a miner's shares.
        ema_length: u32 = 48, Int(1, 100_000), "rounds", Part("evaluator");
        /// Where the average of a hotkey begins that was never scored.
        new_miner_start: NewMinerStart = "zero", Any, "", Part("evaluator");
        /// `seed` gives the results of the original subnet, its faults included.
        compatibility: Compatibility = "standard", Any, "", Part("evaluator");
    }
    parts {}
}

section! {
    /// How scores become weights on the chain.
    ValidatorWeights
    keys {
        /// Time between two settings; the chain's rate limit holds anyway.
        every: Duration = "1h12m", Span("1m", "2d"), "market time", Live;
        /// The subnet's version key.
        version_key: u64 = 0, Int(0, 9_223_372_036_854_775_807), "", Live;
        /// Exponent of the Yeo-Johnson transform: a larger one pays the best miners more.
        lambda: f64 = 2000.0, Float(1.0, 100_000.0), "", Live;
        /// Mean average at which `lambda` holds as it stands; it is scaled by this over the mean, so
        /// that a few miners are not paid as winner takes all. 0 turns the scaling off.
        reference_mean: f64 = 0.004, Float(0.0, 1.0), "", Live;
        /// Miners whose average lies more than this many standard deviations below the mean get no
        /// weight.
        exclude_below_deviations: f64 = 1.5, Float(0.0, 10.0), "standard deviations", Live;
    }
    parts {}
}
