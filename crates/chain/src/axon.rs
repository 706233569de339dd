//! Axon addresses as the chain stores them: an integer, a kind, a port.
//!
//! IPv4 and IPv6 addresses are integers in big-endian reading, so 45.76.11.9 is `0x2d4c0b09`. An
//! unserved axon is all zero. The rules of acceptance are those of `serve_axon`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

const IPV4: u8 = 4;
const IPV6: u8 = 6;

/// Where a neuron answers queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AxonEndpoint {
    /// Address that other neurons connect to.
    pub ip: IpAddr,
    /// TCP port, never zero.
    pub port: u16,
    /// Protocol number that SDKs announce (4 = TCP).
    pub protocol: u8,
    /// Version of the serving software, `major * 1_000_000 + minor * 1_000 + patch` by habit of the
    /// newer SDKs.
    pub version: u32,
}

/// Why the chain would refuse an axon address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AxonError {
    /// Loopback, unspecified or broadcast address.
    #[error("axon address {0} is refused by the chain, announce the address that others reach")]
    Address(IpAddr),
    /// Port zero means "not serving".
    #[error("axon port is 0, must be 1..=65535")]
    Port,
}

impl AxonEndpoint {
    /// Checks the address by the rules of the chain's `serve_axon`.
    ///
    /// Private ranges and 127.0.0.2 are accepted there, exactly 127.0.0.1 and `::1` are not.
    ///
    /// # Errors
    /// [`AxonError`] says which part the chain would refuse.
    pub fn check(&self) -> Result<(), AxonError> {
        if self.port == 0 {
            return Err(AxonError::Port);
        }
        let refused = match self.ip {
            IpAddr::V4(ip) => {
                ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv4Addr::BROADCAST
            }
            IpAddr::V6(ip) => {
                ip.is_unspecified() || ip == Ipv6Addr::LOCALHOST || ip.to_bits() == u128::MAX
            }
        };
        if refused { Err(AxonError::Address(self.ip)) } else { Ok(()) }
    }

    /// Returns the kind of the address as the chain counts it: 4 or 6.
    pub const fn ip_type(&self) -> u8 {
        match self.ip {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }

    /// Returns the address as the integer that the chain stores.
    pub fn ip_value(&self) -> u128 {
        match self.ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        }
    }

    /// Reads the chain's fields; `None` when the neuron does not serve or the fields are senseless.
    ///
    /// Axon fields are set by the neuron itself: garbage costs only that neuron.
    pub(crate) fn from_chain(
        ip: u128,
        ip_type: u8,
        port: u16,
        protocol: u8,
        version: u32,
    ) -> Option<Self> {
        if port == 0 || ip == 0 {
            return None;
        }
        let ip = match ip_type {
            IPV4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(ip).ok()?)),
            IPV6 => IpAddr::V6(Ipv6Addr::from_bits(ip)),
            _ => return None,
        };
        Some(Self { ip, port, protocol, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(ip: &str, port: u16) -> AxonEndpoint {
        AxonEndpoint { ip: ip.parse().unwrap(), port, protocol: 4, version: 1 }
    }

    #[test]
    fn unserved_and_senseless_axons_are_skipped() {
        for (ip, ip_type, port) in
            [(0, 0, 0), (0, 4, 8091), (1 << 32, 4, 8091), (16_909_060, 5, 8091), (16_909_060, 4, 0)]
        {
            assert_eq!(AxonEndpoint::from_chain(ip, ip_type, port, 4, 1), None, "{ip} {ip_type}");
        }
    }

    #[test]
    fn addresses_that_nobody_reaches_are_refused_before_they_are_sent() {
        for ip in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1"] {
            let axon = endpoint(ip, 8091);
            assert_eq!(axon.check(), Err(AxonError::Address(axon.ip)));
        }
        let all_ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert!(endpoint(all_ones, 8091).check().is_err());
        assert_eq!(endpoint("1.2.3.4", 0).check(), Err(AxonError::Port));
        for ip in ["127.0.0.2", "10.0.0.1", "fe80::1"] {
            assert_eq!(endpoint(ip, 1).check(), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn addresses_survive_the_chain(bits: u128, v4: bool, port in 1_u16.., version: u32) {
            let ip = if v4 {
                #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
                let bits = bits as u32;
                IpAddr::V4(Ipv4Addr::from_bits(bits))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            };
            prop_assume!(!ip.is_unspecified());
            let axon = AxonEndpoint { ip, port, protocol: 4, version };
            let back = AxonEndpoint::from_chain(axon.ip_value(), axon.ip_type(), port, 4, version);
            prop_assert_eq!(back, Some(axon));
        }
    }
}
