// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Every kernel set that this processor runs against a reference in binary64, for every element
//! type, every metric and dimensions about every register width.

use vexfs_simd::{
    Distance, ElementType, InvalidRow, Kernels, MAX_DIMENSION, Metric, RowTerm, Shape, sets,
};

const ELEMENTS: [ElementType; 6] = [
    ElementType::F32,
    ElementType::F16,
    ElementType::Bf16,
    ElementType::I8,
    ElementType::U8,
    ElementType::Bit,
];
const METRICS: [Metric; 5] =
    [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::Manhattan, Metric::Hamming];
const DIMENSIONS: [u32; 25] = [
    1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 384, 511, 784, 1000, 1024,
    1536, 3072, 16384,
];

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A row of random components. About one in eight is the same in every row, so that Hamming sees
/// equal ones.
fn random_row(shape: &Shape, random: &mut Random) -> Vec<u8> {
    let mut row = Vec::new();
    for position in 0..shape.dimension {
        let repeats = random.next().is_multiple_of(8);
        let value = if repeats { 0.25 } else { random.signed() };
        match shape.element {
            ElementType::F32 => row.extend(value.to_le_bytes()),
            // Signs, all exponents from 2^-14 to 1 and subnormal numbers.
            ElementType::F16 => {
                let bits = if repeats { 0x3400 } else { random.next() as u16 & 0xbfff };
                row.extend(bits.to_le_bytes());
            }
            ElementType::Bf16 => row.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
            ElementType::I8 => row.push(if repeats { 7 } else { random.next() as u8 }),
            ElementType::U8 => row.push(if repeats { 200 } else { random.next() as u8 }),
            ElementType::Bit => {
                if position % 8 == 0 {
                    row.push(0);
                }
                let bit = (random.next() & 1) as u8;
                *row.last_mut().unwrap() |= bit << (position % 8);
            }
        }
    }
    row
}

/// A binary16 by its definition in IEEE 754.
fn binary16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    match bits >> 10 & 31 {
        0 => sign * fraction * 2.0_f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        exponent => sign * (1.0 + fraction) * 2.0_f64.powi(i32::from(exponent) - 15),
    }
}

fn components(shape: &Shape, row: &[u8]) -> Vec<f64> {
    let word = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    match shape.element {
        ElementType::F32 => row
            .chunks(4)
            .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
            .collect(),
        ElementType::F16 => row.chunks(2).map(|bytes| binary16(word(bytes))).collect(),
        ElementType::Bf16 => row
            .chunks(2)
            .map(|bytes| f64::from(f32::from_bits(u32::from(word(bytes)) << 16)))
            .collect(),
        ElementType::I8 => row.iter().map(|byte| f64::from(*byte as i8)).collect(),
        ElementType::U8 => row.iter().map(|byte| f64::from(*byte)).collect(),
        ElementType::Bit => (0..shape.dimension as usize)
            .map(|position| f64::from(row[position / 8] >> (position % 8) & 1))
            .collect(),
    }
}

/// The distance in binary64, and the sum of the magnitudes that went into it: rounding errors are
/// relative to that.
fn reference(metric: Metric, one: &[f64], other: &[f64]) -> (f64, f64) {
    let pairs = || one.iter().zip(other);
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let dot_size: f64 = pairs().map(|(a, b)| (a * b).abs()).sum();
    match metric {
        Metric::L2 => {
            let sum = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
            (sum, sum)
        }
        Metric::InnerProduct => (-dot, dot_size),
        Metric::Cosine => {
            let length = |row: &[f64]| row.iter().map(|a| a * a).sum::<f64>().sqrt();
            (1.0 - dot / length(one) / length(other), 1.0)
        }
        Metric::Manhattan => {
            let sum = pairs().map(|(a, b)| (a - b).abs()).sum();
            (sum, sum)
        }
        Metric::Hamming => {
            let count = pairs().filter(|(a, b)| a != b).count() as f64;
            (count, count)
        }
    }
}

fn value(distance: Distance) -> f32 {
    f32::from_bits(distance.to_f32_bits())
}

/// Whether sums of this shape are exact.
fn is_exact(shape: &Shape) -> bool {
    let integers = matches!(shape.element, ElementType::I8 | ElementType::U8 | ElementType::Bit);
    shape.metric == Metric::Hamming || integers && shape.metric != Metric::Cosine
}

fn assert_near(context: &str, shape: &Shape, one: &[u8], other: &[u8], distance: Distance) {
    let (expected, size) =
        reference(shape.metric, &components(shape, one), &components(shape, other));
    let found = value(distance);
    if is_exact(shape) {
        assert_eq!(found.to_bits(), (expected as f32 + 0.0).to_bits(), "{context} {shape:?}");
    } else {
        // Each of the sixteen or more lanes adds up to 1024 numbers.
        let error = (f64::from(found) - expected).abs();
        assert!(error <= size * 1e-5, "{context} {shape:?}: {found} for {expected}");
    }
}

fn all_shapes() -> impl Iterator<Item = Shape> {
    DIMENSIONS.into_iter().flat_map(|dimension| {
        ELEMENTS.into_iter().flat_map(move |element| {
            METRICS.into_iter().map(move |metric| Shape { element, metric, dimension })
        })
    })
}

/// A vector that has an angle, whatever the seed gave.
fn directed_row(shape: &Shape, random: &mut Random) -> Vec<u8> {
    loop {
        let row = random_row(shape, random);
        if components(shape, &row).iter().any(|component| *component != 0.0) {
            return row;
        }
    }
}

#[test]
fn every_set_agrees_with_the_reference() {
    let mut random = Random(1);
    for shape in all_shapes() {
        let query = directed_row(&shape, &mut random);
        // Nine rows: two groups of four and a single one. Each begins at another alignment, and
        // ends where its allocation ends, so that reads past it are caught by a memory checker.
        let buffers: Vec<(usize, Vec<u8>)> = (0..9)
            .map(|lead| {
                let mut buffer = vec![0xff; lead * 3];
                buffer.extend(directed_row(&shape, &mut random));
                buffer.shrink_to_fit();
                (lead * 3, buffer)
            })
            .collect();
        let rows: Vec<&[u8]> = buffers.iter().map(|(lead, buffer)| &buffer[*lead..]).collect();
        for set in sets() {
            let query_term = set.check(&shape, &query).unwrap();
            let terms: Vec<RowTerm> =
                rows.iter().map(|row| set.check(&shape, row).unwrap()).collect();
            let mut distances = vec![Distance::MAX; rows.len()];
            set.distances(&shape, (&query, query_term), &rows, &terms, &mut distances);
            for (row, distance) in rows.iter().zip(&distances) {
                assert_near(set.name(), &shape, &query, row, *distance);
            }
            // A row's distance does not hang on the rows it came with.
            for (row, (term, distance)) in rows.iter().zip(terms.iter().zip(&distances)) {
                let mut alone = [Distance::MAX];
                set.distances(&shape, (&query, query_term), &[row], &[*term], &mut alone);
                assert_near(set.name(), &shape, &query, row, alone[0]);
                if is_exact(&shape) {
                    assert_eq!(alone[0], *distance, "{} {shape:?}", set.name());
                }
            }
        }
    }
}

#[test]
fn the_greatest_sums_of_integers_do_not_overflow() {
    let extremes: [(ElementType, u8, u8); 6] = [
        (ElementType::U8, 0, 255),
        (ElementType::U8, 255, 255),
        (ElementType::U8, 255, 0),
        (ElementType::I8, 0x80, 0x7f),
        (ElementType::I8, 0x80, 0x80),
        (ElementType::I8, 0x7f, 0x80),
    ];
    for (element, one, other) in extremes {
        for metric in METRICS {
            let shape = Shape { element, metric, dimension: MAX_DIMENSION };
            let one = vec![one; MAX_DIMENSION as usize];
            let other = vec![other; MAX_DIMENSION as usize];
            if metric == Metric::Cosine && (one[0] == 0 || other[0] == 0) {
                continue;
            }
            for set in sets() {
                let query = (one.as_slice(), set.check(&shape, &one).unwrap());
                let term = set.check(&shape, &other).unwrap();
                let mut distances = [Distance::MAX; 5];
                set.distances(&shape, query, &[other.as_slice(); 5], &[term; 5], &mut distances);
                for distance in distances {
                    assert_near(set.name(), &shape, &one, &other, distance);
                }
            }
        }
    }
}

fn floats(element: ElementType, values: &[f32]) -> Vec<u8> {
    let mut row = Vec::new();
    for value in values {
        match element {
            ElementType::F32 => row.extend(value.to_le_bytes()),
            ElementType::Bf16 => row.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
            _ => unreachable!("not a wide float"),
        }
    }
    row
}

#[test]
fn components_that_are_not_finite_are_refused_by_number() {
    for set in sets() {
        for (metric, dimension) in METRICS.into_iter().zip([1, 17, 64, 100, 1000]) {
            for (element, infinity, nan) in [
                (ElementType::F32, f32::INFINITY.to_bits(), 0x7fc0_0001),
                (ElementType::F16, 0x7c00, 0xfe01),
                (ElementType::Bf16, 0x7f80, 0xff81),
            ] {
                let shape = Shape { element, metric, dimension };
                let size = element.row_bytes(1);
                for position in [0, dimension / 2, dimension - 1] {
                    for bits in [infinity, nan] {
                        let mut row = random_row(&shape, &mut Random(7));
                        let at = position as usize * size;
                        row[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
                        let expected = Err(InvalidRow::NotFinite(position));
                        assert_eq!(set.check(&shape, &row), expected, "{} {shape:?}", set.name());
                    }
                }
            }
        }
    }
}

#[test]
fn rows_too_long_for_finite_distances_are_refused_and_all_others_have_finite_ones() {
    for set in sets() {
        for element in [ElementType::F32, ElementType::Bf16] {
            for metric in METRICS {
                let shape = Shape { element, metric, dimension: 40 };
                let mut values = [1.0; 40];
                values[30] = 2.0_f32.powi(63);
                let refused = set.check(&shape, &floats(element, &values));
                assert_eq!(refused, Err(InvalidRow::NotFinite(30)), "{} {shape:?}", set.name());

                // Many that are too much together: 32 * 2^120 = 2^125 passes, 33 do not.
                values = [2.0_f32.powi(60); 40];
                let refused = set.check(&shape, &floats(element, &values));
                assert_eq!(refused, Err(InvalidRow::NotFinite(32)), "{} {shape:?}", set.name());

                values[32..].fill(0.0);
                let great = floats(element, &values);
                let opposite = floats(element, &values.map(|value| -value));
                let query = (great.as_slice(), set.check(&shape, &great).unwrap());
                let term = set.check(&shape, &opposite).unwrap();
                let mut distances = [Distance::MAX];
                set.distances(&shape, query, &[&opposite], &[term], &mut distances);
                assert!(value(distances[0]).is_finite(), "{} {shape:?}", set.name());
                assert_near(set.name(), &shape, &great, &opposite, distances[0]);
            }
        }
    }
}

#[test]
fn rows_without_an_angle_are_refused_under_cosine_only() {
    for set in sets() {
        for metric in METRICS {
            for element in ELEMENTS {
                let shape = Shape { element, metric, dimension: 33 };
                let zeros = vec![0; shape.row_bytes()];
                let expected = match metric {
                    Metric::Cosine => Err(InvalidRow::Zero),
                    _ => Ok(RowTerm::default()),
                };
                assert_eq!(set.check(&shape, &zeros), expected, "{} {shape:?}", set.name());
            }
            let shape = Shape { element: ElementType::F32, metric, dimension: 33 };
            for tiny in [-0.0, 1e-45, 1e-38, 1e-20] {
                let result = set.check(&shape, &floats(ElementType::F32, &[tiny; 33]));
                match metric {
                    Metric::Cosine => assert_eq!(result, Err(InvalidRow::Zero)),
                    _ => assert!(result.is_ok()),
                }
            }
            // The shortest that is let through still has an angle to itself and to others.
            let short = floats(ElementType::F32, &[2.0_f32.powi(-52); 33]);
            let across: Vec<f32> = (0..33).map(|at| if at < 16 { 1e9 } else { -1e9 }).collect();
            let across = floats(ElementType::F32, &across);
            let term = set.check(&shape, &short).unwrap();
            assert!(f32::from_bits(term.0).is_finite());
            let terms = [term, set.check(&shape, &across).unwrap()];
            let mut distances = [Distance::MAX; 2];
            set.distances(&shape, (&short, term), &[&short, &across], &terms, &mut distances);
            assert_near(set.name(), &shape, &short, &short, distances[0]);
            assert_near(set.name(), &shape, &short, &across, distances[1]);
        }
    }
}

#[test]
fn rows_of_another_length_are_refused_and_farthest() {
    for set in sets() {
        for element in ELEMENTS {
            let shape = Shape { element, metric: Metric::L2, dimension: 72 };
            let bytes = shape.row_bytes();
            let (good, short, long) = (vec![1; bytes], vec![1; bytes - 1], vec![1; bytes + 1]);
            assert_eq!(set.check(&shape, &short), Err(InvalidRow::Length));
            assert_eq!(set.check(&shape, &long), Err(InvalidRow::Length));
            assert_eq!(set.check(&shape, &[]), Err(InvalidRow::Length));
            let term = RowTerm::default();
            let zero = Distance::from_f32_bits(0);

            let rows: [&[u8]; 8] = [&good, &good, &short, &good, &long, &[], &good, &good];
            let mut distances = [Distance(5); 8];
            set.distances(&shape, (&good, term), &rows, &[term; 8], &mut distances);
            let expected = rows.map(|row| if row.len() == bytes { zero } else { Distance::MAX });
            assert_eq!(distances, expected, "{} {shape:?}", set.name());

            // A query of another length is far from everything; the shortest slice counts.
            let mut distances = [Distance(5); 8];
            set.distances(&shape, (&short, term), &rows, &[term; 7], &mut distances);
            assert_eq!(distances[..7], [Distance::MAX; 7]);
            assert_eq!(distances[7], Distance(5));

            for dimension in [0, MAX_DIMENSION + 1, u32::MAX] {
                let shape = Shape { dimension, ..shape };
                assert_eq!(set.check(&shape, &good), Err(InvalidRow::Length));
                let mut distances = [Distance(5)];
                set.distances(&shape, (&good, term), &[&good], &[term], &mut distances);
                assert_eq!(distances, [Distance::MAX]);
            }
        }
    }
}

#[test]
fn unused_bits_must_be_zero() {
    for set in sets() {
        for dimension in [1, 7, 8, 9, 1001] {
            let shape = Shape { element: ElementType::Bit, metric: Metric::Hamming, dimension };
            let mut row = vec![0xff; shape.row_bytes()];
            let whole = dimension % 8 == 0;
            assert_eq!(set.check(&shape, &row).is_ok(), whole, "{dimension}");
            if !whole {
                *row.last_mut().unwrap() = (1 << (dimension % 8)) - 1;
                assert!(set.check(&shape, &row).is_ok());
            }
        }
    }
}

#[test]
fn damaged_rows_get_a_distance_in_order() {
    // Rows that no check has seen, full of NaN and infinities, with any term.
    let mut random = Random(3);
    for set in sets() {
        for element in ELEMENTS {
            for metric in METRICS {
                let shape = Shape { element, metric, dimension: 24 };
                for _ in 0..50 {
                    let mut rows = [const { Vec::new() }; 6];
                    for row in &mut rows {
                        row.resize_with(shape.row_bytes(), || {
                            if random.next().is_multiple_of(3) { 0xff } else { random.next() as u8 }
                        });
                    }
                    let slices = rows.each_ref().map(Vec::as_slice);
                    let terms = [(); 6].map(|()| RowTerm(random.next() as u32));
                    let mut distances = [Distance(0); 6];
                    set.distances(&shape, (&rows[0], terms[0]), &slices, &terms, &mut distances);
                    for distance in distances {
                        let nan = value(distance).is_nan();
                        assert!(!nan || distance == Distance::MAX, "{} {shape:?}", set.name());
                        assert_ne!(value(distance).to_bits(), (-0.0_f32).to_bits());
                    }
                }
            }
        }
    }
}

#[test]
fn zero_has_one_form_and_a_row_is_at_zero_from_itself() {
    let mut random = Random(4);
    for shape in all_shapes().filter(|shape| shape.dimension <= 1024) {
        let row = directed_row(&shape, &mut random);
        let zeros = vec![0; shape.row_bytes()];
        for set in sets() {
            let term = set.check(&shape, &row).unwrap();
            let mut distances = [Distance::MAX; 2];
            let terms = [term, RowTerm::default()];
            set.distances(&shape, (&row, term), &[&row, &zeros], &terms, &mut distances);
            match shape.metric {
                Metric::InnerProduct => {
                    assert_eq!(distances[1], Distance::from_f32_bits(0), "{shape:?}");
                }
                Metric::Cosine => assert!(value(distances[0]) < 1e-5, "{shape:?}"),
                Metric::L2 | Metric::Manhattan | Metric::Hamming => {
                    assert_eq!(distances[0], Distance::from_f32_bits(0), "{shape:?}");
                }
            }
        }
    }
}

#[test]
fn the_order_of_distances_is_the_order_of_numbers() {
    let ordered = [f32::MIN, -1e10, -1.0, -1e-40, 0.0, 1e-45, 1e-30, 0.5, 1.0, 1e10, f32::MAX];
    for pair in ordered.windows(2) {
        let [less, more] = [pair[0], pair[1]].map(|value| Distance::from_f32_bits(value.to_bits()));
        assert!(less < more && more < Distance::MAX, "{pair:?}");
        assert_eq!(value(less), pair[0]);
    }
}

#[test]
fn the_sets_have_names_of_their_own_and_the_fastest_is_chosen() {
    let names: Vec<&str> = sets().map(|set| set.name()).collect();
    assert_eq!(names[0], "portable");
    for (position, name) in names.iter().enumerate() {
        assert!(!names[..position].contains(name), "{names:?}");
        assert_eq!(vexfs_simd::set(name).map(Kernels::name), Some(*name));
    }
    assert!(vexfs_simd::set("abacus").is_none());
    assert_eq!(vexfs_simd::detect().name(), *names.last().unwrap());
    #[cfg(target_arch = "aarch64")]
    assert_eq!(names, ["portable", "neon"]);
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        assert_eq!(names.contains(&"avx2"), avx2);
        assert_eq!(names.contains(&"avx512"), avx512);
        let last = names.last().unwrap();
        assert_eq!(last.contains("vnni"), avx512 && is_x86_feature_detected!("avx512vnni"));
        assert_eq!(last.contains("bf16"), avx512 && is_x86_feature_detected!("avx512bf16"));
        let popcount = is_x86_feature_detected!("avx512vpopcntdq");
        assert_eq!(last.contains("vpopcntdq"), avx512 && popcount);
    }
}
