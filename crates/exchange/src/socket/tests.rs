//! The reading loop against the other end of a pipe, under a clock that only the loop's timers move.

use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::SocketEvent::{Data, Subscribed, Unreadable};
use super::*;
use crate::Exchange;

/// Speaks a made-up protocol of two requests.
#[derive(Debug)]
struct Made {
    ping: Option<Ping>,
}

impl Protocol for Made {
    fn url(&self) -> &'static str {
        "ws://nowhere"
    }

    fn requests(&self) -> Vec<String> {
        vec!["first".to_owned(), "second".to_owned()]
    }

    fn confirmed_by(&self, message: &Message) -> Vec<usize> {
        match message {
            Message::Ack { id: Some(id) } => vec![usize::try_from(*id).unwrap()],
            _ => vec![],
        }
    }

    fn decode(&self, text: &str) -> Result<Message, DecodeError> {
        Ok(match text.split_once(' ') {
            Some(("ack", id)) => Message::Ack { id: id.parse().ok() },
            Some(("status", word)) => {
                Message::Status { is_online: word == "online", state: word.to_owned() }
            }
            Some(("data", _)) => Message::Trades(vec![]),
            Some(("bad", _)) => return Err(DecodeError::Json("bad".to_owned())),
            _ => Message::Heartbeat,
        })
    }

    fn ping(&self) -> Option<Ping> {
        self.ping.clone()
    }

    fn sequence(&self, text: &str) -> Option<u64> {
        text.strip_prefix("data ").and_then(|number| number.parse().ok())
    }
}

fn every(secs: u64) -> Made {
    Made { ping: Some(Ping { every: Duration::from_secs(secs), text: "ping!".to_owned() }) }
}

/// What came of one connection.
struct Outcome {
    reason: String,
    is_offline: bool,
    lasted: Duration,
    told: Vec<SocketEvent>,
}

/// Reads until the connection ends; `script` is the exchange's end of it.
async fn outcome<F>(made: Made, script: impl FnOnce(WebSocketStream<DuplexStream>) -> F) -> Outcome
where
    F: Future<Output = WebSocketStream<DuplexStream>> + Send + 'static,
{
    let (ours, theirs) = duplex(64 * 1024);
    let mut ours = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let (events, mut told) = mpsc::channel(1024);
    let (_stop, mut cancel) = watch::channel(false);
    let settings =
        SocketSettings::new(&Exchange::Bybit.default_config(), crate::bybit::ADAPTER.manners);
    let mut session = Session {
        settings: &settings,
        protocol: &made,
        events: &events,
        cancel: &mut cancel,
        has_data: false,
        is_offline: false,
    };
    let started = Instant::now();
    let script = tokio::spawn(script(theirs));
    let End::Lost { reason, .. } = session.read(&mut ours).await else { panic!("stopped") };
    let (lasted, is_offline) = (started.elapsed(), session.is_offline);
    drop(ours);
    drop(script.await.unwrap());
    let mut all = Vec::new();
    while let Ok(event) = told.try_recv() {
        all.push(event);
    }
    Outcome { reason, is_offline, lasted, told: all }
}

async fn send(socket: &mut WebSocketStream<DuplexStream>, texts: &[&str]) {
    for text in texts {
        socket.send(Frame::text(*text)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pings_go_out_on_schedule_whatever_comes_in() {
    let (times, mut pings) = mpsc::unbounded_channel();
    let end = outcome(every(20), |mut socket| async move {
        let started = Instant::now();
        send(&mut socket, &["ack 0", "ack 1"]).await;
        // Data every second, for two minutes and a half.
        for _ in 0..150 {
            let next = Instant::now() + Duration::from_secs(1);
            while let Ok(Some(frame)) = tokio::time::timeout_at(next, socket.next()).await {
                assert_eq!(frame.unwrap().into_text().unwrap(), "ping!");
                times.send(started.elapsed().as_secs()).unwrap();
            }
            send(&mut socket, &["data x"]).await;
        }
        socket
    })
    .await;
    let mut seconds = Vec::new();
    while let Ok(second) = pings.try_recv() {
        seconds.push(second);
    }
    assert_eq!(seconds[..7], [20, 40, 60, 80, 100, 120, 140]);
    assert!(end.reason.contains("no market data for 120s"), "{}", end.reason);
}

#[tokio::test(start_paused = true)]
async fn without_a_wish_for_pings_none_go_out() {
    let end = outcome(Made { ping: None }, |mut socket| async move {
        send(&mut socket, &["ack 0", "ack 1"]).await;
        let closed = socket.next().await;
        assert!(closed.is_none_or(|frame| frame.is_err()));
        socket
    })
    .await;
    assert_eq!(end.lasted.as_secs(), 120);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_pongs_do_not_keep_a_silent_connection() {
    let end = outcome(every(20), |mut socket| async move {
        send(&mut socket, &["ack 0", "ack 1"]).await;
        for _ in 0..110 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            send(&mut socket, &["heartbeat"]).await;
        }
        socket
    })
    .await;
    assert!(end.reason.contains("no market data"), "{}", end.reason);
    assert_eq!(end.lasted.as_secs(), 120);
    assert!(matches!(end.told[..], [SocketEvent::Subscribed]), "{:?}", end.told);
}

#[tokio::test(start_paused = true)]
async fn every_request_has_to_be_confirmed() {
    for acks in [&[][..], &["ack 0"], &["ack 1", "ack 1"], &["ack 7"]] {
        let end = outcome(every(20), move |mut socket| async move {
            send(&mut socket, acks).await;
            socket
        })
        .await;
        assert!(end.reason.contains("not confirmed within 10s"), "{}", end.reason);
        assert!(end.told.is_empty(), "{:?}", end.told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_other_than_online_is_remembered_until_it_is_online_again() {
    for (words, want) in
        [(&["status maintenance"][..], true), (&["status maintenance", "status online"], false)]
    {
        let end = outcome(every(20), move |mut socket| async move {
            send(&mut socket, words).await;
            socket
        })
        .await;
        assert_eq!(end.is_offline, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_costs_only_itself() {
    let end = outcome(every(20), |mut socket| async move {
        send(&mut socket, &["ack 0", "ack 1", "data 0", "bad message", "data 1"]).await;
        socket
    })
    .await;
    assert!(
        matches!(
            end.told[..],
            [Subscribed, Data(_), Unreadable { class: DropClass::Invalid, .. }, Data(_)]
        ),
        "{:?}",
        end.told
    );
}

#[tokio::test(start_paused = true)]
async fn a_jump_in_the_numbering_ends_the_connection() {
    for texts in [["data 0", "data 1", "data 3"], ["data 5", "data 6", "data 6"]] {
        let end = outcome(every(20), move |mut socket| async move {
            send(&mut socket, &["ack 0", "ack 1"]).await;
            send(&mut socket, &texts).await;
            socket
        })
        .await;
        assert!(end.reason.contains("messages lost"), "{}", end.reason);
        assert!(matches!(end.told[..], [Subscribed, Data(_), Data(_)]), "{:?}", end.told);
    }
}
