//! Real web servers, one per backend, whose answers name the backend.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::lab::{netns::Netns, patience::patience, process::Process, topology::HTTP};

/// How long a server may take to listen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts nginx in `netns` with all its files in `dir`; returns once it listens. It answers `/healthz` with `ok`, or
/// with status 500 while the file `sick` exists in `dir`. All other requests are answered with `name`, in the body and
/// in the header `x-backend`.
pub fn start(netns: &Netns, name: &str, dir: &Path) -> Result<Process> {
    start_at(netns, name, dir, &[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()])
}

/// Starts nginx at these addresses only. Another nginx may listen there too, so that one can replace the other.
pub fn start_at(netns: &Netns, name: &str, dir: &Path, addresses: &[IpAddr]) -> Result<Process> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("nginx.conf"), configuration(name, dir, addresses))?;
    let mut command = netns.command(binary()?)?;
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    let mut process = Process::start(&format!("nginx of {name}"), &mut command, &dir.join("output.log"))?;
    let start = Instant::now();
    while !netns.within(|| listens(addresses))? {
        if let Some(status) = process.ended()? {
            let log = std::fs::read_to_string(dir.join("output.log")).unwrap_or_default();
            bail!("nginx of {name} ended ({status}): {}", log.trim());
        }
        if start.elapsed() > patience(PATIENCE) {
            bail!("nginx of {name} did not listen within {} s", patience(PATIENCE).as_secs());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(process)
}

/// Path of the system's nginx, or of the one that set-up unpacked below `target/tools`.
pub fn binary() -> Result<PathBuf> {
    let unpacked = crate::workspace().join("target/tools/nginx/usr/sbin/nginx");
    [PathBuf::from("/usr/sbin/nginx"), unpacked]
        .into_iter()
        .find(|path| path.exists())
        .context("there is no nginx: run `cargo xtask setup`")
}

fn listens(addresses: &[IpAddr]) -> bool {
    // An unspecified address connects to the loopback.
    let address = SocketAddr::from((addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into()), HTTP));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Maximum number of connections of a server: the surviving servers get all connections that clients opened while
/// another was dying.
const CONNECTIONS: u32 = 16_384;

/// A single process without a master: killing it kills the server, as a machine's death would.
fn configuration(name: &str, dir: &Path, addresses: &[IpAddr]) -> String {
    let listen = |address: &IpAddr| format!("listen {} backlog=4096 reuseport;", SocketAddr::new(*address, HTTP));
    let listen = addresses.iter().map(listen).collect::<Vec<_>>().join("\n        ");
    let (dir, files) = (dir.display(), 2 * CONNECTIONS);
    format!(
        r#"daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {dir}/nginx.pid;
events {{ worker_connections {CONNECTIONS}; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 10000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        {listen}
        add_header x-backend {name} always;
        location = /healthz {{
            if (-f {dir}/sick) {{ return 500 "sick\n"; }}
            return 200 "ok\n";
        }}
        location / {{ return 200 "{name}\n"; }}
    }}
}}
"#
    )
}
