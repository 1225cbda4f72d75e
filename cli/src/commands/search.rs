// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs search`: the nearest passages or vectors below a directory.

use crate::arrays::{ArrayReader, Component, RowConverter, float_row};
use crate::collection::{DAMAGED_HINT, distance_value, find, known_damaged};
use crate::commands::vector::{check_row, file_and_row, read_row};
use crate::embedder::{CommandLimits, from_name};
use crate::escape::{escape_name, first_words};
use crate::failure::{Failure, Outcome, complain};
use crate::output::{self, with_path};
use crate::passage::{HEAD_BYTES, is_binary};
use crate::place::{Place, VolumeName, place_parser};
use crate::size::parse_size;
use crate::time::parse_time;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vexfs_engine::core::{
    CollectionInfo, Completeness, Credentials, CutReason, Filter, QUERIES_MAX, SEARCH_HITS_MAX,
    SEARCH_K_MAX, SearchHit, SearchPlan, SearchReport, SearchRequest,
};
use vexfs_engine::{Files, Hit, Scope, Threads, Timestamp, Volume};
use vexfs_simd::{Distance, Shape};

/// Bytes of a passage that are read for its first words.
const PREVIEW_BYTES: usize = 512;
/// Characters of a passage that are printed.
const PREVIEW_CHARACTERS: usize = 100;
/// Characters of a passage in JSON.
const JSON_CHARACTERS: usize = 400;

/// Arguments of `vexfs search`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("query").required(true).args(["text", "like", "npy"]))]
#[command(after_help = "Examples:\n  \
    vexfs search notes.vexfs:/ texts --text 'no warranty of any kind' -k 5\n  \
    vexfs search notes.vexfs:/papers texts --like notes.vexfs:/papers/a.txt --suffix .txt\n  \
    vexfs search data.vexfs:/ digits --npy query.npy:7 --exact --json\n  \
    vexfs search /mnt/papers texts --text 'no warranty of any kind'\n\n\
    Distances: l2 is squared, cosine is one less the cosine, inner-product is negated; less is\n\
    nearer. Under a text the last line says how the answer was found and whether it is exact.\n\n\
    With --json the last line is an object about the whole answer, whose \"record\" is \"answer\" and\n\
    not \"hit\". Its \"completeness\" is \"exact\", \"approximate\" (the graph may have missed nearer ones)\n\
    or \"incomplete\", of several queries the least; \"incomplete_by\" is then \"damage\", \"changes\" or\n\
    \"work\", and null otherwise. \"plan\" is \"exact_scope\", \"graph\", \"exact\", \"graph_then_exact\" or\n\
    \"exact_streamed\". \"damaged\" counts the vectors of the collection that cannot be read: null when it\n\
    is incomplete by them and they are not counted.\n\n\
    The exit code is 1 when the answer is incomplete: what was found is printed all the same.")]
pub struct Arguments {
    /// The directory to search below: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_parser = place_parser(), value_name = "PLACE")]
    place: Place,
    /// Name of the collection
    collection: String,
    /// Find what is close to this text
    #[arg(long, value_name = "S")]
    text: Option<String>,
    /// Find what is close to the passages of this file of the same file system; the file itself is
    /// left out
    #[arg(long, value_name = "PLACE", value_parser = place_parser())]
    like: Option<Place>,
    /// Find what is close to a row of a vector file, or to each of its rows
    #[arg(long, value_name = "FILE[:ROW]")]
    npy: Option<String>,
    /// How many to find, for each row of --npy
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: u32,
    /// Effort: more finds more of the true nearest, and takes longer; 0 for the default
    #[arg(long, value_name = "N", default_value_t = 0)]
    ef: u32,
    /// Compare every vector
    #[arg(long)]
    exact: bool,
    /// Nothing farther than this
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    radius: Option<f32>,
    /// Only files whose name ends with this
    #[arg(long, value_name = "S")]
    suffix: Option<String>,
    /// Only files changed since: 2026-01-31, 2026-01-31T12:00:00Z, or an age such as 2days
    #[arg(long, value_name = "T")]
    newer: Option<String>,
    /// Only files of at least this many bytes (K, M, G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,
    /// Only files of at most this many bytes (K, M, G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Only files of this user
    #[arg(long, value_name = "U")]
    uid: Option<u32>,
    /// Only vectors with this tag, or with a tag in this range
    #[arg(long, value_name = "A[-B]")]
    tag: Option<String>,
    /// Only vectors of the files' present content
    #[arg(long)]
    fresh: bool,
    /// Find only what this user (with these groups) could open; of a mounted VexFS, where only what
    /// the caller could open is ever found, root may ask so
    #[arg(long = "as", value_name = "UID[:GID[,GROUP...]]")]
    on_behalf: Option<String>,
    /// Embedder for --text: needed unless the collection was embedded by 'lexical'
    #[arg(long, value_name = "lexical|cmd:PROGRAM", requires = "text")]
    embedder: Option<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// The queries, packed; and, when they are the vectors of a file, that file.
type Queries = (Vec<u8>, Option<u64>);

/// A user, a group, and further groups.
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        if !(1..=SEARCH_K_MAX).contains(&self.k) {
            return Err(Failure::usage(format!(
                "-k {}: a search finds 1 to {SEARCH_K_MAX}",
                self.k
            )));
        }
        let identity = self.identity()?;
        let volume = self.place.volume.open()?;
        let scope = volume.scope(&self.place.path)?;
        let info = find(&volume, &self.collection)?;
        let (queries, of_file) = self.queries(&volume, &info)?;
        let row_bytes = info.shape.row_bytes().max(1);
        let query_count = queries.len() / row_bytes;
        // A file's passages are asked for together.
        let k = match of_file {
            Some(_) => self.k.min(k_max(query_count)),
            None => self.k,
        };
        let request = SearchRequest {
            k,
            effort: self.ef,
            radius: self.radius()?,
            exact: self.exact,
            filter: Filter { exclude: of_file, ..self.filter()? },
            credentials: identity.as_ref().map(Identity::credentials),
            ..SearchRequest::nearest(info.number, &queries, k)
        };
        let found = scope.search(&info, &request, &Threads::default());
        let (mut hits, report, time) = found.map_err(|error| self.not_found_as(error))?;
        if of_file.is_some() {
            hits = nearest_of_all(hits, self.k as usize);
        }
        let several = of_file.is_none() && query_count > 1;
        let answer = Answer { command: self, files: volume.files(), scope: &scope, several };
        let printed = answer.print(&hits, &request)?;
        let damaged = match report.completeness {
            Completeness::Cut(CutReason::Damage) => {
                known_damaged(&find(&volume, &self.collection)?)
            }
            _ => Some(0),
        };
        if self.json {
            output::json(&answer_json(&report, query_count, printed, damaged, time))?;
        } else {
            if hits.is_empty() {
                output::line("Nothing was found.")?;
            }
            output::line(&summary(&report, time))?;
        }
        match report.completeness {
            Completeness::Cut(reason) => Err(self.incomplete(reason, damaged)),
            _ => Ok(()),
        }
    }

    /// The failure to look at everything.
    fn incomplete(&self, reason: CutReason, damaged: Option<u64>) -> Failure {
        let (what, hint) = match reason {
            CutReason::Damage => {
                let vectors = match damaged {
                    Some(1) => "1 damaged vector was".to_owned(),
                    Some(number) => format!("{number} damaged vectors were"),
                    None => "damaged vectors were".to_owned(),
                };
                (format!("{vectors} not compared, and may be nearer"), DAMAGED_HINT)
            }
            CutReason::Changes => (
                "vectors changed too fast to follow, and nearer ones may be missing".to_owned(),
                "Search again.",
            ),
            CutReason::Work => {
                ("the search was cut short, and nearer ones may be missing".to_owned(), "")
            }
        };
        let failure = Failure::about(
            self.place.volume.name(),
            format!("collection {}: {what}", self.collection),
        );
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }

    /// What is searched for.
    fn queries(&self, volume: &Volume, info: &CollectionInfo) -> Outcome<Queries> {
        if let Some(text) = &self.text {
            return Ok((self.text_query(text, info)?, None));
        }
        if let Some(like) = &self.like {
            return self.queries_like(volume, like, info);
        }
        let npy = self.npy.as_deref().unwrap_or_default();
        let (file, row) = file_and_row(npy);
        if row.is_some() {
            return Ok((read_row(npy, &info.shape)?, None));
        }
        Ok((all_rows(&file, &info.shape)?, None))
    }

    fn text_query(&self, text: &str, info: &CollectionInfo) -> Outcome<Vec<u8>> {
        let name = self.embedder.as_deref().unwrap_or("lexical");
        let mut embedder = from_name(name, CommandLimits::default())?;
        if embedder.model().as_bytes() != info.model {
            let hint = if self.embedder.is_none() {
                "; name the embedder that made them with --embedder"
            } else {
                ""
            };
            return Err(Failure::Failed(format!(
                "collection '{}' holds vectors of model '{}', and embedder '{name}' makes those of \
                 '{}'{hint}",
                self.collection,
                escape_name(&info.model),
                embedder.model()
            )));
        }
        let vectors = embedder.embed(&[text])?;
        let Some(Some(vector)) = vectors.into_iter().next() else {
            return Err(Failure::Failed("--text has no words to search for".to_owned()));
        };
        let fail = |error| Failure::Failed(format!("--text: {error}"));
        let Shape { element, dimension, .. } = info.shape;
        let converter =
            RowConverter::new(Component::F32, vector.len(), element, dimension).map_err(fail)?;
        let mut query = Vec::new();
        converter.convert(&float_row(&vector), &mut query).map_err(fail)?;
        Ok(query)
    }

    fn queries_like(
        &self,
        volume: &Volume,
        like: &Place,
        info: &CollectionInfo,
    ) -> Outcome<Queries> {
        if !like.volume.is_same(&self.place.volume) {
            return Err(Failure::usage("--like must name a file of the file system searched"));
        }
        let (file, name) = (volume.files().open(&like.path)?, like.name());
        let ours = file.vectors()?.list.into_iter();
        let mut chunks: Vec<u32> = ours
            .filter(|vector| vector.collection == info.number)
            .map(|vector| vector.chunk)
            .collect();
        if chunks.is_empty() {
            return Err(Failure::Failed(format!(
                "{name} has no vectors in '{}'; 'vexfs embed' or 'vexfs vector put' gives it some",
                self.collection
            )));
        }
        if chunks.len() > QUERIES_MAX {
            complain(&format!(
                "vexfs: {name} has {} vectors; the first {QUERIES_MAX} are used",
                chunks.len()
            ));
            chunks.truncate(QUERIES_MAX);
        }
        let mut queries = Vec::new();
        for chunk in &chunks {
            queries.extend_from_slice(&file.vector(info, *chunk)?.bytes);
        }
        Ok((queries, Some(file.number()?)))
    }

    fn radius(&self) -> Outcome<Option<Distance>> {
        match self.radius {
            None => Ok(None),
            Some(radius) if radius.is_nan() => {
                Err(Failure::Usage("--radius is not a number".to_owned()))
            }
            // Adding zero turns a negative zero into a positive one.
            Some(radius) => Ok(Some(Distance::from_f32_bits((radius + 0.0).to_bits()))),
        }
    }

    fn filter(&self) -> Outcome<Filter<'_>> {
        let modified = match &self.newer {
            None => None,
            Some(text) => {
                let latest = Timestamp { seconds: i64::MAX, nanoseconds: 999_999_999 };
                Some(parse_newer(text)?..=latest)
            }
        };
        let size = (self.min_size.is_some() || self.max_size.is_some())
            .then(|| self.min_size.unwrap_or(0)..=self.max_size.unwrap_or(u64::MAX));
        let tag = match &self.tag {
            None => None,
            Some(text) => {
                let (from, to) = text.split_once('-').unwrap_or((text, text));
                match (from.parse(), to.parse()) {
                    (Ok(from), Ok(to)) if from <= to => Some(from..=to),
                    (Ok::<u64, _>(_), Ok::<u64, _>(_)) => {
                        return Err(Failure::Usage(format!(
                            "--tag: no number is in '{text}': write the smaller one first"
                        )));
                    }
                    _ => {
                        return Err(Failure::Usage(format!("--tag: '{text}' is not A or A-B")));
                    }
                }
            }
        };
        Ok(Filter {
            name_suffix: self.suffix.as_deref().map(str::as_bytes),
            size,
            modified,
            uid: self.uid,
            tag,
            fresh: self.fresh,
            exclude: None,
        })
    }

    fn identity(&self) -> Outcome<Option<Identity>> {
        let Some(text) = &self.on_behalf else { return Ok(None) };
        let bad =
            || Failure::Usage(format!("--as: '{text}' is not UID, UID:GID or UID:GID,GROUP,..."));
        let (uid, groups) = match text.split_once(':') {
            Some((uid, groups)) => (uid, Some(groups)),
            None => (text.as_str(), None),
        };
        let uid = uid.parse().map_err(|_| bad())?;
        let mut numbers: Vec<u32> = Vec::new();
        for group in groups.iter().flat_map(|groups| groups.split(',')) {
            numbers.push(group.parse().map_err(|_| bad())?);
        }
        let gid = numbers.first().copied().unwrap_or(uid);
        // The superuser may open everything. Whether the caller may be that one a kernel judges.
        let above = uid == 0 && matches!(self.place.volume, VolumeName::Image(_));
        Ok((!above).then_some(Identity { uid, gid, groups: numbers }))
    }

    /// A failure to search, which for who may not do it on behalf of another user is that.
    fn not_found_as(&self, error: vexfs_engine::Error) -> Failure {
        let mounted = matches!(self.place.volume, VolumeName::Mount(_));
        if mounted && self.on_behalf.is_some() && error.is_not_permitted() {
            return Failure::new(
                "--as: a mounted VexFS is searched on behalf of others by root alone",
            )
            .hint("Run the command as that user: sudo -u USER vexfs search ...");
        }
        error.into()
    }
}

impl Identity {
    fn credentials(&self) -> Credentials<'_> {
        Credentials { uid: self.uid, gid: self.gid, groups: &self.groups, lists: true }
    }
}

/// The printing of an answer.
struct Answer<'a> {
    command: &'a Arguments,
    files: Files<'a>,
    scope: &'a Scope<'a>,
    /// Several queries were asked.
    several: bool,
}

impl Answer<'_> {
    /// Prints the hits, and tells how many they were.
    fn print(&self, hits: &[Hit], request: &SearchRequest<'_>) -> Outcome<u64> {
        let suffix = request.filter.name_suffix.unwrap_or_default();
        let mut paths: HashMap<u64, Option<PathBuf>> = HashMap::new();
        let (mut rank, mut last, mut printed) = (0, None, 0);
        for Hit { query, found, .. } in hits {
            let path = match paths.get(&found.inode) {
                Some(path) => path.clone(),
                None => {
                    let path = self.scope.path_of(found, suffix, request.credentials.as_ref())?;
                    paths.insert(found.inode, path.clone());
                    path
                }
            };
            // On a mounted file system it may have gone meanwhile.
            let Some(path) = path else { continue };
            rank = if self.several && last != Some(query) { 1 } else { rank + 1 };
            if self.several && last != Some(query) && !self.command.json {
                output::line(&format!("row {query}:"))?;
            }
            last = Some(query);
            match self.command.json {
                true => self.print_json(*query, rank, found, &path)?,
                false => self.print_text(rank, found, &path)?,
            }
            printed += 1;
        }
        Ok(printed)
    }

    fn print_json(&self, query: usize, rank: u32, hit: &SearchHit, path: &Path) -> Outcome {
        let text = preview(self.files, path, hit);
        let mut object = json!({
            "record": "hit",
            "rank": rank,
            "distance": distance_value(hit.distance),
            "ino": hit.inode,
            "chunk": hit.chunk,
            "offset": hit.offset,
            "length": hit.length,
            "fresh": hit.fresh,
            "text": first_words(&text, JSON_CHARACTERS),
        });
        if self.several {
            object["query"] = json!(query);
        }
        output::json(&with_path(object, "path", path.as_os_str().as_bytes()))
    }

    fn print_text(&self, rank: u32, hit: &SearchHit, path: &Path) -> Outcome {
        let range = match hit.length {
            0 => "whole file".to_owned(),
            length => format!("bytes {}-{}", hit.offset, hit.offset.saturating_add(length)),
        };
        let stale = if hit.fresh { "" } else { ", stale" };
        output::line(&format!(
            "{rank:>3}  {:<9} {}  ({range}{stale})",
            format!("{:.4}", distance_value(hit.distance)),
            escape_name(path.as_os_str().as_bytes())
        ))?;
        let words = first_words(&preview(self.files, path, hit), PREVIEW_CHARACTERS);
        if words.is_empty() {
            return Ok(());
        }
        let now = if hit.fresh { "" } else { "now: " };
        output::line(&format!("               {now}{words}"))
    }
}

/// The most hits for each of so many queries.
fn k_max(queries: usize) -> u32 {
    let share = SEARCH_HITS_MAX / queries.max(1) as u64;
    u32::try_from(share).unwrap_or(u32::MAX).min(SEARCH_K_MAX)
}

/// The nearest of the answers to several queries, each passage once.
fn nearest_of_all(mut hits: Vec<Hit>, k: usize) -> Vec<Hit> {
    hits.sort_by_key(|hit| (hit.found.distance, hit.found.inode, hit.found.chunk));
    let mut seen = std::collections::HashSet::new();
    hits.retain(|hit| seen.insert((hit.found.inode, hit.found.chunk)));
    hits.truncate(k);
    hits
}

/// The first bytes of what a hit describes; for a stale one, what is there now. A binary file, or one
/// that cannot be read, has none; the hit is printed all the same.
fn preview(files: Files<'_>, path: &Path, hit: &SearchHit) -> Vec<u8> {
    let Ok(file) = files.open(path) else { return Vec::new() };
    // Numbers may look like text where they are, but not the beginning of their file.
    let mut head = vec![0; HEAD_BYTES];
    match file.read_at(0, &mut head) {
        Ok(read) if !is_binary(&head[..read]) => {}
        _ => return Vec::new(),
    }
    let length = match hit.length {
        0 => PREVIEW_BYTES,
        length => PREVIEW_BYTES.min(usize::try_from(length).unwrap_or(PREVIEW_BYTES)),
    };
    let mut bytes = vec![0; length];
    match file.read_at(hit.offset, &mut bytes) {
        Ok(read) if !is_binary(&bytes[..read]) => {
            bytes.truncate(read);
            bytes
        }
        _ => Vec::new(),
    }
}

/// The whole answer for machines.
fn answer_json(
    report: &SearchReport,
    queries: usize,
    hits: u64,
    damaged: Option<u64>,
    time: Duration,
) -> Value {
    let (completeness, incomplete_by) = match report.completeness {
        Completeness::Exact => ("exact", None),
        Completeness::Approximate => ("approximate", None),
        Completeness::Cut(CutReason::Work) => ("incomplete", Some("work")),
        Completeness::Cut(CutReason::Damage) => ("incomplete", Some("damage")),
        Completeness::Cut(CutReason::Changes) => ("incomplete", Some("changes")),
    };
    json!({
        "record": "answer",
        "completeness": completeness,
        "incomplete_by": incomplete_by,
        "plan": match report.plan {
            SearchPlan::ExactScope => "exact_scope",
            SearchPlan::Graph => "graph",
            SearchPlan::ExactAll => "exact",
            SearchPlan::GraphThenExact => "graph_then_exact",
            SearchPlan::ExactStreamed => "exact_streamed",
        },
        "queries": queries,
        "hits": hits,
        "examined": report.examined,
        "damaged": damaged,
        "graph_damaged": report.graph_damaged,
        "seconds": time.as_secs_f64(),
    })
}

/// How the answer was found, in words.
fn summary(report: &SearchReport, time: Duration) -> String {
    let how = match report.plan {
        SearchPlan::ExactScope => "all vectors below the directory compared",
        SearchPlan::Graph => "graph search",
        SearchPlan::ExactAll => "all vectors compared",
        SearchPlan::GraphThenExact => "graph search, then all vectors compared",
        SearchPlan::ExactStreamed => "all vectors read from the device and compared",
    };
    let sure = match report.completeness {
        Completeness::Exact => "exact",
        Completeness::Approximate => "approximate",
        Completeness::Cut(CutReason::Work) => "cut short: too much work",
        Completeness::Cut(CutReason::Damage) => "incomplete: damaged vectors were left out",
        Completeness::Cut(CutReason::Changes) => "incomplete: vectors changed too fast to follow",
    };
    let graph = if report.graph_damaged { "; the stored graph is damaged" } else { "" };
    let time = output::human_time(time);
    format!("{sure}; {how}; {} distances; {time}, loading included{graph}", report.examined)
}

/// All rows of a vector file as vectors of `shape`, for one request.
fn all_rows(file: &Path, shape: &Shape) -> Outcome<Vec<u8>> {
    let queries = all_query_rows(file, shape)?;
    let rows = queries.len() / shape.row_bytes().max(1);
    if rows > QUERIES_MAX {
        return Err(Failure::Usage(format!(
            "{} has {rows} rows, and at most {QUERIES_MAX} can be searched for at once: name one \
             with FILE:ROW",
            escape_name(file.as_os_str().as_bytes())
        )));
    }
    Ok(queries)
}

/// All rows of a vector file as vectors of `shape`.
pub fn all_query_rows(file: &Path, shape: &Shape) -> Outcome<Vec<u8>> {
    let mut reader = ArrayReader::open(file)?;
    let layout = reader.layout();
    let name = reader.file().to_owned();
    let fail = |error| Failure::Failed(format!("{name}: {error}"));
    let converter =
        RowConverter::new(layout.component, layout.columns, shape.element, shape.dimension)
            .map_err(fail)?;
    let (mut raw, mut queries) = (Vec::new(), Vec::new());
    while reader.read_rows(4096, &mut raw)? > 0 {
        for row in raw.chunks_exact(converter.source_row_bytes()) {
            let number = queries.len() / shape.row_bytes().max(1);
            let fail = |why| Failure::Failed(format!("{name}: row {number}: {why}"));
            let start = queries.len();
            converter.convert(row, &mut queries).map_err(|error| fail(error.to_string()))?;
            check_row(shape, &queries[start..]).map_err(fail)?;
        }
        raw.clear();
    }
    if queries.is_empty() {
        return Err(Failure::Failed(format!("{name} has no rows")));
    }
    Ok(queries)
}

/// The time that `--newer` names.
fn parse_newer(text: &str) -> Outcome<Timestamp> {
    parse_time(text).map_err(|error| Failure::Usage(format!("--newer: {error}")))
}
