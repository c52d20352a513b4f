//! Expiry of backends' certificates: reported once when it is near, and shown in `status`.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use edge_tests::lab::{
    nginx,
    process::Process,
    small::{Mode, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

/// Time from a change of the certificate to its report: some probes and a second.
const SOON: Duration = Duration::from_secs(10);
const DAY: u64 = 86_400;
const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");
/// The expiry time in the lab's certificate.
const END: &[u8] = b"21261105051419Z";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The lab's certificate with another expiry time, so that its signature is wrong: for probes that do not verify it.
fn certificate(end: SystemTime) -> String {
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let end =
        Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%d%H%M%SZ"]).output().expect("a date");
    let text = std::fs::read_to_string(format!("{PEM}/server.pem")).expect("the lab's certificate");
    let digits = text.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let digits = digits.bytes().filter_map(|digit| BASE64.iter().position(|known| *known == digit)).collect::<Vec<_>>();
    let bytes = digits.chunks(4).flat_map(|digits| {
        let word = digits.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - digits.len()));
        (0..digits.len() - 1).map(move |place| u8::try_from(word >> (16 - 8 * place) & 0xff).expect("a byte"))
    });
    let mut bytes: Vec<u8> = bytes.collect();
    let place = bytes.windows(END.len()).position(|window| window == END).expect("the end is in it");
    bytes[place..place + END.len()].copy_from_slice(end.stdout.trim_ascii());
    let encoded = bytes.chunks(3).map(|bytes| {
        let word = bytes.iter().fold(0, |word, byte| word << 8 | usize::from(*byte)) << (8 * (3 - bytes.len()));
        let digit =
            |place: usize| if place > bytes.len() { '=' } else { char::from(BASE64[word >> (18 - 6 * place) & 63]) };
        (0..4).map(digit).collect::<String>()
    });
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encoded.collect::<Vec<_>>().join("\n"))
}

/// A server whose certificate expires in `days` days, or has expired.
fn server(lab: &Small, dir: &Path, days: i64) -> Process {
    let moment = Duration::from_secs(days.unsigned_abs() * DAY);
    // Half a day more, so that the number of whole days is the same for a while.
    let now = SystemTime::now() + Duration::from_secs(DAY / 2);
    std::fs::write(dir.join("server.pem"), certificate(if days < 0 { now - moment } else { now + moment })).unwrap();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         server {{\nlisten 443 ssl;\nssl_certificate {dir}/server.pem;\nssl_certificate_key {PEM}/server.key;\n\
         location / {{ return 200 \"ready\\n\"; }}\n}}\n}}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = lab.netns("be1").command(nginx::binary().unwrap()).unwrap();
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start("nginx with TLS", &mut command, &dir.join("output.log")).unwrap()
}

fn pool(name: &str, more: &str) -> String {
    format!(
        "\n[[pool]]\nname = \"{name}\"\ndamping = \"0s\"\nbackend = [{{ name = \"{name}\", address = \"10.1.1.11\" }}]\n\
         [pool.probe]\ntype = \"https\"\nport = 443\nhost = \"www.example.org\"\ninterval = \"200ms\"\ntimeout = \"200ms\"\n\
         rise = 1\nfall = 1\n{more}\n"
    )
}

/// The certificate of a pool's only backend in `status`.
fn shown(lab: &Small, pool: &str) -> Value {
    let status = lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
    let found = status["pools"].as_array().unwrap().iter().find(|found| found["name"] == pool).unwrap();
    found["backends"][0]["certificate"].clone()
}

/// Kinds of the events about certificates of a pool's only backend.
fn events(lab: &Small, pool: &str) -> Vec<String> {
    let events = lab.ctl(&["events"]).unwrap();
    let of_pool =
        events.lines().filter(|line| line.contains(&format!("  {pool}/{pool} ")) && line.contains("  certificate_"));
    of_pool.filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect()
}

fn expect(lab: &Small, pool: &str, state: &str, days: i64) {
    let is_so = || Ok(shown(lab, pool)["state"] == state && shown(lab, pool)["days"] == days);
    assert!(wait_until(SOON, is_so).unwrap(), "{pool}: {state}, {days}: {}", shown(lab, pool));
}

/// Waits for as many events as there are `kinds`, and compares their kinds.
fn expect_events(lab: &Small, pool: &str, kinds: &[&str]) {
    wait_until(SOON, || Ok(events(lab, pool).len() >= kinds.len())).unwrap();
    assert_eq!(events(lab, pool), kinds, "{pool}: {}", lab.ctl(&["events"]).unwrap());
}

#[test]
fn an_expiring_certificate_is_reported_once_and_so_is_a_valid_one() {
    let mut lab = Small::on_veth().unwrap();
    lab.probe_addresses();
    let dir = tempfile::tempdir().unwrap();
    let pools =
        pool("any", "verify = false") + &pool("early", "verify = false\nwarn_days = 300") + &pool("checked", "");
    let text =
        pools.clone() + "\n[[pool]]\nname = \"plain\"\nbackend = [{ name = \"plain\", address = \"10.1.1.11\" }]\n";
    lab.prepare(Mode::Native, &text).unwrap();
    let first = server(&lab, dir.path(), 200);
    lab.start_daemon().unwrap();
    expect(&lab, "any", "valid", 200);
    expect(&lab, "early", "expires_soon", 200);
    expect(&lab, "checked", "valid", 200);
    assert!(shown(&lab, "plain").is_null(), "there is no certificate");
    expect_events(&lab, "early", &["certificate_expires"]);
    expect_events(&lab, "any", &[]);

    drop(first);
    let second = server(&lab, dir.path(), 9);
    expect(&lab, "any", "expires_soon", 9);
    expect(&lab, "early", "expires_soon", 9);
    // A reload is not reported, with the same probes or with others.
    lab.ctl(&["reload"]).unwrap();
    let file = lab.edge().unwrap().configuration();
    let all = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        all.replace("interval = \"200ms\"\ntimeout = \"200ms\"", "interval = \"250ms\"\ntimeout = \"200ms\""),
    )
    .unwrap();
    lab.ctl(&["reload"]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    expect_events(&lab, "any", &["certificate_expires"]);
    expect_events(&lab, "early", &["certificate_expires"]);
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("its certificate is valid for 9 days more"), "{status}");

    drop(second);
    let third = server(&lab, dir.path(), -3);
    expect(&lab, "any", "expired", -3);
    expect(&lab, "checked", "expired", -3);
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("its certificate EXPIRED 2 days ago"), "{status}");
    assert!(status.contains("TLS: invalid peer certificate"), "{status}");

    drop(third);
    std::thread::sleep(Duration::from_secs(1));
    expect(&lab, "any", "expired", -3);
    let _fourth = server(&lab, dir.path(), 320);
    expect(&lab, "any", "valid", 320);
    expect(&lab, "early", "valid", 320);
    expect_events(&lab, "any", &["certificate_expires", "certificate_expires", "certificate_valid"]);
    expect_events(&lab, "early", &["certificate_expires", "certificate_expires", "certificate_valid"]);
}
