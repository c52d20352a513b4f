//! Netlink notifications of changes to this host's links and addresses.

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::{MulticastGroup, packet_core::NetlinkMessage, packet_route::RouteNetlinkMessage, sys::SocketAddr};
use tokio::task::AbortHandle;

use super::NetError;

const GROUPS: [MulticastGroup; 3] = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];

/// A subscription to changes of links and addresses.
pub(crate) struct Changes {
    notifications: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: AbortHandle,
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Changes {
    /// Subscribes. Must be called in a tokio runtime.
    pub(crate) fn subscribe() -> Result<Self, NetError> {
        let (connection, _, notifications) = rtnetlink::new_multicast_connection(&GROUPS).map_err(NetError::Open)?;
        Ok(Self { notifications, connection: tokio::spawn(connection).abort_handle() })
    }

    /// Waits for a change since the last call.
    ///
    /// # Errors
    /// If the kernel has closed the socket; changes may have been missed then.
    pub(crate) async fn next(&mut self) -> Result<(), NetError> {
        self.notifications.next().await.ok_or(NetError::Closed)?;
        self.forget();
        Ok(())
    }

    /// Discards the notifications that have arrived.
    pub(crate) fn forget(&mut self) {
        while self.notifications.try_recv().is_ok() {}
    }
}
