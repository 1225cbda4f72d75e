// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Codes keep the order of rows: the nearest rows are found again among the nearest codes.

use vexfs_simd::{
    Codec, Distance, ElementType, Kernels, Metric, RowTerm, Shape, detect, from_f32, sets,
};

const DIMENSION: u32 = 96;
const ROWS: usize = 1000;
const NEAREST: usize = 10;

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

    /// About normal, of variance one.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }
}

/// Rows about forty centers, of different lengths, with one component that is ten times as wide.
fn rows(element: ElementType, size: f32, offset: f32) -> Vec<Vec<u8>> {
    let mut random = Random(11);
    let mut vector = |scale: f32| -> Vec<f32> {
        (0..DIMENSION)
            .map(|position| random.normal() * scale * if position == 5 { 10.0 } else { 1.0 })
            .collect()
    };
    let centers: Vec<Vec<f32>> = (0..40).map(|_| vector(1.0)).collect();
    (0..ROWS)
        .map(|number| {
            let components: Vec<f32> = vector(0.5)
                .iter()
                .zip(&centers[number % centers.len()])
                .map(|(part, center)| {
                    (part + center) * size * (1.0 + number as f32 / 500.0) + offset
                })
                .collect();
            let mut row = vec![0; element.row_bytes(DIMENSION)];
            from_f32(element, &components, &mut row);
            row
        })
        .collect()
}

/// The numbers of the `count` rows nearest to the first.
fn nearest(
    set: &dyn Kernels,
    shape: &Shape,
    rows: &[(Vec<u8>, RowTerm)],
    count: usize,
) -> Vec<usize> {
    let slices: Vec<&[u8]> = rows.iter().map(|(row, _)| row.as_slice()).collect();
    let terms: Vec<RowTerm> = rows.iter().map(|(_, term)| *term).collect();
    let mut distances = vec![Distance::MAX; rows.len()];
    set.distances(shape, (slices[0], terms[0]), &slices, &terms, &mut distances);
    let mut numbers: Vec<usize> = (0..rows.len()).collect();
    numbers.sort_by_key(|number| (distances[*number], *number));
    numbers.truncate(count);
    numbers
}

fn with_terms(set: &dyn Kernels, shape: &Shape, rows: Vec<Vec<u8>>) -> Vec<(Vec<u8>, RowTerm)> {
    rows.into_iter()
        .map(|row| {
            let term = set.check(shape, &row).unwrap();
            (row, term)
        })
        .collect()
}

fn coded(
    set: &dyn Kernels,
    shape: &Shape,
    codec: &Codec,
    rows: &[(Vec<u8>, RowTerm)],
) -> Vec<(Vec<u8>, RowTerm)> {
    let code_shape = codec.shape(shape).unwrap();
    rows.iter()
        .map(|(row, term)| {
            let mut code = vec![0; code_shape.row_bytes()];
            let term = set.encode(shape, codec, (row, *term), &mut code).unwrap();
            assert_eq!(set.check(&code_shape, &code), Ok(term));
            (code, term)
        })
        .collect()
}

/// How many of the ten nearest rows are among the `count` nearest codes, over forty queries.
fn found(
    set: &dyn Kernels,
    shape: &Shape,
    to: ElementType,
    rows: &[(Vec<u8>, RowTerm)],
    count: usize,
) -> usize {
    let sample: Vec<&[u8]> = rows.iter().step_by(5).map(|(row, _)| row.as_slice()).collect();
    let codec = set.train(shape, to, &sample).unwrap();
    let code_shape = codec.shape(shape).unwrap();
    let mut codes = coded(set, shape, &codec, rows);
    let mut rows = rows.to_vec();
    (0..40)
        .map(|query| {
            rows.swap(0, query);
            codes.swap(0, query);
            let truth = nearest(set, shape, &rows, NEAREST);
            let among = nearest(set, &code_shape, &codes, count);
            truth.iter().filter(|number| among.contains(number)).count()
        })
        .sum()
}

#[test]
fn eight_bit_codes_find_what_rows_find() {
    for element in [ElementType::F32, ElementType::F16, ElementType::Bf16] {
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::Manhattan] {
            for (size, offset) in [(1.0, 0.0), (0.001, 0.01), (100.0, 300.0)] {
                let set = detect();
                let shape = Shape { element, metric, dimension: DIMENSION };
                // Codes under the inner product lie about zero: rows far off would use few of them.
                let offset = if metric == Metric::InnerProduct { 0.0 } else { offset };
                let rows = with_terms(set, &shape, rows(element, size, offset));
                let found = found(set, &shape, ElementType::I8, &rows, 3 * NEAREST);
                assert!(found >= 385, "{shape:?} {size} {offset}: {found} of 400");
            }
        }
    }
}

#[test]
fn sixteen_bit_codes_find_what_rows_find_whatever_the_size_of_components() {
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::Manhattan] {
        for size in [1e-3, 1.0, 1e6, 1e15] {
            let set = detect();
            let shape = Shape { element: ElementType::F32, metric, dimension: DIMENSION };
            let rows = with_terms(set, &shape, rows(ElementType::F32, size, 0.0));
            let found = found(set, &shape, ElementType::F16, &rows, NEAREST + 2);
            assert!(found >= 398, "{shape:?} {size}: {found} of 400");
        }
    }
}

#[test]
fn one_bit_codes_find_most_of_what_rows_find() {
    for (element, size, offset) in
        [(ElementType::F32, 1.0, 0.0), (ElementType::I8, 8.0, 0.0), (ElementType::U8, 8.0, 120.0)]
    {
        let set = detect();
        let shape = Shape { element, metric: Metric::Cosine, dimension: DIMENSION };
        let rows = with_terms(set, &shape, rows(element, size, offset));
        let found = found(set, &shape, ElementType::Bit, &rows, 5 * NEAREST);
        assert!(found >= 320, "{shape:?}: {found} of 400");
    }
}

#[test]
fn every_set_trains_and_encodes_alike() {
    for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct, Metric::Manhattan] {
        for to in [ElementType::F16, ElementType::I8, ElementType::Bit] {
            let shape = Shape { element: ElementType::F32, metric, dimension: DIMENSION };
            let rows = rows(ElementType::F32, 1.0, 0.5);
            let sample: Vec<&[u8]> = rows.iter().take(50).map(Vec::as_slice).collect();
            let codec = detect().train(&shape, to, &sample).unwrap();
            for set in sets() {
                let other = set.train(&shape, to, &sample).unwrap();
                for (one, other) in codec.parameters.iter().zip(other.parameters) {
                    let (one, other) = (f32::from_bits(*one), f32::from_bits(other));
                    assert!((one - other).abs() <= 1e-4 * one.abs(), "{} {codec:?}", set.name());
                }
                // From the same parameters and terms come the same codes.
                let row = (rows[7].as_slice(), RowTerm(0.1_f32.to_bits()));
                let mut codes = [[0; 192]; 2];
                let bytes = codec.shape(&shape).unwrap().row_bytes();
                for (set, code) in [detect(), set].into_iter().zip(&mut codes) {
                    set.encode(&shape, &codec, row, &mut code[..bytes]).unwrap();
                }
                assert_eq!(codes[0], codes[1], "{}", set.name());
            }
        }
    }
}

#[test]
fn there_are_no_codes_of_other_shapes_lengths_or_empty_samples() {
    let set = detect();
    for element in [ElementType::F32, ElementType::U8, ElementType::Bit, ElementType::F16] {
        for metric in [Metric::L2, Metric::Hamming] {
            for to in [1, 2, 3, 4, 5, 6].map(|number| ElementType::from_number(number).unwrap()) {
                let shape = Shape { element, metric, dimension: 8 };
                let mut row = vec![0; shape.row_bytes()];
                row[0] = 1;
                let codec = Codec { element: to, parameters: [0; 2] };
                let exists = codec.shape(&shape).is_some();
                let expected = metric == Metric::L2
                    && matches!(
                        (element, to),
                        (ElementType::F32, ElementType::F16 | ElementType::I8 | ElementType::Bit)
                            | (ElementType::F16, ElementType::I8 | ElementType::Bit)
                            | (ElementType::U8, ElementType::Bit)
                    );
                assert_eq!(exists, expected, "{shape:?} {to:?}");
                assert_eq!(set.train(&shape, to, &[&row]).is_some(), exists);
                assert_eq!(set.train(&shape, to, &[]), None);
                assert_eq!(set.train(&shape, to, &[&[], &row[1..]]), None);
                let mut code = vec![0; to.row_bytes(8)];
                let term = RowTerm::default();
                assert_eq!(set.encode(&shape, &codec, (&row, term), &mut code).is_some(), exists);
                assert_eq!(set.encode(&shape, &codec, (&row[1..], term), &mut code), None);
                assert_eq!(set.encode(&shape, &codec, (&row, term), &mut code[1..]), None);
            }
        }
    }
}

#[test]
fn damaged_parameters_and_rows_do_no_harm() {
    let bits = [0, 1, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f7f_ffff, 0xff7f_ffff, u32::MAX];
    let mut random = Random(12);
    for set in sets() {
        for metric in [Metric::L2, Metric::Cosine] {
            for (center, scale) in bits.iter().flat_map(|one| bits.map(|other| (*one, other))) {
                for element in [ElementType::F16, ElementType::I8, ElementType::Bit] {
                    let shape = Shape { element: ElementType::F32, metric, dimension: 17 };
                    let mut row = vec![0; shape.row_bytes()];
                    row.fill_with(|| random.next() as u8);
                    let codec = Codec { element, parameters: [center, scale] };
                    let code_shape = codec.shape(&shape).unwrap();
                    let mut code = vec![0; code_shape.row_bytes()];
                    let term = RowTerm(random.next() as u32);
                    if let Some(term) = set.encode(&shape, &codec, (&row, term), &mut code) {
                        assert_eq!(set.check(&code_shape, &code), Ok(term));
                    }
                }
            }
        }
    }
}

#[test]
fn samples_of_equal_components_have_codes() {
    let set = detect();
    for metric in [Metric::L2, Metric::InnerProduct] {
        for value in [0.0, 3.0, 1e9] {
            let shape = Shape { element: ElementType::F32, metric, dimension: 4 };
            let mut row = [0; 16];
            from_f32(ElementType::F32, &[value; 4], &mut row);
            for to in [ElementType::F16, ElementType::I8, ElementType::Bit] {
                let codec = set.train(&shape, to, &[&row]).unwrap();
                let rows = coded(set, &shape, &codec, &[(row.to_vec(), RowTerm::default())]);
                assert_eq!(nearest(set, &codec.shape(&shape).unwrap(), &rows, 1), [0]);
            }
        }
    }
}
