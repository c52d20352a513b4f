//! The exits of the packet path: every outcome for a packet, each with a name and a counter.

/// What the kernel does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passed to the host's own network stack.
    Pass,
    /// Discarded.
    Drop,
    /// Sent out of its ingress interface.
    Tx,
    /// Sent out of another interface.
    Redirect,
}

macro_rules! exits {
    ($(#[$meta:meta])* $vis:vis enum $enum:ident { $($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $verdict:ident;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        $vis enum $enum { $($(#[doc = $doc])+ $variant,)+ }

        impl $enum {
            /// All exits, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Number of exits: the size of their counter map.
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// Name, as in `edge-ctl status` and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence on when a packet leaves by this exit.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// The exit whose counter is `raw`; the last exit for an unknown number.
            #[inline(always)]
            pub const fn from_raw(raw: u32) -> Self {
                match raw {
                    $(raw if raw == Self::$variant as u32 => Self::$variant,)+
                    _ => Self::ALL[Self::ALL.len() - 1],
                }
            }

            /// What the kernel does with a packet that leaves by this exit.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }
        }
    };
}

exits! {
    /// Exits of the load balancer; those of forwarded packets first.
    pub enum Exit {
        /// Forwarded on L2 by the interface that it came in by.
        DsrTx = "dsr_tx", Tx;
        /// Forwarded on L2 by another interface.
        DsrRedirect = "dsr_redirect", Redirect;
        /// Encapsulated, and sent by the interface that it came in by.
        IpipTx = "ipip_tx", Tx;
        /// Encapsulated, and sent by another interface.
        IpipRedirect = "ipip_redirect", Redirect;
        /// Encapsulated in UDP, and sent by the interface that it came in by.
        GueTx = "gue_tx", Tx;
        /// Encapsulated in UDP, and sent by another interface.
        GueRedirect = "gue_redirect", Redirect;
        /// Translated, and sent to the backend by the interface that it came in by.
        NatTx = "nat_tx", Tx;
        /// Translated, and sent to the backend by another interface.
        NatRedirect = "nat_redirect", Redirect;
        /// A backend's answer, translated back, and sent to the client by the interface that it came in by.
        NatReplyTx = "nat_reply_tx", Tx;
        /// A backend's answer, translated back, and sent to the client by another interface.
        NatReplyRedirect = "nat_reply_redirect", Redirect;
        /// For no service; passed to the host.
        NotOurs = "not_ours", Pass;
        /// In a frame to another MAC address than those of the interface: flooded by a switch, multicast or broadcast.
        OtherStation = "other_station", Pass;
        /// The first fragment of a packet to a VIP that is neither TCP nor UDP; the host's.
        FragmentOther = "fragment_other", Pass;
        /// An ICMP or ICMPv6 error to a VIP that concerns no flow of a service; the host's.
        IcmpError = "icmp_error", Pass;
        /// An ICMP or ICMPv6 error to the tunnel's source from which the path MTU of a backend was learnt; the host's, too.
        PathMtu = "path_mtu", Pass;
        /// Other ICMP or ICMPv6 to a VIP, neighbour discovery among it; the host's.
        IcmpOther = "icmp_other", Pass;
        /// An echo request to a VIP, answered.
        EchoReply = "echo_reply", Tx;
        /// No backend left, answered with a TCP RST.
        RejectReset = "reject_reset", Tx;
        /// No backend left, answered with an ICMP or ICMPv6 port unreachable.
        RejectUnreachable = "reject_unreachable", Tx;
        /// No backend left, and the packet must not be answered (it is a RST, or its source is not a single host).
        RejectSilent = "reject_silent", Drop;
        /// To a VIP that is no address of the host, at a port where no service is; answered with a TCP RST.
        VipReset = "vip_reset", Tx;
        /// To a VIP that is no address of the host, at a port where no service is; answered with an ICMP or ICMPv6 port unreachable.
        VipUnreachable = "vip_unreachable", Tx;
        /// To a VIP that is no address of the host, in a protocol that no service has; answered with an ICMP protocol unreachable or an ICMPv6 parameter problem.
        VipProtocol = "vip_protocol", Tx;
        /// To a VIP that is no address of the host and to no service, and the packet is one that must not be answered.
        VipSilent = "vip_silent", Drop;
        /// To a VIP that is no address of the host and to no service, dropped as configured.
        VipDropped = "vip_dropped", Drop;
        /// No backend left, dropped as configured.
        Exhausted = "exhausted", Drop;
        /// TTL or hop limit used up here, answered with an ICMP or ICMPv6 time exceeded.
        TtlExceeded = "ttl_exceeded", Tx;
        /// TTL or hop limit used up here, and the sender must not be answered.
        TtlExceededSilent = "ttl_exceeded_silent", Drop;
        /// To a service in `nat`, of a TCP connection that this edge does not know; answered with a RST.
        NatNoFlow = "nat_no_flow", Tx;
        /// Of a connection in `nat` whose backend is down, or was left by an evacuation; answered with a RST.
        NatBackendDown = "nat_backend_down", Tx;
        /// Starts a connection in `nat` for which no port is left; answered with a RST.
        NatExhausted = "nat_exhausted", Tx;
        /// Starts a connection in `nat` for which no port is left, and the packet is one that must not be answered, or is not TCP.
        NatExhaustedSilent = "nat_exhausted_silent", Drop;
        /// In `nat`, of a connection that is not known or whose backend is down, and the packet is one that must not be answered.
        NatSilent = "nat_silent", Drop;
        /// Starts a flow in `nat`, while another CPU adds the same flow or takes the same entry; the sender's next attempt succeeds.
        NatRaced = "nat_raced", Drop;
        /// In `nat` between IP versions, with a source route: an option of IPv4, or a routing header of IPv6 with segments left.
        NatSourceRoute = "nat_source_route", Drop;
        /// In `nat` from IPv4 to IPv6, a UDP datagram without checksum that is in fragments or longer than 1,500 bytes: IPv6 requires a checksum.
        NatNoChecksum = "nat_no_checksum", Drop;
        /// In `nat` between IP versions, an ICMP or ICMPv6 error without a counterpart in the other version, or too long for it.
        NatNoError = "nat_no_error", Drop;
        /// In `nat` from IPv4 to IPv6, a packet that is too long there and has no DF bit; answered with ICMP fragmentation needed all the same, since it can't be fragmented here.
        NatTooBig = "nat_too_big", Tx;
        /// Too long for the path to the backend, answered with ICMP fragmentation needed or ICMPv6 packet too big.
        TooBig = "too_big", Tx;
        /// Too long for the path to the backend, and the packet must not be answered (no DF bit, a source that is not a single host, or IPv6 of at most 1,280 bytes).
        TooBigSilent = "too_big_silent", Drop;
        /// An answer was due (an error, a RST, an echo reply), and the limit of its kind for this second is used up.
        AnswerLimited = "answer_limited", Drop;
        /// A later fragment to a VIP that is no address of the host; its first fragment was not seen, or was seen too long ago.
        FragmentUnknown = "fragment_unknown", Drop;
        /// A later fragment of a TCP segment to a VIP that begins inside the TCP header, and so could overwrite the header that was checked (RFC 1858, RFC 3128).
        FragmentOverlap = "fragment_overlap", Drop;
        /// The first fragment of a packet for a service, and the limit of fragmented packets for this second is used up; the later fragments are dropped, too.
        FragmentLimited = "fragment_limited", Drop;
        /// To a VIP, with a header that is cut off or lengths that contradict the frame.
        Malformed = "malformed", Drop;
        /// To a VIP that is no address of the host, with more IPv6 extension headers than are looked through, or one that hides the transport.
        ExtensionHeaders = "extension_headers", Drop;
        /// The backend's next hop is unknown, to the controller and to the kernel.
        NoNextHop = "no_next_hop", Drop;
        /// For a backend in `dsr` that is behind a router, which would send packets for the VIP back to an edge.
        DsrOffLink = "dsr_off_link", Drop;
        /// The driver left no room to change the frame's length.
        NoRoom = "no_room", Drop;
        /// A map entry refers to an entry that does not exist: a fault of the controller.
        BadTables = "bad_tables", Drop;
    }
}

exits! {
    /// Exits of the decapsulation program.
    pub enum DecapExit {
        /// Not a tunnel packet.
        NotTunnel = "not_tunnel", Pass;
        /// A tunnel packet from an edge that is not configured; the host's.
        UnknownSource = "unknown_source", Pass;
        /// A fragment of a tunnel packet from one of our edges; the host's.
        TunnelFragment = "tunnel_fragment", Pass;
        /// Decapsulated, and given to the host.
        Decapsulated = "decapsulated", Pass;
        /// From one of our edges, to an address at which this host accepts no tunnel packets.
        WrongEndpoint = "wrong_endpoint", Drop;
        /// From one of our edges in UDP, with a header of another version, with flags or extensions, or with a length that contradicts the packet.
        GueHeader = "gue_header", Drop;
        /// From one of our edges in UDP, and a control message.
        GueControl = "gue_control", Drop;
        /// From one of our edges in UDP, with something else than an IP packet in it.
        GueProtocol = "gue_protocol", Drop;
        /// From one of our edges in UDP, with a checksum that is wrong, or of a packet that is too long for its checksum to be computed.
        GueChecksum = "gue_checksum", Drop;
        /// From one of our edges, with an inner packet for several hosts (multicast or broadcast).
        InnerMulticast = "inner_multicast", Drop;
        /// From one of our edges, with an inner packet for an address that is no VIP of this backend.
        UnknownVip = "unknown_vip", Drop;
        /// From one of our edges, with an inner packet from an address that no client can have (loopback, multicast and the like).
        MartianSource = "martian_source", Drop;
        /// From one of our edges, with an inner packet from an address of this host, or from a VIP.
        OwnSource = "own_source", Drop;
        /// From one of our edges, with an inner packet that is a tunnel packet itself, or may hide one.
        NestedTunnel = "nested_tunnel", Drop;
        /// From one of our edges, with an inner packet of neighbour discovery, which no router has forwarded.
        InnerDiscovery = "inner_discovery", Drop;
        /// From one of our edges, with an inner packet that is cut off or contradicts the outer one.
        BadInner = "bad_inner", Drop;
        /// Marked "congestion experienced" on the way although its sender does not know ECN (RFC 6040).
        Congested = "congested", Drop;
        /// The driver left no room to change the frame's length.
        DecapNoRoom = "no_room", Drop;
    }
}

exits! {
    /// Exits of the program that lowers the maximum segment size in a backend's SYN-ACKs. Only SYN-ACKs from a VIP are counted.
    pub enum MssExit {
        /// A SYN-ACK from a VIP whose maximum segment size was lowered to what fits the tunnel.
        MssLowered = "mss_lowered", Pass;
        /// A SYN-ACK from a VIP whose maximum segment size fits the tunnel as it is.
        MssFits = "mss_fits", Pass;
        /// A SYN-ACK from a VIP without a maximum segment size: clients send segments of the default size, which fit.
        NoMss = "no_mss", Pass;
    }
}

/// Number of exits of forwarded packets: a pair for each mode, and for answers in `nat`.
const FORWARDED: usize = Exit::NatReplyRedirect as usize + 1;

const _: () = {
    let mut number = 0;
    while number < Exit::ALL.len() {
        let verdict = Exit::ALL[number].verdict();
        let is_second = number < FORWARDED && number % 2 == 1;
        assert!(matches!(verdict, Verdict::Redirect) == is_second);
        assert!(number >= FORWARDED || is_second || matches!(verdict, Verdict::Tx));
        number += 1;
    }
};

impl Exit {
    /// Whether a forwarded packet leaves by another interface: a single bit, since the exits of forwarded packets are
    /// pairs.
    #[inline(always)]
    pub const fn is_redirect(self) -> bool {
        self as u32 & 1 != 0
    }

    /// Whether packets of this exit are answered: what is sent back, and was not forwarded, is an answer.
    pub const fn is_answer(self) -> bool {
        self as usize >= FORWARDED && matches!(self.verdict(), Verdict::Tx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_order_is_that_of_the_counters() {
        for (number, exit) in (0u32..).zip(Exit::ALL) {
            assert_eq!(*exit as u32, number);
            assert_eq!(Exit::ALL.iter().filter(|other| other.name() == exit.name()).count(), 1);
        }
    }
}
