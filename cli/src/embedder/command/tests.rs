// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Small shell programs that keep the protocol or break it.

use std::fs;
use std::path::PathBuf;

use super::*;

/// Reads requests and answers each by the shell code `answer`, which may use the request's number
/// `$id`.
fn server(hello: &str, answer: &str) -> String {
    format!(
        "printf '%s\\n' '{hello}'\n\
         while read -r line; do\n\
         id=${{line#*:}}; id=${{id%%,*}}\n\
         {answer}\n\
         done\n"
    )
}

const HELLO: &str = r#"{"model":"test-2","dimension":2}"#;

/// A program in a directory of its own, which goes with it.
struct Script {
    directory: tempfile::TempDir,
    limits: CommandLimits,
}

impl Script {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a script.sh"), text).unwrap();
        let limits = CommandLimits {
            start_timeout: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(60),
            end_timeout: Duration::from_secs(60),
            line_bytes_max: 10_000,
        };
        Self { directory, limits }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Result<CommandEmbedder, EmbedError> {
        let command = format!("sh '{}' first", self.path("a script.sh").display());
        CommandEmbedder::start(&command, self.limits)
    }

    /// What is said when the program does not start well.
    fn start_error(&self) -> String {
        self.start().unwrap_err().to_string()
    }

    /// What is said about the answer to two texts; the embedder stays unusable after that.
    fn error(&self) -> String {
        let mut embedder = self.start().unwrap();
        let error = embedder.embed(&["one", "two"]).unwrap_err();
        assert!(error.is_final());
        let text = error.to_string();
        let again = embedder.embed(&["one", "two"]).unwrap_err();
        assert_eq!(again.to_string(), text, "the program is not asked again");
        text
    }
}

/// Checks that the process of this number ends; it may be a zombie that nobody reaps here.
fn assert_ends(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} is still there: {stat}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_embeds_in_batches() {
    let script = Script::new(&server(
        r#"{"model":"test-2","dimension":2,"batch":2,"made by":["whom",{"ever":null}]}"#,
        r#"printf '%s\n' "$line" >> "$0.log"
        case $line in
        *,*,*) printf '{"id":%s,"vectors":[[%s,0.5],null]}\n' "$id" "$id";;
        *) printf '{"extra":1,"vectors":[[-1e-3,%s]],"id":%s,"error":null}\n' "$id" "$id";;
        esac"#,
    ));
    let mut embedder = script.start().unwrap();
    assert_eq!((embedder.model(), embedder.dimension(), embedder.batch()), ("test-2", 2, 2));
    let vectors = embedder.embed(&["a", "quote \" and\nline", "\u{e9}"]).unwrap();
    assert_eq!(vectors, [Some(vec![1.0, 0.5]), None, Some(vec![-1e-3, 2.0])]);
    assert_eq!(embedder.embed(&["b"]).unwrap(), [Some(vec![-1e-3, 3.0])]);
    assert!(embedder.embed(&[]).unwrap().is_empty());
    let log = fs::read_to_string(script.path("a script.sh.log")).unwrap();
    assert_eq!(
        log,
        "{\"id\":1,\"texts\":[\"a\",\"quote \\\" and\\nline\"]}\n\
         {\"id\":2,\"texts\":[\"\u{e9}\"]}\n\
         {\"id\":3,\"texts\":[\"b\"]}\n"
    );
}

#[test]
fn after_an_error_of_its_own_a_program_goes_on() {
    let script = Script::new(&server(
        HELLO,
        r#"case $line in
        *bad*) printf '{"id":%s,"error":"too\\nlong \\u001b[31m"}\n' "$id";;
        *) printf '{"id":%s,"vectors":[[1,2]]}\n' "$id";;
        esac"#,
    ));
    let mut embedder = script.start().unwrap();
    let error = embedder.embed(&["bad"]).unwrap_err();
    assert!(!error.is_final());
    let text = error.to_string();
    assert!(text.ends_with(" first' says: too long \\x1b[31m"), "{text}");
    assert_eq!(embedder.embed(&["good"]).unwrap(), [Some(vec![1.0, 2.0])]);
}

#[test]
fn first_lines_that_break_the_protocol_are_refused() {
    let long = format!(r#"{{"model":"{}","dimension":2}}"#, "x".repeat(256));
    for (hello, expected) in [
        ("Loading model...", "wrote 'Loading model...', which is not the JSON expected"),
        ("", "wrote '', which is not the JSON expected"),
        ("[]", "not the JSON expected"),
        (r#"{"dimension":2}"#, "missing field `model`"),
        (r#"{"model":"m"}"#, "missing field `dimension`"),
        (r#"{"model":"m","dimension":-1}"#, "not the JSON expected"),
        (r#"{"model":"m","dimension":0}"#, "dimension of 0, possible are 1 to 16384"),
        (r#"{"model":"m","dimension":16385}"#, "dimension of 16385"),
        (r#"{"model":"m","dimension":2,"batch":0}"#, "batch of 0, possible are 1 to 1024"),
        (r#"{"model":"","dimension":2}"#, "model tag"),
        (r#"{"model":"\u0007","dimension":2}"#, "model tag"),
        (&long, "model tag"),
    ] {
        let text = Script::new(&server(hello, "")).start_error();
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    }
}

#[test]
fn answers_that_break_the_protocol_end_the_program() {
    for (answer, expected) in [
        ("echo oops", "wrote 'oops', which is not the JSON expected"),
        (r#"echo '{"id":1,"vectors":[[NaN,0],[0,0]]}'"#, "not the JSON expected"),
        (r#"echo '{"id":1,"vectors":[[1e400,0],[0,0]]}'"#, "not the JSON expected"),
        (r#"echo '{"id":1,"vectors":[["1",0],[0,0]]}'"#, "not the JSON expected"),
        (
            r#"echo '{"id":1,"vectors":[[0,0],[0,1e39]]}'"#,
            "too large for f32 in component 1 of vector 1",
        ),
        (r#"echo '{"id":1,"vectors":[[0,0],[0]]}'"#, "gave 1 components in vector 1"),
        (r#"echo '{"id":1,"vectors":[[0,0,0],[0,0]]}'"#, "gave 3 components in vector 0"),
        (r#"echo '{"id":1,"vectors":[[0,0]]}'"#, "gave 1 vectors for 2 texts"),
        (r#"echo '{"id":1}'"#, "gave 0 vectors for 2 texts"),
        (r#"echo '{"id":7,"vectors":[[0,0],[0,0]]}'"#, "answered request 7 instead of 1"),
        (r#"echo '{"vectors":[[0,0],[0,0]]}'"#, "missing field `id`"),
        (r#"printf '{"id":1,"vectors":[[0,0],'; exit 0"#, "not the JSON expected"),
        ("printf '%20000s' x; sleep 1000", "wrote a line of more than 10000 bytes"),
        ("while :; do printf '%9000s\\n' x; done", "not the JSON expected"),
        ("exit 0", "ended without an answer (exit status: 0)"),
    ] {
        let text = Script::new(&server(HELLO, answer)).error();
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    }
}

#[test]
fn the_last_words_of_a_program_that_ends_early_are_told() {
    let script = Script::new("echo 'ModuleNotFoundError: no\tmodule' >&2; exit 3");
    let text = script.start_error();
    assert!(
        text.ends_with(
            "ended without an answer (exit status: 3); its last words: ModuleNotFoundError: no \
             module"
        ),
        "{text}"
    );
    let script = Script::new(&server(
        HELLO,
        "printf '%100000s\\n' head >&2; echo 'the tail' >&2; kill -9 $$",
    ));
    let text = script.error();
    assert!(text.contains("ended without an answer (signal: 9 (SIGKILL)"), "{text}");
    assert!(text.ends_with("the tail"), "{text}");
}

#[test]
fn a_program_that_stays_silent_is_ended_with_what_it_started() {
    let mut script = Script::new(&format!(
        "sleep 1000 & echo $! > \"$0.child\"; echo $$ > \"$0.pid\"; echo '{HELLO}'; wait"
    ));
    script.limits.reply_timeout = Duration::from_millis(10);
    assert!(script.error().contains("did not answer within 0.01 seconds"));
    for name in ["a script.sh.child", "a script.sh.pid"] {
        assert_ends(fs::read_to_string(script.path(name)).unwrap().trim());
    }
    let mut script = Script::new("sleep 1000");
    script.limits.start_timeout = Duration::from_millis(10);
    assert!(script.start_error().contains("did not answer within 0.01 seconds"));
}

#[test]
fn a_program_that_closes_its_output_is_ended() {
    let mut script = Script::new(&server(HELLO, "exec 1>&-; sleep 1000"));
    script.limits.end_timeout = Duration::from_millis(10);
    assert!(script.error().contains("closed its standard output without an answer"));
}

#[test]
fn a_program_that_does_not_read_does_not_block() {
    let mut script = Script::new(&format!("echo '{HELLO}'; sleep 1000"));
    script.limits.reply_timeout = Duration::from_millis(100);
    let mut embedder = script.start().unwrap();
    // More than a pipe holds.
    let text = "x".repeat(1 << 20);
    let error = embedder.embed(&[&text]).unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
}

#[test]
fn a_program_that_is_dropped_sees_its_input_end_and_is_reaped() {
    let script = Script::new(&format!(
        "echo $$ > \"$0.pid\"; echo '{HELLO}'; cat > /dev/null; echo done > \"$0.done\""
    ));
    let embedder = script.start().unwrap();
    let pid = fs::read_to_string(script.path("a script.sh.pid")).unwrap();
    drop(embedder);
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists());
    assert_eq!(fs::read_to_string(script.path("a script.sh.done")).unwrap(), "done\n");
}

#[test]
fn a_program_that_ignores_the_end_of_its_input_is_killed() {
    let mut script =
        Script::new(&format!("trap '' TERM HUP; echo $$ > \"$0.pid\"; echo '{HELLO}'; sleep 1000"));
    script.limits.end_timeout = Duration::from_millis(10);
    let embedder = script.start().unwrap();
    let pid = fs::read_to_string(script.path("a script.sh.pid")).unwrap();
    drop(embedder);
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists());
}
