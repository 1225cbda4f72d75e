// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The crate says what the C header says: every constant, every ioctl's number, and size, alignment
//! and fields of every structure. A C program made from the header tells its side.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{align_of, offset_of, size_of, size_of_val};
use std::path::{Path, PathBuf};
use std::process;
use vexfs_uapi::*;
use zerocopy::FromZeros;

/// What one side says: lines such as `constant NAME 5` and `field NAME.FIELD at 8, 4 bytes`.
type Saying = BTreeSet<String>;

macro_rules! structures {
    ($said:ident, $($c:literal $rust:ident { $($field:ident)* })*) => { $({
        let zeros = $rust::new_zeroed();
        // A field that is not listed keeps this from compiling.
        let $rust { $($field: _),* } = zeros;
        $said.insert(format!(
            "structure {} of {} bytes, aligned to {}", $c, size_of::<$rust>(), align_of::<$rust>()
        ));
        $($said.insert(format!(
            "field {}.{} at {}, {} bytes",
            $c,
            stringify!($field),
            offset_of!($rust, $field),
            size_of_val(&zeros.$field)
        ));)*
    })* };
}

macro_rules! constants {
    ($said:ident, $($name:ident)*) => { $(
        $said.insert(format!("constant VEXFS_{} {}", stringify!($name), u64::from_number($name)));
    )* };
}

/// Constants have the type that their fields have.
trait FromNumber<T> {
    fn from_number(number: T) -> u64;
}

macro_rules! from_number {
    ($($type:ty)*) => { $(
        impl FromNumber<$type> for u64 {
            fn from_number(number: $type) -> u64 {
                number as u64
            }
        }
    )* };
}

from_number!(u8 u32 usize);

fn the_crate_says() -> Saying {
    let mut said = Saying::new();
    structures! { said,
        "vexfs_ioc_info" Info {
            size version features blocks blocks_free blocks_available inodes inodes_free generation
            writer_generation created_seconds published_seconds cache_bytes index_bytes searches
            errors block_bytes tree_levels collections collections_max dimension_max queries_max
            k_max effort_max hits_max put_vectors_max uuid label read_only reserved
        }
        "vexfs_ioc_collection" Collection {
            rows indexed unindexed damaged memory_bytes stored_bytes created_seconds number
            dimension build_effort degree element metric quantization loaded graph_damaged
            name_bytes model_bytes counted reserved name model
        }
        "vexfs_ioc_collection_create" CollectionCreate { size flags collection }
        "vexfs_ioc_collection_list" CollectionList { size flags collections count after }
        "vexfs_ioc_collection_show" CollectionShow { size flags collection }
        "vexfs_ioc_collection_maintain" CollectionMaintain {
            size flags number reserved inserted removed left
        }
        "vexfs_ioc_collection_drop" CollectionDrop { size flags number reserved }
        "vexfs_ioc_vector" Vector {
            offset length content_version tag digest sequence collection chunk fresh reserved
        }
        "vexfs_ioc_put" Put {
            size flags collection count vectors data data_bytes stored replaced stale
            content_version
        }
        "vexfs_ioc_get" Get { size flags collection chunk data data_bytes vector }
        "vexfs_ioc_remove" Remove { size flags collection reserved first last removed }
        "vexfs_ioc_list" List {
            size flags vectors count reserved skip total content_version generation
        }
        "vexfs_ioc_rows" Rows { size flags collection from vectors inodes count more }
        "vexfs_ioc_hit" Hit {
            inode generation offset length content_version tag query distance chunk fresh
        }
        "vexfs_ioc_time" Time { seconds nanoseconds reserved }
        "vexfs_ioc_search" Search {
            size flags collection k effort radius queries queries_bytes hits vectors hits_max
            suffix_bytes suffix examined_max size_range modified_range tag_range exclude uid plan
            completeness hits_count examined unindexed nanoseconds
        }
        "vexfs_ioc_paths" Paths { size flags inode generation paths bytes count skip more }
    }
    constants! { said,
        SUPER_MAGIC COLLECTION_NAME_BYTES MODEL_BYTES DIGEST_BYTES
        ELEMENT_F32 ELEMENT_F16 ELEMENT_BF16 ELEMENT_I8 ELEMENT_U8 ELEMENT_BIT
        METRIC_L2 METRIC_COSINE METRIC_INNER_PRODUCT METRIC_MANHATTAN METRIC_HAMMING
        QUANTIZATION_NONE QUANTIZATION_I8 QUANTIZATION_F16 QUANTIZATION_BIT
        MAINTAIN_REBUILD
        SEARCH_EXACT SEARCH_RADIUS SEARCH_SUFFIX SEARCH_SIZE SEARCH_MODIFIED SEARCH_UID SEARCH_TAG
        SEARCH_FRESH SEARCH_EXCLUDE
        PLAN_EXACT_SCOPE PLAN_GRAPH PLAN_EXACT PLAN_GRAPH_THEN_EXACT PLAN_EXACT_DEVICE
        ANSWER_EXACT ANSWER_APPROXIMATE ANSWER_CUT_BY_WORK ANSWER_CUT_BY_DAMAGE
        ANSWER_CUT_BY_CHANGES
        IOC_TYPE
    }
    for (name, number) in [
        ("INFO", Info::NUMBER),
        ("COLLECTION_CREATE", CollectionCreate::NUMBER),
        ("COLLECTION_LIST", CollectionList::NUMBER),
        ("COLLECTION_SHOW", CollectionShow::NUMBER),
        ("COLLECTION_MAINTAIN", CollectionMaintain::NUMBER),
        ("COLLECTION_DROP", CollectionDrop::NUMBER),
        ("PUT", Put::NUMBER),
        ("GET", Get::NUMBER),
        ("REMOVE", Remove::NUMBER),
        ("LIST", List::NUMBER),
        ("ROWS", Rows::NUMBER),
        ("SEARCH", Search::NUMBER),
        ("PATHS", Paths::NUMBER),
    ] {
        said.insert(format!("constant VEXFS_IOC_{name} {number}"));
    }
    said
}

/// The names in a header, as it is written: constants, and structures with their fields.
fn names(header: &str) -> (Vec<&str>, BTreeMap<&str, Vec<&str>>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let constants = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter_map(|rest| rest.split(|c| !is_name(c)).next())
        .filter(|name| name.starts_with("VEXFS_"))
        .collect();
    let mut structures = BTreeMap::new();
    for part in header.split("\nstruct ").skip(1) {
        let (name, rest) = part.split_once(" {").unwrap();
        let (fields, _) = rest.split_once("\n};").unwrap();
        let fields = fields.lines().filter_map(|line| {
            let (declaration, _) = line.split_once(';')?;
            declaration.split('[').next()?.rsplit(|c| !is_name(c)).next()
        });
        structures.insert(name, fields.collect());
    }
    (constants, structures)
}

/// A program that prints what the header says.
fn program(header: &str) -> String {
    let (constants, structures) = names(header);
    let mut code = String::from("#include <stddef.h>\n#include <stdio.h>\n#include \"vexfs.h\"\n");
    code += "int main(void)\n{\n";
    for name in constants {
        code += &format!("\tprintf(\"constant {name} %llu\\n\", (unsigned long long)({name}));\n");
    }
    for (name, fields) in structures {
        code += &format!(
            "\tprintf(\"structure {name} of %zu bytes, aligned to %zu\\n\", \
             sizeof(struct {name}), _Alignof(struct {name}));\n"
        );
        for field in fields {
            code += &format!(
                "\tprintf(\"field {name}.{field} at %zu, %zu bytes\\n\", \
                 offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field}));\n"
            );
        }
    }
    code + "\treturn 0;\n}\n"
}

fn the_header_says() -> Saying {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(directory.join("vexfs.h")).unwrap();
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (scratch.join("header.c"), scratch.join("header"));
    std::fs::write(&source, program(&header)).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let compiled = process::Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([directory, "-o".as_ref(), &binary, &source])
        .status();
    assert!(compiled.unwrap().success());
    let output = process::Command::new(&binary).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_crate_and_the_header_say_the_same() {
    let (header, rust) = (the_header_says(), the_crate_says());
    assert!(header.len() > 200, "the header is not read whole: {header:?}");
    let only = |a: &Saying, b: &Saying| a.difference(b).cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(only(&header, &rust), only(&rust, &header), "header left, crate right");
}

#[test]
fn a_command_begins_with_its_size() {
    assert_eq!(Info::new().size as usize, size_of::<Info>());
    assert_eq!(Search::new().size as usize, size_of::<Search>());
    assert_eq!(Search::new().flags, 0);
}
