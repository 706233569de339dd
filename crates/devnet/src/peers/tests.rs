//! Each kind of peer is asked over real sockets, and must fail in its own way.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use forecastd_core::ForecastError;
use forecastd_core::commitment::commitment;
use forecastd_wire::{
    Caller, ForecastRequest, LocalSigner, QueryError, Refusal, Revealed, Synapse,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    }
}

fn key(number: u8) -> Arc<LocalSigner> {
    Arc::new(LocalSigner::from_mini_secret(&[number; 32]).unwrap())
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn peer(kind: PeerKind) -> PeerHandle {
    spawn(kind, loopback(), key(7), Arc::new(RealClock)).await.unwrap()
}

fn question(round: &str) -> ForecastRequest {
    ForecastRequest {
        request_uuid: round.to_owned(),
        stream_id: "BTCUSD-5m".to_owned(),
        topic_id: 1,
        schema_id: 1,
        feature_ids: vec![1.0],
        prediction_size: 100,
    }
}

type Asked = (Result<String, QueryError>, Result<Revealed, QueryError>);

async fn ask(target: AxonTarget, round: &str, timeout: Duration) -> Asked {
    let config = DendriteConfig::default();
    let validator = Dendrite::new(key(1), Arc::new(RealClock), config).unwrap();
    let commitment = validator.commit(&target, &question(round), timeout).await;
    (commitment, validator.reveal(&target, &question(round), timeout).await)
}

/// An honest miner that answers one validator only.
struct Honest {
    hotkey: Hotkey,
    admitted: Hotkey,
}

impl Honest {
    fn values() -> Vec<f64> {
        (0..100).map(|step| 40_000.0 + f64::from(step)).collect()
    }
}

#[async_trait]
impl SynapseHandler for Honest {
    fn admit(&self, caller: &Caller, _: Synapse) -> Result<(), String> {
        if caller.hotkey == self.admitted { Ok(()) } else { Err("not a validator".to_owned()) }
    }

    async fn commit(&self, _: &Caller, _: &ForecastRequest) -> Result<String, Refusal> {
        Ok(commitment(&self.hotkey.to_ss58(), &Self::values()))
    }

    async fn reveal(&self, _: &Caller, _: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        Ok(Self::values().into())
    }
}

#[tokio::test]
async fn a_copier_sends_the_victims_answers_and_they_do_not_fit_its_name() {
    let (miner, validator) = (key(2), key(3));
    let honest = Honest { hotkey: miner.hotkey(), admitted: validator.hotkey() };
    let config = AxonConfig::loopback();
    let axon =
        Axon::spawn(config, miner.clone(), Arc::new(RealClock), Arc::new(honest)).await.unwrap();
    let victim = AxonTarget { hotkey: miner.hotkey(), address: axon.address() };
    let copier = peer(PeerKind::Copier { victim, asks_as: Some(validator) }).await;
    let (copied, revealed) = ask(copier.target(), "r", DEADLINE).await;
    let (copied, revealed) = (copied.unwrap(), revealed.unwrap());
    assert_eq!(copied, commitment(&victim.hotkey.to_ss58(), &Honest::values()));
    assert_eq!(revealed.values, Honest::values());
    assert!(!revealed.matches(&copier.hotkey(), &copied));
    copier.stop(DEADLINE).await;
    // A copier that its victim does not answer still commits, and still cannot reveal.
    let stranger = peer(PeerKind::Copier { victim, asks_as: None }).await;
    let (copied, revealed) = ask(stranger.target(), "r", DEADLINE).await;
    let revealed = revealed.unwrap();
    assert_ne!(revealed.values, Honest::values());
    assert!(!revealed.matches(&stranger.hotkey(), &copied.unwrap()));
    stranger.stop(DEADLINE).await;
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn an_alternating_liar_tells_each_lie_in_turn() {
    let liar = peer(PeerKind::Liar(LiarKind::Alternating)).await;
    let mut kinds = Vec::new();
    for round in ["a", "b", "c", "d"] {
        let (committed, revealed) = ask(liar.target(), round, DEADLINE).await;
        committed.unwrap();
        match revealed.unwrap_err() {
            QueryError::Values(ForecastError::NotFinite { .. }) => kinds.push("not finite"),
            QueryError::Values(ForecastError::Length { got: 99, want: 100 }) => kinds.push("short"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds, ["not finite", "not finite", "short", "not finite"]);
    liar.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_turncoats_values_are_fine_but_not_those_committed_to() {
    let turncoat = peer(PeerKind::Turncoat).await;
    let (committed, revealed) = ask(turncoat.target(), "r", DEADLINE).await;
    assert!(!revealed.unwrap().matches(&turncoat.hotkey(), &committed.unwrap()));
    turncoat.stop(DEADLINE).await;
}

#[tokio::test]
async fn silent_late_and_refusing_peers_are_told_apart() {
    let silent = peer(PeerKind::Silent).await;
    let (committed, revealed) = ask(silent.target(), "r", SHORT).await;
    assert!(matches!(committed, Err(QueryError::Timeout { .. })), "{committed:?}");
    assert!(matches!(revealed, Err(QueryError::Timeout { .. })), "{revealed:?}");
    silent.stop(DEADLINE).await;
    let late = peer(PeerKind::Late { delay: Duration::from_hours(1) }).await;
    let (committed, _) = ask(late.target(), "r", SHORT).await;
    // Its server gives up at the same moment as the client; either may be first.
    match committed.unwrap_err() {
        QueryError::Timeout { .. } | QueryError::Status { code: 408, .. } => {}
        other => panic!("{other:?}"),
    }
    late.stop(SHORT).await;
    let refuser = peer(PeerKind::Refuser).await;
    let (committed, _) = ask(refuser.target(), "r", DEADLINE).await;
    assert!(matches!(committed, Err(QueryError::Status { code: 403, .. })), "{committed:?}");
    refuser.stop(DEADLINE).await;
}
