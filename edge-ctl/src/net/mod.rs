//! The host's network: neighbours, routes and links by netlink, and the announcement of VIPs.
