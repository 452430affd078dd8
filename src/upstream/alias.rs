//! Drawing by weight in constant time: Walker's alias table.
//!
//! `choice` draws the two candidates of a weighted least-request pick from it. The table is
//! built when endpoints are published, so that a draw costs one multiplication and one look.

/// Each column holds a share of at most two endpoints; all columns are equally likely.
#[derive(Debug)]
pub(super) struct Alias {
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Below it the column's own index is drawn; scaled to 32 bits.
    threshold: u32,
    other: u32,
}

impl Alias {
    /// Of weights that are all above zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let count = weights.len() as u64;
        let mut columns: Vec<Column> = (0..)
            .take(weights.len())
            .map(|own| Column {
                threshold: u32::MAX,
                other: own,
            })
            .collect();
        // Vose's method in integers: what one column holds is `total`, a weight is `count` times itself.
        let (mut poor, mut rich): (Vec<_>, Vec<_>) = weights
            .iter()
            .zip(0u32..)
            .map(|(&weight, index)| (index, u64::from(weight) * count))
            .partition(|&(_, share)| share < total);
        while let (Some((small, share)), Some((large, excess))) = (poor.pop(), rich.pop()) {
            if let Some(column) = columns.get_mut(small as usize) {
                let scaled = (u128::from(share) << 32) / u128::from(total);
                *column = Column {
                    threshold: u32::try_from(scaled).unwrap_or(u32::MAX),
                    other: large,
                };
            }
            let left = excess - (total - share);
            if left < total {
                poor.push((large, left))
            } else {
                rich.push((large, left))
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    /// An index with the probability of its weight, from 64 random bits.
    pub(super) fn draw(&self, random: u64) -> usize {
        let own = below(self.columns.len(), random >> 32);
        match self.columns.get(own) {
            Some(column) if random as u32 >= column.threshold => column.other as usize,
            _ => own,
        }
    }
}

/// A number below `count` from 32 random bits, without a division.
pub(super) fn below(count: usize, random: u64) -> usize {
    (((random & u64::from(u32::MAX)) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact probability of each index, counted over the columns.
    fn shares(weights: &[u32]) -> Vec<f64> {
        let alias = Alias::new(weights);
        let mut shares = vec![0.0; weights.len()];
        let column = 1.0 / weights.len() as f64;
        for (own, slot) in alias.columns.iter().enumerate() {
            let kept = f64::from(slot.threshold) / 2f64.powi(32);
            shares[own] += column * kept;
            shares[slot.other as usize] += column * (1.0 - kept);
        }
        shares
    }

    #[test]
    fn every_index_is_drawn_with_the_probability_of_its_weight() {
        for weights in [
            vec![1],
            vec![7, 7, 7],
            vec![1, 2, 3, 4],
            vec![1, u32::MAX],
            vec![90, 10],
        ] {
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (share, &weight) in shares(&weights).iter().zip(&weights) {
                assert!(
                    (share - f64::from(weight) / total).abs() < 1e-8,
                    "{weights:?}: {share}"
                );
            }
        }
    }

    #[test]
    fn draws_stay_inside_whatever_the_random_bits() {
        let alias = Alias::new(&[3, 1, 2]);
        for random in [0, 1, u64::MAX, u64::MAX << 32, u64::from(u32::MAX)] {
            assert!(alias.draw(random) < 3);
        }
    }
}
