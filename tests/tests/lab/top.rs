//! `top` in a real terminal, with real traffic.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use edge_tests::lab::{
    small::{Mode, Served, Small},
    terminal::Terminal,
    topology::EDGE,
};
use nix::sys::signal::Signal;

const SIZE: (u16, u16) = (24, 80);

fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    lab.balance(Mode::Native).expect("the load balancer starts");
    lab
}

fn top(lab: &Small) -> Terminal {
    let mut command = lab.edge().unwrap().command(lab.netns(EDGE)).unwrap();
    Terminal::start(command.arg("top"), SIZE).expect("a terminal")
}

/// Packets and flows per second, in the third line of the screen.
fn rates(text: &str) -> Option<[f64; 2]> {
    let sums = text.lines().nth(2)?;
    let rate = |unit: &str| {
        let number = sums.split("  ").find_map(|part| part.strip_suffix(unit))?.trim();
        number.trim_end_matches(['k', 'M']).parse::<f64>().ok()
    };
    Some([rate(" pkt/s")?, rate(" flows/s")?])
}

/// Waits until the screen shows rates above zero, while clients make requests.
fn shows_traffic(lab: &Small, terminal: &Terminal) {
    let vip = Served::named("4in4").vip;
    let is_there = |text: &str| {
        lab.request(vip, 10).unwrap();
        rates(text).is_some_and(|rates| rates.iter().all(|rate| *rate > 0.0))
    };
    terminal.shows(is_there).unwrap();
}

#[test]
fn rates_are_live_and_the_terminal_is_left_as_it_was() {
    let mut lab = lab();
    let mut terminal = top(&lab);
    terminal.shows(|text| text.contains("SERVICE") && text.contains("4in4")).unwrap();
    assert!(terminal.screen(vt100::Screen::alternate_screen), "it has the screen");
    shows_traffic(&lab, &terminal);

    // Into the service, into a backend, and back.
    terminal.press("/echo-4in4\r\r").unwrap();
    terminal
        .shows(|text| text.contains("> echo-4in4") && text.contains("BACKEND") && text.contains("in ipip mode"))
        .unwrap();
    terminal.press("\r").unwrap();
    terminal.shows(|text| text.contains("with weight") && text.contains("next hop")).unwrap();
    terminal.press("3").unwrap();
    terminal.shows(|text| text.contains("MEANING")).unwrap();
    terminal.press("q").unwrap();
    assert!(terminal.ended().unwrap().success());
    assert!(terminal.is_restored().unwrap(), "{}", terminal.text());

    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = top(&lab);
        terminal.shows(|text| text.contains("SERVICE")).unwrap();
        terminal.signal(signal).unwrap();
        assert!(terminal.ended().unwrap().success(), "{signal}");
        assert!(terminal.is_restored().unwrap(), "{signal}: {}", terminal.text());
    }

    // The daemon dies under it: it goes on with the pinned maps.
    let mut terminal = top(&lab);
    terminal.shows(|text| text.contains("daemon ")).unwrap();
    lab.kill_daemon().unwrap();
    terminal.shows(|text| text.contains("NO DAEMON")).unwrap();
    shows_traffic(&lab, &terminal);
    // Everything is gone under it: it says so, above the last reading.
    lab.ctl(&["detach"]).unwrap();
    terminal.shows(|text| text.contains("NO READING") && text.contains("4in4")).unwrap();
    terminal.press("\u{3}").unwrap();
    assert!(terminal.ended().unwrap().success());
    assert!(terminal.is_restored().unwrap(), "{}", terminal.text());
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let lab = lab();
    let output = lab.edge().unwrap().output(lab.netns(EDGE), &["top"]).unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("needs a terminal") && message.contains("edge-ctl status"), "{message}");
    assert!(output.stdout.is_empty());
}
