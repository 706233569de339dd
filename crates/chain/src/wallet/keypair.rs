//! sr25519 key pairs and the signer of extrinsics.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use forecastd_core::{Hotkey, Signer};
use subxt::Config;
use subxt::utils::{AccountId32, MultiSignature};
use subxt_signer::bip39::Mnemonic;
use subxt_signer::{SecretUri, sr25519};

use super::{WalletError, file};

/// Signing context of everything that Substrate signs with sr25519.
const SIGNING_CONTEXT: &[u8] = b"substrate";
/// Longest text that is looked at as a mnemonic or URI; 24 words take about 200 bytes.
const MAX_SECRET_TEXT: usize = 1_024;

/// An sr25519 key pair. The secret is wiped from memory when it is dropped and never printed.
pub struct Keypair {
    secret: Secret,
    hotkey: Hotkey,
}

/// Both kinds wipe their secret scalar when dropped.
enum Secret {
    /// From a seed, a mnemonic or a URI.
    Derived(Box<sr25519::Keypair>),
    /// From the 64 bytes of an expanded secret key.
    Expanded(Box<schnorrkel::Keypair>),
}

impl Keypair {
    /// Derives a key from a Substrate secret URI such as `//Alice`, `//Miner//3` or
    /// `<mnemonic>//path///password`.
    ///
    /// A URI without a mnemonic starts from the *public* development phrase: such a key is for
    /// development networks only.
    ///
    /// # Errors
    /// [`WalletError::Secret`] when the text is not such a URI.
    pub fn from_uri(uri: &str) -> Result<Self, WalletError> {
        let invalid = |reason| WalletError::Secret { what: "key URI", reason };
        if uri.is_empty() || uri.len() > MAX_SECRET_TEXT {
            return Err(invalid("it must have 1 to 1024 bytes"));
        }
        let uri = SecretUri::from_str(uri).map_err(|_| invalid("it must look like //Alice"))?;
        let keypair = sr25519::Keypair::from_uri(&uri)
            .map_err(|_| invalid("its phrase is neither a mnemonic nor a 0x seed"))?;
        Ok(Self::derived(keypair))
    }

    /// Derives a key from a mnemonic of 12 to 24 English words, without password or path.
    ///
    /// # Errors
    /// [`WalletError::Secret`] when the words or their checksum are wrong.
    pub fn from_mnemonic(phrase: &str) -> Result<Self, WalletError> {
        let invalid = |reason| WalletError::Secret { what: "mnemonic", reason };
        if phrase.len() > MAX_SECRET_TEXT {
            return Err(invalid("it must have at most 1024 bytes"));
        }
        let mnemonic = Mnemonic::parse(phrase)
            .map_err(|_| invalid("a word is unknown or the checksum does not fit"))?;
        sr25519::Keypair::from_phrase(&mnemonic, None)
            .map(Self::derived)
            .map_err(|_| invalid("it makes no seed"))
    }

    /// Derives a key from a 32-byte seed (mini secret).
    ///
    /// # Errors
    /// [`WalletError::Secret`] when the seed makes no key.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, WalletError> {
        sr25519::Keypair::from_secret_key(seed)
            .map(Self::derived)
            .map_err(|_| WalletError::Secret { what: "seed", reason: "it makes no key" })
    }

    /// Takes an expanded secret key: scalar in canonical form (32 bytes), then nonce (32 bytes).
    ///
    /// # Errors
    /// [`WalletError::Secret`] when the scalar is not canonical.
    pub fn from_private_key(bytes: &[u8; 64]) -> Result<Self, WalletError> {
        let secret = schnorrkel::SecretKey::from_bytes(bytes).map_err(|_| WalletError::Secret {
            what: "private key",
            reason: "its scalar is not in canonical form",
        })?;
        let keypair = Box::new(secret.to_keypair());
        let hotkey = Hotkey::from_bytes(keypair.public.to_bytes());
        Ok(Self { secret: Secret::Expanded(keypair), hotkey })
    }

    /// Reads a plain hotkey file as any SDK writes it.
    ///
    /// The secret is the first usable of `secretSeed`, `privateKey`, `secretPhrase`, and must make
    /// the public key that the file names. Blocks on the file system: call it at start.
    ///
    /// # Errors
    /// [`WalletError::Permissions`] when group or others may read or write the file,
    /// [`WalletError::Encrypted`] for an encrypted file, otherwise what is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, WalletError> {
        file::read(path)
    }

    /// Returns the signer of extrinsics that shares this key.
    pub fn chain_signer(self: &Arc<Self>) -> ChainSigner {
        ChainSigner::new(self.clone())
    }

    fn derived(keypair: sr25519::Keypair) -> Self {
        let hotkey = Hotkey::from_bytes(keypair.public_key().0);
        Self { secret: Secret::Derived(Box::new(keypair)), hotkey }
    }
}

impl Signer for Keypair {
    fn hotkey(&self) -> Hotkey {
        self.hotkey
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.secret {
            Secret::Derived(keypair) => keypair.sign(message).0,
            Secret::Expanded(keypair) => {
                let context = schnorrkel::signing_context(SIGNING_CONTEXT);
                keypair.sign(context.bytes(message)).to_bytes()
            }
        }
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keypair")
            .field("hotkey", &self.hotkey)
            .field("secret", &"<redacted>")
            .finish()
    }
}

/// Signs extrinsics with a key that it shares.
#[derive(Debug, Clone)]
pub struct ChainSigner(Arc<dyn Signer>);

impl ChainSigner {
    /// Wraps any signer.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self(signer)
    }

    /// Returns the public key, which is the account.
    pub fn hotkey(&self) -> Hotkey {
        self.0.hotkey()
    }
}

impl<T> subxt::tx::Signer<T> for ChainSigner
where
    T: Config<AccountId = AccountId32, Signature = MultiSignature>,
{
    fn account_id(&self) -> AccountId32 {
        AccountId32(*self.0.hotkey().as_bytes())
    }

    fn sign(&self, signer_payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.0.sign(signer_payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

    fn verifies(keypair: &Keypair, message: &[u8], signature: [u8; 64]) -> bool {
        sr25519::verify(
            &sr25519::Signature(signature),
            message,
            &sr25519::PublicKey(*keypair.hotkey().as_bytes()),
        )
    }

    #[test]
    fn development_uris_make_the_well_known_keys() {
        assert_eq!(Keypair::from_uri("//Alice").unwrap().hotkey().to_ss58(), ALICE);
        let third = Keypair::from_uri("//Miner//3").unwrap().hotkey();
        assert_ne!(third, Keypair::from_uri("//Miner//4").unwrap().hotkey());
        assert_ne!(third, Keypair::from_uri("//Miner/3").unwrap().hotkey());
    }

    #[test]
    fn a_seed_and_its_uri_make_the_same_key() {
        let seed = Keypair::from_seed([0x5a; 32]).unwrap().hotkey();
        let uri = Keypair::from_uri(&format!("0x{}", "5a".repeat(32))).unwrap().hotkey();
        assert_eq!(seed, uri);
    }

    #[test]
    fn secrets_that_are_none_are_refused_without_repeating_them() {
        let typing_error = "bottom drive obey lake curtain smoke basket hold race lonely fit wall";
        let error = Keypair::from_mnemonic(typing_error).unwrap_err().to_string();
        assert!(error.contains("mnemonic") && !error.contains("bottom"), "{error}");
        assert!(Keypair::from_uri("").is_err());
        assert!(Keypair::from_uri(&"a".repeat(2_000)).is_err());
        let error = Keypair::from_uri("0xabcd//Alice").unwrap_err().to_string();
        assert!(!error.contains("abcd"), "{error}");
        assert!(Keypair::from_private_key(&[0xff; 64]).is_err());
    }

    #[test]
    fn both_kinds_of_secret_sign_so_that_the_public_key_verifies() {
        let expanded = schnorrkel::MiniSecretKey::from_bytes(&[9; 32])
            .unwrap()
            .expand(schnorrkel::ExpansionMode::Ed25519)
            .to_bytes();
        let derived = Keypair::from_seed([9; 32]).unwrap();
        let expanded = Keypair::from_private_key(&expanded).unwrap();
        assert_eq!(derived.hotkey(), expanded.hotkey());
        for keypair in [&derived, &expanded] {
            let signature = keypair.sign(b"message");
            assert!(verifies(keypair, b"message", signature));
            assert!(!verifies(keypair, b"massage", signature));
        }
    }

    #[test]
    fn printing_a_key_or_its_signer_shows_the_public_half_only() {
        let seed = [0x5a; 32];
        let keypair = Arc::new(Keypair::from_seed(seed).unwrap());
        for text in [format!("{keypair:?}"), format!("{:?}", keypair.chain_signer())] {
            assert!(text.contains(&keypair.hotkey().to_ss58()), "{text}");
            assert!(text.contains("<redacted>"), "{text}");
            assert!(!text.contains("90, 90") && !text.contains("5a5a"), "{text}");
        }
    }
}
