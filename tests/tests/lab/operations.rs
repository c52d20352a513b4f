//! docs/operations.md: the commands on the page are run in an outage, and print what the page shows. With `EDGE_PAGE=write` the test
//! writes the page's output anew.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Two providers with a backend each, two services of both, and one that has only the second provider.
fn configuration(vip: &str, interval: Duration) -> String {
    let interval = interval.as_millis();
    let mut text =
        "hash_key = \"4be0a7c195d2438f8a6613f05c7d92ea\"\nslots = 1024\n[limits]\nflows = 1024\nfragments = 64\n\
                    [[interface]]\nname = \"eth0\"\n"
            .to_owned();
    for (pool, backend, address) in [("provider-a", "a1", "10.1.1.11"), ("provider-b", "b1", "10.1.2.11")] {
        let _ = write!(
            text,
            "[[pool]]\nname = \"{pool}\"\ndamping = \"0s\"\nslow_start = \"0s\"\nfailback_after = \"0s\"\nfailback_over = \"0s\"\n\
             [pool.probe]\ntype = \"tcp\"\nport = 7\nthrough = \"address\"\ninterval = \"{interval}ms\"\ntimeout = \"{interval}ms\"\n\
             rise = 1\nfall = 5\n[[pool.backend]]\nname = \"{backend}\"\naddress = \"{address}\"\n"
        );
    }
    for (service, port, pools) in [
        ("web", "7/tcp", "\"provider-a\", \"provider-b\""),
        ("dns", "7/udp", "\"provider-a\", \"provider-b\""),
        ("mail", "25/tcp", "\"provider-b\""),
    ] {
        let _ = write!(
            text,
            "[[service]]\nname = \"{service}\"\nvips = [\"{vip}\"]\nports = [\"{port}\"]\nmode = \"dsr\"\npools = [{pools}]\n"
        );
    }
    text
}

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md"))
}

/// The page's blocks: the command, and what it prints.
fn blocks(page: &str) -> Vec<(String, String)> {
    let blocks = page.split("```console\n# edge-ctl ").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| block.split_once('\n').unwrap())
        .map(|(command, text)| (command.to_owned(), text.to_owned()))
        .collect()
}

/// The words of a text: what does not depend on times and numbers.
fn shape(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_alphabetic() && char != '-' && char != '_');
    words.filter(|word| word.len() >= 4).map(str::to_owned).collect()
}

struct Stage {
    lab: Small,
    /// The page with the output of this run.
    page: String,
    seen: Vec<(String, String)>,
}

impl Stage {
    /// Runs a command of the page, and puts its output into the page.
    fn show(&mut self, command: &str) {
        // As a shell would.
        let parts = command.split('"').enumerate();
        let args =
            parts.flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() });
        let args: Vec<_> = args.collect();
        let output = self.lab.edge().unwrap().output(self.lab.netns(EDGE), &args).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let path = self.lab.edge().unwrap().configuration();
        let text = text.replace(path.to_str().unwrap(), "/etc/edge/edge.toml");
        let (before, rest) =
            self.page.split_once(&format!("```console\n# edge-ctl {command}\n")).unwrap_or_else(|| {
                panic!("docs/operations.md has no block for `edge-ctl {command}`");
            });
        let (_, after) = rest.split_once("```").unwrap();
        self.page = format!("{before}```console\n# edge-ctl {command}\n{text}```{after}");
        self.seen.push((command.to_owned(), text));
    }

    fn service(&self, name: &str) -> Value {
        let status = self.lab.edge().unwrap().status(self.lab.netns(EDGE)).unwrap();
        status["services"].as_array().unwrap().iter().find(|service| service["name"] == name).unwrap().clone()
    }

    fn wait_for(&self, what: &str, reached: impl Fn() -> bool) {
        let reached = wait_until(patience(SOON), || Ok(reached())).unwrap();
        assert!(reached, "{what}: {}", self.lab.ctl(&["status"]).unwrap());
    }
}

#[test]
fn the_page_shows_what_its_commands_print() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    let vip = Served::named("dsr4").vip;
    lab.prepare(Mode::Native, "").unwrap();
    lab.configure(&configuration(&vip.to_string(), patience(Duration::from_millis(100)))).unwrap();
    lab.start_daemon().expect("it starts");
    let text = fs::read_to_string(page()).unwrap();
    let mut stage = Stage { lab, page: text.clone(), seen: Vec::new() };
    let ups = |stage: &Stage| stage.lab.ctl(&["status"]).unwrap().starts_with("OK: ");
    stage.wait_for("all is well", || ups(&stage));
    stage.lab.request(vip, 20).unwrap();

    // Provider a fails.
    stage.lab.netns(BACKENDS[0]).ip("link set eth0 down\n").unwrap();
    let has_moved = |stage: &Stage| ["web", "dns"].iter().all(|name| stage.service(name)["serving"] == "provider-b");
    stage.wait_for("services have left it", || has_moved(&stage));
    stage.lab.request(vip, 20).unwrap();
    // Rates are over a second, and the events are complete.
    std::thread::sleep(patience(Duration::from_secs(3)));
    stage.show("status --trouble");
    stage.show("incident");
    stage.show("incident --last");
    stage.show(&format!("explain tcp 10.0.0.2:51515 {vip}:7"));

    // It is back; provider b is evacuated.
    stage.lab.netns(BACKENDS[0]).ip("link set eth0 up\nroute add default via 10.1.1.1\n").unwrap();
    stage.wait_for("all is well", || ups(&stage));
    stage.show("evacuate provider-a --dry-run");
    stage.show("evacuate provider-a --for 2h --reason \"maintenance\"");
    stage.wait_for("services have left it", || has_moved(&stage));
    stage.show("return provider-a");
    stage.wait_for("services are back", || stage.service("web")["serving"] == "provider-a");

    let Stage { page: new, seen, .. } = stage;
    if std::env::var("EDGE_PAGE").is_ok_and(|value| value == "write") {
        fs::write(page(), new).unwrap();
        return;
    }
    let shown = blocks(&text);
    assert_eq!(shown.len(), seen.len(), "each block of the page is run");
    for ((command, old), (run, new)) in shown.iter().zip(&seen) {
        assert_eq!(command, run, "the page has the commands in the order of the story");
        assert_eq!(shape(old), shape(new), "edge-ctl {command} now prints:\n{new}\nwrite the page anew: see its end");
    }
}
