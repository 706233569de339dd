//! Messages that no sane exchange sends, to the feed of each: what cannot be read is counted, and costs
//! at most its own connection.

use forecastd_exchange::{DropClass, Exchange, FeedEvent};

use crate::STEP;
use crate::feed::RunningFeed;
use crate::http::{HttpServer, http};
use crate::stream::{Peer, StreamServer};

const START: i64 = 5_666_666 * STEP;

/// How each exchange confirms the requests of a feed with trades.
fn acks(exchange: Exchange) -> Vec<String> {
    let texts: &[&str] = match exchange {
        Exchange::Binance => &[r#"{"result":null,"id":1}"#],
        Exchange::Bybit => &[r#"{"success":true,"ret_msg":"","req_id":"1","op":"subscribe"}"#],
        Exchange::Coinbase => &[
            r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},{"name":"heartbeat","product_ids":["BTC-USD"]}]}"#,
        ],
        Exchange::CoinbaseAdvanced => &[
            r#"{"channel":"subscriptions","sequence_num":0,"events":[{"subscriptions":{"candles":["BTC-USD"],"heartbeats":["x"],"market_trades":["BTC-USD"]}}]}"#,
        ],
        Exchange::Kraken => &[
            r#"{"method":"subscribe","success":true,"req_id":1}"#,
            r#"{"method":"subscribe","success":true,"req_id":2}"#,
        ],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A message that claims to be a trade, as each exchange sends it.
fn trade(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::Binance => {
            r#"{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"2","q":"1","T":1,"m":true,"M":true}"#
        }
        Exchange::Bybit => {
            r#"{"topic":"publicTrade.BTCUSDT","data":[{"T":1,"s":"BTCUSDT","S":"Buy","v":"1","p":"2","i":"7"}]}"#
        }
        Exchange::Coinbase => {
            r#"{"type":"match","trade_id":7,"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"1","price":"2","side":"sell"}"#
        }
        Exchange::CoinbaseAdvanced => {
            r#"{"channel":"market_trades","events":[{"type":"update","trades":[{"trade_id":"7","product_id":"BTC-USD","price":"2","size":"1","side":"BUY","time":"2014-11-07T08:19:27Z"}]}]}"#
        }
        Exchange::Kraken => {
            r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":2,"qty":1,"ord_type":"limit","trade_id":7,"timestamp":"2014-11-07T08:19:27Z"}]}"#
        }
    }
}

async fn subscribe(stream: &StreamServer, exchange: Exchange) -> Peer {
    let mut peer = stream.accept().await;
    peer.read().await;
    for ack in acks(exchange) {
        peer.send(ack).await;
    }
    peer
}

/// Texts that no decoder may take for anything.
fn unreadable(exchange: Exchange) -> Vec<String> {
    let good = trade(exchange);
    let half: String = good.chars().take(good.len() / 2).collect();
    let id = if good.contains("trade_id") { "\"trade_id\":" } else { "" };
    let mut texts = vec![
        String::new(),
        "nonsense".to_owned(),
        "\u{0}\u{1f}".to_owned(),
        half,
        "[".repeat(100_000),
        r#"{"a":"#.repeat(100_000),
        // A price of the wrong type, a size that is no number, a time out of this world.
        good.replace("\"2\"", "{}").replace(":2,", ":{},"),
        good.replace("\"1\"", "\"1e999\"").replace("\"qty\":1", "\"qty\":-1"),
        good.replace("2014-", "9999-").replace("\"T\":1", "\"T\":99999999999999"),
    ];
    if !id.is_empty() {
        texts.push(good.replace(&format!("{id}7"), &format!("{id}[7]")).replace("\"7\"", "[7]"));
    }
    texts
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_the_connection_goes_on() {
    for exchange in Exchange::ALL {
        let stream = StreamServer::start().await;
        let rest = HttpServer::start(|_| http("503 Down", "", "")).await;
        let mut feed = RunningFeed::start(exchange, &stream, &rest, START + 9, |config| config);
        let mut peer = subscribe(&stream, exchange).await;
        feed.subscribed().await;
        let texts = unreadable(exchange);
        for text in &texts {
            assert!(!texts.iter().any(|text| text == trade(exchange)), "{exchange}: not damaged");
            peer.send(text.clone()).await;
        }
        peer.send(trade(exchange)).await;
        let mut dropped = 0;
        loop {
            match feed.next().await {
                FeedEvent::Dropped { class: DropClass::Invalid, count } => dropped += count,
                FeedEvent::Trade(trade) => break assert_eq!(trade.price, 2.0),
                event => panic!("{exchange}: {event:?}"),
            }
        }
        assert_eq!(dropped, u64::try_from(texts.len()).unwrap(), "{exchange}");

        // Longer than anything that an exchange has to say: this one costs the connection.
        peer.send(format!("[{}]", " ".repeat(2_000_000))).await;
        let reason = feed.lost().await;
        assert!(reason.contains("too long"), "{exchange}: {reason}");
        let _peer = subscribe(&stream, exchange).await;
        feed.subscribed().await;
        feed.stop().await;
    }
}
