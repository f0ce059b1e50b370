//! Whether a classifier's probabilities can be believed: reliability bins and the expected calibration
//! error (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2, arXiv 1706.04599).

/// The number of bins that the paper reports with.
pub const BINS: usize = 15;

/// The examples whose top probability lies in one stretch of 0–1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// The stretch's lower end, itself outside (but 0 is in the first bin).
    pub low: f64,
    /// The stretch's upper end, itself inside.
    pub high: f64,
    /// Examples in the bin.
    pub examples: usize,
    /// The mean of their top probabilities; 0 without examples.
    pub confidence: f64,
    /// The share of them whose predicted class is right; 0 without examples.
    pub accuracy: f64,
}

/// A reliability diagram, and how far it lies from the diagonal.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The expected calibration error, 0–1: the mean over examples of the distance between accuracy and
    /// confidence of their bin. 0 without examples.
    pub expected_error: f64,
    /// The greatest of those distances.
    pub greatest_error: f64,
    /// Bins of equal width, from 0 to 1.
    pub bins: Vec<Bin>,
}

/// The calibration of top probabilities: `confidence[i]` is the probability (0–1) of the class that example
/// i was given, `correct[i]` whether it is the right one, `bins` the number of bins (usually [`BINS`]).
///
/// # Panics
/// Where the two differ in length, a probability lies outside 0–1, or there are no bins.
pub fn calibration(confidence: &[f32], correct: &[bool], bins: usize) -> Calibration {
    assert_eq!(confidence.len(), correct.len(), "a probability for each prediction");
    assert!(bins > 0, "at least one bin");
    let end = |bin: usize| bin as f64 / bins as f64;
    let mut table: Vec<Bin> =
        (0..bins).map(|bin| Bin { low: end(bin), high: end(bin + 1), ..Bin::default() }).collect();
    for (&confidence, &correct) in confidence.iter().zip(correct) {
        // A softmax in f32 may round to a little over 1.
        assert!((0.0..1.001).contains(&confidence), "a probability, got {confidence}");
        let confidence = confidence.min(1.0);
        // Ends are rounded as the probabilities are, so that 0.6 lies in the bin that ends at 0.6.
        let place = table.partition_point(|bin| (bin.high as f32) < confidence);
        let bin = &mut table[place];
        // Sums for now, divided below.
        bin.examples += 1;
        bin.confidence += f64::from(confidence);
        bin.accuracy += f64::from(u8::from(correct));
    }
    let (mut expected_error, mut greatest_error) = (0.0, 0.0f64);
    for bin in table.iter_mut().filter(|bin| bin.examples > 0) {
        bin.confidence /= bin.examples as f64;
        bin.accuracy /= bin.examples as f64;
        let error = (bin.accuracy - bin.confidence).abs();
        expected_error += error * bin.examples as f64 / correct.len() as f64;
        greatest_error = greatest_error.max(error);
    }
    Calibration { expected_error, greatest_error, bins: table }
}

/// The class with the highest probability and that probability: the first of equal ones. `None` of nothing.
pub fn top_class(probabilities: &[f32]) -> Option<(usize, f32)> {
    let better = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    probabilities.iter().copied().enumerate().reduce(better)
}
