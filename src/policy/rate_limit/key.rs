//! What a caller is counted by, as bytes.
//!
//! **Invariant**: two keys are equal only if they are of the same limit and have the same parts: each part says its length,
//! and one that is absent is no empty one. A part of more than [`MAX_PART`] bytes stands for itself by its SHA-256, so that
//! a key has a bound. Equal keys have equal bytes in every process.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use smallvec::SmallVec;

/// Limit, tier and parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(SmallVec<[u8; 96]>);

/// Bytes of a part that stand as they are.
const MAX_PART: usize = 64;
const ABSENT: u8 = 0xff;
const DIGEST: u8 = 0xfe;
const SEVERAL: u8 = 0xfd;

impl Key {
    /// The key of a limit without any part.
    pub fn new(limit: &str) -> Self {
        let mut key = Self(SmallVec::new());
        key.push(Some(limit.as_bytes()));
        key
    }

    /// Nothing yet: a piece of a key, or one that is made of pieces.
    pub fn empty() -> Self {
        Self(SmallVec::new())
    }

    /// Adds a piece of a key.
    pub fn extend(&mut self, piece: &Self) {
        self.0.extend_from_slice(&piece.0);
    }

    /// Adds a part, or that it is absent.
    pub fn push(&mut self, part: Option<&[u8]>) {
        match part {
            None => self.0.push(ABSENT),
            Some(part) => match u8::try_from(part.len()) {
                Ok(length) if part.len() <= MAX_PART => {
                    self.0.push(length);
                    self.0.extend_from_slice(part);
                }
                Ok(_) | Err(_) => {
                    self.0.push(DIGEST);
                    self.0.extend_from_slice(digest(&SHA256, part).as_ref());
                }
            },
        }
    }

    /// Adds a part that has any number of values, such as a header.
    pub fn push_all(&mut self, values: &[&[u8]]) {
        match values {
            [] => self.push(None),
            [only] => self.push(Some(only)),
            values => {
                let mut context = Context::new(&SHA256);
                for value in values {
                    context.update(&(value.len() as u64).to_be_bytes());
                    context.update(value);
                }
                self.0.push(SEVERAL);
                self.0.extend_from_slice(context.finish().as_ref());
            }
        }
    }

    /// Adds an address, of IPv6 the network of 64 bits, which is what one site has.
    pub fn push_ip(&mut self, ip: IpAddr) {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.push(Some(&ip.octets())),
            IpAddr::V6(ip) => self.push(ip.octets().first_chunk::<8>().map(<[u8; 8]>::as_slice)),
        }
    }

    /// The key, for stores outside the process. At most some hundred bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same without the limit: equal for one caller in all limits that tell callers apart by the same parts.
    pub fn parts(&self) -> &[u8] {
        let limit = match self.0.first() {
            Some(&DIGEST) => 1 + 32,
            Some(&length) => 1 + usize::from(length),
            None => 0,
        };
        self.0.get(limit..).unwrap_or_default()
    }

    /// The key in 64 bits that nobody outside can foresee.
    pub(super) fn tag(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(limit: &str, parts: &[Option<Vec<u8>>]) -> Key {
        let mut key = Key::new(limit);
        parts.iter().for_each(|part| key.push(part.as_deref()));
        key
    }

    /// Parts in which what separates and what is absent could be mixed up.
    fn parts() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(2), Just(ABSENT), Just(DIGEST), Just(SEVERAL), any::<u8>()];
        let part = prop::collection::vec(byte, 0..4);
        let long = prop::collection::vec(any::<u8>(), 60..70);
        prop::collection::vec(prop_oneof![6 => prop::option::of(part), 1 => long.prop_map(Some)], 0..5)
    }

    proptest! {
        #[test]
        fn keys_are_equal_only_where_their_parts_are(one in parts(), other in parts()) {
            prop_assert_eq!(key("a", &one) == key("a", &other), one == other);
            prop_assert_ne!(key("a", &one), key("b", &one));
        }

        #[test]
        fn values_of_one_part_are_not_mixed_up(one in parts(), other in parts()) {
            let of = |values: &[Option<Vec<u8>>]| {
                let mut key = Key::new("a");
                key.push_all(&values.iter().flatten().map(Vec::as_slice).collect::<Vec<_>>());
                key
            };
            let (one_values, other_values): (Vec<_>, Vec<_>) = (one.iter().flatten().collect(), other.iter().flatten().collect());
            prop_assert_eq!(of(&one) == of(&other), one_values == other_values);
        }

        #[test]
        fn keys_have_a_bound(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..8)) {
            let mut key = Key::new(&"n".repeat(5000));
            parts.iter().for_each(|part| key.push(Some(part)));
            prop_assert!(key.as_bytes().len() <= (parts.len() + 1) * (MAX_PART + 1));
        }
    }

    #[test]
    fn parts_are_the_same_in_every_limit() {
        let long = "n".repeat(100);
        for limit in ["a", "", long.as_str()] {
            let mut key = Key::new(limit);
            assert_eq!(key.parts(), b"");
            key.push(Some(b"alice"));
            key.push(None);

            assert_eq!(key.parts(), b"\x05alice\xff");
        }
    }

    #[test]
    fn addresses_of_a_site_are_one() {
        let of = |ip: &str| {
            let mut key = Key::new("a");
            key.push_ip(ip.parse().expect("an address"));
            key
        };

        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
