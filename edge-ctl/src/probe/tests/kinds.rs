//! Each kind of probe against servers with right, wrong and odd answers.

use std::{path::PathBuf, time::Instant as Clock};

use h2::server;
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, rdata::A},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::UdpSocket;
use tokio_rustls::TlsAcceptor;

use super::{engine, *};
use crate::config::{self, Config};

const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/src/lab/pem");

/// The probe kind of a configuration with these lines under `[pool.probe]`.
fn kind(lines: &str) -> ProbeKind {
    let text = format!(
        "hash_key = \"6564676520696e2061206c6162212121\"\n[[interface]]\nname = \"eth0\"\n\
         [[pool]]\nname = \"a\"\n[pool.probe]\nport = 1\n{lines}\n[[pool.backend]]\nname = \"a1\"\naddress = \"10.0.0.9\"\n\
         [[service]]\nname = \"web\"\nvips = [\"192.0.2.1\"]\nports = [\"80/tcp\"]\nmode = \"dsr\"\npools = [\"a\"]\n"
    );
    let config: Config = config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"));
    config.pools[0].probe.clone().expect("it has one").kind
}

async fn look(address: SocketAddr, lines: &str) -> Verdict {
    once(&target(address, kind(lines))).await
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail(why) | Verdict::Unreachable(why) | Verdict::Silent(why) | Verdict::Inconclusive(why) => why,
    }
}

#[tokio::test]
async fn http_answers_are_taken_as_other_clients_take_them() {
    for odd in [
        "HTTP/1.1 200\r\n\r\nready",
        "HTTP/1.0 200 OK\r\n\r\nready",
        "HTTP/1.0 200\n\nready",
        "HTTP/1.1 200 OK\nserver: x\n\nready",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready",
        "HTTP/1.1 200 \r\nserver : x\r\n\r\nready",
        "HTTP/1.1 200 OK\r\nb@d header\r\n\r\nready",
        "HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\n\r\nready",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nready",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nready\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nready\r\n0\r\n\r\n",
    ] {
        let (address, _) = serve(Server::Sends(odd)).await;
        assert_eq!(look(address, "type = \"http\"\nbody = \"ready\"").await, Verdict::Pass, "{odd:?}");
        assert_eq!(look(address, "type = \"http\"\nbody_regex = \"^rea.y$\"").await, Verdict::Pass, "{odd:?}");
    }
    let (address, _) = serve(Server::Sends("HTTP/1.1 200 OK\r\n\r\nnot r.ady")).await;
    for wanted in ["body = \"ready\"", "body = \"r.*y\"", "body_regex = \"^r\""] {
        let verdict = look(address, &format!("type = \"http\"\n{wanted}")).await;
        assert_eq!(verdict, failed("the body has not what is expected"), "{wanted}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nx-policy: {}\r\n\r\nready", "y".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\nready", "set-cookie: a=b\r\n".repeat(400));
    for head in [long, many] {
        let (address, _) = serve(Server::Sends(Box::leak(head.into_boxed_str()))).await;
        assert_eq!(look(address, "type = \"http\"\nbody = \"ready\"").await, Verdict::Pass);
    }
    let late = format!("HTTP/1.1 200 OK\r\n\r\n{}ready", "x".repeat(70_000));
    let (address, _) = serve(Server::Sends(Box::leak(late.into_boxed_str()))).await;
    let verdict = look(address, "type = \"http\"\nbody = \"ready\"").await;
    assert_eq!(verdict, failed("the body has not what is expected"), "beyond 64 KiB");
}

/// A TLS server with these ALPN protocols; also returns which handshakes it has resumed.
async fn secure(alpn: &[&str]) -> (SocketAddr, Arc<Mutex<Vec<bool>>>) {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_file(format!("{PEM}/server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(format!("{PEM}/server.key")).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let resumed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&resumed);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            seen.lock().unwrap().push(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                tokio::spawn(health(stream));
            } else {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, resumed)
}

/// A server of HTTP/2: gRPC health of the service `up`, and a text for any GET.
async fn health(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        if head.method == "GET" {
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            let _ = sending.send_data(Bytes::from_static(b"ready"), true);
            continue;
        }
        let serve = async move {
            let request = body.data().await.unwrap().unwrap();
            let grpc = |status: &str| {
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                trailers
            };
            let mut sending = respond.send_response(Response::new(()), false).unwrap();
            let (message, status) = match request.get(7..).unwrap_or_default() {
                b"up" | b"" => (&[0, 0, 0, 0, 2, 8, 1][..], "0"),
                b"down" => (&[0, 0, 0, 0, 2, 8, 2][..], "0"),
                _ => (&[][..], "5"),
            };
            let _ = sending.send_data(Bytes::copy_from_slice(message), false);
            let _ = sending.send_trailers(grpc(status));
        };
        tokio::spawn(serve);
    }
}

#[tokio::test]
async fn https_in_both_versions_with_and_without_a_check() {
    let ca = format!("ca = \"{PEM}/ca.pem\"");
    let names = "host = \"www.example.org\"\nbody = \"ready\"";
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let (address, _) = secure(alpn).await;
        for more in [&ca[..], "verify = false"] {
            let verdict = look(address, &format!("type = \"https\"\n{names}\n{more}")).await;
            assert_eq!(verdict, Verdict::Pass, "{alpn:?} {more}");
        }
        let other = why(look(address, &format!("type = \"https\"\nhost = \"www.example.net\"\n{ca}")).await);
        assert!(other.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{other}");
        let unknown = why(look(address, "type = \"https\"\nhost = \"www.example.org\"").await);
        assert!(unknown.contains("UnknownIssuer") || unknown.contains("install ca-certificates"), "{unknown}");
        let tls = format!("type = \"tls\"\nserver_name = \"www.example.org\"\n{ca}");
        assert_eq!(look(address, &tls).await, Verdict::Pass);
    }
    let (plain, _) = serve(Server::Sends("SSH-2.0-OpenSSH_9.2\r\n")).await;
    let verdict = look(plain, "type = \"tls\"\nverify = false").await;
    assert!(matches!(&verdict, Verdict::Fail(why) if why.starts_with("TLS:")), "{verdict:?}");
    let missing = look(plain, "type = \"tls\"\nca = \"/nowhere.pem\"").await;
    assert!(matches!(&missing, Verdict::Inconclusive(why) if why.contains("/nowhere.pem")), "{missing:?}");
}

#[tokio::test]
async fn sessions_are_resumed() {
    let (address, resumed) = secure(&["http/1.1"]).await;
    let lines = format!("type = \"https\"\nhost = \"www.example.org\"\nca = \"{PEM}/ca.pem\"");
    let target = target(address, kind(&lines));
    let prober = Prober::of(&target);
    for _ in 0..4 {
        assert_eq!(prober.once().await, Verdict::Pass);
    }
    assert_eq!(*resumed.lock().unwrap(), [false, true, true, true]);
}

#[tokio::test]
async fn authorities_are_read_again_and_sessions_last_as_long_as_they_are_the_same() {
    let (address, resumed) = secure(&["http/1.1"]).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let write = |name: &str| std::fs::copy(format!("{PEM}/{name}"), &ca).map(drop).unwrap();
    write("ca.pem");
    let target =
        target(address, kind(&format!("type = \"https\"\nhost = \"www.example.org\"\nca = \"{}\"", ca.display())));
    let roots = Arc::new(Roots::default());
    let kind = Arc::new(PreparedProbe::new(target.destination.address, target.probe.clone(), Arc::clone(&roots)));
    let prober = Prober { kind, ..Prober::of(&target) };
    for _ in 0..2 {
        assert_eq!(prober.once().await, Verdict::Pass);
    }
    roots.read_again();
    assert_eq!(prober.once().await, Verdict::Pass);
    assert_eq!(*resumed.lock().unwrap(), [false, true, true], "the file is as it was");
    write("server.pem");
    assert_eq!(prober.once().await, Verdict::Pass, "the configuration was not read again yet");
    roots.read_again();
    let refused = why(prober.once().await);
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    std::fs::remove_file(&ca).unwrap();
    roots.read_again();
    let missing = prober.once().await;
    assert!(matches!(&missing, Verdict::Inconclusive(why) if why.contains("ca.pem: No such file")), "{missing:?}");
    write("ca.pem");
    roots.read_again();
    assert_eq!(prober.once().await, Verdict::Pass);

    // A reload keeps its probes running, and has them read the file again.
    let (sender, mut receiver) = mpsc::channel(10);
    let mut engine = ProbeEngine::new(sender, engine::descriptors(), Network::default());
    engine.probe(vec![quick(target.clone(), SHORT)]);
    assert_eq!(receiver.recv().await.expect("it runs").verdict, Verdict::Pass);
    write("server.pem");
    engine.probe(vec![quick(target, SHORT)]);
    let mut verdicts = Vec::new();
    while verdicts.len() < 10 && !verdicts.iter().any(|verdict| matches!(verdict, Verdict::Fail(_))) {
        verdicts.push(receiver.recv().await.expect("it runs").verdict);
    }
    assert!(matches!(verdicts.last(), Some(Verdict::Fail(why)) if why.contains("UnknownIssuer")), "{verdicts:?}");
}

#[tokio::test]
async fn certificates_are_read_again_with_their_expiry() {
    let (address, resumed) = secure(&["http/1.1"]).await;
    let target = target(address, kind(&format!("type = \"https\"\nhost = \"www.example.org\"\nca = \"{PEM}/ca.pem\"")));
    let prober = Prober::of(&target);
    assert_eq!(prober.kind.certificate_end(), None);
    for _ in 0..2 {
        assert_eq!(prober.once().await, Verdict::Pass);
    }
    // 2126-11-05 05:14:19 UTC
    assert_eq!(prober.kind.certificate_end(), Some(4_949_529_259));
    prober.kind.forget_sessions();
    for _ in 0..2 {
        assert_eq!(prober.once().await, Verdict::Pass);
    }
    assert_eq!(*resumed.lock().unwrap(), [false, true, false, true]);

    let other = kind("type = \"https\"\nhost = \"www.example.net\"");
    let refused = Prober::of(&super::target(address, other));
    assert_ne!(refused.once().await, Verdict::Pass);
    assert_eq!(refused.kind.certificate_end(), Some(4_949_529_259), "one that is not taken is seen as well");
}

#[tokio::test]
async fn grpc_health_with_and_without_tls() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(health(listener.accept().await.unwrap().0));
        }
    });
    let (tls, _) = secure(&["h2"]).await;
    for (address, more) in [(plain, ""), (tls, "tls = true\nverify = false")] {
        let look =
            async |service: &str| look(address, &format!("type = \"grpc\"\nservice = \"{service}\"\n{more}")).await;
        assert_eq!(look("up").await, Verdict::Pass);
        assert_eq!(look("down").await, failed("gRPC health is NOT_SERVING, not SERVING"));
        assert_eq!(look("other").await, failed("gRPC status 5 (the service is not known to the server)"));
    }
    assert_eq!(look(plain, "type = \"grpc\"").await, Verdict::Pass, "the server's own");
    let (no_grpc, _) = serve(Server::Sends("HTTP/1.1 200 OK\r\n\r\n")).await;
    assert!(matches!(look(no_grpc, "type = \"grpc\"").await, Verdict::Fail(_)));
}

#[tokio::test]
async fn udp_with_and_without_an_answer() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if buffer[..length] == *b"\x00ping\\" {
                socket.send_to(b"a pong", from).await.unwrap();
            }
        }
    });
    let ping = "type = \"udp\"\nsend = '\\x00ping\\\\'\n";
    assert_eq!(look(address, &format!("{ping}expect = \"pong\"")).await, Verdict::Pass);
    assert_eq!(look(address, ping).await, Verdict::Pass);
    let other = look(address, &format!("{ping}expect = \"king\"")).await;
    assert_eq!(other, failed("the answer of 6 bytes has not what is expected"));
    // No answer arrives, which passes if none is expected.
    let quiet = |lines| quick(target(address, kind(lines)), SHORT);
    assert_eq!(once(&quiet("type = \"udp\"\nsend = \"x\"")).await, Verdict::Pass);
    let silence = once(&quiet("type = \"udp\"\nsend = \"x\"\nexpect = \"y\"")).await;
    assert_eq!(silence, silent("no answer within 100ms"));
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    assert_eq!(look(gone, "type = \"udp\"\nsend = \"x\"").await, failed("connection refused"));
}

#[tokio::test]
async fn dns_over_udp_and_tcp() {
    let answer = |question: &[u8], truncate: bool| {
        let mut message = Message::from_vec(question).unwrap();
        let name = message.queries()[0].name().clone();
        message.set_message_type(MessageType::Response).set_truncated(truncate);
        if name.to_ascii() == "www.example.org." {
            if !truncate {
                message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7))));
            }
        } else {
            message.set_response_code(ResponseCode::NXDomain);
        }
        message.to_vec().unwrap()
    };
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            // An answer to another query comes first.
            udp.send_to(&answer(&[&[buffer[0] ^ 1], &buffer[1..length]].concat(), true), from).await.unwrap();
            udp.send_to(&answer(&buffer[..length], true), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, false);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    for transport in ["udp", "tcp"] {
        let look = async |lines: &str| {
            why(look(address, &format!("type = \"dns\"\ntransport = \"{transport}\"\n{lines}")).await)
        };
        assert_eq!(look("query = \"www.example.org\"").await, "pass");
        assert_eq!(look("query = \"www.example.org\"\nanswer = \"192.0.2.7\"").await, "pass");
        let other = look("query = \"www.example.org\"\nanswer = \"192.0.2.8\"").await;
        assert_eq!(other, "DNS answers 192.0.2.7, not 192.0.2.8");
        assert_eq!(look("query = \"nowhere.org\"").await, "DNS returned NXDOMAIN, not NOERROR");
        assert_eq!(look("query = \"nowhere.org\"\nrcode = \"nxdomain\"").await, "pass");
    }
}

#[tokio::test]
async fn commands_pass_fail_and_end_with_all_that_they_started() {
    let address = (Ipv4Addr::LOCALHOST, 80).into();
    let shell = |script: &str| {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        format!("type = \"command\"\nuser = \"{user}\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']")
    };
    assert_eq!(look(address, &shell("true")).await, Verdict::Pass);
    let verdict = look(address, &shell("echo $EDGE_ADDRESS is ill; exit 3")).await;
    assert_eq!(verdict, failed("command ended with 3: 127.0.0.1 is ill"));
    let Verdict::Fail(long) = look(address, &shell("yes | head -c 1000000; exit 1")).await else { panic!() };
    assert!(long.len() < 600, "{}", long.len());
    let none = look(address, "type = \"command\"\ncommand = [\"/no/such/file\"]").await;
    assert!(matches!(none, Verdict::Inconclusive(_)), "{none:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("(sleep 1; echo alive > {}) & wait", file.path().display());
    let start = Clock::now();
    let verdict = once(&quick(target(address, kind(&shell(&script))), SHORT)).await;
    assert_eq!(verdict, silent("no answer within 100ms"));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(std::fs::read_to_string(PathBuf::from(file.path())).unwrap(), "", "its child was ended with it");
}

#[tokio::test]
async fn pings_are_answered_in_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        assert_eq!(look(address.parse().unwrap(), "type = \"icmp\"").await, Verdict::Pass, "{address}");
    }
}
