//! Reproducible random numbers.

/// SplitMix64.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for one work, independent of the numbers that other works draw.
    pub fn new(seed: u64, work: &str) -> Self {
        let name = work.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(seed ^ name)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number from 0 to `end`, exclusive.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// One of the given values.
    pub fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len() as u64) as usize]
    }

    /// A random part of a duration.
    pub fn part_of(&mut self, time: std::time::Duration) -> std::time::Duration {
        time.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_each_work() {
        let some = |seed, work| {
            let mut random = Random::new(seed, work);
            [random.below(1000), random.below(1000), random.below(1000)]
        };
        assert_eq!(some(7, "disk"), some(7, "disk"));
        assert_ne!(some(7, "disk"), some(8, "disk"));
        assert_ne!(some(7, "disk"), some(7, "crowd"));
        assert!(Random::new(1, "x").part_of(std::time::Duration::from_secs(1)).as_secs() < 1);
    }
}
