//! Lookups of routes in the kernel's tables.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteFlags, RouteMessage},
};

use super::{
    netlink::{NetError, Requests},
    next_hop::{Lookup, Unreachable},
    next_hop_objects,
    route::{Destination, Route},
    tables,
};

impl Requests {
    /// The route to a destination from the first of these VRFs that has one. If the destination is the host's own
    /// address in any VRF, that result takes precedence.
    pub(super) async fn lookup_in(&self, vrfs: &[Option<u32>], destination: Destination) -> Result<Lookup, NetError> {
        let mut found = Lookup::Unreachable(Unreachable::NoRoute);
        for vrf in vrfs {
            let lookup = self.lookup(destination, *vrf).await?;
            if found == Lookup::Unreachable(Unreachable::NoRoute) || lookup.is_own() {
                found = lookup;
            }
        }
        Ok(found)
    }

    /// Looks up the route to a destination, as for a packet from this host, in the routing table of the VRF with this
    /// index or in the main one. Returns all next hops of a multipath route.
    ///
    /// # Errors
    /// If the request fails; a missing route is a [`Lookup`].
    pub(super) async fn lookup(&self, destination: Destination, vrf: Option<u32>) -> Result<Lookup, NetError> {
        let mut destination = destination;
        let mut answer = self.routes(&question(destination, vrf)).await;
        if let (Err(NetError::Refused { .. }), Some(source @ IpAddr::V4(_))) = (&answer, destination.source) {
            // With IPv4 the kernel looks up no route from an address that it does not have; the packet path may send
            // from such an address all the same.
            if !self.is_own(source, vrf).await {
                destination.source = None;
                answer = self.routes(&question(destination, vrf)).await;
            }
        }
        let found = match answer {
            Ok(routes) => routes
                .first()
                .map_or(Lookup::Unreachable(Unreachable::NoRoute), |route| tables::lookup(destination.address, route)),
            Err(NetError::Refused { what, source }) => match source.raw_os_error() {
                Some(libc::ENETUNREACH | libc::ENETDOWN | libc::ENODEV | libc::ESRCH) => {
                    Lookup::Unreachable(Unreachable::NoRoute)
                }
                // routes of type unreachable, prohibit and blackhole, in this order
                Some(libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Lookup::Unreachable(Unreachable::NotUnicast),
                _ => return Err(NetError::Refused { what, source }),
            },
            Err(error) => return Err(error),
        };
        let Lookup::Via(mut route) = found else { return Ok(found) };
        if let Some(source) = destination.source {
            route.source = if destination.answered_here && self.is_own(source, vrf).await {
                Some(source)
            } else {
                self.chosen_source(destination.address, vrf).await.or(Some(source))
            };
        }
        self.with_all_hops(route, destination, vrf).await
    }

    /// The kernel's answer for packets from any source.
    async fn answer_for(&self, address: IpAddr, vrf: Option<u32>) -> Option<Lookup> {
        let routes = self.routes(&question(Destination::of(address), vrf)).await.ok()?;
        Some(tables::lookup(address, routes.first()?))
    }

    /// The source address that the kernel would choose.
    async fn chosen_source(&self, address: IpAddr, vrf: Option<u32>) -> Option<IpAddr> {
        match self.answer_for(address, vrf).await? {
            Lookup::Via(route) => route.source,
            Lookup::Unreachable(_) => None,
        }
    }

    async fn is_own(&self, address: IpAddr, vrf: Option<u32>) -> bool {
        self.answer_for(address, vrf).await.is_some_and(|found| found.is_own())
    }

    /// The kernel's answer has one next hop; the complete route has all of them.
    async fn with_all_hops(
        &self,
        mut route: Route,
        destination: Destination,
        vrf: Option<u32>,
    ) -> Result<Lookup, NetError> {
        let mut question = question(destination, vrf);
        question.header.flags = RouteFlags::FibMatch;
        match self.routes(&question).await {
            Ok(routes) => {
                let complete = routes.first();
                let mut hops = complete.map_or_else(Vec::new, |found| tables::hops(destination.address, found));
                if let (true, Some(object)) = (hops.is_empty(), complete.and_then(tables::next_hop_object)) {
                    // An object that was removed in the meantime has taken the route with it, of which the kernel notifies.
                    hops = next_hop_objects::hops(object, destination.address).unwrap_or_default();
                }
                if !hops.is_empty() {
                    route.hops = hops;
                }
            }
            Err(error @ (NetError::Closed | NetError::Late)) => return Err(error),
            // The next hop that the kernel has chosen is right as well.
            Err(_) => {}
        }
        Ok(Lookup::Via(route))
    }
}

fn question(Destination { address, source, .. }: Destination, vrf: Option<u32>) -> RouteMessage {
    let length = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = length(address);
    message.attributes.push(RouteAttribute::Destination(address.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = length(source);
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message.attributes.extend(vrf.map(RouteAttribute::Oif));
    message
}
