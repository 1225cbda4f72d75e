// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs embed`: gives the passages of text files vectors.

use crate::arrays::{Component, RowConverter, float_row};
use crate::collection::{
    MetricName, TypeName, build_graph, check_asked, collection_failure, find_if_any,
};
use crate::embedder::{CommandLimits, Embedder, from_name};
use crate::escape::escape_name;
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted, human_time, with_paths};
use crate::passage::{PassageLimits, Passages};
use crate::place::{Place, place_parser, printable};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vexfs_engine::core::{
    CollectionInfo, CollectionOptions, PUT_VECTORS_MAX, Quantization, VectorPut,
};
use vexfs_engine::{CoreError, Error, FileVectors, LastLink, OpenFile, Threads, Volume};
use vexfs_simd::{ElementType, Metric, Shape};

/// Passages that wait for their vectors at once.
const WAITING_MAX: usize = 4096;
/// Passages that are waited for even if the embedder takes fewer at a time.
const WAITING_LEAST: usize = 64;
/// How long passages may wait for one another; a slower embedder gets fewer at a time.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// Files of each reason that are named without `--verbose`.
const NAMED_MAX: usize = 5;

/// Arguments of `vexfs embed`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vexfs embed notes.vexfs:/ texts\n  \
    vexfs embed notes.vexfs:/papers papers --embedder 'cmd:python3 embed.py'\n  \
    vexfs embed /mnt/papers papers\n\n\
    'lexical' is built in: hashed words and parts of words, 256 dimensions. It finds passages that\n\
    share words, not passages that share a meaning. 'cmd:PROGRAM ARGS' starts a program that reads\n\
    texts and writes vectors as lines of JSON. Files whose vectors are fresh are left alone, and\n\
    the vectors of passages seen before are used again.\n\n\
    What was embedded is stored every few seconds: after an interruption the next run goes on\n\
    where this one was. Files that cannot be read are named; the rest is embedded, and the exit\n\
    code is 1.")]
pub struct Arguments {
    /// The directory or file to embed: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_parser = place_parser(), value_name = "PLACE")]
    place: Place,
    /// Name of the collection; it is made if it is not there and there is something to put into it
    collection: String,
    /// What makes vectors of texts
    #[arg(long, value_name = "lexical|cmd:PROGRAM", default_value = "lexical")]
    embedder: String,
    /// Type of a collection that is made; f16 if not given
    #[arg(long = "type", value_name = "T")]
    element: Option<TypeName>,
    /// Metric of a collection that is made; cosine if not given
    #[arg(long, value_name = "M")]
    metric: Option<MetricName>,
    /// Embed files with fresh vectors too, and passages seen before anew
    #[arg(long)]
    again: bool,
    /// Name every file that is passed over
    #[arg(short, long)]
    verbose: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A passage, and what became of it.
struct Piece {
    offset: u64,
    length: u64,
    digest: [u8; 16],
    state: State,
}

#[derive(Clone)]
enum State {
    /// It, or an earlier passage of the same text, still has to be embedded.
    Waiting,
    Vector(Vec<u8>),
    /// There is nothing to embed in it.
    Nothing,
    /// The embedder has no vector for it.
    Failed,
}

/// What became of a file that was to be cut into passages.
enum Reading {
    /// It waits for its vectors.
    Taken,
    /// It has them already.
    Fresh,
    PassedOver(&'static str),
}

/// A file on its way.
struct Work {
    path: PathBuf,
    inode: u64,
    version: u64,
    pieces: Vec<Piece>,
}

/// The files that are passed over, by the reason why.
type PassedOver = BTreeMap<&'static str, Vec<PathBuf>>;

#[derive(Default)]
struct Counts {
    files: u64,
    fresh_files: u64,
    passages: u64,
    embedded: u64,
    reused: u64,
}

struct Run<'a> {
    volume: &'a Volume,
    info: CollectionInfo,
    embedder: Box<dyn Embedder>,
    converter: RowConverter,
    works: Vec<Work>,
    /// Texts to embed, with the place of each in `works`.
    texts: Vec<(usize, usize, String)>,
    /// Passages seen in this run that wait or have a vector, by digest.
    seen: BTreeMap<[u8; 16], (usize, usize)>,
    counts: Counts,
    passed_over: PassedOver,
    failed: u64,
    /// Texts to gather before they are embedded.
    waiting_max: usize,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        let start = Instant::now();
        let volume = self.place.volume.open_for_long_work()?;
        volume.files().attributes(&self.place.path, LastLink::Follow)?;
        let embedder = from_name(&self.embedder, CommandLimits::default())?;
        let (info, made) = self.collection(&volume, &*embedder)?;
        let Shape { element, dimension, .. } = info.shape;
        let converter = RowConverter::new(Component::F32, embedder.dimension(), element, dimension)
            .map_err(|error| Failure::Failed(format!("collection {}: {error}", self.collection)))?;
        let mut run = Run {
            volume: &volume,
            info,
            embedder,
            converter,
            works: Vec::new(),
            texts: Vec::new(),
            seen: BTreeMap::new(),
            counts: Counts::default(),
            passed_over: BTreeMap::new(),
            failed: 0,
            waiting_max: 0,
        };
        run.waiting_max = WAITING_MAX.min(run.embedder.batch().max(WAITING_LEAST));
        let bar = output::progress("embedding", volume.status()?.inodes, false);
        let walked = self.walk(&mut run, &bar);
        bar.finish_and_clear();
        // What was embedded before a failure is kept.
        let flushed = walked.and_then(|()| run.flush());
        let built = build_graph(&volume, &run.info, Threads::default());
        let Run { counts, passed_over, failed, .. } = run;
        if made && counts.passages == 0 {
            self.drop_empty(&volume)?;
        }
        volume.close()?;
        flushed?;
        let built = built?;
        self.report(&counts, &passed_over, start)?;
        built.result(&self.place.volume, &self.collection)?;
        if failed > 0 { Err(Failure::Told) } else { Ok(()) }
    }

    /// The collection, and whether it was made here.
    fn collection(
        &self,
        volume: &Volume,
        embedder: &dyn Embedder,
    ) -> Outcome<(CollectionInfo, bool)> {
        if let Some(info) = find_if_any(volume, &self.collection)? {
            if info.model != embedder.model().as_bytes() {
                return Err(Failure::Failed(format!(
                    "collection '{}' holds vectors of model '{}' and embedder '{}' makes those of \
                     '{}': they cannot be compared; use another collection",
                    self.collection,
                    escape_name(&info.model),
                    self.embedder,
                    escape_name(embedder.model().as_bytes())
                )));
            }
            check_asked(&info, self.element, self.metric, None)?;
            let element = info.shape.element;
            if embedder.makes_fractions() && !holds_fractions(element) {
                return Err(Failure::Failed(format!(
                    "collection '{}' is of type {}, which holds none of the fractions that embedder \
                     '{}' makes; use another collection",
                    self.collection,
                    TypeName::of(element),
                    self.embedder
                )));
            }
            return Ok((info, false));
        }
        let element = self.element.unwrap_or(TypeName::F16).element();
        if embedder.makes_fractions() && !holds_fractions(element) {
            return Err(Failure::usage(format!(
                "--type {} holds none of the fractions that embedder '{}' makes; possible: f32, f16, \
                 bf16",
                TypeName::of(element),
                self.embedder
            )));
        }
        let metric = self.metric.unwrap_or(MetricName::Cosine).metric();
        let dimension = u32::try_from(embedder.dimension()).unwrap_or(u32::MAX);
        let shape = Shape { element, metric, dimension };
        let options = CollectionOptions {
            name: &self.collection,
            shape,
            model: embedder.model(),
            quantization: Quantization::None,
            degree: 0,
            build_effort: 0,
        };
        let made = volume.create_collection(&options);
        Ok((made.map_err(|error| collection_failure(&self.collection, error))?, true))
    }

    /// Drops the collection that was made here and has got no vector, which would decide what the
    /// next call makes of its options. Others may have put some meanwhile.
    fn drop_empty(&self, volume: &Volume) -> Outcome {
        match find_if_any(volume, &self.collection)? {
            Some(info) if info.counted && info.rows == 0 => {
                let dropped = volume.drop_collection(&self.collection);
                dropped.map_err(|error| collection_failure(&self.collection, error))
            }
            _ => Ok(()),
        }
    }

    fn walk(&self, run: &mut Run<'_>, bar: &ProgressBar) -> Outcome {
        for entry in run.volume.files().walk(&self.place.path)? {
            bar.inc(1);
            // A directory that cannot be read does not keep the others from being embedded.
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    run.fail(&error.into());
                    continue;
                }
            };
            if entry.inode.is_directory() {
                continue;
            }
            if !entry.inode.is_file() {
                run.pass_over("not a regular file", entry.path);
                continue;
            }
            if entry.inode.size == 0 {
                run.pass_over("empty", entry.path);
                continue;
            }
            match run.read(entry.path.clone(), self.again) {
                Ok(Reading::Fresh) => run.counts.fresh_files += 1,
                Ok(Reading::Taken) => {}
                Ok(Reading::PassedOver(why)) => run.pass_over(why, entry.path),
                // One unreadable file does not keep the others from being embedded.
                Err(failure) => run.fail(&failure),
            }
            if run.texts.len() >= run.waiting_max || run.works.len() >= WAITING_MAX {
                run.flush()?;
            }
        }
        Ok(())
    }

    fn report(&self, counts: &Counts, passed_over: &PassedOver, start: Instant) -> Outcome {
        if self.json {
            let mut reasons = json!({});
            for (why, paths) in passed_over {
                let paths: Vec<&[u8]> = paths.iter().map(|p| p.as_os_str().as_bytes()).collect();
                reasons = with_paths(reasons, why, &paths);
            }
            return output::json(&json!({
                "files": counts.files,
                "fresh_files": counts.fresh_files,
                "passages": counts.passages,
                "embedded": counts.embedded,
                "reused": counts.reused,
                "passed_over": reasons,
                "seconds": start.elapsed().as_secs_f64(),
            }));
        }
        for (why, names) in passed_over {
            let shown = if self.verbose { names.len() } else { NAMED_MAX.min(names.len()) };
            output::line(&format!("passed over, {why}: {}", names.len()))?;
            for name in &names[..shown] {
                output::line(&format!("  {}", printable(name)))?;
            }
            if shown < names.len() {
                output::line(&format!(
                    "  and {} more (--verbose names them)",
                    names.len() - shown
                ))?;
            }
        }
        output::line(&format!(
            "{} embedded, {} fresh before; {}: {} embedded, {} with the vector of a passage seen \
             before; {}",
            counted(counts.files, "file"),
            counts.fresh_files,
            counted(counts.passages, "passage"),
            counts.embedded,
            counts.reused,
            human_time(start.elapsed())
        ))
    }
}

/// Whether components of this type may be fractions.
fn holds_fractions(element: ElementType) -> bool {
    matches!(element, ElementType::F32 | ElementType::F16 | ElementType::Bf16)
}

impl<'a> Run<'a> {
    /// Tells of a failure that the run goes on after.
    fn fail(&mut self, failure: &Failure) {
        self.failed += 1;
        failure.tell();
    }

    fn pass_over(&mut self, why: &'static str, path: PathBuf) {
        self.passed_over.entry(why).or_default().push(path);
    }

    /// Whether a file has vectors in the collection, the first chunk's among them, all of its
    /// present content.
    fn is_fresh(&self, vectors: &FileVectors) -> bool {
        let mut ours = vectors.list.iter().filter(|vector| vector.collection == self.info.number);
        ours.clone().any(|vector| vector.chunk == 0) && ours.all(|vector| vector.fresh)
    }

    /// Cuts a file into passages, unless it is fresh. A file that turns out to be unreadable leaves
    /// no trace.
    fn read(&mut self, path: PathBuf, again: bool) -> Outcome<Reading> {
        let file = self.volume.files().open(&path)?;
        // Before its bytes are read: a change meanwhile makes what is embedded stale.
        let vectors = file.vectors()?;
        if !again && self.is_fresh(&vectors) {
            return Ok(Reading::Fresh);
        }
        let (inode, version) = (file.number()?, vectors.version.content);
        let mut passages = Passages::new(file, PassageLimits::default());
        // It is the engine's own error that comes back, with what to do about it.
        let fail = |error: std::io::Error| match error.downcast::<Error>() {
            Ok(error) => Failure::from(error),
            Err(error) => Failure::about(path.as_os_str().as_bytes(), error),
        };
        if passages.is_binary().map_err(fail)? {
            return Ok(Reading::PassedOver("binary"));
        }
        let work = self.works.len();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut texts = Vec::new();
        let mut seen = BTreeMap::new();
        let mut reused = 0;
        while let Some(passage) = passages.next_passage().map_err(fail)? {
            let digest = passage.digest();
            let found = match again {
                true => None,
                false => self.volume.find_by_digest(&self.info, &digest)?,
            };
            let state = match found {
                Some(bytes) => {
                    reused += 1;
                    State::Vector(bytes)
                }
                None => {
                    if self.seen.contains_key(&digest) || seen.contains_key(&digest) {
                        reused += 1;
                    } else {
                        seen.insert(digest, (work, pieces.len()));
                        texts.push((work, pieces.len(), passage.text().into_owned()));
                    }
                    State::Waiting
                }
            };
            let length = passage.bytes.len() as u64;
            pieces.push(Piece { offset: passage.offset, length, digest, state });
        }
        if pieces.is_empty() {
            return Ok(Reading::PassedOver("no text in it"));
        }
        self.counts.reused += reused;
        self.texts.append(&mut texts);
        self.seen.append(&mut seen);
        self.works.push(Work { path, inode, version, pieces });
        Ok(Reading::Taken)
    }

    /// Embeds what waits and stores the vectors of the files that are then complete.
    fn flush(&mut self) -> Outcome {
        let start = Instant::now();
        let batch = self.embedder.batch().max(1);
        let texts = std::mem::take(&mut self.texts);
        for part in texts.chunks(batch) {
            self.embed(part)?;
        }
        let seen = std::mem::take(&mut self.seen);
        for at in 0..self.works.len() {
            for piece in 0..self.works[at].pieces.len() {
                let this = &self.works[at].pieces[piece];
                if matches!(this.state, State::Waiting) {
                    let (work, first) = seen[&this.digest];
                    self.works[at].pieces[piece].state =
                        self.works[work].pieces[first].state.clone();
                }
            }
        }
        for work in std::mem::take(&mut self.works) {
            if let Err(failure) = self.store(&work) {
                self.fail(&failure);
            }
        }
        if start.elapsed() > FLUSH_MAX {
            // What has a vector is soon stored, even if requests are then not all full.
            self.waiting_max = batch.min(WAITING_MAX);
        }
        Ok(())
    }

    /// Embeds texts; those that the embedder refuses, one by one.
    fn embed(&mut self, texts: &[(usize, usize, String)]) -> Outcome {
        let strings: Vec<&str> = texts.iter().map(|(_, _, text)| text.as_str()).collect();
        match self.embedder.embed(&strings) {
            Ok(vectors) => {
                for ((work, piece, _), vector) in texts.iter().zip(vectors) {
                    let state = self.state(vector);
                    self.works[*work].pieces[*piece].state = state;
                }
                Ok(())
            }
            Err(error) if error.is_final() => Err(error.into()),
            Err(error) => {
                if let [(work, piece, _)] = texts {
                    self.works[*work].pieces[*piece].state = State::Failed;
                    Failure::from(error).tell();
                    return Ok(());
                }
                texts.chunks(1).try_for_each(|text| self.embed(text))
            }
        }
    }

    /// What becomes of a passage for which the embedder gave this.
    fn state(&mut self, vector: Option<Vec<f32>>) -> State {
        let cosine = self.info.shape.metric == Metric::Cosine;
        let Some(vector) = vector.filter(|v| !cosine || v.iter().any(|value| *value != 0.0)) else {
            return State::Nothing;
        };
        let mut bytes = Vec::new();
        match self.converter.convert(&float_row(&vector), &mut bytes) {
            Ok(()) => {
                self.counts.embedded += 1;
                State::Vector(bytes)
            }
            Err(error) => {
                Failure::Failed(format!("embedder {}: {error}", self.embedder.model())).tell();
                State::Failed
            }
        }
    }

    fn store(&mut self, work: &Work) -> Outcome {
        let name = escape_name(work.path.as_os_str().as_bytes());
        if work.pieces.iter().any(|piece| matches!(piece.state, State::Failed)) {
            return Err(Failure::Failed(format!(
                "{name}: left as it was, since a passage of it could not be embedded"
            )));
        }
        let mut puts: Vec<VectorPut<'_>> = Vec::new();
        for piece in &work.pieces {
            if let State::Vector(bytes) = &piece.state {
                puts.push(VectorPut {
                    chunk: puts.len() as u32,
                    offset: piece.offset,
                    length: piece.length,
                    content_version: Some(work.version),
                    tag: 0,
                    digest: piece.digest,
                    bytes,
                });
            }
        }
        if puts.is_empty() {
            self.pass_over("nothing to embed in it", work.path.clone());
        }
        // A file that has become shorter had more chunks. Chunk 0 comes last: with it the file
        // counts as embedded, should this end before.
        let file = self.open_again(work)?;
        file.remove_vectors(&self.info, puts.len() as u32..=u32::MAX)?;
        let (first, others) = puts.split_at(puts.len().min(1));
        for part in others.chunks(PUT_VECTORS_MAX).chain([first]) {
            file.put_vectors(&self.info, part)?;
        }
        self.counts.files += u64::from(!puts.is_empty());
        self.counts.passages += puts.len() as u64;
        Ok(())
    }

    /// Opens a file that was read a while ago.
    fn open_again(&self, work: &Work) -> Outcome<OpenFile<'a>> {
        let file = self.volume.files().open_for_change(&work.path)?;
        match file.number()? == work.inode {
            true => Ok(file),
            // On a mounted file system others work too.
            false => Err(Error::new(&work.path, CoreError::Stale).into()),
        }
    }
}
