//! The benchmark trains: its loss starts at the entropy of a uniform guess and falls.

use hearth_train::bench::Preset;

#[test]
fn a_benchmark_is_real_training() {
    let preset = Preset::named("nanogpt-cpu").expect("a preset");
    let mut told = 0;
    let report = preset.run(12, 1, |_, _, _| told += 1).expect("it runs");
    assert_eq!((told, report.losses.len(), report.step_ms.len()), (12, 12, 12));
    assert!((report.losses[0] - 65f32.ln()).abs() < 0.1, "{:?}", report.losses);
    assert!(report.losses[11] < report.losses[0] - 0.1, "{:?}", report.losses);
    let again = preset.run(12, 1, |_, _, _| ()).expect("it runs");
    assert_eq!(report.losses, again.losses, "the same seed gives the same bits");
}
