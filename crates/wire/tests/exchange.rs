//! Our client and our server with each other, and each with hostile counterparts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use forecastd_core::{Clock, ForecastError, ManualClock, Signer};
use forecastd_wire::{
    Axon, AxonConfig, AxonLimits, AxonTarget, Caller, Dendrite, DendriteConfig, ForecastRequest,
    QueryError, Refusal, Synapse, SynapseHandler, WireError, signing,
};
use futures_util::future::join_all;
use support::{
    DEADLINE, FixedMiner, RawAnswer, RealClock, dev, exchange, numbered, prices, read_answer,
    read_request, request, target,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

fn dendrite(signer: Arc<dyn Signer>) -> Dendrite {
    Dendrite::new(signer, Arc::new(RealClock), DendriteConfig::default()).unwrap()
}

async fn axon(handler: Arc<dyn SynapseHandler>) -> Axon {
    Axon::spawn(AxonConfig::loopback(), dev("//Bob"), Arc::new(RealClock), handler).await.unwrap()
}

fn honest() -> Arc<FixedMiner> {
    Arc::new(FixedMiner::new(dev("//Bob").hotkey(), prices()))
}

/// A signed request as raw bytes, with chosen extra headers and body.
fn raw(nonce: u64, timeout: &str, extra: &str, body: &str) -> Vec<u8> {
    let (alice, bob) = (dev("//Alice"), dev("//Bob"));
    let sender = alice.hotkey().to_ss58();
    let receiver = bob.hotkey().to_ss58();
    let text = signing::request_text(nonce, &sender, &receiver, "u", signing::EMPTY_BODY_HASH);
    let signature = signing::format_signature(&alice.sign(text.as_bytes()));
    format!(
        "POST /LiveForward HTTP/1.1\r\nhost: x\r\ntimeout: {timeout}\r\n\
         bt_header_dendrite_nonce: {nonce}\r\nbt_header_dendrite_uuid: u\r\n\
         bt_header_dendrite_hotkey: {sender}\r\nbt_header_dendrite_signature: {signature}\r\n\
         computed_body_hash: {}\r\nbt_header_input_obj_request_uuid: IiI=\r\n\
         bt_header_input_obj_stream_id: IiI=\r\nbt_header_input_obj_topic_id: MA==\r\n\
         bt_header_input_obj_feature_ids: W10=\r\nbt_header_input_obj_prediction_size: MA==\r\n\
         bt_header_input_obj_schema_id: MA==\r\n{extra}content-length: {}\r\n\r\n{body}",
        signing::EMPTY_BODY_HASH,
        body.len(),
    )
    .into_bytes()
}

const BODY: &str = r#"{"request_uuid":"r","stream_id":"BTCUSD-5m","topic_id":1,"feature_ids":[1],"prediction_size":100,"schema_id":1}"#;

fn now_ns() -> u64 {
    u64::try_from(RealClock.now_ms()).unwrap() * 1_000_000
}

#[tokio::test]
async fn commitment_and_forecast_agree() {
    let miner = honest();
    let axon = axon(miner.clone()).await;
    let client = dendrite(dev("//Alice"));
    let target = target(&*dev("//Bob"), axon.address());
    let question = request("8d7cd1f4-5d5c-4b57-8d1e-3f9d1c1f8d21");
    let commitment = client.commit(&target, &question, DEADLINE).await.unwrap();
    let revealed = client.reveal(&target, &question, DEADLINE).await.unwrap();
    assert_eq!(revealed.values, prices());
    assert!(revealed.matches(&target.hotkey, &commitment));
    assert!(!revealed.matches(&client.hotkey(), &commitment), "a commitment names its miner");
    assert_eq!(axon.counters().answered, 2);
    axon.stop(DEADLINE).await;
}

#[test]
fn the_server_also_runs_inside_an_actix_system() {
    actix_rt::System::new().block_on(async {
        let axon = axon(honest()).await;
        let target = target(&*dev("//Bob"), axon.address());
        let client = dendrite(dev("//Alice"));
        client.commit(&target, &request("r"), DEADLINE).await.unwrap();
        axon.stop(DEADLINE).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn many_validators_ask_at_once() {
    let miner = honest();
    let axon = axon(miner.clone()).await;
    let target = target(&*dev("//Bob"), axon.address());
    let asked = (1..=64).map(|number| async move {
        let client = dendrite(numbered(number));
        let question = request(&format!("round-{number}"));
        let commitment = client.commit(&target, &question, DEADLINE).await.unwrap();
        let revealed = client.reveal(&target, &question, DEADLINE).await.unwrap();
        revealed.matches(&target.hotkey, &commitment)
    });
    assert!(join_all(asked).await.into_iter().all(|matched| matched));
    assert_eq!(miner.calls.load(Ordering::SeqCst), 128);
    // One validator's requests may overtake each other on the way.
    let client = dendrite(dev("//Alice"));
    let question = request("r");
    let asked = (0..100).map(|_| client.reveal(&target, &question, DEADLINE));
    for result in join_all(asked).await {
        result.unwrap();
    }
    let counters = axon.counters();
    assert_eq!((counters.answered, counters.replayed), (228, 0));
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn one_silent_axon_of_many_costs_only_itself() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let axon = axon(honest()).await;
    let client = dendrite(dev("//Alice"));
    let bob = dev("//Bob");
    let good = target(&*bob, axon.address());
    let bad = target(&*bob, silent.local_addr().unwrap());
    let question = request("r");
    let late = client.commit(&bad, &question, Duration::from_millis(300));
    let (late, answered) = tokio::join!(late, client.commit(&good, &question, DEADLINE));
    assert!(matches!(late, Err(QueryError::Timeout { .. })), "{late:?}");
    answered.unwrap();
    axon.stop(DEADLINE).await;
}

struct Moody {
    release: Notify,
    entered: Notify,
}

#[async_trait]
impl SynapseHandler for Moody {
    fn admit(&self, _: &Caller, _: Synapse) -> Result<(), String> {
        Ok(())
    }

    async fn commit(&self, _: &Caller, request: &ForecastRequest) -> Result<String, Refusal> {
        match request.request_uuid.as_str() {
            "panic" => panic!("handler gone wrong"),
            "refuse" => Err(Refusal::conflict("outside of the window\r\nset-cookie: x=1")),
            "odd" => Err(Refusal::new(200, "not an error status")),
            _ => {
                self.entered.notify_one();
                self.release.notified().await;
                Ok("a".repeat(64))
            }
        }
    }

    async fn reveal(&self, _: &Caller, _: &ForecastRequest) -> Result<Arc<[f64]>, Refusal> {
        Ok(vec![f64::NAN; 100].into())
    }
}

fn moody() -> Arc<Moody> {
    Arc::new(Moody { release: Notify::new(), entered: Notify::new() })
}

#[tokio::test]
async fn refusals_and_panics_of_a_handler_are_answers() {
    let axon = axon(moody()).await;
    let client = dendrite(dev("//Alice"));
    let target = target(&*dev("//Bob"), axon.address());
    let ask =
        async |uuid: &str| client.commit(&target, &request(uuid), DEADLINE).await.unwrap_err();
    match ask("refuse").await {
        QueryError::Status { code: 409, message } => {
            assert_eq!(message, "outside of the window??set-cookie: x=1");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(ask("odd").await, QueryError::Status { code: 500, .. }));
    match ask("panic").await {
        QueryError::Status { code: 500, message } => {
            assert!(message.starts_with("Internal Server Error #"), "{message}");
            assert!(!message.contains("gone wrong"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let nan = client.reveal(&target, &request("r"), DEADLINE).await.unwrap_err();
    assert!(matches!(nan, QueryError::Values(ForecastError::NotFinite { index: 0 })), "{nan:?}");
    let counters = axon.counters();
    assert_eq!((counters.refused, counters.failed, counters.answered), (2, 1, 1));
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_late_answer_ends_the_connection() {
    let axon = axon(moody()).await;
    let mut stream = TcpStream::connect(axon.address()).await.unwrap();
    let body = BODY.replace("\"r\"", "\"slow\"");
    let bytes = String::from_utf8(raw(now_ns(), "0.2", "", &body)).unwrap();
    let bytes = bytes.replace("POST /LiveForward ", "POST /LiveForwardHash ");
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.message(), "Response timeout after: 0.2s");
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "the connection is closed");
    assert_eq!(axon.counters().timed_out, 1);
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn stopping_lets_answers_under_way_finish() {
    let handler = moody();
    let axon = axon(handler.clone()).await;
    let address = axon.address();
    let target = target(&*dev("//Bob"), address);
    let asked = tokio::spawn(async move {
        dendrite(dev("//Alice")).commit(&target, &request("wait"), DEADLINE).await
    });
    handler.entered.notified().await;
    let stopping = tokio::spawn(axon.stop(DEADLINE));
    handler.release.notify_one();
    assert_eq!(asked.await.unwrap().unwrap(), "a".repeat(64));
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_request_is_not_accepted_again_after_a_restart() {
    let clock = Arc::new(ManualClock::new(1_795_000_000_000));
    let config = AxonConfig::loopback();
    let spawn =
        async || Axon::spawn(config.clone(), dev("//Bob"), clock.clone(), honest()).await.unwrap();
    let first = spawn().await;
    clock.advance(10);
    let nonce = 1_795_000_000_005 * 1_000_000;
    let bytes = raw(nonce, "30.0", "", BODY);
    let status = async |axon: &Axon| exchange(axon.address(), &bytes).await.unwrap().status;
    assert_eq!(status(&first).await, 200);
    assert_eq!(status(&first).await, 401);
    first.stop(DEADLINE).await;
    clock.advance(1_000);
    let second = spawn().await;
    assert_eq!(status(&second).await, 401);
    assert_eq!(second.counters().replayed, 1);
    second.stop(DEADLINE).await;
}

async fn answer_to(axon: &Axon, bytes: &[u8]) -> RawAnswer {
    exchange(axon.address(), bytes).await.expect("an answer")
}

#[tokio::test]
async fn oversized_and_broken_requests_cost_only_their_sender() {
    let limits = AxonLimits { head_timeout: Duration::from_millis(300), ..AxonLimits::default() };
    let config = AxonConfig { limits, ..AxonConfig::loopback() };
    let axon = Axon::spawn(config, dev("//Bob"), Arc::new(RealClock), honest()).await.unwrap();
    let mut nonce = now_ns();
    let mut fresh = || {
        nonce += 1;
        nonce
    };
    // A held-open connection without complete headers is closed by the server.
    let mut stuck = TcpStream::connect(axon.address()).await.unwrap();
    stuck.write_all(b"POST /LiveForward HTTP/1.1\r\nname: ").await.unwrap();
    let huge = format!(r#"{{"request_uuid":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(answer_to(&axon, &raw(fresh(), "12.0", "", &huge)).await.status, 413);
    let wide = format!("x-pad: {}\r\n", "y".repeat(20_000));
    assert_eq!(answer_to(&axon, &raw(fresh(), "12.0", &wide, BODY)).await.status, 431);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(answer_to(&axon, &raw(fresh(), "12.0", "", &deep)).await.status, 422);
    assert_eq!(answer_to(&axon, &raw(fresh(), "12.0", "", "[]")).await.status, 500);
    assert_eq!(answer_to(&axon, &raw(fresh(), "nan", "", BODY)).await.status, 500);
    assert_eq!(answer_to(&axon, &raw(fresh(), "-1", "", BODY)).await.status, 500);
    // A huge timeout widens no window and blocks no worker.
    let day_old = now_ns() - 86_400 * 1_000_000_000;
    assert_eq!(answer_to(&axon, &raw(day_old, "1e300", "", BODY)).await.status, 401);
    assert_eq!(answer_to(&axon, &raw(fresh(), "1e300", "", BODY)).await.status, 200);
    let other_method = b"DELETE /LiveForward HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(answer_to(&axon, other_method).await.status, 405);
    assert_eq!(answer_to(&axon, b"GET /\x01 HTTP/1.1\r\n\r\n").await.status, 400);
    drop(TcpStream::connect(axon.address()).await.unwrap());
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, stuck.read_to_end(&mut rest)).await.unwrap().ok();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    let counters = axon.counters();
    assert_eq!((counters.too_large, counters.answered, counters.replayed), (2, 1, 1));
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_large_refused_body_does_not_hide_the_refusal() {
    let mut miner = FixedMiner::new(dev("//Bob").hotkey(), prices());
    miner.refused = vec![dev("//Alice").hotkey()];
    let axon = axon(Arc::new(miner)).await;
    let padded = format!(r#"{{"pad":"{}"}}"#, "x".repeat(60_000));
    let answer = answer_to(&axon, &raw(now_ns(), "12.0", "", &padded)).await;
    assert_eq!(answer.status, 403);
    assert!(answer.message().starts_with("Forbidden. Key is blacklisted: 5Grw"));
    axon.stop(DEADLINE).await;
}

#[tokio::test]
async fn endless_answers_are_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        // The first client gets bytes without end, the second one header lines without end.
        let starts: [(&[u8], &[u8]); 2] = [
            (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", &[b' '; 4096]),
            (b"HTTP/1.1 200 OK\r\n", b"x-line: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"),
        ];
        for (start, more) in starts {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(start).await.unwrap();
            while stream.write_all(more).await.is_ok() {}
        }
    });
    let client = dendrite(dev("//Alice"));
    let target = AxonTarget { hotkey: dev("//Bob").hotkey(), address };
    let endless = client.reveal(&target, &request("r"), DEADLINE).await.unwrap_err();
    assert!(matches!(endless, QueryError::TooLarge { .. }), "{endless:?}");
    let endless = client.reveal(&target, &request("r"), DEADLINE).await.unwrap_err();
    assert!(matches!(endless, QueryError::Broken(_)), "{endless:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = axon(honest()).await;
    let config = AxonConfig { listen: first.address(), ..AxonConfig::loopback() };
    let second = Axon::spawn(config, dev("//Bob"), Arc::new(RealClock), honest()).await;
    match second {
        Err(WireError::Bind { address, .. }) => assert_eq!(address, first.address()),
        other => panic!("{other:?}"),
    }
    first.stop(DEADLINE).await;
}
