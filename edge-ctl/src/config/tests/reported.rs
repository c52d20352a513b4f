//! Display of refusals: several at once, places in a line, files that are no configuration.

use super::{
    catalogue::{check, without_randomness},
    *,
};

#[test]
fn several_problems_at_once() {
    let text = GOOD
        .replace("name = \"eth0\"", "name = \"eth0\"\nmode = \"xdp\"")
        .replace("type = \"http\"", "type = \"http\"\ninterval = 1\nstatus = 99\ntimeot = \"1s\"")
        .replace("address = \"10.1.0.11\"", "address = \"a1.example.org\"\nweight = -5")
        .replace("ports = [\"80/tcp\"]\n", "prots = [\"80/tcp\"]\n")
        .replace("pools = [\"provider-a\"]", "pools = [\"provider-a\", \"provider-b\"]");
    check!(refusal(&text));
}

#[test]
fn other_files() {
    let binary = |bytes: &[u8]| parse_bytes(bytes, "edge.toml").expect_err("not a configuration").to_string();
    let empty = without_randomness(&refusal(""));
    let texts = [
        empty,
        binary(&[GOOD.as_bytes(), b"# caf\xe9\n"].concat()),
        binary(b"\x7fELF\x02\x01\x01\0\0\0"),
        refusal("{\"hash_key\": 1}"),
        refusal("hash_key: abc\nslots: 5\n"),
        load(Path::new("/nonexistent/edge.toml")).expect_err("no such file").to_string(),
        load(Path::new("/proc")).expect_err("a directory").to_string(),
    ];
    check!(texts.join("\n\n"));
}

#[test]
fn a_long_row_of_problems_is_cut() {
    let wrong: Vec<_> = (0..80).map(|i| format!("wrong{i} = 1\n")).collect();
    let error = refusal(&format!("{GOOD}{}", wrong.concat()));
    assert_eq!(error.lines().filter(|line| line.starts_with("  write: ")).count(), 50);
    assert!(error.ends_with("\nedge.toml: and 30 more problems"), "{error}");
}

#[test]
fn columns_are_characters() {
    let text = GOOD.replace("name = \"a1\"", "name = \"ä1\" # ünï").replace("[[pool.backend]]", "[[pool.backend]] # ä");
    let error = parse(&text, "edge.toml").expect_err("a bad name");
    assert_eq!(error.problems().iter().map(|problem| (problem.line, problem.column)).collect::<Vec<_>>(), [(12, 8)]);
    let inline = GOOD.replace("pools = [\"provider-a\"]", "pools = [\"ä\", \"provider-a\", \"ü\"]");
    let error = parse(&inline, "edge.toml").expect_err("unknown pools");
    let places: Vec<_> = error.problems().iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(19, 10), (19, 29)]);
}
