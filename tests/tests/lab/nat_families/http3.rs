//! HTTP/3 through `nat`, in all combinations of IP versions: a real server and a real client, and a client whose port changes.

use std::{
    future::poll_fn,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use edge_tests::lab::{
    own_runtime::{OwnRuntime, runtime},
    patience::patience,
    small::{BACKENDS, CLIENT},
};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio::time::timeout;

use super::{BACKEND_TLS, Families, PEM, TLS, combinations, configuration, much, service};

const SERVER_NAME: &str = "www.example.org";
const PROTOCOL: &[u8] = b"h3";

fn certificates(file: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_file_iter(format!("{PEM}/{file}")).expect("a file");
    all.collect::<Result<_, _>>().expect("certificates")
}

/// Starts a server that answers `/` with its name, and any other request with many bytes.
fn start(families: &Families, name: &'static str, at: SocketAddr) -> OwnRuntime {
    let bind = || UdpSocket::bind(at);
    let socket = families.lab.netns(name).within(bind).expect("a namespace").expect("it is free");
    OwnRuntime::start(move || {
        let key = PrivateKeyDer::from_pem_file(format!("{PEM}/server.key")).expect("a key");
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|tls| tls.with_no_client_auth().with_single_cert(certificates("server.pem"), key))
            .expect("a configuration");
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("ciphers")));
        let own = EndpointConfig::default();
        let endpoint = Endpoint::new(own, Some(config), socket, Arc::new(TokioRuntime)).expect("it listens");
        async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    // A client that goes away is no reason to stop serving the others.
                    let _ended = serve(incoming, name).await;
                });
            }
        }
    })
}

async fn serve(incoming: quinn::Incoming, name: &'static str) -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = h3::server::Connection::new(h3_quinn::Connection::new(incoming.await?)).await?;
    while let Some(resolver) = connection.accept().await? {
        let (request, mut stream) = resolver.resolve_request().await?;
        let mut received = 0;
        while let Some(part) = stream.recv_data().await? {
            received += part.remaining();
        }
        let answer = http::Response::builder().header("x-received", received).body(())?;
        stream.send_response(answer).await?;
        let body = if request.uri().path() == "/" { Bytes::from_static(name.as_bytes()) } else { Bytes::from(much()) };
        stream.send_data(body).await?;
        stream.finish().await?;
    }
    Ok(())
}

fn socket(families: &Families, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    families.lab.netns(CLIENT).within(|| UdpSocket::bind(any)).expect("a namespace").expect("a socket")
}

/// Connects to `to`, asks for the server's name, sends and receives many bytes, and does the last once more from another
/// port.
async fn visit(families: &Families, to: SocketAddr) -> String {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem") {
        roots.add(certificate).expect("a certificate");
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("a configuration")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("ciphers")));
    let runs = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket(families, to), runs).expect("a client");
    let connection = endpoint.connect_with(config, to, SERVER_NAME).expect("an address").await.expect("a connection");
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.expect("HTTP/3");
    let drives = tokio::spawn(async move { poll_fn(|context| driver.poll_close(context)).await });
    let mut get = async |path: &str, sent: Vec<u8>| {
        let count = sent.len();
        let request = http::Request::post(format!("https://{SERVER_NAME}{path}")).body(()).expect("a request");
        let mut stream = requests.send_request(request).await.expect("it is sent");
        stream.send_data(Bytes::from(sent)).await.expect("it is sent");
        stream.finish().await.expect("it is sent");
        let answer = stream.recv_response().await.expect("an answer");
        assert_eq!(answer.headers()["x-received"], count.to_string(), "{to}");
        let mut body = Vec::new();
        while let Some(mut part) = stream.recv_data().await.expect("the rest") {
            body.extend(part.copy_to_bytes(part.remaining()));
        }
        body
    };
    let name = get("/", Vec::new()).await;
    assert!(get("/much", much()).await == much(), "{to}");
    endpoint.rebind(socket(families, to)).expect("another port");
    assert_eq!(get("/", Vec::new()).await, name);
    assert!(get("/much", Vec::new()).await == much(), "{to}");
    drives.abort();
    String::from_utf8(name).expect("a name")
}

#[test]
fn a_server_with_http_3_serves_clients_of_both_ip_versions_whichever_it_has() {
    let text = configuration().replace(&format!("\"{TLS}/tcp\""), &format!("\"{TLS}/tcp\", \"{TLS}/quic\""));
    let families = Families::start_with(&[], &text);
    let addresses = ["10.1.1.11", "fd01:2::11"];
    let servers = BACKENDS.into_iter().zip(addresses);
    let _servers: Vec<_> = servers.map(|(name, at)| start(&families, name, service(at, BACKEND_TLS))).collect();
    runtime().block_on(async {
        for (vip, backend) in combinations() {
            let visited = timeout(patience(Duration::from_mins(1)), visit(&families, service(vip, TLS))).await;
            assert_eq!(visited.unwrap_or_else(|_| panic!("{vip}: it takes too long")), backend, "{vip}");
        }
    });
}
