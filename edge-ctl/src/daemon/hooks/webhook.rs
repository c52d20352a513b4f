//! A webhook: the event as JSON in a POST request, over HTTP/1.1 with or without TLS.

use std::{path::Path, pin::pin, sync::Arc};

use axum::body::Bytes;
use futures::future::{Either, select};
use http_body_util::Full;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{config::Webhook, preflight};

const AGENT: &str = concat!("edge-notify/", env!("CARGO_PKG_VERSION"));

/// Sends the text. The connection ends when the future is dropped.
///
/// # Errors
/// If no server answers, or not with a status of 200 to 299. The path, which may have a secret, is in no error.
pub(super) async fn post(webhook: &Webhook, text: String) -> Result<(), String> {
    let Webhook { tls, host, port, .. } = webhook;
    let port = port.unwrap_or(if *tls { 443 } else { 80 });
    // An IPv6 address is written in brackets.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await;
    let stream = stream.map_err(|error| format!("no connection to {host} port {port}: {error}"))?;
    let status = if *tls {
        let ca = webhook.ca.clone();
        let config =
            tokio::task::spawn_blocking(move || client(ca.as_deref())).await.map_err(|error| error.to_string())??;
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        exchange(stream.map_err(|error| format!("TLS with {host}: {error}"))?, webhook, text).await
    } else {
        exchange(stream, webhook, text).await
    };
    match status {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(format!("{host} answered with the HTTP status {status}")),
        Err(error) => Err(format!("{host}: {error}")),
    }
}

/// Reads the certificate authorities: those of the file, or of this host.
fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let (path, text) = preflight::text_of_authorities(ca)?;
    let roots = preflight::authorities(path, &text)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The status of the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    webhook: &Webhook,
    text: String,
) -> Result<u16, hyper::Error> {
    let host = webhook.port.map_or_else(|| webhook.host.clone(), |port| format!("{}:{port}", webhook.host));
    let mut request = Request::new(Full::new(Bytes::from(text)));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = webhook.path.parse().unwrap_or_default();
    let fields = [
        (header::HOST, host.as_str()),
        (header::USER_AGENT, AGENT),
        (header::CONTENT_TYPE, "application/json"),
        (header::CONNECTION, "close"),
    ];
    for (name, value) in fields {
        // The configuration has checked the host.
        if let Ok(value) = value.parse() {
            request.headers_mut().insert(name, value);
        }
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async { Ok(sender.send_request(request).await?.status().as_u16()) };
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((status, _)) => status,
        // The connection ended first; the answer or the error is ready.
        Either::Right((_, answer)) => answer.await,
    }
}
