//! That the page and its plots say what was found.

use std::collections::BTreeMap;

use super::{
    super::results::{Failover, Latency},
    *,
};

/// All files that are written for `results`, by their names.
fn files(results: &Results) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    write(results, directory.path()).unwrap();
    let beside = fs::read_dir(directory.path().join("performance")).unwrap();
    let all = fs::read_dir(directory.path()).unwrap().chain(beside).map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    all.filter(|path| path.is_file()).map(text).collect()
}

/// The texts of a plot.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn the_page_of_the_sample() {
    insta::assert_snapshot!(files(&sample::results())["performance.md"]);
}

#[test]
fn the_page_has_every_row() {
    let results = sample::results();
    let page = &files(&results)["performance.md"];
    let lines: Vec<Vec<&str>> = page.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for row in &results.rows {
        let star = if row.noisy { "\\*" } else { "" };
        let cells = [
            row.mode.clone(),
            row.table.clone(),
            row.family.clone(),
            names::packet(&row.protocol).to_owned(),
            format::count(row.flows),
            format!("{}{star}", format::nanoseconds(row.raw_ns)),
            format!("{}{star}", format::nanoseconds(row.net_ns)),
            format::ratio(row.ratio_return),
            format::ratio(row.ratio_head),
        ];
        let count = lines.iter().filter(|line| cells.iter().all(|cell| line.contains(&cell.as_str()))).count();
        assert!(count >= 1, "{cells:?}");
    }
    let rows = lines.iter().filter(|line| line.get(1) == Some(&"edge")).count();
    // One more is that of its size.
    assert_eq!(rows, results.rows.len() + 1);
}

#[test]
fn every_plot_is_on_the_page_and_says_what_it_shows() {
    let results = sample::results();
    let mut files = files(&results);
    let page = files.remove("performance.md").unwrap();
    assert_eq!(files.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), plots::files().collect());
    for (name, svg) in &files {
        assert!(page.contains(&format!("(performance/{name})")), "{name}");
        let title = texts(svg).into_iter().next().unwrap();
        assert!(page.contains(&format!("![{title}]")), "{title}");
    }

    let has = |name: &str, labels: &[&str]| {
        let texts = texts(&files[name]);
        for label in labels {
            assert!(texts.iter().any(|text| text == label), "{label}: {texts:?}");
        }
    };
    let ways = ["dsr 4", "dsr 6", "ipip 4in4", "ipip 6in6", "ipip 4in6", "ipip 6in4"];
    let flows = ["1", "1,024", "131,072", "1,048,576"];
    has("flows.svg", &[&ways[..], &flows, &["moves the head", "returns at once", "ns a packet"]].concat());
    has("flows-ratio.svg", &[&ways[..], &flows, &["target 1.7", "aim 1.45", "times the baseline"]].concat());
    has("kinds.svg", &["ARP", "fragment, first not seen", "IPv6", "ns a packet", "116.0"]);
    let transition = ["unconcerned, 1,024 flows", "recorded at new, 1,048,576 flows", "fresh table", "aged table"];
    // Less the driver's 30 ns, and 6 ns more in IPv6.
    has("transition.svg", &[&transition[..], &["71.0", "122", "77.0", "owner taken over, 1,048,576 flows"]].concat());
    has("services.svg", &["1 service, 3 backends", "1,000 services, 1,000 backends", "1,048,576 flows", "160.0"]);
    has("live.svg", &["UDP, ipip 4in4, 1 flow", "812", "1,204"]);
    let peers: Vec<_> = results.peers.iter().map(|peer| peer.name.as_str()).collect();
    has("throughput.svg", &[&peers[..], &["new connections/s", "9,800", "30,380", "91.8"]].concat());
    has("latency.svg", &[&peers[..], &["p50", "p99", "p99.9", "92.0 µs / 644 µs / 3.68 ms"]].concat());
    has("failover.svg", &[&peers[..], &["longest gap 420 ms", "31 of 16,000 failed"]].concat());
}

#[test]
fn names_stand_apart() {
    let svg = &files(&sample::results())["flows-ratio.svg"];
    let document = roxmltree::Document::parse(svg).unwrap();
    let beside = document.descendants().filter(|node| node.has_tag_name("text")).filter_map(|node| {
        let [x, y] = ["x", "y"].map(|name| node.attribute(name)?.parse::<i32>().ok());
        (x? > 740).then_some(y?)
    });
    let mut beside: Vec<_> = beside.collect();
    beside.sort_unstable();
    assert_eq!(beside.len(), 9);
    assert!(beside.windows(2).all(|two| two[1] - two[0] >= 14), "{beside:?}");
}

#[test]
fn the_same_results_give_the_same_files() {
    let results = sample::results();
    let again = serde_json::from_str(&serde_json::to_string(&results).unwrap()).unwrap();
    assert_eq!(files(&results), files(&again));
}

#[test]
fn what_was_not_measured_is_left_out() {
    let nothing = files(&Results::default());
    assert_eq!(nothing.keys().collect::<Vec<_>>(), ["performance.md"]);
    assert!(!nothing["performance.md"].contains("##"), "{}", nothing["performance.md"]);
    let sample = sample::results();
    let control = files(&Results { control: sample.control, ..Results::default() });
    assert!(control["performance.md"].contains("\n## Control plane\n"));
    assert!(!control["performance.md"].contains("\n## Targets\n"));
}

#[test]
fn plots_of_an_earlier_run_go() {
    let directory = tempfile::tempdir().unwrap();
    write(&sample::results(), directory.path()).unwrap();
    let other = directory.path().join("performance/mine.svg");
    fs::write(&other, "").unwrap();
    write(&Results::default(), directory.path()).unwrap();
    assert!(!directory.path().join("performance/flows.svg").exists());
    assert!(other.exists(), "what the bench did not make");
}

#[test]
fn a_peer_with_nothing_measured_has_its_rows() {
    let mut results = sample::results();
    for peer in &mut results.peers {
        (peer.connections_per_second, peer.requests_per_second, peer.cpu_seconds_per_million) = (0.0, 0.0, 0.0);
        (peer.latency, peer.failover) = (Latency::default(), Failover::default());
    }
    results.peers[0].failover = Failover { died_at: 3, answers: vec![7], ..Failover::default() };
    let files = files(&results);
    assert!(!files.contains_key("latency.svg"));
    texts(&files["throughput.svg"]);
    texts(&files["failover.svg"]);
    let line = files["performance.md"].lines().find(|line| line.starts_with("| nginx stream") && line.contains('–'));
    assert_eq!(line.unwrap().matches('–').count(), 3);
}
