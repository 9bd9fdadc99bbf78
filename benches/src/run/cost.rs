//! The cost model: processor time = a × deliveries + b × writes + c × ticks, fitted from what was measured.

use super::measure::Sample;
use serde::Serialize;

/// What each of them costs, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    pub delivery_us: f64,
    pub write_us: f64,
    pub tick_us: f64,
    /// The mean of how far the model is from a sample, as a part of the sample.
    pub error: f64,
    pub samples: usize,
}

/// Fits the model to the samples of one server: relative errors are made small, so that light loads count as much as
/// heavy ones. Nothing costs less than nothing: what would is left out, and the rest fitted again.
pub fn fit<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<Cost> {
    let rows: Vec<([f64; 3], f64)> = samples
        .filter_map(|sample| {
            let spent_us_per_s = sample.cpu_load * 1e6;
            // Past saturation time is the whole processor, whatever is done with it.
            let is_fit = spent_us_per_s > 0.0 && sample.cpu_load < 0.9;
            Some(([sample.delivered_per_s, sample.writes_per_s?, sample.rate], spent_us_per_s))
                .filter(|_| is_fit)
        })
        .collect();
    let mut used = vec![0, 1, 2];
    if rows.len() < used.len() {
        return None;
    }
    let solution = loop {
        let solution = least_squares(&rows, &used)?;
        match used.iter().zip(&solution).position(|(_, value)| *value < 0.0) {
            Some(at) => drop(used.remove(at)),
            None => break solution,
        }
    };
    let mut costs = [0.0; 3];
    used.iter().zip(&solution).for_each(|(column, value)| costs[*column] = *value);
    let error = |(row, spent): &([f64; 3], f64)| {
        (row.iter().zip(&costs).map(|(x, cost)| x * cost).sum::<f64>() / spent - 1.0).abs()
    };
    Some(Cost {
        delivery_us: costs[0],
        write_us: costs[1],
        tick_us: costs[2],
        error: rows.iter().map(error).sum::<f64>() / rows.len() as f64,
        samples: rows.len(),
    })
}

/// The factors of the columns in `used` by the normal equations, each row divided by what it should come to.
fn least_squares(rows: &[([f64; 3], f64)], used: &[usize]) -> Option<Vec<f64>> {
    let n = used.len();
    let mut matrix = vec![vec![0.0; n + 1]; n];
    for (row, spent) in rows {
        let scaled: Vec<f64> = used.iter().map(|column| row[*column] / spent).collect();
        for i in 0..n {
            for j in 0..n {
                matrix[i][j] += scaled[i] * scaled[j];
            }
            matrix[i][n] += scaled[i];
        }
    }
    // Gauss and Jordan, the largest pivot first.
    for column in 0..n {
        let pivot =
            (column..n).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        let divisor = matrix[column][column];
        if divisor.abs() < f64::EPSILON * 1e-6 {
            return None;
        }
        matrix[column].iter_mut().for_each(|value| *value /= divisor);
        let pivot_row = matrix[column].clone();
        for (_, row) in matrix.iter_mut().enumerate().filter(|(at, _)| *at != column) {
            let factor = row[column];
            row.iter_mut().zip(&pivot_row).for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    Some(matrix.iter().map(|row| row[n]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(delivered_per_s: f64, writes_per_s: f64, rate: f64, cost: [f64; 3]) -> Sample {
        let spent = delivered_per_s * cost[0] + writes_per_s * cost[1] + rate * cost[2];
        Sample {
            delivered_per_s,
            writes_per_s: Some(writes_per_s),
            rate,
            cpu_load: spent / 1e6,
            ..Sample::default()
        }
    }

    #[test]
    fn costs_are_found_again() {
        let cost = [0.1, 4.0, 20.0];
        let samples = [
            sample(50_000.0, 50_000.0, 250.0, cost),
            sample(100_000.0, 10_000.0, 500.0, cost),
            sample(100_000.0, 20_000.0, 5_000.0, cost),
            sample(400_000.0, 40_000.0, 4_000.0, cost),
        ];
        let found = fit(samples.iter()).unwrap();
        assert!((found.delivery_us - 0.1).abs() < 1e-6, "{found:?}");
        assert!((found.write_us - 4.0).abs() < 1e-6, "{found:?}");
        assert!((found.tick_us - 20.0).abs() < 1e-6, "{found:?}");
        assert!(found.error < 1e-6, "{found:?}");
    }
}
