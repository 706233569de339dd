//! A way around a network that cannot reach an exchange: an HTTP or SOCKS5 proxy, for the WebSocket and
//! REST alike. The proxy resolves the exchange's name.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tower_service::Service;

use crate::config::refuse;
use crate::error::ExchangeError;
use crate::message::shorten;

/// What SOCKS5 can carry.
const MAX_LOGIN_LEN: usize = 255;
const RULE: &str = "http://[user:password@]host:port or socks5://[user:password@]host:port";

/// A proxy. Its password appears neither in `Debug` nor in `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    kind: ProxyKind,
    /// Host and port.
    address: String,
    login: Option<Login>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyKind {
    Http,
    Socks5,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: String,
}

impl FromStr for ProxyUrl {
    type Err = ExchangeError;

    /// Reads `http://[user:password@]host:port` or `socks5://[user:password@]host:port`. User and
    /// password are taken as they stand, without escapes; a user holds no `:`.
    fn from_str(text: &str) -> Result<Self, ExchangeError> {
        // What stands before the last `@` may be a password and is not repeated.
        let wrong = || {
            let shown = text.rsplit_once('@').map_or(text, |(_, address)| address);
            refuse("proxy", &shorten(shown), RULE)
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let kind = match scheme {
            "http" => ProxyKind::Http,
            "socks5" => ProxyKind::Socks5,
            _ => return Err(wrong()),
        };
        let (login, address) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, address)) => (Some(login.split_once(':').ok_or_else(wrong)?), address),
        };
        let is_word = |word: &str| {
            (1..=MAX_LOGIN_LEN).contains(&word.len()) && !word.chars().any(char::is_control)
        };
        if login.is_some_and(|(user, password)| !is_word(user) || !is_word(password)) {
            return Err(wrong());
        }
        // The port has to be given: a guess would differ between the two kinds.
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
        let is_plain = !address.contains(['/', '?', '#', ' ', '\\']);
        let url = Url::parse(&format!("http://{address}/")).ok().filter(Url::has_host);
        if !has_port || !is_plain || url.is_none() {
            return Err(wrong());
        }
        let login = login
            .map(|(user, password)| Login { user: user.to_owned(), password: password.to_owned() });
        Ok(Self { kind, address: address.to_owned(), login })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        let login = if self.login.is_some() { "***@" } else { "" };
        write!(f, "{scheme}://{login}{}", self.address)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ProxyUrl {
    /// Returns it in the form of the HTTP client. For what it returns no rule about passwords holds:
    /// it must not be printed.
    pub(crate) fn for_requests(&self) -> Result<reqwest::Proxy, ExchangeError> {
        let wrong = || refuse("proxy", &self, RULE);
        // With the `h` the proxy resolves names.
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5h",
        };
        let mut url = Url::parse(&format!("{scheme}://{}", self.address)).map_err(|_| wrong())?;
        if let Some(Login { user, password }) = &self.login {
            url.set_username(user).map_err(|()| wrong())?;
            url.set_password(Some(password)).map_err(|()| wrong())?;
        }
        reqwest::Proxy::all(url).map_err(|_| wrong())
    }

    /// Opens a connection through it to the host of the WebSocket address `url`.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(crate) async fn tunnel(&self, url: &str) -> Result<TcpStream, String> {
        let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no address"))?;
        let default = if uri.scheme_str() == Some("wss") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let target = format!("http://{}:{port}", uri.host().unwrap_or_default());
        let parse = |text: &str| text.parse::<Uri>().map_err(|_| format!("`{text}` is no address"));
        let (target, address) = (parse(&target)?, parse(&format!("http://{}", self.address))?);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        match self.kind {
            ProxyKind::Http => {
                let mut tunnel = Tunnel::new(address, connector);
                if let Some(Login { user, password }) = &self.login {
                    let words = BASE64_STANDARD.encode(format!("{user}:{password}"));
                    let value = HeaderValue::try_from(format!("Basic {words}"))
                        .map_err(|_| "user or password cannot be sent".to_owned())?;
                    tunnel = tunnel.with_auth(value);
                }
                self.open(tunnel, target).await
            }
            ProxyKind::Socks5 => {
                let mut socks = SocksV5::new(address, connector);
                if let Some(Login { user, password }) = &self.login {
                    socks = socks.with_auth(user.clone(), password.clone());
                }
                self.open(socks, target).await
            }
        }
    }

    async fn open<S>(&self, mut service: S, target: Uri) -> Result<TcpStream, String>
    where
        S: Service<Uri, Response = TokioIo<TcpStream>>,
        S::Error: Error,
    {
        let failed = |error: S::Error| format!("proxy {self}: {}", with_sources(&error));
        poll_fn(|context| service.poll_ready(context)).await.map_err(failed)?;
        let stream = service.call(target).await.map_err(failed)?;
        Ok(stream.into_inner())
    }
}

/// The texts of an error and of what caused it.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    shorten(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_and_no_password_is_shown() {
        for (text, shown) in [
            ("http://host:8080", "http://host:8080"),
            ("socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"),
            ("socks5://me:pa:ss@w/rd@[::1]:1080", "socks5://***@[::1]:1080"),
            ("http://me:secret@host:1", "http://***@host:1"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap();
            assert_eq!((proxy.to_string(), format!("{proxy:?}")), (shown.into(), shown.into()));
            proxy.for_requests().unwrap();
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for text in [
            "",
            "host:8080",
            "https://host:8080",
            "socks4://host:1080",
            "http://host",
            "http://host:0",
            "http://host:99999",
            "http://:8080",
            "http://host:8080/path",
            "http://secret@host:8080",
            "http://:secret@host:8080",
            "http://me:@host:8080",
            "http://me:secret@host",
            "ftp://me:secret@host:1",
            "http://me:sec\nret@host:1",
        ] {
            let error = text.parse::<ProxyUrl>().unwrap_err().to_string();
            assert!(error.contains("`proxy`") && !error.contains("secret"), "{text}: {error}");
        }
        let long = format!("http://me:{}@host:1", "x".repeat(256));
        assert!(long.parse::<ProxyUrl>().is_err());
    }
}
