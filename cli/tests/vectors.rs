// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The commands for collections, vectors, embedding and search, as a user runs them.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use vexfs_engine::{CreateOptions, Image, OpenOptions, SetAttributes};

/// An image in a directory of its own.
struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap() };
        Image::create(fixture.image(), Some(64 << 20), &CreateOptions::default())
            .unwrap()
            .close()
            .unwrap();
        fixture
    }

    fn image(&self) -> PathBuf {
        self.path("a.vexfs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self) -> Image {
        Image::open(self.image(), &OpenOptions::default()).unwrap()
    }

    fn write(&self, files: &[(&str, &str)]) {
        let image = self.open();
        for (path, text) in files {
            image.create_dir_all(Path::new(path).parent().unwrap(), 0o755).unwrap();
            image.write_file(path, text.as_bytes()).unwrap();
        }
        image.close().unwrap();
    }

    /// Runs `vexfs`, with `@` for the image's path.
    fn run(&self, arguments: &[&str]) -> Output {
        let image = self.image().into_os_string().into_string().unwrap();
        Command::new(env!("CARGO_BIN_EXE_vexfs"))
            .current_dir(self.directory.path())
            .args(arguments.iter().map(|argument| argument.replace('@', &image)))
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `vexfs`, which must fail with this code, and returns what it says.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ok(arguments);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The hits of a search, behind which an object tells of the answer as a whole.
    fn hits(&self, arguments: &[&str]) -> Vec<Value> {
        let mut lines = self.json(arguments);
        let answer = lines.pop().unwrap();
        assert_eq!((&answer["record"], &answer["hits"]), (&"answer".into(), &lines.len().into()));
        assert!(lines.iter().all(|hit| hit["record"] == "hit"));
        lines
    }

    /// Changes a byte of the copy of a vector that a collection has, which is the last of all copies.
    fn damage(&self, vector: &[f32]) {
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut image = std::fs::read(self.image()).unwrap();
        let at = image.windows(bytes.len()).rposition(|window| window == bytes).unwrap();
        image[at] ^= 0x40;
        std::fs::write(self.image(), image).unwrap();
    }

    /// Writes a .npy file of rows of f32.
    fn npy(&self, name: &str, rows: &[&[f32]]) {
        let columns = rows.first().map_or(0, |row| row.len());
        let header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {columns}), }}",
            rows.len()
        );
        self.raw_npy(
            name,
            &header,
            &rows.concat().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        );
    }

    fn raw_npy(&self, name: &str, header: &str, data: &[u8]) {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        let padded = format!("{header:<117}\n");
        bytes.extend((padded.len() as u16).to_le_bytes());
        bytes.extend(padded.as_bytes());
        bytes.extend(data);
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

fn paths(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["path"].as_str().unwrap()).collect()
}

#[test]
fn rows_of_a_file_are_imported_found_listed_and_exported() {
    let fixture = Fixture::new();
    let rows: Vec<[f32; 3]> = (0..3000).map(|i| [i as f32, (i * i % 97) as f32, 1.0]).collect();
    let slices: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
    fixture.npy("base.npy", &slices);
    fixture.ok(&["import", "--create", "@:/base.npy", "points", "base.npy"]);
    let list = fixture.json(&["collection", "list", "@", "--json"]);
    assert_eq!(list[0]["vectors"], 3000);
    assert_eq!(list[0]["unindexed"], 0, "import returned before the graph was complete");

    fixture.npy("query.npy", &[slices[123], slices[7]]);
    for extra in [&["--exact"][..], &["--ef", "64"]] {
        let mut arguments =
            vec!["search", "@:/", "points", "--npy", "query.npy:0", "-k", "3", "--json"];
        arguments.extend(extra);
        let hits = fixture.hits(&arguments);
        assert_eq!(hits.len(), 3);
        assert_eq!(
            (hits[0]["chunk"].as_u64(), hits[0]["distance"].as_f64()),
            (Some(123), Some(0.0))
        );
        // The range is that of the row's bytes in the file.
        let (offset, length) = (hits[0]["offset"].as_u64().unwrap(), hits[0]["length"].as_u64());
        assert_eq!((offset, length), (128 + 123 * 12, Some(12)));
        for field in
            ["rank", "distance", "path", "ino", "chunk", "offset", "length", "fresh", "text"]
        {
            assert!(hits[0].get(field).is_some(), "field {field} is missing");
        }
    }
    let batch =
        fixture.hits(&["search", "@:/", "points", "--npy", "query.npy", "-k", "1", "--json"]);
    let chunks: Vec<_> = batch.iter().map(|hit| hit["chunk"].as_u64().unwrap()).collect();
    assert_eq!(chunks, [123, 7]);
    let near =
        ["search", "@:/", "points", "--npy", "query.npy:0", "-k", "50", "--radius", "0", "--json"];
    assert_eq!(fixture.hits(&near).len(), 1);

    fixture.ok(&["export", "@", "points", "out.npy"]);
    assert_eq!(std::fs::read(fixture.path("out.npy")).unwrap().len(), 128 + 3000 * 12);
    assert!(fixture.fails(1, &["export", "@", "points", "out.npy"]).contains("-f overwrites"));
    fixture.ok(&["export", "@", "points", "out.npy", "-f"]);

    std::fs::write(fixture.path("truth.npy"), "").unwrap();
    let truth: Vec<u8> = [123i32, 7].iter().flat_map(|row| row.to_le_bytes()).collect();
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1), }";
    fixture.raw_npy("truth.npy", header, &truth);
    let bench = ["bench", "ann", "@", "points", "--query", "query.npy", "--truth", "truth.npy"];
    let lines = fixture.json(&[&bench[..], &["-k", "1", "--ef", "8,16", "--json"]].concat());
    assert_eq!(lines.len(), 2);
    for field in ["ef", "recall", "mean_us", "p50_us", "p99_us", "qps"] {
        assert!(lines[0].get(field).is_some(), "field {field} is missing");
    }
    assert_eq!(lines[1]["recall"], 1.0);
    let lots = ["-k", "1", "--ef", "8,16", "--batch", "3", "--json"];
    let in_lots = fixture.json(&[&bench[..], &lots].concat());
    assert!(in_lots.iter().zip(&lines).all(|(lots, ones)| lots["recall"] == ones["recall"]));
    fixture.fails(2, &[&bench[..], &["--batch", "0"]].concat());
    for threads in ["0", "1025", "100000"] {
        fixture.fails(2, &[&bench[..], &["-k", "1", "--threads", threads]].concat());
    }
    // No room for the stacks of so many.
    let few = format!("ulimit -v 800000; exec {} \"$@\"", env!("CARGO_BIN_EXE_vexfs"));
    let image = fixture.image();
    let bench_many = bench.map(|word| if word == "@" { image.to_str().unwrap() } else { word });
    let output = Command::new("sh")
        .current_dir(fixture.path("."))
        .args(["-c", &few, "sh"])
        .args(bench_many)
        .args(["-k", "1", "--ef", "8", "--threads", "1024"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--threads 1024: "), "{said}");
    assert!(fixture.fails(1, &[&bench[..], &["-k", "2"]].concat()).contains("do not answer"));

    fixture.ok(&["collection", "rebuild", "@", "points"]);
    let dropped = &fixture.json(&["collection", "drop", "@", "points", "--json"])[0];
    assert_eq!((&dropped["name"], &dropped["vectors"]), (&"points".into(), &3000.into()));
    assert!(
        fixture
            .fails(1, &["collection", "show", "@", "points"])
            .contains("no collection is called")
    );
}

#[test]
fn single_vectors_are_put_got_replaced_listed_and_removed() {
    let fixture = Fixture::new();
    fixture.write(&[("/d/a", "one"), ("/d/b", "two")]);
    fixture.ok(&[
        "collection",
        "create",
        "@",
        "v",
        "--dim",
        "2",
        "--metric",
        "l2",
        "--model",
        "mine",
    ]);
    fixture.ok(&["vector", "put", "@:/d/a", "v", "--values", "1,-2.5"]);
    fixture.ok(&["vector", "put", "@:/d/a", "v", "--values", "3,4", "--chunk", "7", "--tag", "9"]);
    assert_eq!(fixture.ok(&["vector", "get", "@:/d/a", "v"]), "1,-2.5\n");
    fixture.ok(&["vector", "put", "@:/d/a", "v", "--values", "5,6"]);
    assert_eq!(fixture.ok(&["vector", "get", "@:/d/a", "v"]), "5,6\n");
    let listed = fixture.json(&["vector", "list", "@:/d/a", "--json"]);
    let chunks: Vec<_> = listed.iter().map(|v| (v["chunk"].as_u64(), v["tag"].as_u64())).collect();
    assert_eq!(chunks, [(Some(0), Some(0)), (Some(7), Some(9))]);
    fixture.npy("q.npy", &[&[3.0, 4.0]]);
    let tagged = ["search", "@:/", "v", "--npy", "q.npy", "--tag", "1-9", "--json"];
    assert_eq!(fixture.hits(&tagged).len(), 1);
    fixture.ok(&["vector", "rm", "@:/d/a", "v", "--chunk", "7"]);
    assert!(
        fixture.fails(1, &["vector", "rm", "@:/d/a", "v", "--chunk", "7"]).contains("no vector")
    );
    assert!(
        fixture.fails(1, &["vector", "get", "@:/d/a", "v", "--chunk", "7"]).contains("no vector")
    );
    fixture.ok(&["vector", "rm", "@:/d/a", "v", "--all"]);
    assert_eq!(fixture.ok(&["vector", "list", "@:/d/a"]), "");

    // Stale and fresh.
    fixture.ok(&["vector", "put", "@:/d/b", "v", "--values", "3,4"]);
    fixture.write(&[("/d/b", "changed")]);
    let hits = fixture.hits(&["search", "@:/", "v", "--npy", "q.npy", "--json"]);
    assert_eq!((hits.len(), hits[0]["fresh"].as_bool()), (1, Some(false)));
    assert!(
        fixture.hits(&["search", "@:/", "v", "--npy", "q.npy", "--fresh", "--json"]).is_empty()
    );
}

const POEM: &str = "The quick brown fox jumps over the lazy dog near the river bank at dawn.";

#[test]
fn texts_are_embedded_once_found_by_words_and_gone_with_their_files() {
    let fixture = Fixture::new();
    fixture.write(&[
        ("/a/poem.txt", POEM),
        ("/a/copy.txt", POEM),
        ("/b/law.txt", "Provided as is, without warranty of any kind, express or implied."),
        ("/b/soup.md", "Boil the water, add carrots, onions and salt, then simmer for an hour."),
        ("/b/empty", ""),
        ("/b/binary", "\0\0\u{1}\u{2}binary\0"),
    ]);
    fixture.open().symlink("poem.txt", "/a/link").unwrap();
    let first = fixture.json(&["embed", "@:/", "texts", "--json"]);
    assert_eq!((first[0]["files"].as_u64(), first[0]["passages"].as_u64()), (Some(4), Some(4)));
    assert_eq!(first[0]["reused"], 1, "the second copy of a passage was embedded again");
    let over = &first[0]["passed_over"];
    assert_eq!(over["binary"][0], "/b/binary");
    assert_eq!(over["empty"][0], "/b/empty");
    assert_eq!(over["not a regular file"][0], "/a/link");
    let again = fixture.json(&["embed", "@:/", "texts", "--json"]);
    assert_eq!((again[0]["files"].as_u64(), again[0]["fresh_files"].as_u64()), (Some(0), Some(4)));

    let search = |extra: &[&str]| {
        fixture.hits(&[&["search", "@:/", "texts", "--json", "-k", "3"], extra].concat())
    };
    let warranty = ["--text", "without any warranty"];
    let hits = search(&warranty);
    assert_eq!(paths(&hits)[0], "/b/law.txt");
    assert!(hits[0]["text"].as_str().unwrap().starts_with("Provided as is"));
    let hits = search(&["--like", "@:/a/poem.txt"]);
    assert_eq!(
        (paths(&hits)[0], hits[0]["distance"].as_f64().unwrap() < 0.001),
        ("/a/copy.txt", true)
    );
    assert!(!paths(&hits).contains(&"/a/poem.txt"), "a file was found to be like itself");
    assert_eq!(paths(&search(&["--text", "water carrots", "--suffix", ".md"])), ["/b/soup.md"]);
    assert_eq!(search(&["--text", "fox", "--newer", "2000-01-01"]).len(), 3);
    assert!(search(&["--text", "fox", "--newer", "2999-01-01"]).is_empty());
    let below = fixture.hits(&["search", "@:/a", "texts", "--json", "--text", "warranty"]);
    assert_eq!(below.len(), 2, "the scope is not kept");

    // On behalf of a user who may not read one directory.
    let image = fixture.open();
    let b = image.resolve("/b").unwrap();
    let closed = SetAttributes { mode: Some(0o700), ..Default::default() };
    image.set_attributes(b, &closed).unwrap();
    image.close().unwrap();
    let hits = search(&["--text", "without any warranty", "--as", "1000:1000"]);
    assert!(hits.iter().all(|hit| hit["path"].as_str().unwrap().starts_with("/a/")));
    assert_eq!(paths(&search(&[&warranty[..], &["--as", "0"]].concat()))[0], "/b/law.txt");

    let image = fixture.open();
    image.remove_file("/b/law.txt").unwrap();
    image.rename("/a", "/moved", vexfs_engine::RenameMode::Replace).unwrap();
    image.close().unwrap();
    assert!(!paths(&search(&warranty)).contains(&"/b/law.txt"));
    assert!(paths(&search(&["--text", "quick brown fox"]))[0].starts_with("/moved/"));
    let text = fixture.ok(&["search", "@:/", "texts", "--text", "quick brown fox", "-k", "1"]);
    assert!(text.contains("The quick brown fox"), "{text}");
}

#[test]
fn a_program_of_the_user_embeds() {
    let fixture = Fixture::new();
    fixture.write(&[("/x", "aaaa b"), ("/y", "cc dddddddd")]);
    // A vector of the text's length and a one, for any number of texts in a request.
    let script = r#"printf '{"model":"lengths","dimension":2}\n'
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
  texts=$(printf '%s' "$line" | sed 's/.*"texts":\[//; s/\].*//')
  vectors=""
  old=$IFS; IFS=','
  for text in $texts; do vectors="$vectors${vectors:+,}[${#text},1]"; done
  IFS=$old
  printf '{"id":%s,"vectors":[%s]}\n' "$id" "$vectors"
done
"#;
    std::fs::write(fixture.path("embed.sh"), script).unwrap();
    let embedder = format!("cmd:sh {}", fixture.path("embed.sh").display());
    fixture.ok(&["embed", "@:/", "lengths", "--embedder", &embedder, "--metric", "l2"]);
    let shown = fixture.json(&["collection", "show", "@", "lengths", "--json"]);
    assert_eq!(
        (shown[0]["model"].as_str(), shown[0]["dimension"].as_u64()),
        (Some("lengths"), Some(2))
    );
    let search = ["search", "@:/", "lengths", "--text", "123456", "-k", "1", "--json"];
    assert!(fixture.fails(1, &search).contains("--embedder"));
    let hits = fixture.hits(&[&search[..], &["--embedder", &embedder]].concat());
    assert_eq!(paths(&hits), ["/x"]);
    assert!(fixture.fails(1, &["embed", "@:/", "lengths"]).contains("cannot be compared"));
    let broken = ["embed", "@:/", "other", "--embedder", "cmd:sh -c 'exit 3'"];
    assert!(!fixture.fails(1, &broken).is_empty());
}

#[test]
fn a_file_with_a_refused_passage_is_left_as_it_was_and_tried_again() {
    let fixture = Fixture::new();
    fixture.write(&[("/bad", "poison"), ("/good", "honey"), ("/huge", "huge")]);
    // Refuses any request with a certain word in it, until a file is there.
    let (cured, script) = (fixture.path("cured"), fixture.path("embed.sh"));
    let program = r#"printf '{"model":"careful","dimension":1}\n'
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
  case $line in
  *poison*) [ -e "$0.cured" ] || { printf '{"id":%s,"error":"no poison"}\n' "$id"; continue; } ;;
  esac
  value=1
  case $line in *huge*) [ -e "$0.cured" ] || value=1e30 ;; esac
  count=$(printf '%s' "$line" | sed 's/.*"texts":\[//; s/\].*//' | tr -cd , | wc -c)
  vectors="[$value]"
  while [ "$count" -gt 0 ]; do vectors="$vectors,[$value]"; count=$((count - 1)); done
  printf '{"id":%s,"vectors":[%s]}\n' "$id" "$vectors"
done
"#;
    std::fs::write(&script, program.replace("$0.cured", &cured.display().to_string())).unwrap();
    let embedder = format!("cmd:sh {}", script.display());
    let embed = ["embed", "@:/", "c", "--embedder", &embedder, "--metric", "l2"];
    let said = fixture.fails(1, &embed);
    assert!(said.contains("no poison") && said.contains("/bad: left as it was"), "{said}");
    let rows = || fixture.json(&["collection", "show", "@", "c", "--json"])[0]["vectors"].as_u64();
    assert_eq!(rows(), Some(1), "only the good file has a vector");
    std::fs::write(&cured, "").unwrap();
    fixture.ok(&embed);
    assert_eq!(rows(), Some(3));
}

#[test]
fn wrong_input_is_refused_with_words_and_changes_nothing() {
    let fixture = Fixture::new();
    fixture.write(&[("/f", "text")]);
    fixture.ok(&["collection", "create", "@", "v", "--dim", "3", "--metric", "cosine"]);
    fixture.npy("two.npy", &[&[1.0, 2.0]]);
    fixture.npy("three.npy", &[&[1.0, 2.0, 3.0]]);
    fixture.npy("nan.npy", &[&[1.0, 2.0, 3.0], &[1.0, f32::NAN, 3.0]]);
    fixture.npy("infinite.npy", &[&[1.0, f32::INFINITY, 3.0]]);
    fixture.npy("zero.npy", &[&[0.0, 0.0, 0.0]]);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3), }";
    fixture.raw_npy("lying.npy", header, &[0; 12]);
    let says = |code: i32, arguments: &[&str], words: &str| {
        let error = fixture.fails(code, arguments);
        assert!(error.to_lowercase().contains(words), "{arguments:?} says: {error}");
    };
    for (file, words) in [
        ("two.npy", "3"),
        ("nan.npy", "1"),
        ("infinite.npy", "0"),
        ("zero.npy", "0"),
        ("lying.npy", "lying.npy"),
        ("missing.npy", "missing.npy"),
    ] {
        says(1, &["import", "@:/imported", "v", file], words);
        // Neither the file nor any of its rows is there.
        assert_eq!(fixture.open().read_dir("/").unwrap().count(), 1, "{file} left something");
    }
    says(
        1,
        &["import", "@:/imported", "nowhere", "three.npy"],
        "no collection is called 'nowhere'",
    );
    says(1, &["import", "@:/f", "v", "three.npy"], "is there already");
    let shown = fixture.json(&["collection", "show", "@", "v", "--json"]);
    assert_eq!(shown[0]["vectors"], 0);
    says(1, &["vector", "put", "@:/f", "v", "--values", "1,2"], "3");
    says(2, &["vector", "put", "@:/f", "v", "--values", "1,x,3"], "not numbers");
    says(1, &["vector", "put", "@:/f", "v", "--values", "0,0,0"], "zero");
    says(1, &["vector", "put", "@:/missing", "v", "--values", "1,2,3"], "not found");
    says(1, &["vector", "put", "@:/", "v", "--values", "1,2,3"], "directory");
    fixture.ok(&["vector", "put", "@:/f", "v", "--values", "1,2,3"]);

    let search = |extra: &[&'static str]| [&["search", "@:/", "v", "--npy"], extra].concat();
    says(2, &search(&["three.npy", "-k", "0"]), "-k 0: a search finds 1 to");
    says(2, &search(&["three.npy", "-k", "100000000"]), "a search finds 1 to");
    says(1, &search(&["two.npy"]), "3");
    says(1, &search(&["zero.npy"]), "zero");
    says(1, &search(&["nan.npy:1"]), "not");
    says(1, &search(&["three.npy:5"]), "row");
    says(2, &search(&["three.npy", "--radius", "nan"]), "radius");
    says(2, &search(&["three.npy", "--newer", "soon"]), "newer");
    says(2, &search(&["three.npy", "--as", "me"]), "--as");
    says(2, &search(&["three.npy", "--text", "both"]), "--text");
    says(2, &["search", "@:/", "v"], "--text");
    says(1, &["search", "@:/nowhere", "v", "--npy", "three.npy"], "not found");
    says(1, &["search", "@:/", "w", "--npy", "three.npy"], "no collection is called 'w'");
    says(1, &["search", "@:/", "v", "--text", "x"], "model");
    says(2, &["search", "plain", "v", "--text", "x"], "image:/path");
    says(1, &["search", "nothing.vexfs:/", "v", "--text", "x"], "nothing.vexfs");
    says(1, &["collection", "create", "@", "v", "--dim", "3"], "exists");
    says(1, &["collection", "create", "@", "w", "--dim", "0"], "dimension");
    says(1, &["collection", "create", "@", "w", "--dim", "16385"], "dimension");
    says(1, &["collection", "create", "@", "a/b", "--dim", "3"], "name");
    says(2, &["collection", "create", "@", "w"], "--dim");
    says(2, &["collection", "create", "@", "w", "--dim", "3", "--type", "f64"], "f64");
    says(2, &["frobnicate"], "frobnicate");
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_embedded() {
    let fixture = Fixture::new();
    let text = |word: &str| format!("{word} and some more words in a line of text\n").repeat(4000);
    let image = fixture.open();
    for name in ["alpha", "bravo", "charlie"] {
        image.write_file(format!("/{name}"), text(name).as_bytes()).unwrap();
    }
    image.close().unwrap();
    // A block in the middle of the second file, found by its bytes.
    let bytes = std::fs::read(fixture.image()).unwrap();
    let middle = text("bravo").into_bytes()[80_000..80_100].to_vec();
    let block = bytes.windows(100).position(|window| window == middle).unwrap();
    let blocks = bytes
        .chunks(4096)
        .enumerate()
        .filter(|(_, block)| block.windows(10).any(|window| window == b"bravo and "));
    let (damaged, _) = blocks.min_by_key(|(at, _)| at.abs_diff(block / 4096 + 10)).unwrap();
    let file = std::fs::File::options().write(true).open(fixture.image()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], damaged as u64 * 4096).unwrap();
    let said = fixture.fails(1, &["embed", "@:/", "texts"]);
    assert!(said.contains("/bravo") && said.contains("damaged"), "{said}");
    assert!(said.contains("restore the file") && !said.contains("repairs it"), "{said}");
    for (name, there) in [("/alpha", true), ("/bravo", false), ("/charlie", true)] {
        let listed = fixture.json(&["vector", "list", &format!("@:{name}"), "--json"]);
        assert_eq!(!listed.is_empty(), there, "{name}");
    }
}

#[test]
fn an_answer_tells_machines_whether_it_is_exact() {
    let fixture = Fixture::new();
    let rows: Vec<[f32; 2]> = (0..2000).map(|row| [row as f32, 1.0]).collect();
    fixture.npy("base.npy", &rows.iter().map(|row| &row[..]).collect::<Vec<_>>());
    fixture.ok(&["import", "--create", "@:/base.npy", "c", "base.npy"]);
    let search = ["search", "@:/", "c", "--npy", "base.npy:9", "-k", "2", "--json"];
    for (extra, completeness, plan) in
        [(&[][..], "approximate", "graph"), (&["--exact"], "exact", "exact")]
    {
        let answer = fixture.json(&[&search[..], extra].concat()).pop().unwrap();
        assert_eq!(
            (&answer["completeness"], &answer["plan"]),
            (&completeness.into(), &plan.into())
        );
        assert_eq!((&answer["hits"], &answer["queries"]), (&2.into(), &1.into()));
        assert_eq!((&answer["damaged"], &answer["incomplete_by"]), (&0.into(), &Value::Null));
        assert!(answer["examined"].as_u64() > Some(0) && answer["seconds"].as_f64() > Some(0.0));
    }
}

#[test]
fn damaged_vectors_are_told_of_by_everything_that_leaves_them_out() {
    let fixture = Fixture::new();
    let row = |row: u32| -> [f32; 32] { std::array::from_fn(|at| (row * 32 + at as u32) as f32) };
    let rows: Vec<[f32; 32]> = (0..2000).map(row).collect();
    let slices: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
    fixture.npy("query.npy", &slices[..1]);
    for (name, count) in [("large", 2000), ("small", 20)] {
        let file = format!("{name}.npy");
        fixture.npy(&file, &slices[..count]);
        fixture.ok(&["import", "--create", &format!("@:/{file}"), name, &file]);
        // Of the small one all.
        let damaged = if name == "small" { 20 } else { 2 };
        slices[count - damaged..count].iter().for_each(|vector| fixture.damage(vector));
        let show = ["collection", "show", "@", name, "--json"];
        assert_eq!(fixture.json(&show)[0]["damaged"], Value::Null, "nobody has read them");

        let search = ["search", "@:/", name, "--npy", "query.npy", "-k", "1"];
        let output = fixture.run(&search);
        let (text, said) =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).into();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.contains("Nothing was found"), name == "small", "{text}");
        assert!(text.contains("incomplete"), "{text}");
        let words = format!("{damaged} damaged vectors were not compared");
        assert!(said.contains(&words) && said.contains("fsck.vexfs"), "{said}");
        let output = fixture.run(&[&search[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let answer: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let told = (&answer["completeness"], &answer["incomplete_by"], &answer["damaged"]);
        assert_eq!(told, (&"incomplete".into(), &"damage".into(), &damaged.into()));

        let said = fixture.fails(1, &["export", "@", name, "out.npy"]);
        assert!(said.contains(&format!("a.vexfs:/{file}: vector of chunk")), "{said}");
        let left = std::fs::read_dir(fixture.path(".")).unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().contains("out.npy")
        });
        assert_eq!(left.count(), 0, "a part of an export was left");
        let said = fixture.fails(1, &["export", "@", name, "out.npy", "--skip-damaged"]);
        assert!(said.contains(&format!("/{file}: {damaged} damaged vectors left out")), "{said}");
        let length = std::fs::read(fixture.path("out.npy")).unwrap().len();
        assert_eq!(length, 128 + (count - damaged) * 128);
        std::fs::remove_file(fixture.path("out.npy")).unwrap();

        let said = fixture.fails(1, &["collection", "rebuild", "@", name]);
        assert!(said.contains(&format!("{damaged} damaged vectors")), "{said}");
    }
}

/// An embedder that takes its time for each text.
const SLOW_EMBEDDER: &str = r#"printf '{"model":"slow","dimension":2,"batch":1}\n'
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
  sleep 0.03
  printf '{"id":%s,"vectors":[[%s,1]]}\n' "$id" "$id"
done
"#;

#[test]
fn what_was_embedded_before_a_kill_is_kept() {
    let fixture = Fixture::new();
    let image = fixture.open();
    for file in 0..400 {
        image.write_file(format!("/{file}"), format!("text number {file}").as_bytes()).unwrap();
    }
    image.close().unwrap();
    std::fs::write(fixture.path("slow.sh"), SLOW_EMBEDDER).unwrap();
    let embedder = format!("cmd:sh {}", fixture.path("slow.sh").display());
    let place = format!("{}:/", fixture.image().display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_vexfs"))
        .args(["embed", &place, "texts", "--metric", "l2", "--embedder", &embedder])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(10));
    child.kill().unwrap();
    child.wait().unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_vexfs"))
        .args(["fsck", "-n", fixture.image().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let vectors = fixture.json(&["collection", "show", "@", "texts", "--json"])[0]["vectors"]
        .as_u64()
        .unwrap();
    assert!((1..400).contains(&vectors), "{vectors} vectors");
    assert!(fixture.ok(&["collection", "list", "@"]).contains("slow"));
}

#[test]
fn an_import_that_fails_leaves_neither_file_nor_collection() {
    let fixture = Fixture::new();
    fixture.npy("bad.npy", &[&[1.0, 2.0], &[f32::NAN, 0.0]]);
    fixture.npy("good.npy", &[&[1.0, 2.0], &[3.0, 0.0]]);
    fixture.npy("none.npy", &[]);
    let said = fixture.fails(1, &["import", "--create", "@:/v.npy", "c", "bad.npy"]);
    assert!(said.contains("bad.npy") && said.contains("chunk 1"), "{said}");
    assert_eq!(fixture.ok(&["ls", "@:/"]), "");
    assert!(fixture.json(&["collection", "list", "@", "--json"]).is_empty());
    // So the next call gets the metric that it asks for.
    let create = ["import", "--create", "--metric", "cosine", "@:/v.npy", "c", "good.npy"];
    let said = fixture.ok(&create);
    assert!(said.contains("2 vectors") && !said.contains("indexed"), "{said}");
    assert_eq!(fixture.json(&["collection", "show", "@", "c", "--json"])[0]["metric"], "cosine");
    let other = ["import", "--create", "--metric", "l2", "@:/w.npy", "c", "good.npy"];
    assert!(fixture.fails(1, &other).contains("compares by cosine, not by l2"));
    let other = ["import", "--create", "--model", "m", "@:/w.npy", "c", "good.npy"];
    assert!(fixture.fails(1, &other).contains("model"));
    fixture.ok(&["import", "--create", "@:/w.npy", "c", "good.npy"]);
    assert!(!fixture.fails(1, &["import", "@:/x.npy", "c", "none.npy"]).is_empty());
}

#[test]
fn an_import_into_a_full_image_names_the_image_and_leaves_nothing() {
    let fixture = Fixture::new();
    let rows: Vec<[f32; 1000]> = (0..9000).map(|row| [row as f32; 1000]).collect();
    let slices: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
    fixture.npy("big.npy", &slices);
    let free = || fixture.json(&["info", "@", "--json"])[0]["blocks_free"].clone();
    let before = free();
    for _ in 0..2 {
        let said = fixture.fails(1, &["import", "--create", "@:/v.npy", "c", "big.npy"]);
        assert!(said.contains("a.vexfs") && said.contains("Remove something"), "{said}");
        assert_eq!(fixture.ok(&["ls", "@:/"]), "");
        assert!(fixture.json(&["collection", "list", "@", "--json"]).is_empty());
    }
    assert_eq!(free(), before);
    fixture.ok(&["fsck", "-n", "@"]);
}

#[test]
fn an_import_with_no_room_for_the_graph_says_that_all_else_is_there() {
    let fixture = Fixture::new();
    let rows: Vec<[f32; 16]> = (0..22_000)
        .map(|row| std::array::from_fn(|at| ((row * (at + 7)) % 32_749) as f32))
        .collect();
    fixture.npy("base.npy", &rows.iter().map(|row| &row[..]).collect::<Vec<_>>());
    std::fs::remove_file(fixture.image()).unwrap();
    fixture.ok(&["mkfs", "-q", "@", "9M"]);
    let import = ["import", "--create", "@:/v.npy", "c", "base.npy", "--json"];
    let output = fixture.run(&import);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("all vectors are stored") && said.contains("collection rebuild"),
        "{said}"
    );
    assert!(!said.contains("as it was"), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["vectors"], &told["unindexed"]), (&22_000.into(), &Value::Null));
    assert_eq!(fixture.ok(&["ls", "@:/"]), "v.npy\n");
    let search = ["search", "@:/", "c", "--npy", "base.npy:21999", "-k", "1", "--json"];
    assert_eq!(fixture.hits(&search)[0]["chunk"], 21_999);
}

#[test]
fn types_that_cannot_be_are_refused_before_anything_is_made() {
    let fixture = Fixture::new();
    fixture.write(&[("/a", "the first text")]);
    for kind in ["u8", "i8", "bit"] {
        let said = fixture.fails(2, &["embed", "@:/", "texts", "--type", kind]);
        assert!(said.contains(kind) && said.contains("possible: f32, f16, bf16"), "{said}");
    }
    assert!(fixture.json(&["collection", "list", "@", "--json"]).is_empty());
    fixture.ok(&["embed", "@:/", "texts"]);
    let said = fixture.fails(1, &["embed", "@:/", "texts", "--type", "f32"]);
    assert!(said.contains("holds vectors of type f16, not of f32"), "{said}");
    assert!(fixture.fails(1, &["embed", "@:/", "texts", "--metric", "l2"]).contains("by cosine"));
    fixture.ok(&["embed", "@:/", "texts", "--type", "f16", "--metric", "cosine"]);
    let create = ["collection", "create", "@", "bytes", "--dim", "256", "--type", "u8"];
    fixture.ok(&[&create[..], &["--model", "vexfs-lexical-256-v1"]].concat());
    let said = fixture.fails(1, &["embed", "@:/", "bytes"]);
    assert!(said.contains("is of type u8") && said.contains("another collection"), "{said}");
    // A program may make whole numbers: whether it does is only seen then, and nothing is left.
    let program = r#"cmd:sh -c 'echo "{\"model\":\"m\",\"dimension\":1}"; read line;
        echo "{\"id\":1,\"vectors\":[[0.5]]}"'"#;
    let embed = ["embed", "@:/", "whole", "--type", "u8", "--metric", "l2", "--embedder"];
    let said = fixture.fails(1, &[&embed[..], &[program]].concat());
    assert!(said.contains("does not fit type u8"), "{said}");
    fixture.ok(&[&embed[..], &[&program.replace("0.5", "5")]].concat());
    assert_eq!(fixture.json(&["collection", "list", "@", "--json"]).len(), 3);
}

#[test]
fn embedding_again_asks_the_embedder_again() {
    let fixture = Fixture::new();
    fixture.write(&[("/a", "the first text"), ("/b", "the second text")]);
    fixture.ok(&["embed", "@:/", "texts"]);
    let report = &fixture.json(&["embed", "@:/", "texts", "--again", "--json"])[0];
    assert_eq!((&report["embedded"], &report["reused"]), (&2.into(), &0.into()));
}

#[test]
fn options_that_make_no_sense_are_named_with_what_is_possible() {
    let fixture = Fixture::new();
    fixture.npy("good.npy", &[&[1.0, 2.0], &[3.0, 0.0]]);
    fixture.npy("bad.npy", &[&[1.0, 2.0], &[3.0, f32::NAN]]);
    fixture.raw_npy("none.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }", &[]);
    let row = |columns: i32| {
        let row: Vec<f32> = vec![1.0; columns as usize];
        let components = row.iter().flat_map(|value| value.to_le_bytes());
        columns.to_le_bytes().into_iter().chain(components).collect::<Vec<u8>>()
    };
    std::fs::write(fixture.path("varying.fvecs"), [row(2), row(3), row(2)].concat()).unwrap();
    fixture.ok(&["import", "--create", "@:/v.npy", "c", "good.npy"]);
    for (code, words, said) in [
        (2, vec!["search", "@:/", "c"], "<--text <S>|--like <PLACE>|--npy <FILE[:ROW]>>"),
        (2, vec!["search", "@:/", "c", "--text", "x", "-k", "0"], "Try 'vexfs search --help'"),
        (2, vec!["search", "@:/", "c", "--text", "x", "-k", "100000000"], "a search finds 1 to"),
        (
            2,
            vec!["search", "@:/", "c", "--npy", "good.npy", "--tag", "9-5"],
            "the smaller one first",
        ),
        (1, vec!["search", "@:/", "c", "--npy", "bad.npy"], "bad.npy: row 1: component 1"),
        (1, vec!["search", "@:/", "c", "--npy", "bad.npy:1"], "bad.npy: row 1: component 1"),
        (1, vec!["search", "@:/", "c", "--npy", "none.npy"], "none.npy has no rows"),
        (1, vec!["import", "@:/w.npy", "c", "none.npy"], "none.npy has no rows"),
        (1, vec!["import", "@:/w", "c", "varying.fvecs"], "dimension 3 in row 1, but 2 in row 0"),
        (2, vec!["vector", "put", "@:/v.npy", "c"], "<--npy <FILE[:ROW]>|--values <X,Y,...>>"),
        (2, vec!["vector", "rm", "@:/v.npy", "c"], "<--chunk <CHUNK>|--all>"),
        (
            2,
            vec!["collection", "create", "@", "x", "--dim", "2", "--type", "i8", "--quant", "i8"],
            "--quant i8 is not possible for --type i8 and --metric l2; possible: none",
        ),
    ] {
        let text = fixture.fails(code, &words);
        assert!(text.contains(said), "{words:?}: {text}");
    }
    let said = fixture.fails(1, &["search", "@:/", "c", "--npy", "good.npy:0", "--ef", "16385"]);
    assert!(said.contains("over the limit: effort (at most 16384)"), "{said}");
    let create = ["collection", "create", "@", "x", "--dim", "2", "--model"];
    let said = fixture.fails(1, &[&create[..], &[&"m".repeat(256)]].concat());
    assert!(said.contains("over the limit: model tag (at most 255 bytes)"), "{said}");
    let sized = ["search", "@:/", "c", "--npy", "good.npy:0", "--min-size", "1K", "--json"];
    assert!(fixture.hits(&sized).is_empty());
    // The rows are binary, however much their bytes look like text.
    let shown = fixture.ok(&["search", "@:/", "c", "--npy", "good.npy:0"]);
    assert_eq!(shown.lines().count(), 3, "{shown}");
}

#[test]
fn a_stale_hit_shows_what_is_there_now() {
    let fixture = Fixture::new();
    fixture.write(&[("/a", "a wise old owl sat in an oak")]);
    fixture.ok(&["embed", "@:/", "texts"]);
    fixture.write(&[("/a", "the more he saw the less he spoke")]);
    let shown = fixture.ok(&["search", "@:/", "texts", "--text", "wise old owl"]);
    assert!(shown.contains(", stale)") && shown.contains("now: the more he saw"), "{shown}");
}
