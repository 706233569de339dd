//! The client: asks the axons of miners for commitments and forecasts.
//!
//! One [`Dendrite`] is shared by all queries of a process. It opens a connection for each query and
//! closes it afterwards, so that a late answer can never be taken for the next one. Nothing that an
//! axon sends can cost more than the time-out and the size limit, nor reach the caller unchecked.

mod decode;
mod nonce;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use forecastd_core::forecast::check_values;
use forecastd_core::{Clock, Hotkey, Signer};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::VERSION;
use crate::error::{QueryError, WireError};
use crate::headers;
use crate::signing;
use crate::synapse::{ForecastRequest, Synapse};
use crate::tensor::Tensor;
use decode::Answer;
use nonce::NonceSource;

/// An axon to ask, as the chain lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AxonTarget {
    /// The hotkey that the request is signed for.
    pub hotkey: Hotkey,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Settings of a dendrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DendriteConfig {
    /// Greatest body of an answer, bytes; a forecast of 100 values has 2100.
    pub body_bytes: usize,
    /// Queries under way at once; more wait. Silent axons hold a place until their time-out, so
    /// this should not be below the number of axons.
    pub max_in_flight: usize,
    /// Time for a connection to come about; the time-out of the query holds as well.
    pub connect_timeout: Duration,
    /// The address that the headers claim; nobody checks it.
    pub claimed_ip: String,
}

impl Default for DendriteConfig {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            max_in_flight: 512,
            connect_timeout: Duration::from_secs(5),
            claimed_ip: "0.0.0.0".to_owned(),
        }
    }
}

/// A forecast that an axon sent: one row of finite values of the length asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Revealed {
    /// The values, oldest first.
    pub values: Vec<f64>,
    /// Python's text of the list, over which the commitment was taken. For integer and narrow float
    /// types it differs from the text of `values`.
    pub commitment_text: String,
}

impl Revealed {
    /// Returns the commitment that `hotkey` must have given for these values: lower-case hex
    /// SHA-256 of `<hotkey>-<text>`.
    pub fn commitment(&self, hotkey: &Hotkey) -> String {
        let mut hasher = Sha256::new();
        hasher.update(hotkey.to_ss58());
        hasher.update(b"-");
        hasher.update(&self.commitment_text);
        hex::encode(hasher.finalize())
    }

    /// Tells whether these values are the ones that `hotkey` committed to.
    pub fn matches(&self, hotkey: &Hotkey, commitment: &str) -> bool {
        self.commitment(hotkey) == commitment
    }
}

/// The client of a neuron.
#[derive(Debug)]
pub struct Dendrite {
    signer: Arc<dyn Signer>,
    hotkey_text: String,
    nonces: NonceSource,
    uuid: String,
    client: Client,
    places: Semaphore,
    config: DendriteConfig,
}

impl Dendrite {
    /// Creates a client that signs with `signer` and dates its requests by `clock` (real time).
    ///
    /// # Errors
    /// [`WireError::Setting`] for a zero limit, [`WireError::Client`] when HTTP cannot be set up.
    pub fn new(
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
        config: DendriteConfig,
    ) -> Result<Self, WireError> {
        for (setting, value) in
            [("body_bytes", config.body_bytes), ("max_in_flight", config.max_in_flight)]
        {
            if value == 0 {
                return Err(WireError::Setting { setting, value: "0".to_owned(), must: "above 0" });
            }
        }
        // The HTTP client asks for a TLS provider even if it only ever speaks plain HTTP. A second
        // installation in a process is refused, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(0)
            .tcp_nodelay(true)
            .connect_timeout(config.connect_timeout)
            .build()
            .map_err(WireError::Client)?;
        Ok(Self {
            hotkey_text: signer.hotkey().to_ss58(),
            signer,
            nonces: NonceSource::new(clock),
            uuid: uuid::Uuid::new_v4().to_string(),
            client,
            places: Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)),
            config,
        })
    }

    /// The hotkey that signs.
    pub fn hotkey(&self) -> Hotkey {
        self.signer.hotkey()
    }

    /// Asks for the commitment to the forecast of a round: 64 lower-case hex digits.
    ///
    /// `timeout` counts from the moment at which the query gets its place, to the last byte.
    ///
    /// # Errors
    /// [`QueryError`] says what the axon did wrong. May be dropped half-way.
    pub async fn commit(
        &self,
        target: &AxonTarget,
        request: &ForecastRequest,
        timeout: Duration,
    ) -> Result<String, QueryError> {
        let answer = self.ask(target, Synapse::LiveForwardHash, request, timeout).await?;
        answer.commitment()
    }

    /// Asks for the forecast of a round, and checks length and finiteness.
    ///
    /// Whether it fits the commitment is for the caller to say, see [`Revealed::matches`].
    ///
    /// # Errors
    /// [`QueryError`] says what the axon did wrong. May be dropped half-way.
    pub async fn reveal(
        &self,
        target: &AxonTarget,
        request: &ForecastRequest,
        timeout: Duration,
    ) -> Result<Revealed, QueryError> {
        let answer = self.ask(target, Synapse::LiveForward, request, timeout).await?;
        let tensor = Tensor::from_json(answer.predictions()?)?;
        let want = usize::try_from(request.prediction_size).unwrap_or(usize::MAX);
        if tensor.shape().len() != 1 {
            return Err(QueryError::Shape { got: tensor.shape().to_vec(), want });
        }
        let commitment_text = tensor.python_text();
        let values = tensor.into_values();
        check_values(&values, want, None)?;
        Ok(Revealed { values, commitment_text })
    }

    async fn ask(
        &self,
        target: &AxonTarget,
        synapse: Synapse,
        request: &ForecastRequest,
        timeout: Duration,
    ) -> Result<Answer, QueryError> {
        let broken = |reason: &str| QueryError::Broken(reason.to_owned());
        let _place = self.places.acquire().await.map_err(|_| broken("client is closed"))?;
        let asked = self.exchange(target, synapse, request, timeout);
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Timeout { seconds: timeout.as_secs_f64() }),
        }
    }

    async fn exchange(
        &self,
        target: &AxonTarget,
        synapse: Synapse,
        request: &ForecastRequest,
        timeout: Duration,
    ) -> Result<Answer, QueryError> {
        let timeout_secs = timeout.as_secs_f64();
        let signed = self.sign(&target.hotkey);
        let body = self.body(target, synapse, request, timeout_secs, &signed);
        let response = self
            .client
            .post(format!("http://{}/{}", target.address, synapse.name()))
            .headers(self.headers(target, synapse, timeout_secs, &signed, body.len()))
            .body(body)
            .send()
            .await
            .map_err(|error| transport(target, &error))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = self.read(target, response).await?;
        Answer::decode(status, &headers, &body, synapse)
    }

    /// Reads the body of an answer up to the limit.
    async fn read(
        &self,
        target: &AxonTarget,
        mut response: Response,
    ) -> Result<BytesMut, QueryError> {
        let limit = self.config.body_bytes;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(target, &error))? {
            if body.len() + chunk.len() > limit {
                return Err(QueryError::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn sign(&self, receiver: &Hotkey) -> Signed {
        let nonce = self.nonces.next();
        let receiver = receiver.to_ss58();
        let text = signing::request_text(
            nonce,
            &self.hotkey_text,
            &receiver,
            &self.uuid,
            signing::EMPTY_BODY_HASH,
        );
        let signature = signing::format_signature(&self.signer.sign(text.as_bytes()));
        Signed { nonce, receiver, signature }
    }

    fn headers(
        &self,
        target: &AxonTarget,
        synapse: Synapse,
        timeout_secs: f64,
        signed: &Signed,
        body_len: usize,
    ) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(24);
        let mut put = |name: &'static str, text: &str| {
            map.insert(HeaderName::from_static(name), headers::value(text));
        };
        put(headers::NAME, synapse.name());
        put(headers::TIMEOUT, &headers::python_seconds(timeout_secs));
        put(headers::AXON_IP, &target.address.ip().to_string());
        put(headers::AXON_PORT, &target.address.port().to_string());
        put(headers::AXON_HOTKEY, &signed.receiver);
        put(headers::DENDRITE_IP, &self.config.claimed_ip);
        put(headers::DENDRITE_VERSION, &VERSION.to_string());
        put(headers::DENDRITE_NONCE, &signed.nonce.to_string());
        put(headers::DENDRITE_UUID, &self.uuid);
        put(headers::DENDRITE_HOTKEY, &self.hotkey_text);
        put(headers::DENDRITE_SIGNATURE, &signed.signature);
        for (name, empty) in synapse.field_headers() {
            put(name, empty);
        }
        // The SDK sends Python object sizes here, which nobody reads.
        put(headers::HEADER_SIZE, "640");
        put(headers::TOTAL_SIZE, &body_len.to_string());
        put(headers::BODY_HASH, signing::EMPTY_BODY_HASH);
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        map
    }

    /// Builds the JSON body in the field order of the SDK's class.
    fn body(
        &self,
        target: &AxonTarget,
        synapse: Synapse,
        request: &ForecastRequest,
        timeout_secs: f64,
        signed: &Signed,
    ) -> String {
        let mut body = Map::with_capacity(16);
        body.insert("name".into(), synapse.name().into());
        body.insert("timeout".into(), timeout_secs.into());
        body.insert("total_size".into(), 0.into());
        body.insert("header_size".into(), 0.into());
        let dendrite = json!({
            "status_code": null, "status_message": null, "process_time": null,
            "ip": self.config.claimed_ip, "port": null, "version": VERSION, "nonce": signed.nonce,
            "uuid": self.uuid, "hotkey": self.hotkey_text, "signature": signed.signature,
        });
        let axon = json!({
            "status_code": null, "status_message": null, "process_time": null,
            "ip": target.address.ip().to_string(), "port": target.address.port(), "version": null,
            "nonce": null, "uuid": null, "hotkey": signed.receiver, "signature": null,
        });
        body.insert("dendrite".into(), dendrite);
        body.insert("axon".into(), axon);
        body.insert("computed_body_hash".into(), "".into());
        request.write_fields(&mut body);
        let result = match synapse {
            Synapse::LiveForwardHash => "hashed_predictions",
            _ => "predictions",
        };
        body.insert(result.into(), Value::Null);
        Value::Object(body).to_string()
    }
}

/// The parts of a request that its signature covers.
struct Signed {
    nonce: u64,
    receiver: String,
    signature: String,
}

/// Sorts a transport error by what the axon did.
fn transport(target: &AxonTarget, error: &reqwest::Error) -> QueryError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    let reason = headers::one_line(&reason);
    if error.is_connect() {
        QueryError::Connect { address: target.address, reason }
    } else {
        QueryError::Broken(reason)
    }
}
