// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The built-in embedder: hashed n-grams of words and characters.
//!
//! It compares wording, not meaning: texts are near when they share words, pairs of words or parts
//! of words, so that typing errors and endings do little harm, and "car" is as far from
//! "automobile" as from "banana". It needs no model, and its vectors are the same on every
//! machine: all sums are of integers, and the one square root and the divisions are exact in
//! IEEE 754.
//!
//! The method is feature hashing with signs (Weinberger, Dasgupta, Langford, Smola and Attenberg,
//! "Feature hashing for large scale multitask learning", ICML 2009, section 2) of the features of
//! Bojanowski, Grave, Joulin and Mikolov, "Enriching word vectors with subword information" (TACL
//! 2017, section 3.2), with term frequency damped (Manning, Raghavan and Schuetze, "Introduction to
//! information retrieval", section 6.4.1; here by the square root).

use super::{EmbedError, Embedder, Vectors};

/// Components of each vector.
const DIMENSION: usize = 256;

/// Changes whenever any text's vector would.
const MODEL: &str = "vexfs-lexical-256-v1";

/// Characters of a word at most; what is longer (no text, or one without spaces) counts as
/// several words.
const WORD_CHARACTERS_MAX: usize = 64;

/// What each kind of feature weighs. Found by trial: five or eight words in a row, with up to two
/// typing errors, had to find their passage among 2,000 of the documentation of a Linux system.
/// Nearby weights do as well.
const WORD_WEIGHT: u32 = 64;
const STOP_WORD_WEIGHT: u32 = 8;
/// Two words in a row, stop words left out.
const PAIR_WEIGHT: u32 = 48;
/// Characters in a row within a word and the marks of its ends: how many, and their weight.
const GRAM_WEIGHTS: [(usize, u32); 3] = [(3, 24), (4, 24), (5, 20)];

/// English words that tell little of what a text is about, in order.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "between", "both", "but", "by", "can", "could", "did",
    "do", "does", "doing", "down", "during", "each", "either", "every", "few", "for", "from",
    "further", "had", "has", "have", "having", "he", "her", "here", "hers", "him", "his", "how",
    "however", "i", "if", "in", "into", "is", "it", "its", "just", "may", "me", "might", "more",
    "most", "must", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "one", "only",
    "or", "other", "our", "ours", "out", "over", "own", "same", "shall", "she", "should", "so",
    "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "until", "up", "upon", "use", "used", "very",
    "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will",
    "with", "would", "you", "your",
];

/// The built-in embedder.
#[derive(Debug, Default)]
pub struct LexicalEmbedder {
    _private: (),
}

impl LexicalEmbedder {
    /// The embedder; it holds nothing.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Embedder for LexicalEmbedder {
    fn model(&self) -> &str {
        MODEL
    }

    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn makes_fractions(&self) -> bool {
        true
    }

    fn batch(&self) -> usize {
        64
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError> {
        Ok(texts.iter().map(|text| embed(text)).collect())
    }
}

/// The vector of a text, of length 1; `None` if the text has no letter and no digit (or, which no
/// text met so far does, features that cancel out).
fn embed(text: &str) -> Option<Vec<f32>> {
    let mut features = Features::default();
    for_each_word(text, |word| features.add_word(word));
    let sums = features.sums();
    // The sums are exact; what follows is rounded as IEEE 754 says, in a fixed order.
    let squares = sums.iter().map(|&sum| sum as f64 * sum as f64).sum::<f64>();
    if squares == 0.0 {
        return None;
    }
    let length = squares.sqrt();
    Some(sums.iter().map(|&sum| (sum as f64 / length) as f32).collect())
}

/// Calls `visit` with each word: letters and digits in lower case, without the apostrophes in it.
fn for_each_word(text: &str, mut visit: impl FnMut(&[char])) {
    let mut word = Vec::with_capacity(WORD_CHARACTERS_MAX);
    for character in text.chars() {
        if character.is_alphanumeric() {
            for lower in character.to_lowercase() {
                if word.len() == WORD_CHARACTERS_MAX {
                    visit(&word);
                    word.clear();
                }
                word.push(lower);
            }
        } else if !matches!(character, '\'' | '\u{2019}') && !word.is_empty() {
            visit(&word);
            word.clear();
        }
    }
    if !word.is_empty() {
        visit(&word);
    }
}

/// The features of a text, each with its weight, as often as it occurs.
#[derive(Default)]
struct Features {
    /// Hash and weight.
    occurrences: Vec<(u64, u32)>,
    /// The word before, without stop words.
    previous: Option<u64>,
    /// A word between the marks of its start and end.
    marked: Vec<char>,
}

impl Features {
    fn add_word(&mut self, word: &[char]) {
        let hash = hash_characters(1, word);
        if is_stop_word(word) {
            self.occurrences.push((hash, STOP_WORD_WEIGHT));
            return;
        }
        self.occurrences.push((hash, WORD_WEIGHT));
        if let Some(previous) = self.previous.replace(hash) {
            self.occurrences.push((mix(previous ^ hash.rotate_left(32)), PAIR_WEIGHT));
        }
        self.marked.clear();
        self.marked.push('<');
        self.marked.extend(word);
        self.marked.push('>');
        for (length, weight) in GRAM_WEIGHTS {
            // The whole word is a feature already.
            if length < self.marked.len() {
                let grams = self.marked.windows(length);
                self.occurrences.extend(grams.map(|gram| (hash_characters(2, gram), weight)));
            }
        }
    }

    /// The sum of the features in each bucket.
    fn sums(&mut self) -> [i64; DIMENSION] {
        let mut sums = [0; DIMENSION];
        self.occurrences.sort_unstable();
        for same in self.occurrences.chunk_by(|left, right| left == right) {
            let Some(&(hash, weight)) = same.first() else { continue };
            let value = i64::from(weight) * sublinear(same.len());
            let sum = &mut sums[hash as usize % DIMENSION];
            *sum += if hash >> 63 == 0 { value } else { -value };
        }
        sums
    }
}

/// 16 times the square root of `count`: the tenth occurrence says less than the second.
fn sublinear(count: usize) -> i64 {
    (count as i64).saturating_mul(256).isqrt()
}

fn is_stop_word(word: &[char]) -> bool {
    STOP_WORDS.binary_search_by(|stop| stop.chars().cmp(word.iter().copied())).is_ok()
}

/// FNV-1a over the characters, then mixed, because FNV leaves its upper bits poor.
fn hash_characters(kind: u64, characters: &[char]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ kind;
    mix(characters.iter().fold(start, |hash, &character| {
        (hash ^ u64::from(u32::from(character))).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// The finaliser of splitmix64.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(text: &str) -> Vec<f32> {
        embed(text).unwrap()
    }

    fn cosine(left: &str, right: &str) -> f32 {
        vector(left).iter().zip(vector(right)).map(|(left, right)| left * right).sum()
    }

    const OVEN: &str = "Preheat the oven to two hundred degrees and butter the baking tin. Whisk the \
        eggs with the sugar until the mixture is pale, fold in the flour, and bake for half an hour \
        until a needle comes out clean.";
    const OVEN_EDITED: &str = "Preheat your oven to 200 degrees and butter a baking tin. Whisk eggs \
        and sugar until the mixture turns pale, then fold in the flour and bake for thirty minutes, \
        until a needle comes out clean.";
    const BRIDGE: &str = "The bridge was closed after engineers found cracks in two of its main \
        cables. Traffic is diverted through the tunnel while the cables are replaced, which the \
        city expects to take until spring.";
    const KERNEL: &str = "A process that waits for a page fault holds the lock of its address space \
        for reading. Other threads can fault at the same time, but none can change the mappings \
        before the last of them has finished.";

    #[test]
    fn near_duplicates_are_nearer_than_unrelated_texts() {
        let related = cosine(OVEN, OVEN_EDITED);
        assert!(related > 0.6, "{related}");
        for (left, right) in
            [(OVEN, BRIDGE), (OVEN, KERNEL), (BRIDGE, KERNEL), (OVEN_EDITED, BRIDGE)]
        {
            let unrelated = cosine(left, right);
            assert!(unrelated < 0.3, "{unrelated}: {left} {right}");
        }
    }

    #[test]
    fn case_punctuation_and_apostrophes_do_not_matter() {
        assert_eq!(vector("Don't PANIC!"), vector("dont -- (panic)"));
        assert_eq!(vector("Don\u{2019}t panic"), vector("don't panic"));
        assert_ne!(vector("don't panic"), vector("panic, don't they"));
    }

    #[test]
    fn vectors_have_length_one() {
        for text in [OVEN, BRIDGE, "x", "7", "the", "\u{4f60}\u{597d}", &"word ".repeat(100_000)] {
            let vector = vector(text);
            assert_eq!(vector.len(), DIMENSION);
            let length: f32 = vector.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-5, "{text}");
        }
    }

    #[test]
    fn texts_without_words_have_no_vector() {
        let mut embedder = LexicalEmbedder::new();
        let vectors = embedder.embed(&["", " \n", "--- ... !?", "\u{fffd}\u{fffd}", "a"]).unwrap();
        assert!(vectors[..4].iter().all(Option::is_none));
        assert!(vectors[4].is_some());
    }

    #[test]
    fn stop_words_weigh_little() {
        let about = "the history of the bridge";
        assert!(cosine(about, "a history for a bridge") > cosine(about, "the of the in the"));
        assert!(STOP_WORDS.is_sorted());
    }

    /// Vectors are stored: the same text must have the same one on every machine and in every
    /// later version with this model tag.
    #[test]
    fn vectors_are_the_same_everywhere() {
        let mut hasher = blake3::Hasher::new();
        for text in [OVEN, BRIDGE, KERNEL, "Stra\u{df}e \u{130}stanbul \u{4f60}\u{597d} 42nd"] {
            for value in vector(text) {
                hasher.update(&value.to_le_bytes());
            }
        }
        assert_eq!(hasher.finalize().to_hex()[..32], *"b4fd40904af3efa2a1aa49c4a1f988e1");
    }

    /// Pseudo-random numbers (xorshift64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % bound
        }
    }

    /// Paragraphs of invented words. As in a language, few words make up most of the text
    /// (the word of rank r is drawn about 1/r of the time), with English stop words between.
    fn paragraphs(random: &mut Random) -> Vec<Vec<String>> {
        let syllable = |random: &mut Random| {
            let (consonant, vowel) = (random.below(20), random.below(5));
            let end = ["", "", "n", "r", "st"][random.below(5)];
            format!("{}{}{end}", &"bcdfghjklmnpqrstvwxz"[consonant..][..1], &"aeiou"[vowel..][..1])
        };
        let words: Vec<String> = (0..3000)
            .map(|_| (0..2 + random.below(3)).map(|_| syllable(random)).collect())
            .collect();
        (0..300)
            .map(|_| {
                (0..80)
                    .map(|_| match random.below(5) {
                        0 | 1 => STOP_WORDS[random.below(STOP_WORDS.len())].to_owned(),
                        _ => {
                            let rank = 3000f64.powf(random.below(1 << 20) as f64 / 1048576.0);
                            words[rank as usize - 1].clone()
                        }
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn a_query_with_typing_errors_finds_its_passage() {
        let mut random = Random(7);
        let paragraphs = paragraphs(&mut random);
        let vectors: Vec<Vec<f32>> =
            paragraphs.iter().map(|words| vector(&words.join(" "))).collect();
        let (mut first, mut near) = (0, 0);
        let queries = 200;
        for _ in 0..queries {
            let wanted = random.below(paragraphs.len());
            let start = random.below(80 - 16);
            let mut query = paragraphs[wanted][start..start + 16].to_vec();
            for _ in 0..2 {
                let long: Vec<usize> = (0..16).filter(|&word| query[word].len() >= 5).collect();
                let word = &mut query[long[random.below(long.len())]];
                // A letter left out.
                word.remove(1 + random.below(word.len() - 2));
            }
            let query = vector(&query.join(" "));
            let score = |vector: &Vec<f32>| -> f32 {
                vector.iter().zip(&query).map(|(left, right)| left * right).sum()
            };
            let found = score(&vectors[wanted]);
            let better = vectors.iter().filter(|vector| score(vector) > found).count();
            first += usize::from(better == 0);
            near += usize::from(better < 10);
        }
        assert!(first * 10 >= queries * 8, "first for {first}, among ten for {near} of {queries}");
        assert!(near * 100 >= queries * 95, "among ten for {near} of {queries}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            rng_seed: proptest::test_runner::RngSeed::Fixed(5),
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_text_with_a_letter_or_digit_has_a_vector(text: String) {
            let has_word = text.chars().any(char::is_alphanumeric);
            let vector = embed(&text);
            proptest::prop_assert_eq!(has_word, vector.is_some());
            if let Some(vector) = vector {
                proptest::prop_assert!(vector.iter().all(|value| value.is_finite()));
            }
        }
    }
}
