//! Replays the committed corpus, each file unchanged and with a hundred kinds of damage that are the same in each run.

use std::fs;

use edge_tests::workspace;

use super::Reader;

/// A pseudo-random sequence of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or_default()
    }
}

fn damaged(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.next() % 3 {
        let at = numbers.next() % (bytes.len() + 1);
        let end = (at + numbers.next() % 12).min(bytes.len());
        match numbers.next() % 5 {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = numbers.next() % (bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            3 => {
                const WORDS: [&[u8]; 8] =
                    [b"\x1b[2J", b"\0", b"\xff", b"-1", b"18446744073709551615", b"null", b"\\u0007", b"\""];
                bytes.splice(at..end, WORDS[numbers.next() % WORDS.len()].iter().copied());
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (numbers.next() % 8)),
        }
    }
    bytes
}

fn replay(reader: Reader) {
    let directory = workspace().join("tests/fuzz/control").join(reader.name());
    let paths = fs::read_dir(&directory).expect("the corpus is there").map(|entry| entry.expect("a file").path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut numbers = Numbers(1);
    for path in paths {
        let bytes = fs::read(&path).expect("a file of the corpus");
        reader.read(&bytes);
        for _ in 0..rounds() {
            let damaged = damaged(&bytes, &mut numbers);
            let read = std::panic::catch_unwind(|| reader.read(&damaged));
            assert!(read.is_ok(), "{}: {:?}", path.display(), String::from_utf8_lossy(&damaged));
        }
    }
}

/// Rounds of damage per file; `FUZZ_ROUNDS` overrides the number.
fn rounds() -> u32 {
    std::env::var("FUZZ_ROUNDS").map_or(100, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn configurations() {
    replay(Reader::Configuration);
}

#[test]
fn requests() {
    replay(Reader::Request);
}

#[test]
fn states() {
    replay(Reader::State);
}

#[test]
fn long_names_in_requests_do_not_make_long_answers() {
    for body in
        [format!("{{\"{}\": 1}}", "a".repeat(1 << 20)), format!("{{\"to\": \"{}\"}}", "b\\u001b".repeat(1 << 16))]
    {
        for path in ["/v1/services/web/failover", "/v1/backends/a/b/drain", "/v1/apply", "/v1/rollback"] {
            Reader::Request.read(format!("POST {path}\n\n{body}").as_bytes());
        }
    }
    let body = serde_json::json!({ "text": "x", "file": "\u{1b}[2J".repeat(1 << 16) });
    Reader::Request.read(format!("POST /v1/apply\n\n{body}").as_bytes());
}
