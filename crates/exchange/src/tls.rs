//! The process-wide choice of the TLS implementation.

/// Installs ring as the cryptography of rustls for the whole process.
///
/// May be called any number of times; the constructors of this crate that need TLS call it. A
/// provider that the process installed earlier stays in place.
pub fn install_tls() {
    // `Err` means that one is installed already, which is all that is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}
