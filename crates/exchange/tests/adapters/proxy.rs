//! Feeds and REST clients through real proxies on this machine.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forecastd_core::ManualClock;
use forecastd_exchange::{BybitRest, CandleSource, Exchange, FeedConfig, FeedEvent, ProxyUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::bybit::{ACK, exchange, indexes};
use crate::feed::RunningFeed;
use crate::stream::StreamServer;
use crate::{FIVE, STEP};

const USER: &str = "me";
const PASSWORD: &str = "p@ss:word/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

/// A proxy that notes where it was asked to go. Ends with the test's runtime.
struct Proxy {
    kind: Kind,
    address: String,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(kind: Kind, wants_login: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let targets = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let note = |target: &str| noted.lock().unwrap().push(target.to_owned());
                    match kind {
                        Kind::Http => http_proxy(client, wants_login, note).await,
                        Kind::Socks5 => socks_proxy(client, wants_login, note).await,
                    }
                });
            }
        });
        Self { kind, address, targets }
    }

    fn url(&self, login: &str) -> ProxyUrl {
        let scheme = if self.kind == Kind::Http { "http" } else { "socks5" };
        format!("{scheme}://{login}{}", self.address).parse().unwrap()
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn http_proxy(mut client: TcpStream, wants_login: bool, note: impl Fn(&str)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let login = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let has_login = head.lines().any(|line| {
        line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value == format!("Basic {login}")
        })
    });
    if wants_login && !has_login {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        client.write_all(refusal.as_bytes()).await.unwrap();
        return;
    }
    let target = head.split(' ').nth(1).unwrap();
    if head.starts_with("CONNECT ") {
        note(target);
        let mut server = TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let _ended = copy_bidirectional(&mut client, &mut server).await;
    } else {
        let (host, path) = target.strip_prefix("http://").unwrap().split_once('/').unwrap();
        note(host);
        let mut server = TcpStream::connect(host).await.unwrap();
        let head = head.replacen(target, &format!("/{path}"), 1);
        server.write_all(head.as_bytes()).await.unwrap();
        let _ended = copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn socks_proxy(mut client: TcpStream, wants_login: bool, note: impl Fn(&str)) {
    async fn text(client: &mut TcpStream) -> String {
        let length = client.read_u8().await.unwrap();
        let mut bytes = vec![0; length.into()];
        client.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }
    assert_eq!(client.read_u8().await.unwrap(), 5);
    let methods = text(&mut client).await;
    let method = if wants_login { 2 } else { 0 };
    if !methods.as_bytes().contains(&method) {
        client.write_all(&[5, 0xff]).await.unwrap();
        return;
    }
    client.write_all(&[5, method]).await.unwrap();
    if wants_login {
        assert_eq!(client.read_u8().await.unwrap(), 1);
        let login = (text(&mut client).await, text(&mut client).await);
        let is_good = login == (USER.to_owned(), PASSWORD.to_owned());
        client.write_all(&[1, u8::from(!is_good)]).await.unwrap();
        if !is_good {
            return;
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(client.read_u32().await.unwrap()).to_string(),
        3 => text(&mut client).await,
        other => panic!("address of type {other}"),
    };
    let target = format!("{host}:{}", client.read_u16().await.unwrap());
    note(&target);
    let mut server = TcpStream::connect(&target).await.unwrap();
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let _ended = copy_bidirectional(&mut client, &mut server).await;
}

const START: i64 = 5_666_666 * STEP;

#[tokio::test]
async fn both_ways_to_an_exchange_go_through_the_proxy() {
    let login = format!("{USER}:{PASSWORD}@");
    for (kind, login) in
        [(Kind::Http, ""), (Kind::Socks5, ""), (Kind::Http, &*login), (Kind::Socks5, &*login)]
    {
        let stream = StreamServer::start().await;
        let rest = exchange(START + 9).await;
        let proxy = Proxy::start(kind, !login.is_empty()).await;
        // Names, which only the proxy resolves.
        let named = |url: &str| url.replace("127.0.0.1", "localhost");
        let change = |config: FeedConfig| FeedConfig {
            ws_url: named(&config.ws_url),
            rest_url: named(&config.rest_url),
            proxy: Some(proxy.url(login)),
            resume_from_ms: Some(START - 2 * STEP),
            ..config
        };
        let mut feed = RunningFeed::start(Exchange::Bybit, &stream, &rest, START + 9, change);
        let mut peer = stream.accept().await;
        peer.read().await;
        peer.send(ACK).await;
        let (filled, link) = feed.backfill_among(2).await;
        assert_eq!(link, [FeedEvent::Connected, FeedEvent::Subscribed]);
        assert_eq!(indexes(&filled), [START / STEP - 2, START / STEP - 1]);
        let host = |url: &str| named(url).split_once("://").unwrap().1.to_owned();
        let mut want = [host(&stream.url), host(&rest.url)];
        let mut targets = proxy.targets();
        targets.sort();
        want.sort();
        assert_eq!(targets, want, "{kind:?} {login}");
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_proxy_is_told_without_the_password() {
    for kind in [Kind::Http, Kind::Socks5] {
        let stream = StreamServer::start().await;
        let rest = exchange(0).await;
        let proxy = Proxy::start(kind, true).await;
        let url = proxy.url("me:secret@");
        let change = |config| FeedConfig { proxy: Some(url.clone()), ..config };
        let config = FeedConfig { rest_url: rest.url.clone(), ..Exchange::Bybit.default_config() };
        let config = change(config);
        let client = BybitRest::from_config(&config, Arc::new(ManualClock::new(START))).unwrap();
        let mut feed = RunningFeed::start(Exchange::Bybit, &stream, &rest, 0, change);
        let reason = feed.lost().await;
        assert!(reason.contains("proxy") && reason.contains(&proxy.address), "{reason}");
        let error = client.candles("BTCUSDT", FIVE, 0, STEP).await.unwrap_err();
        for text in [reason, format!("{error:?}"), format!("{client:?}"), format!("{config:?}")] {
            assert!(!text.contains("secret"), "{text}");
        }
        assert_eq!((proxy.targets(), rest.targets()), (vec![], vec![]));
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let stream = StreamServer::start().await;
    let rest = exchange(0).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for scheme in ["http", "socks5"] {
        let proxy = format!("{scheme}://me:secret@{free}");
        let change = |config| FeedConfig { proxy: Some(proxy.parse().unwrap()), ..config };
        let mut feed = RunningFeed::start(Exchange::Bybit, &stream, &rest, 0, change);
        let reason = feed.lost().await;
        assert!(reason.contains(&format!("proxy {scheme}://***@{free}")), "{reason}");
        feed.stop().await;
    }
}
