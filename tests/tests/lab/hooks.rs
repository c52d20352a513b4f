//! `[[notify]]`: a real command and a real server are told of events, and hooks that fail or hang are in nobody's way.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use edge_tests::lab::{
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");

/// A lab, and a directory in which every user may write.
struct Hooked {
    lab: Small,
    open: tempfile::TempDir,
}

impl Hooked {
    /// `notify` makes the file's sections from the directory.
    fn start(notify: impl FnOnce(&Self) -> String) -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
        let open = tempfile::tempdir().unwrap();
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut hooked = Self { lab, open };
        let more = notify(&hooked);
        hooked.lab.prepare(Mode::Native, &more).expect("a configuration");
        hooked.lab.start_daemon().expect("it starts");
        hooked
    }

    /// A script that anybody may execute.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.open.path().join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", self.open.path().display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.open.path().join(name)).unwrap_or_default()
    }

    fn output(&self, args: &[&str]) -> Output {
        self.lab.edge().unwrap().output(self.lab.netns(EDGE), args).unwrap()
    }

    fn status(&self) -> Value {
        self.lab.edge().unwrap().status(self.lab.netns(EDGE)).unwrap()
    }

    fn hook(&self, name: &str) -> Value {
        let status = self.status();
        let hooks = status["daemon"]["notify"].as_array().unwrap().clone();
        hooks.into_iter().find(|hook| hook["name"] == name).unwrap()
    }

    fn wait_for(&self, what: &str, reached: impl Fn() -> bool) {
        let reached = wait_until(patience(SOON), || Ok(reached())).unwrap();
        assert!(reached, "{what}: {:#}\n{}", self.status()["daemon"], self.lab.edge().unwrap().log_text());
    }
}

/// A server on the edge's loopback address that answers with `status`; returns what it was sent.
fn server(lab: &Small, port: u16, status: &'static str) -> Arc<Mutex<Vec<String>>> {
    let listener = lab.netns(EDGE).within(|| TcpListener::bind(("127.0.0.1", port))).unwrap().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut text, mut piece) = (String::new(), [0; 4096]);
            while !text.ends_with('}') {
                match stream.read(&mut piece) {
                    Ok(length @ 1..) => text.push_str(&String::from_utf8_lossy(&piece[..length])),
                    Ok(_) | Err(_) => break,
                }
            }
            requests.lock().unwrap().push(text);
            let _gone = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    received
}

#[test]
fn a_command_and_a_server_are_told_of_the_chosen_events() {
    let hooked = Hooked::start(|hooked| {
        let script =
            hooked.script("page.sh", "id -un >> user; cat >> told; echo \"$EDGE_EVENT $EDGE_SUBJECT\" >> variables");
        format!(
            "\n[[notify]]\nname = \"page\"\ncommand = [\"{}\"]\nevents = [\"backend_drained\", \"backend_enabled\"]\n\
             [[notify]]\nwebhook = \"http://127.0.0.1:8099/hooks/9f2c?x=1\"\nevents = [\"backend_drained\"]\n",
            script.display()
        )
    });
    let received = server(&hooked.lab, 8099, "204 No Content");
    hooked.lab.ctl(&["drain", "p4/be1", "--reason", "a \"quoted\" reason"]).unwrap();
    hooked.lab.ctl(&["enable", "p4/be1"]).unwrap();
    hooked.wait_for("the command has run twice", || hooked.written("variables").lines().count() == 2);
    assert_eq!(hooked.written("variables"), "backend_drained p4/be1\nbackend_enabled p4/be1\n");
    assert_eq!(hooked.written("user"), "nobody\nnobody\n");
    let told = hooked.written("told");
    let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["severity"]), (&"backend_drained".into(), &"info".into()));
    assert!(first["message"].as_str().unwrap().contains("a \"quoted\" reason") && first["host"].is_string(), "{first}");

    hooked.wait_for("the server has its request", || received.lock().unwrap().len() == 1);
    let request = received.lock().unwrap()[0].clone();
    assert!(request.starts_with("POST /hooks/9f2c?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("content-type: application/json"), "{request}");
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["kind"], &body["subject"]), (&"backend_drained".into(), &"p4/be1".into()));
    hooked.wait_for("both are counted", || hooked.hook("127.0.0.1")["runs"] == 1 && hooked.hook("page")["runs"] == 2);
    assert_eq!(hooked.hook("page")["failures"], 0);

    // A reload keeps a hook that it does not change, and a wrong file changes nothing.
    let path = hooked.lab.edge().unwrap().configuration();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"backend_drained\", \"backend_enabled\"", "\"backend_draned\"")).unwrap();
    let refused = hooked.output(&["reload"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && why.contains("\"backend_drained\", if you meant that"), "{why}");
    fs::write(&path, format!("# Another text.\n{text}")).unwrap();
    hooked.lab.ctl(&["reload"]).unwrap();
    assert_eq!(hooked.hook("page")["runs"], 2);
}

/// nginx with TLS on the edge's loopback address, which logs its requests.
fn server_with_tls(lab: &Small, dir: &Path) -> Process {
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nuser root;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         client_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         log_format line '$request $status';\naccess_log {dir}/requests line;\n\
         server {{\nlisten 127.0.0.1:8443 ssl;\nssl_certificate {PEM}/local.pem;\nssl_certificate_key {PEM}/local.key;\n\
         location / {{ return 204; }}\n}}\n}}\n",
        dir = dir.display()
    );
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = lab.netns(EDGE).command(nginx::binary().unwrap()).unwrap();
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start("nginx with TLS", &mut command, &dir.join("output.log")).unwrap()
}

#[test]
fn a_server_with_tls_is_told_if_its_certificate_is_trusted() {
    let hooked = Hooked::start(|_| {
        let hook = |name: &str, ca: &str| {
            format!(
                "\n[[notify]]\nname = \"{name}\"\nwebhook = \"https://127.0.0.1:8443/hooks/{name}\"\nca = \"{PEM}/{ca}\"\n\
                 events = [\"backend_drained\"]\n"
            )
        };
        hook("trusted", "local.pem") + &hook("stranger", "ca.pem")
    });
    let server = server_with_tls(&hooked.lab, hooked.open.path());
    hooked.wait_for("it listens", || {
        let listens = || TcpStream::connect("127.0.0.1:8443").is_ok();
        hooked.lab.netns(EDGE).within(listens).unwrap()
    });
    hooked.lab.ctl(&["drain", "p4/be1"]).unwrap();
    hooked.wait_for("one is told", || hooked.hook("trusted")["runs"] == 1);
    let why = || hooked.hook("stranger")["failing"].as_str().unwrap_or_default().to_owned();
    hooked.wait_for("the other is not", || why().contains("TLS with 127.0.0.1"));
    assert!(why().contains("UnknownIssuer"), "{}", why());
    assert_eq!((&hooked.hook("trusted")["failures"], &hooked.hook("trusted")["failing"]), (&0.into(), &Value::Null));
    hooked.wait_for("it is logged", || !hooked.written("requests").is_empty());
    assert_eq!(hooked.written("requests"), "POST /hooks/trusted HTTP/1.1 204\n");
    drop(server);
}

#[test]
fn hooks_that_fail_or_hang_are_reported_and_in_nobodys_way() {
    let hooked = Hooked::start(|hooked| {
        let hangs = hooked.script("hangs.sh", "echo $$ >> hanging; sleep 1000");
        let slow = hooked.script("slow.sh", "sleep 1000");
        format!(
            "\n[[notify]]\nname = \"hangs\"\ncommand = [\"{}\"]\nuser = \"root\"\nevents = [\"backend_drained\"]\ntimeout = \"1s\"\n\
             [[notify]]\nname = \"slow\"\ncommand = [\"{}\"]\nevents = [\"backend_drained\"]\ntimeout = \"5m\"\n\
             [[notify]]\nname = \"refused\"\nwebhook = \"http://127.0.0.1:8098/secret-path\"\nevents = [\"backend_drained\"]\n\
             [[notify]]\nname = \"error\"\nwebhook = \"http://127.0.0.1:8097/\"\nevents = [\"backend_drained\", \"local_fault\"]\n",
            hangs.display(),
            slow.display()
        )
    });
    let received = server(&hooked.lab, 8097, "500 Internal Server Error");
    let requests = hooked.lab.start_requests().expect("a client");
    hooked.lab.ctl(&["drain", "p4/be1"]).unwrap();
    let failing = |name: &str, why: &str| hooked.hook(name)["failing"].as_str().is_some_and(|text| text.contains(why));
    hooked.wait_for("it was ended", || failing("hangs", "it took longer than 1 s"));
    hooked.wait_for("no server is there", || failing("refused", "no connection to 127.0.0.1 port 8098"));
    hooked.wait_for("the server is in trouble", || failing("error", "the HTTP status 500"));
    let hanging: i32 = hooked.written("hanging").lines().next().unwrap().parse().unwrap();
    assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(hanging), None).is_err(), "it was killed");
    let shown = hooked.lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("notify      refused FAILS") && !shown.contains("secret-path"), "{shown}");
    let events = hooked.lab.ctl(&["events"]).unwrap();
    assert_eq!(events.matches("notify refused").count(), 1, "{events}");
    // A hook that is told of faults is told of those of others, and not of its own.
    let told = received.lock().unwrap().join("\n");
    assert!(told.contains("notify refused") && !told.contains("notify error"), "{told}");

    // More events than can wait, while operators and clients are served.
    for _ in 0..60 {
        hooked.lab.ctl(&["enable", "*/be1"]).unwrap();
        hooked.lab.ctl(&["drain", "*/be1"]).unwrap();
    }
    hooked.wait_for("some are dropped", || hooked.hook("slow")["dropped"].as_u64() > Some(0));
    assert_eq!(hooked.hook("slow")["runs"], 0, "it still runs");
    hooked.lab.request(Served::named("dsr4").vip, 5).unwrap();
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
    let metrics = hooked.lab.edge().unwrap().run_dir().join("edge.sock");
    let mut curl = hooked.lab.netns(EDGE).command("curl").unwrap();
    let metrics = curl.args(["-sS", "--unix-socket"]).arg(metrics).arg("http://edge/metrics").output().unwrap();
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    assert!(metrics.contains("edge_notify_failing{notify=\"hangs\"} 1.0"), "{metrics}");
    assert!(metrics.contains("edge_notify_dropped_total{notify=\"slow\"}"), "{metrics}");
}
