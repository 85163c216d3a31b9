//! Random weights for timings and tests: deterministic, and scaled so that activations stay finite.

/// `length` values uniform in 0..1, a pure function of `seed` and `name`: splitmix64 (Steele et al., 2014) over FNV-1a.
pub fn uniform(seed: u64, name: &str, length: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut state = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..length).map(|_| next()).collect()
}

/// A tensor's values by its role, known from name and shape: variances near 1, scales near 1, weights initialised as in He
/// et al. (2015), the rest small.
pub fn values(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let length = shape.iter().product();
    let fan_in: usize = shape.iter().skip(1).product();
    let (centre, spread) = match name.rsplit('.').next() {
        Some("running_var") => (1.0, 0.2),
        Some("weight" | "gamma") if shape.len() == 1 => (1.0, 0.1),
        Some("weight") => (0.0, (3.0 / fan_in.max(1) as f32).sqrt()),
        _ => (0.0, 0.05),
    };
    uniform(seed, name, length).into_iter().map(|u| centre + (u * 2.0 - 1.0) * spread).collect()
}
