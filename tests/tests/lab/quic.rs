//! QUIC by connection ID, with real servers and real clients: a client whose address changes stays with its server.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use edge_tests::lab::{
    netns::Netns,
    own_runtime::{OwnRuntime, runtime},
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig,
    TokioRuntime, TransportConfig,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio::time::timeout;

const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");
const SERVER_NAME: &str = "www.example.org";
const PORT: u16 = 4433;
/// Number of clients, and how often each of them changes its port.
const CLIENTS: usize = 12;
const MOVES: usize = 4;
/// The service's setting for connection IDs.
const QUIC_CID: &str = "quic_cid = { scheme = \"plain\", offset = 1, length = 2 }\n";

/// Generates connection IDs with the server's number behind the first byte.
#[derive(Debug)]
struct Numbered(u16);

impl ConnectionIdGenerator for Numbered {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; 8] = rand::random();
        id[1..3].copy_from_slice(&self.0.to_be_bytes());
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The server number of a backend, by its index.
fn number(place: usize) -> u16 {
    0x1100 + u16::try_from(place).unwrap()
}

/// A peer that is silent for the idle timeout is gone.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(patience(Duration::from_secs(3)).try_into().unwrap()));
    Arc::new(transport)
}

/// Starts a server that answers with its name.
fn start(netns: &Netns, place: usize, at: SocketAddr) -> OwnRuntime {
    let socket = netns.within(|| UdpSocket::bind(at)).unwrap().unwrap();
    OwnRuntime::start(move || {
        let certificates = CertificateDer::pem_file_iter(format!("{PEM}/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(format!("{PEM}/server.key")).unwrap();
        let certificates = certificates.collect::<Result<_, _>>().unwrap();
        let mut config = ServerConfig::with_single_cert(certificates, key).unwrap();
        config.transport = transport();
        let mut own = EndpointConfig::default();
        own.cid_generator(move || Box::new(Numbered(number(place))));
        let endpoint = Endpoint::new(own, Some(config), socket, Arc::new(TokioRuntime)).unwrap();
        serve(endpoint, BACKENDS[place])
    })
}

async fn serve(endpoint: Endpoint, name: &'static str) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            loop {
                let (mut send, mut receive) = connection.accept_bi().await?;
                let _ = receive.read_to_end(64).await;
                let _ = send.write_all(name.as_bytes()).await;
                let _ = send.finish();
            }
            #[expect(unreachable_code, reason = "states the type of the errors")]
            Ok::<(), quinn::ConnectionError>(())
        });
    }
}

/// A client with a connection, and the name of its first server.
struct Client {
    endpoint: Endpoint,
    connection: Connection,
    home: String,
}

impl Client {
    async fn connect(lab: &Small, to: SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(format!("{PEM}/ca.pem")).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        config.transport_config(transport());
        let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket(lab), Arc::new(TokioRuntime)).unwrap();
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(to, SERVER_NAME).unwrap().await.unwrap();
        let home = request(&connection).await.expect("an answer");
        Self { endpoint, connection, home }
    }

    /// Changes the client's port, as an address translator that has forgotten the flow would. Returns the server's
    /// name; `None` without an answer.
    async fn moves(&self, lab: &Small) -> Option<String> {
        self.endpoint.rebind(socket(lab)).unwrap();
        request(&self.connection).await
    }
}

fn socket(lab: &Small) -> UdpSocket {
    lab.netns(CLIENT).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap()
}

async fn request(connection: &Connection) -> Option<String> {
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(b"who?").await.ok()?;
        send.finish().ok()?;
        receive.read_to_end(64).await.ok()
    };
    let answer = timeout(patience(Duration::from_secs(4)), exchange).await.ok().flatten()?;
    Some(String::from_utf8(answer).unwrap())
}

/// The lab with a server on each backend, and this setting for connection IDs in the service.
fn lab(quic_cid: &str) -> (Small, Vec<OwnRuntime>, SocketAddr) {
    let mut lab = Small::on_veth().unwrap();
    let at = Served::named("dsr4").at(PORT);
    for backend in BACKENDS {
        lab.pass(backend).unwrap();
    }
    let servers = BACKENDS.iter().enumerate();
    let servers = servers.map(|(place, backend)| start(lab.netns(backend), place, at)).collect();
    let mut more = String::from("\n[[pool]]\nname = \"quic\"\n");
    for (place, backend) in BACKENDS.iter().enumerate() {
        let address = format!("10.1.{}.11", place + 1);
        // Without a probe these backends are never up; their own names keep the lab from waiting for them.
        write!(more, "[[pool.backend]]\nname = \"quic-{backend}\"\naddress = \"{address}\"\n").unwrap();
        if !quic_cid.is_empty() {
            writeln!(more, "server_number = {}", number(place)).unwrap();
        }
    }
    let vip = at.ip();
    write!(
        more,
        "\n[[service]]\nname = \"quic\"\nvips = [\"{vip}\"]\nports = [\"{PORT}/quic\"]\nmode = \"dsr\"\n\
         pools = [\"quic\"]\n{quic_cid}"
    )
    .unwrap();
    lab.prepare(Mode::Native, &more).unwrap();
    lab.start_daemon().unwrap();
    (lab, servers, at)
}

#[test]
fn a_client_that_comes_from_another_address_stays_with_its_server() {
    let (lab, _servers, at) = lab(QUIC_CID);
    runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::connect(&lab, at).await);
        }
        let homes: std::collections::BTreeSet<_> = clients.iter().map(|client| client.home.as_str()).collect();
        assert_eq!(homes.len(), BACKENDS.len(), "each server has some of them");
        for client in &clients {
            for _ in 0..MOVES {
                assert_eq!(client.moves(&lab).await.as_ref(), Some(&client.home));
            }
        }
        // Connections to a drained backend stay as well, and new ones go elsewhere.
        lab.ctl(&["drain", "quic/quic-be1"]).unwrap();
        // For a second, first packets may be repeated ones of handshakes that had begun.
        thread::sleep(Duration::from_millis(1500));
        for client in &clients {
            assert_eq!(client.moves(&lab).await.as_ref(), Some(&client.home));
            assert_eq!(Client::connect(&lab, at).await.home, "be2");
        }
    });
    let status: serde_json::Value = serde_json::from_str(&lab.ctl(&["status", "--json"]).unwrap()).unwrap();
    let services = status["services"].as_array().unwrap();
    let flows = &services.iter().find(|service| service["name"] == "quic").unwrap()["flows"];
    assert!(flows["by_connection_id"].as_u64().unwrap() > 100, "{flows}");
    assert_eq!(flows["unknown_connection_id"], 0, "{flows}");
}

#[test]
fn without_that_it_is_another_flow() {
    let (lab, _servers, at) = lab("");
    runtime().block_on(async {
        let mut lost = 0;
        for _ in 0..CLIENTS {
            let client = Client::connect(&lab, at).await;
            for _ in 0..MOVES {
                if client.moves(&lab).await.is_none() {
                    lost += 1;
                    break;
                }
            }
        }
        assert!(lost > 0, "no client was lost");
    });
}
