// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Whole files: what is written is read again, and what lies is refused.

use std::io::Cursor;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn read(name: &str, bytes: &[u8]) -> Result<ArrayReader<Cursor<Vec<u8>>>, ArrayError> {
    ArrayReader::new(Path::new(name), Cursor::new(bytes.to_vec()))
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    let mut reader = match read(name, bytes) {
        Err(error) => return error.to_string(),
        Ok(reader) => reader,
    };
    let mut rows = Vec::new();
    loop {
        match reader.read_rows(2, &mut rows) {
            Ok(0) => panic!("nothing wrong was found with {name}"),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// A `.npy` file with this dictionary and these bytes of rows.
fn npy_file(dictionary: &str, rows: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((dictionary.len() as u16).to_le_bytes());
    file.extend(dictionary.as_bytes());
    file.extend(rows);
    file
}

fn dictionary(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
}

fn all_rows<R: Read + Seek>(reader: &mut ArrayReader<R>) -> Vec<u8> {
    let mut rows = Vec::new();
    while reader.read_rows(7, &mut rows).unwrap() > 0 {}
    rows
}

#[test]
fn every_component_survives_a_round_trip() {
    let bytes: Vec<u8> = (0..=239).collect();
    for component in [
        Component::F64,
        Component::F32,
        Component::F16,
        Component::Bf16,
        Component::I8,
        Component::U8,
        Component::I16,
        Component::U16,
        Component::I32,
        Component::U32,
        Component::I64,
        Component::U64,
    ] {
        let formats = [
            ("a.npy", Format::Npy),
            ("a.fvecs", Format::Fvecs),
            ("a.bvecs", Format::Bvecs),
            ("a.ivecs", Format::Ivecs),
        ];
        for (name, format) in formats {
            let writer =
                ArrayWriter::new(Path::new(name), Cursor::new(vec![]), format, component, 3);
            let mut writer = match writer {
                Ok(writer) => writer,
                Err(error) => {
                    assert!(matches!(error.fault, ArrayFault::Unwritable(..)), "{error}");
                    assert_ne!(format, Format::Npy);
                    continue;
                }
            };
            for row in bytes.chunks_exact(3 * component.size_bytes()) {
                writer.write_row(row).unwrap();
            }
            let file = writer.finish().unwrap().into_inner();
            let mut reader = read(name, &file).unwrap();
            let rows = 240 / (3 * component.size_bytes()) as u64;
            assert_eq!(reader.layout(), Layout { component, columns: 3, rows });
            assert_eq!(all_rows(&mut reader), bytes, "{name} of {component}");
            let stride = 3 * component.size_bytes();
            assert_eq!(reader.row(2).unwrap(), bytes[2 * stride..3 * stride]);
            assert_eq!(
                reader.row(rows).unwrap_err().to_string(),
                format!("{name} has no row {rows}: it has {rows} rows, counted from 0")
            );
        }
    }
}

#[test]
fn the_header_written_is_the_one_that_numpy_writes() {
    let mut writer =
        ArrayWriter::new(Path::new("a.npy"), Cursor::new(vec![]), Format::Npy, Component::F32, 2)
            .unwrap();
    writer.write_row(&float_row(&[1.0, 2.0])).unwrap();
    let file = writer.finish().unwrap().into_inner();
    let expected = b"\x93NUMPY\x01\x00\x76\x00\
        {'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    assert_eq!(file[..expected.len()], expected[..]);
    assert!(file[expected.len()..127].iter().all(|&byte| byte == b' '));
    assert_eq!(file[127], b'\n');
    assert_eq!(file.len(), 136);
}

#[test]
fn the_longest_shape_fits_the_header_written() {
    let layout = Layout { component: Component::Bf16, columns: COLUMNS_MAX, rows: u64::MAX };
    let error = read("a.npy", &npy::header(&layout)).unwrap_err();
    let ArrayFault::TooShort { rows, columns, needed_bytes, found_bytes } = error.fault else {
        panic!("{error}");
    };
    assert_eq!((rows, columns, found_bytes), (u64::MAX, COLUMNS_MAX, 0));
    assert_eq!(needed_bytes, u128::from(u64::MAX) * 65_536 * 2);
}

#[test]
fn versions_two_and_three_have_a_longer_length() {
    for version in [2, 3] {
        let dictionary = dictionary("<f4", "(1, 2)");
        let mut file = b"\x93NUMPY".to_vec();
        file.extend([version, 0]);
        file.extend((dictionary.len() as u32).to_le_bytes());
        file.extend(dictionary.as_bytes());
        file.extend(float_row(&[3.0, 4.0]));
        let mut reader = read("a.npy", &file).unwrap();
        assert_eq!(all_rows(&mut reader), float_row(&[3.0, 4.0]));
    }
}

#[test]
fn one_dimension_is_one_row() {
    let file = npy_file(&dictionary("|u1", "(3,)"), &[7, 8, 9]);
    let mut reader = read("a.npy", &file).unwrap();
    assert_eq!(reader.layout(), Layout { component: Component::U8, columns: 3, rows: 1 });
    assert_eq!(reader.row(0).unwrap(), [7, 8, 9]);
}

#[test]
fn keys_may_come_in_any_order_and_spacing() {
    let text = "{\"shape\":(1L,2),'fortran_order' : False ,\n 'descr':'<i2'}   \n";
    let mut reader = read("a.npy", &npy_file(text, &[1, 0, 2, 0])).unwrap();
    assert_eq!(reader.row(0).unwrap(), [1, 0, 2, 0]);
}

#[test]
fn big_endian_components_are_turned() {
    let mut bytes = 1.5f32.to_be_bytes().to_vec();
    bytes.extend((-2.0f32).to_be_bytes());
    let mut reader = read("a.npy", &npy_file(&dictionary(">f4", "(1, 2)"), &bytes)).unwrap();
    assert_eq!(reader.row(0).unwrap(), float_row(&[1.5, -2.0]));
}

#[test]
fn bfloat16_is_taken_from_void_and_on_request_from_integers() {
    let rows = [0x80, 0x3f, 0x00, 0xc0];
    let reader = read("a.npy", &npy_file(&dictionary("|V2", "(1, 2)"), &rows)).unwrap();
    assert_eq!(reader.layout().component, Component::Bf16);
    let mut reader = read("a.npy", &npy_file(&dictionary("<u2", "(1, 2)"), &rows)).unwrap();
    assert_eq!(reader.layout().component, Component::U16);
    reader.read_as_bf16().unwrap();
    assert_eq!(reader.layout().component, Component::Bf16);
    let row = reader.row(0).unwrap();
    assert_eq!(row_values(vexfs_simd::ElementType::Bf16, 2, &row), [1.0, -2.0]);
    let mut reader = read("a.npy", &npy_file(&dictionary("<f4", "(1, 1)"), &rows)).unwrap();
    assert!(reader.read_as_bf16().unwrap_err().to_string().contains("f32"));
}

#[test]
fn a_file_without_rows_is_read_to_its_end_at_once() {
    let mut reader = read("a.npy", &npy_file(&dictionary("<f4", "(0, 5)"), &[])).unwrap();
    assert_eq!(reader.read_rows(10, &mut Vec::new()).unwrap(), 0);
    assert!(reader.row(0).is_err());
}

#[test]
fn lying_npy_headers_are_refused_with_the_reason() {
    let good = dictionary("<f4", "(2, 2)");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "is empty"),
        (b"\x93NUM".to_vec(), "no .npy file"),
        (b"PK\x03\x04 an archive, not an array".to_vec(), "no .npy file"),
        (b"\x93NUMPY\x04\x00\x10\x00{}".to_vec(), "version 4.0"),
        (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "header of 65535 bytes where at most 2"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(),
            "header of 4294967295 bytes where at most 2",
        ),
        (npy_file("", &[]), "it ends where '{' is expected"),
        (npy_file("garbage", &[]), "'{' is expected before 'garbage'"),
        (npy_file("{'descr': '<f4', ", &[]), "a string is expected"),
        (npy_file("{'descr': '<f4}", &[]), "does not end"),
        (npy_file("{'descr': '<f4'}", &[]), "key 'fortran_order' is missing"),
        (npy_file("{'descr': '<f4', 'descr': '<f4'}", &[]), "key 'descr' appears twice"),
        (npy_file("{'colour': 1}", &[]), "unknown key 'colour'"),
        (npy_file("{'descr': __import__('os')}", &[]), "a string is expected"),
        (npy_file(&format!("{good} 1"), &[0; 16]), "something follows"),
        (npy_file(&good.replace("False", "Maybe"), &[0; 16]), "neither True nor False"),
        (npy_file(&good.replace("False", "True"), &[0; 16]), "Fortran order"),
        (
            npy_file(&dictionary("<f4", "(2, 3)"), &[0; 16]),
            "2 x 3 components need 24 bytes, it has 16",
        ),
        (npy_file(&dictionary("<f4", "(1, 2)"), &[0; 16]), "8 bytes follow its 1 x 2 components"),
        (npy_file(&dictionary("<f4", "(-2, 2)"), &[0; 16]), "negative"),
        (npy_file(&dictionary("<f4", "(2, -2)"), &[0; 16]), "negative"),
        (npy_file(&dictionary("<f4", "()"), &[0; 4]), "has 0 dimensions"),
        (npy_file(&dictionary("<f4", "(1, 1, 1)"), &[0; 4]), "has 3 dimensions"),
        (npy_file(&dictionary("<f4", "(5, 0)"), &[]), "rows of 0 components"),
        (npy_file(&dictionary("<f4", "(0, 99999)"), &[]), "rows of 99999 components"),
        (
            npy_file(&dictionary("<f4", "(4611686018427387904, 4)"), &[0; 16]),
            "need 73786976294838206464 bytes, it has 16",
        ),
        (
            npy_file(&dictionary("<f4", "(99999999999999999999, 1)"), &[0; 16]),
            "the number 99999999999999999999",
        ),
        (npy_file(&dictionary("<f4", "(2, two)"), &[0; 16]), "no number"),
        (npy_file(&dictionary("<f4", "(2 2)"), &[0; 16]), "')' is expected before '2), }'"),
        (npy_file(&dictionary("<f4", "(2, 2"), &[0; 16]), "no number"),
        (npy_file(&dictionary("<c8", "(1, 2)"), &[0; 16]), "type '<c8'"),
        (npy_file(&dictionary("|O", "(1, 2)"), &[0; 16]), "type '|O'"),
        (npy_file(&dictionary("|f4", "(2, 2)"), &[0; 16]), "type '|f4'"),
        (npy_file(&dictionary("", "(2, 2)"), &[0; 16]), "type ''"),
        (
            npy_file(&good.replace("'<f4'", "[('x', '<f4'), ('y', '<f4')]"), &[0; 16]),
            "type a structure",
        ),
    ];
    for (file, expected) in cases {
        let text = refusal("dir/lies.npy", &file);
        assert!(text.starts_with("dir/lies.npy "), "{text}");
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    }
}

#[test]
fn lying_vecs_files_are_refused_with_the_reason() {
    let row = |dimension: i32, bytes: &[u8]| {
        let mut row = dimension.to_le_bytes().to_vec();
        row.extend(bytes);
        row
    };
    let two_rows = [row(2, &[0; 8]), row(2, &[0; 8])].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a.fvecs", vec![], "a.fvecs is empty"),
        ("a.fvecs", vec![1, 0], "ends within row 0"),
        ("a.fvecs", row(0, &[]), "dimension 0"),
        ("a.fvecs", row(-5, &[0; 8]), "dimension -5"),
        ("a.ivecs", row(i32::MAX, &[0; 8]), "dimension 2147483647"),
        ("a.bvecs", row(65_536, &[0; 8]), "ends within row 0"),
        ("a.fvecs", two_rows[..22].to_vec(), "ends within row 1"),
        (
            "a.fvecs",
            [row(2, &[0; 8]), row(3, &[0; 8])].concat(),
            "a.fvecs has dimension 3 in row 1, but 2 in row 0",
        ),
        ("a.dat", two_rows.clone(), "a.dat is no vector file"),
    ];
    for (name, file, expected) in cases {
        let text = refusal(name, &file);
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    }
    assert_eq!(read("a.fvecs", &two_rows).unwrap().layout().rows, 2);
}

#[test]
fn files_are_opened_by_name_and_only_if_regular() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Vectors.FVECS");
    let mut writer = ArrayWriter::create(&path, Component::F32, 1).unwrap();
    writer.write_row(&float_row(&[0.25])).unwrap();
    assert!(matches!(
        writer.write_row(&[0; 3]).unwrap_err().fault,
        ArrayFault::RowLength { found: 3, expected: 4 }
    ));
    assert!(!path.exists(), "an unfinished file has its name already");
    writer.publish().unwrap();
    assert_eq!(ArrayReader::open(&path).unwrap().row(0).unwrap(), float_row(&[0.25]));

    let renamed = directory.path().join("no-ending");
    std::fs::write(&renamed, npy_file(&dictionary("|u1", "(1, 1)"), &[5])).unwrap();
    assert_eq!(ArrayReader::open(&renamed).unwrap().row(0).unwrap(), [5]);

    let fault = |path: PathBuf| ArrayReader::open(&path).unwrap_err().fault;
    assert!(matches!(fault(directory.path().into()), ArrayFault::NotRegular));
    assert!(matches!(fault(directory.path().join("gone.npy")), ArrayFault::Io(_)));
    assert!(matches!(
        ArrayWriter::create(&directory.path().join("x.txt"), Component::F32, 1).unwrap_err().fault,
        ArrayFault::UnknownFormat
    ));
    let unwritable = directory.path().join("x.fvecs");
    assert!(ArrayWriter::create(&unwritable, Component::U8, 1).is_err());
    assert!(!unwritable.exists(), "a refused request leaves no file behind");
}

#[test]
fn a_file_that_is_written_over_is_as_it_was_until_the_new_one_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("a.npy"), directory.path().join("link.npy"));
    std::fs::write(&path, "old").unwrap();
    std::os::unix::fs::symlink("a.npy", &link).unwrap();
    let write = || {
        let mut writer = ArrayWriter::create(&link, Component::U8, 1).unwrap();
        writer.write_row(&[7]).unwrap();
        writer
    };
    drop(write());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "something was left");
    write().publish().unwrap();
    assert_eq!(ArrayReader::open(&path).unwrap().row(0).unwrap(), [7]);
    assert!(link.is_symlink());
    // What is no regular file is written to, and not replaced.
    ArrayWriter::new(
        Path::new("a.npy"),
        Draft::create(Path::new("/dev/null")).unwrap(),
        Format::Npy,
        Component::U8,
        1,
    )
    .unwrap()
    .publish()
    .unwrap();
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
}

#[test]
fn a_file_cut_while_it_is_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.npy");
    let mut writer = ArrayWriter::create(&path, Component::U8, 1024).unwrap();
    for _ in 0..1024 {
        writer.write_row(&[1; 1024]).unwrap();
    }
    writer.publish().unwrap();
    let mut reader = ArrayReader::open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(512 << 10).unwrap();
    let mut rows = vec![9];
    let error = reader.read_rows(1024, &mut rows).unwrap_err();
    assert!(matches!(error.fault, ArrayFault::Truncated { .. }), "{error}");
    assert_eq!(rows, [9], "an error leaves the output as it was");
}

#[test]
fn an_unfinished_file_is_refused() {
    let mut sink = Cursor::new(Vec::new());
    let name = Path::new("a.npy");
    let mut writer = ArrayWriter::new(name, &mut sink, Format::Npy, Component::U8, 2).unwrap();
    writer.write_row(&[1, 2]).unwrap();
    drop(writer);
    assert!(refusal("a.npy", sink.get_ref()).contains("2 bytes follow its 0 x 2 components"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Random bytes are read or refused, and what is read has the length the layout tells.
    #[test]
    fn random_bytes_are_read_or_refused(bytes: Vec<u8>, ending in 0usize..4) {
        let name = ["a.npy", "a.fvecs", "a.bvecs", "a.ivecs"][ending];
        check_whole(name, &bytes)?;
    }

    /// A good file with some bytes overwritten and some cut off is read or refused.
    #[test]
    fn damaged_files_are_read_or_refused(
        writes in proptest::collection::vec((0usize..160, any::<u8>()), 0..6),
        cut in 0usize..40,
        ending in 0usize..4,
    ) {
        let mut file = npy_file(&dictionary("<f4", "(3, 4)"), &[0x11; 48]);
        let mut name = "a.npy";
        if ending > 0 {
            name = ["a.fvecs", "a.bvecs", "a.ivecs"][ending - 1];
            let stride = if name == "a.bvecs" { 4 } else { 16 };
            file = [&4i32.to_le_bytes()[..], &vec![0; stride]].concat().repeat(6);
        }
        for (offset, byte) in writes {
            if let Some(target) = file.get_mut(offset) {
                *target = byte;
            }
        }
        file.truncate(file.len() - cut.saturating_sub(20));
        check_whole(name, &file)?;
    }

    /// Headers made of the tokens of real headers get deep into the parser.
    #[test]
    fn headers_of_shuffled_tokens_are_read_or_refused(
        tokens in proptest::collection::vec(0usize..24, 0..30),
    ) {
        let words = [
            "{", "}", "(", ")", ",", ":", "'", "\"", "'descr'", "'shape'", "'fortran_order'",
            "'<f4'", "'|V2'", "False", "True", "-1", "0", "2", "18446744073709551616", "L", " ",
            "\n", "[", "\\",
        ];
        let text: String = tokens.iter().map(|&token| words[token]).collect();
        check_whole("a.npy", &npy_file(&text, &[0; 8]))?;
    }
}

fn check_whole(name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(mut reader) = read(name, bytes) else { return Ok(()) };
    let layout = reader.layout();
    let mut rows = Vec::new();
    let mut count = 0;
    while let Ok(read) = reader.read_rows(2, &mut rows) {
        if read == 0 {
            prop_assert_eq!(count, layout.rows);
            break;
        }
        count += read as u64;
    }
    prop_assert_eq!(rows.len() as u64, count * layout.row_bytes() as u64);
    prop_assert!(rows.len() <= bytes.len());
    Ok(())
}
