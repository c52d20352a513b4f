//! Services that route QUIC by connection ID, and the server numbers of their backends.

use super::{catalogue::check, *};

/// A good file with a QUIC port, `quic_cid` of its service, and the backends of two pools.
fn with(quic_cid: &str, backends: [&str; 2]) -> String {
    let second = format!("[[pool]]\nname = \"provider-b\"\n[[pool.backend]]\nname = \"b1\"\n{}", backends[1]);
    GOOD.replace("address = \"10.1.0.11\"", backends[0])
        .replace("[[service]]", &format!("{second}\n[[service]]"))
        .replace("[\"80/tcp\"]", "[\"443/tcp\", \"443/quic\"]")
        .replace("pools = [\"provider-a\"]", &format!("pools = [\"provider-a\", \"provider-b\"]\n{quic_cid}"))
}

const NUMBERED: [&str; 2] =
    ["address = \"10.1.0.11\"\nserver_number = 17", "address = \"10.1.0.12\"\nserver_number = 0xff12"];
const PLAIN: &str = "quic_cid = { scheme = \"plain\", offset = 1, length = 2 }";

#[test]
fn a_service_has_the_numbers_position_and_backends_their_numbers() {
    for (cid, offset, length) in [
        (PLAIN, 8, 16),
        ("quic_cid = { scheme = \"plain\", unit = \"bytes\", offset = 0, length = 4 }", 0, 32),
        ("quic_cid = { scheme = \"plain\", unit = \"bits\", offset = 2, length = 16 }", 2, 16),
        ("quic_cid = { scheme = \"plain\", unit = \"bits\", offset = 128, length = 32 }", 128, 32),
        ("[service.quic_cid]\nscheme = \"plain\"\noffset = 16\nlength = 4", 128, 32),
    ] {
        let config = good(&with(cid, NUMBERED));
        assert_eq!(config.services[0].quic_cid, Some(QuicCid { offset, length }), "{cid}");
        let numbers: Vec<_> = config.pools.iter().map(|pool| pool.backends[0].server_number).collect();
        assert_eq!(numbers, [Some(17), Some(0xff12)]);
    }
    // A default of all services is ignored where there is no QUIC.
    let default = GOOD.replace("[[interface]]", &format!("[defaults.service]\n{PLAIN}\n[[interface]]"));
    assert_eq!(good(&default).services[0].quic_cid, None);
    let both = NUMBERED.map(|backend| backend.replace("\"10.1.0.11\"", "[\"10.1.0.11\", \"2001:db8:a::11\"]"));
    let both = with(PLAIN, [&both[0], &both[1]])
        .replace("source_v4", "source_v6 = \"fd00::1\"\nsource_v4")
        .replace("\"192.0.2.10\"", "\"192.0.2.10\", \"2001:db8::10\"");
    let config = good(&both);
    let parts: Vec<_> = config.services.iter().map(|service| (service.name.as_str(), service.quic_cid)).collect();
    let cid = Some(QuicCid { offset: 8, length: 16 });
    assert_eq!(parts, [("web@ipv4", cid), ("web@ipv6", cid)]);
}

#[test]
fn what_is_wrong_with_them() {
    let inline = |keys: &str| with(&format!("quic_cid = {{ {keys} }}"), NUMBERED);
    let cases = [
        inline("offset = 1, length = 2"),
        inline("scheme = \"block\", offset = 1, length = 2"),
        inline("scheme = \"plain\", length = 2"),
        inline("scheme = \"plain\", offset = 1"),
        inline("scheme = \"plain\", offset = 1, length = 5"),
        inline("scheme = \"plain\", offset = 20, length = 1"),
        inline("scheme = \"plain\", offset = 17, length = 4"),
        inline("scheme = \"plain\", unit = \"bits\", offset = 160, length = 16"),
        inline("scheme = \"plain\", unit = \"bits\", offset = 150, length = 16"),
        inline("scheme = \"plain\", unit = \"nibbles\", offset = 1, length = 2"),
        inline("scheme = \"plain\", offset = 1, length = 2, lengths = 2"),
        with("quic_cid = \"plain\"", NUMBERED),
        with(PLAIN, NUMBERED).replace(", \"443/quic\"", ""),
        with(PLAIN, ["address = \"10.1.0.11\"", NUMBERED[1]]),
        with("", NUMBERED),
        with(PLAIN, [NUMBERED[0], "address = \"10.1.0.12\"\nserver_number = 17"]),
        with(PLAIN, [NUMBERED[0], "address = \"10.1.0.12\"\nserver_number = 65536"]),
        with(PLAIN, [NUMBERED[0], "address = \"10.1.0.12\"\nserver_number = 4294967296"]),
        with(PLAIN, [NUMBERED[0], "address = \"10.1.0.12\"\nserver_number = \"17\""]),
        with(PLAIN, NUMBERED).replace(", \"provider-b\"]", "]"),
    ];
    let texts: Vec<_> = cases.iter().map(|text| refusal(text)).collect();
    check!(texts.join("\n\n"));
}
