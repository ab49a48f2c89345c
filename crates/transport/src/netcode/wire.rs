//! Reading and writing the fields of tokens and packets: little-endian, and every read is checked.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Takes fields off the front of bytes that a stranger wrote. Every method is `None` once they run out.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|&[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().copied().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().copied().map(u64::from_le_bytes)
    }

    /// One socket address: type 1 is IPv4, 2 is IPv6 (eight 16-bit groups, each little-endian).
    pub(crate) fn address(&mut self) -> Option<SocketAddr> {
        match self.u8()? {
            1 => {
                let ip = Ipv4Addr::from(*self.array::<4>()?);
                Some(SocketAddr::from((ip, self.u16()?)))
            }
            2 => {
                let mut groups = [0; 8];
                for group in &mut groups {
                    *group = self.u16()?;
                }
                Some(SocketAddrV6::new(Ipv6Addr::from(groups), self.u16()?, 0, 0).into())
            }
            _ => None,
        }
    }
}

/// Puts fields into a buffer that the caller made large enough.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How much has been written.
    pub(crate) fn len(&self) -> usize {
        self.at
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    pub(crate) fn address(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                self.put(&[1]);
                self.put(&address.ip().octets());
            }
            SocketAddr::V6(address) => {
                self.put(&[2]);
                for group in address.ip().segments() {
                    self.put(&group.to_le_bytes());
                }
            }
        }
        self.put(&address.port().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_survive_the_wire(address: SocketAddr) {
            let mut bytes = [0; 19];
            let mut writer = Writer::new(&mut bytes);
            writer.address(&address);
            let length = writer.len();
            prop_assert_eq!(length, if address.is_ipv4() { 7 } else { 19 });
            let read = Reader::new(&bytes[..length]).address().unwrap();
            prop_assert_eq!((read.ip(), read.port()), (address.ip(), address.port()));
            for cut in 0..length {
                prop_assert!(Reader::new(&bytes[..cut]).address().is_none());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = Reader::new(&bytes);
            let _ = (reader.address(), reader.u32(), reader.u64(), reader.u8());
        }
    }
}
