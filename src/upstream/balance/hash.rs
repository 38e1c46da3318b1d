//! Tables that give the same key the same endpoint, in every worker, gateway and version.
//!
//! The hash is FNV-1a with the finalizer of SplitMix64: stable, short and well mixed. It is not meant to withstand
//! chosen keys: who may choose the key may choose the endpoint, that is the purpose.

/// The hash of a key.
pub fn hash(key: &[u8]) -> u64 {
    let folded = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(folded)
}

/// Spreads a number over all bits.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Points on a circle: a key belongs to the endpoint of the next point. When an endpoint leaves, only its keys move.
#[derive(Debug)]
pub(super) struct Ring {
    /// Ascending; the point and the index of its endpoint.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of endpoints, each with its address and weight.
    pub(super) fn new<'a>(endpoints: &(impl ExactSizeIterator<Item = (&'a str, u32)> + Clone)) -> Self {
        let total: u64 = endpoints.clone().map(|(_, weight)| u64::from(weight)).sum();
        let share = |weight: u32| {
            let wanted = POINTS * endpoints.len() as u64;
            (u64::from(weight) * wanted.min(MAX_POINTS)).div_ceil(total.max(1))
        };
        let mut points = Vec::new();
        for (index, (address, weight)) in (0..).zip(endpoints.clone()) {
            let base = hash(address.as_bytes());
            points.extend((0..share(weight)).map(|point| (mix(base ^ mix(point)), index)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The endpoints in the order in which the key wants them, with repetitions.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}

/// On the ring for each endpoint of mean weight: the shares of equal ones then differ by a twentieth or so.
const POINTS: u64 = 512;
const MAX_POINTS: u64 = 1 << 20;

/// Google's Maglev (<https://research.google/pubs/pub44824/>, §3.4): shares are more even than a ring's and a lookup is one load, but a few
/// keys of others move too when an endpoint leaves.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Box<[u32]>,
}

impl Maglev {
    /// A table of endpoints, each with its address and weight.
    pub(super) fn new<'a>(endpoints: impl ExactSizeIterator<Item = (&'a str, u32)>) -> Self {
        struct Turn {
            place: usize,
            skip: usize,
            weight: u64,
            /// What the rounds must come to before it has its next turn.
            due: u64,
        }
        let mut turns: Vec<Turn> = endpoints
            .map(|(address, weight)| {
                let hash = hash(address.as_bytes());
                Turn {
                    place: remainder(hash, SIZE),
                    skip: remainder(mix(hash), SIZE - 1) + 1,
                    weight: weight.into(),
                    due: 0,
                }
            })
            .collect();
        let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0).max(1);
        let mut table = vec![u32::MAX; if turns.is_empty() { 0 } else { SIZE }];
        let (mut free, mut round) = (table.len(), 0);
        while free > 0 {
            round += 1;
            for (index, turn) in (0..).zip(&mut turns) {
                if free == 0 || round * turn.weight < turn.due {
                    continue;
                }
                turn.due += heaviest;
                while table[turn.place] != u32::MAX {
                    turn.place = (turn.place + turn.skip) % SIZE;
                }
                table[turn.place] = index;
                free -= 1;
            }
        }
        Self { table: table.into() }
    }

    /// The endpoints in the order in which the key wants them, with repetitions, without end.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let keys = std::iter::successors(Some(key), |key| Some(mix(*key)));
        let table = &self.table;
        keys.map_while(move |key| table.get(remainder(key, SIZE))).map(|index| *index as usize)
    }
}

/// A prime, some hundred times the endpoints of a large upstream.
const SIZE: usize = 65_537;

/// What is left, which fits because it is less than `by`.
fn remainder(number: u64, by: usize) -> usize {
    usize::try_from(number % by as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    /// Of the keys that had another endpoint than the one that leaves: how many moved. And how many it had.
    fn moved(first: impl Fn(&[String], u64) -> String) -> Vec<(f64, f64)> {
        let all: Vec<String> = (0..10).map(|n| format!("10.0.0.{n}:50051")).collect();
        let left = |gone: &String| all.iter().filter(|one| *one != gone).cloned().collect::<Vec<_>>();
        let count = |gone: &String| {
            let left = left(gone);
            let pairs = (0..KEYS).map(|key| (first(&all, mix(key)), first(&left, mix(key))));
            let (own, others): (Vec<_>, Vec<_>) = pairs.partition(|(before, _)| before == gone);
            let moved = others.iter().filter(|(before, after)| before != after).count();
            (moved as f64 / KEYS as f64, own.len() as f64 / KEYS as f64)
        };
        all.iter().map(count).collect()
    }

    #[test]
    fn keys_of_a_ring_stay_where_they_are_but_for_those_of_the_endpoint_that_left() {
        let first = |all: &[String], key| {
            let ring = Ring::new(&all.iter().map(|address| (address.as_str(), 1)));
            all[ring.walk(key).next().unwrap()].clone()
        };
        // Building it for each key would take minutes.
        let rings = std::cell::RefCell::new(std::collections::HashMap::new());
        let cached = |all: &[String], key| {
            let mut rings = rings.borrow_mut();
            let ring = rings
                .entry(all.to_vec())
                .or_insert_with(|| Ring::new(&all.iter().map(|address| (address.as_str(), 1))));
            all[ring.walk(key).next().unwrap()].clone()
        };
        assert_eq!(first(&["a".into(), "b".into()], 7), cached(&["a".into(), "b".into()], 7));
        for (others, own) in moved(cached) {
            assert!(others == 0.0 && own <= 1.2 / 10.0, "{others} {own}");
        }
    }

    #[test]
    fn few_keys_of_maglev_move_beside_those_of_the_endpoint_that_left() {
        let tables = std::cell::RefCell::new(std::collections::HashMap::new());
        let first = |all: &[String], key| {
            let mut tables = tables.borrow_mut();
            let table = tables
                .entry(all.to_vec())
                .or_insert_with(|| Maglev::new(all.iter().map(|address| (address.as_str(), 1))));
            all[table.walk(key).next().unwrap()].clone()
        };
        for (others, own) in moved(first) {
            assert!(others < 0.05 && own <= 1.05 / 10.0, "{others} {own}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let endpoints = [("a:1", 1), ("b:1", 3)];
        let share =
            |first: &dyn Fn(u64) -> usize| (0..KEYS).filter(|key| first(mix(*key)) == 1).count() as f64 / KEYS as f64;
        let ring = Ring::new(&endpoints.into_iter());
        let table = Maglev::new(endpoints.into_iter());

        assert!((share(&|key| ring.walk(key).next().unwrap()) - 0.75).abs() < 0.05);
        assert!((share(&|key| table.walk(key).next().unwrap()) - 0.75).abs() < 0.01);
        assert_eq!(Ring::new(&std::iter::empty()).walk(1).next(), None);
        assert_eq!(Maglev::new(std::iter::empty()).walk(1).next(), None);
    }
}
