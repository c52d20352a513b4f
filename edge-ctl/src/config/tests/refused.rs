//! The text of every refusal, as snapshots: a tired operator has to understand it.

use super::catalogue::{catalogue, check, without_randomness};

#[test]
fn syntax() {
    check!(catalogue(&[
        ("name = \"web\"", "name = \"web"),
        ("name = \"web\"", "name = 'web"),
        ("name = \"web\"", "name web"),
        ("name = \"web\"", "name = web"),
        ("name = \"web\"", "name ="),
        ("name = \"web\"", "= \"web\""),
        ("name = \"web\"", "name = \"web\"\nname = \"again\""),
        ("name = \"web\"", "name = \"web\" port = 80"),
        ("name = \"web\"", "name = \"we\\b\""),
        ("pools = [\"provider-a\"]", "pools = [\"provider-a\""),
        ("[[service]]", "[service"),
        ("[[service]]", "[[service]"),
        ("[[service]]", "[tunnel]"),
        ("port = 80", "port = 08"),
        ("port = 80", "port = 8O"),
    ]));
}

#[test]
fn unknown_keys() {
    check!(catalogue(&[
        ("[tunnel]", "slot = 1024\n[tunnel]"),
        ("[tunnel]", "something_else = 1024\n[tunnel]"),
        ("source_v4", "source_v5"),
        ("source_v4 = \"10.0.0.1\"", "source_v4 = \"10.0.0.1\"\nslots = 1024"),
        ("[tunnel]", "[limit]\nservices = 1\n[tunnel]"),
        ("[tunnel]", "[limits]\nservice = 1\n[tunnel]"),
        ("name = \"eth0\"", "name = \"eth0\"\nmod = \"native\""),
        ("name = \"provider-a\"", "name = \"provider-a\"\nweight = 10"),
        ("name = \"provider-a\"", "name = \"provider-a\"\n\"min\\u001bhealthy\" = 10"),
        ("type = \"http\"", "type = \"http\"\nintervall = \"1s\""),
        ("[pool.probe]", "[probe]"),
        ("address", "addres"),
        ("address", "ip"),
        ("mode = \"ipip\"", "mode = \"ipip\"\npool = [\"provider-a\"]"),
        ("mode = \"ipip\"", "mode = \"ipip\"\nwhen-exhausted = \"open\""),
        ("[[pool.backend]]", "[[backend]]"),
        ("[[service]]", "[[services]]"),
    ]));
}

#[test]
fn keys_that_are_missing() {
    check!(without_randomness(&catalogue(&[
        ("hash_key = \"000102030405060708090a0b0c0d0e0f\"", ""),
        ("[[interface]]\nname = \"eth0\"", ""),
        ("name = \"eth0\"", ""),
        ("name = \"provider-a\"", ""),
        ("[[pool.backend]]\nname = \"a1\"\naddress = \"10.1.0.11\"\n", ""),
        ("type = \"http\"", ""),
        ("port = 80\n[[pool", "[[pool"),
        ("name = \"a1\"", ""),
        ("address = \"10.1.0.11\"", ""),
        ("name = \"web\"", ""),
        ("vips = [\"192.0.2.10\"]", ""),
        ("ports = [\"80/tcp\"]", ""),
        ("mode = \"ipip\"", ""),
        ("pools = [\"provider-a\"]", ""),
    ])));
}

#[test]
fn virtual_mac_addresses() {
    let with = |macs: &str| format!("name = \"eth0\"\nvirtual_macs = {macs}");
    let many: Vec<_> = (0..15).map(|number| format!("\"00:00:5e:00:01:{number:02x}\"")).collect();
    let too_many = format!("{}\n[[interface]]\nname = \"eth1\"", with(&format!("[{}]", many.join(", "))));
    let bad = [
        "\"00:00:5e:00:01:07\"",
        "[7]",
        "[\"00:00:5e:00:01\"]",
        "[\"00:00:5e:00:01:7\"]",
        "[\"00-00-5e-00-01-07\"]",
        "[\"00:00:5e:00:01:+7\"]",
        "[\"00:00:00:00:00:00\"]",
        "[\"ff:ff:ff:ff:ff:ff\"]",
        "[\"00:00:5e:00:01:07\", \"01:00:5e:00:01:07\"]",
    ];
    let texts: Vec<_> = bad.into_iter().map(with).chain([too_many]).collect();
    let edits: Vec<_> = texts.iter().map(|text| ("name = \"eth0\"", text.as_str())).collect();
    check!(catalogue(&edits));
}

#[test]
fn wrong_types() {
    check!(without_randomness(&catalogue(&[
        ("\"000102030405060708090a0b0c0d0e0f\"", "10"),
        ("[tunnel]", "slots = \"1024\"\n[tunnel]"),
        ("[tunnel]", "slots = 1024.5\n[tunnel]"),
        ("[tunnel]", "[[tunnel]]"),
        ("[tunnel]", "limits = 5\n[tunnel]"),
        ("[[interface]]", "[interface]"),
        ("[[interface]]\nname = \"eth0\"", ""),
        ("[tunnel]\nsource_v4 = \"10.0.0.1\"\n[[interface]]\nname = \"eth0\"", "interface = \"eth0\""),
        ("[tunnel]\nsource_v4 = \"10.0.0.1\"\n[[interface]]\nname = \"eth0\"", "interface = [\"eth0\"]"),
        ("[pool.probe]", "[[pool.probe]]"),
        ("[[pool.backend]]", "[pool.backend]"),
        ("type = \"http\"", "type = \"http\"\ninterval = 1"),
        ("type = \"http\"", "type = \"http\"\ninterval = 0.5"),
        ("type = \"http\"", "type = \"http\"\njitter = \"10%\""),
        ("type = \"http\"", "type = \"http\"\nstatus = \"200\""),
        ("type = \"http\"", "type = \"http\"\nstatus = [200, \"204\"]"),
        ("type = \"http\"", "type = \"http\"\npath = 1"),
        ("\"10.1.0.11\"", "10"),
        ("[\"192.0.2.10\"]", "\"192.0.2.10\""),
        ("[\"192.0.2.10\"]", "[[\"192.0.2.10\"]]"),
        ("[\"80/tcp\"]", "\"80/tcp\""),
        ("[\"80/tcp\"]", "[80]"),
        ("ports = [\"80/tcp\"]", "port = 80"),
        ("ports = [\"80/tcp\"]", "port = 80\nprotocol = \"tcp\""),
        ("ports = [\"80/tcp\"]", "port = [\"80/tcp\"]"),
        ("pools = [\"provider-a\"]", "pools = [\"provider-a\"]\n[service.port]\nport = \"53/udp\""),
        ("address = \"10.1.0.11\"", "address = \"10.1.0.11\"\nweight = \"0\""),
        ("pools = [\"provider-a\"]", "pools = \"provider-a\""),
        ("pools = [\"provider-a\"]", "pools = [1]"),
        ("pools = [\"provider-a\"]", "pools = [[\"provider-a\"]]"),
    ])));
}

#[test]
fn wrong_values() {
    check!(without_randomness(&catalogue(&[
        ("000102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0"),
        ("000102030405060708090a0b0c0d0e0f", "+00102030405060708090a0b0c0d0e0f"),
        ("000102030405060708090a0b0c0d0e0f", "äää10203040506070809000b0c0d0e0f"),
        ("[tunnel]", "slots = 1000\n[tunnel]"),
        ("[tunnel]", "slots = 100000\n[tunnel]"),
        ("[tunnel]", "slots = 524288\n[tunnel]"),
        ("[tunnel]", "slots = 99999999999999999999999999\n[tunnel]"),
        ("[tunnel]", "[limits]\nbackends = 65536\n[tunnel]"),
        ("\"eth0\"", "\"eth0/1\""),
        ("\"eth0\"", "\"an-interface-with-a-long-name\""),
        ("name = \"eth0\"", "name = \"eth0\"\nmode = \"nativ\""),
        ("name = \"eth0\"", "name = \"eth0\"\nmode = \"offload\""),
        ("name = \"provider-a\"", "name = \"Provider A\""),
        ("name = \"provider-a\"", "name = \"\""),
        ("name = \"provider-a\"", "name = \"provider/a\""),
        ("name = \"provider-a\"", "name = \"a-name-that-is-longer-than-thirty-two-characters\""),
        ("name = \"provider-a\"", "name = \"provider-a\"\nmin_healthy = 0"),
        ("name = \"provider-a\"", "name = \"provider-a\"\nmin_healthy = 2"),
        ("\"http\"", "\"htps\""),
        ("\"http\"", "\"ntp\""),
        ("type = \"http\"\nport = 80", "type = \"http\"\nport = 0"),
        ("type = \"http\"", "type = \"http\"\npath = \"healthz\""),
        ("type = \"http\"", "type = \"http\"\npath = \"/a b\""),
        ("type = \"http\"", "type = \"http\"\npath = \"/a#b\""),
        ("type = \"http\"", "type = \"http\"\nhost = \"http://example.org/\""),
        ("type = \"http\"", "type = \"http\"\nhost = \"a\\r\\nb: c\""),
        ("type = \"http\"", "type = \"http\"\nstatus = 100"),
        ("type = \"http\"", "type = \"http\"\nstatus = []"),
        ("type = \"http\"", "type = \"http\"\nstatus = [200, 2000]"),
        ("type = \"http\"", "type = \"http\"\ninterval = \"1\""),
        ("type = \"http\"", "type = \"http\"\ninterval = \"1ms\""),
        ("type = \"http\"", "type = \"http\"\ninterval = \"soon\""),
        ("type = \"http\"", "type = \"http\"\ninterval = \"200ms\"\ntimeout = \"300ms\""),
        ("type = \"http\"", "type = \"http\"\ntimeout = \"2s\""),
        ("type = \"http\"", "type = \"http\"\nfast_interval = \"2s\""),
        ("type = \"http\"", "type = \"http\"\nserver_name = \"a.org\""),
        ("type = \"http\"", "type = \"http\"\nbody = \"\""),
        ("type = \"http\"", "type = \"http\"\nbody = \"a\"\nbody_regex = \"b\""),
        ("type = \"http\"", "type = \"http\"\nbody_regex = \"(\""),
        ("type = \"http\"", "type = \"https\"\nverify = false\nca = \"/ca.pem\""),
        ("type = \"http\"", "type = \"https\"\nca = \"ca.pem\""),
        ("type = \"http\"", "type = \"https\"\nserver_name = \"10.0.0.1\""),
        ("type = \"http\"", "type = \"https\"\nalpn = [\"h3\"]"),
        ("type = \"http\"", "type = \"udp\""),
        ("type = \"http\"", "type = \"udp\"\nsend = \"a\"\nexpect = \"\""),
        ("type = \"http\"", "type = \"udp\"\nsend = \"\\\\xg0\""),
        ("type = \"http\"", "type = \"dns\"\nquery = \"a..b\""),
        ("type = \"http\"", "type = \"dns\"\nquery = \"a.b\"\nquery_type = \"B\""),
        ("type = \"http\"", "type = \"dns\"\nquery = \"a.b\"\nrcode = \"NXDOMAIN\""),
        ("type = \"http\"", "type = \"command\"\ncommand = [\"sh\"]"),
        ("type = \"http\"", "type = \"command\"\ncommand = []"),
        ("type = \"http\"", "type = \"grpc\"\nverify = false"),
        ("type = \"http\"", "type = \"http\"\nrise = 0"),
        ("type = \"http\"", "type = \"http\"\nfall = 101"),
        ("type = \"http\"", "type = \"http\"\njitter = 0.6"),
        ("type = \"http\"", "type = \"http\"\njitter = nan"),
        ("type = \"http\"", "type = \"http\"\njitter = -1"),
        ("type = \"http\"", "type = \"tcp\"\npath = \"/\"\nstatus = 200"),
        ("address = \"10.1.0.11\"", "address = \"10.1.0.11\"\nweight = 0"),
        ("address = \"10.1.0.11\"", "address = \"10.1.0.11\"\nweight = 65536"),
        ("80/tcp", "65536/tcp"),
        ("80/tcp", "0/tcp"),
        ("80/tcp", "80"),
        ("80/tcp", "http"),
        ("80/tcp", "80/TCP"),
        ("80/tcp", "80/sctp"),
        ("80/tcp", "443/https"),
        ("80/tcp", "443/h3"),
        ("80/tcp", "90-80/udp"),
        ("80/tcp", "80-/udp"),
        ("80/tcp", "all/tcp"),
        ("80/tcp", "*/udp"),
        ("80/tcp", "80:90/tcp"),
        ("80/tcp", " 80/tcp"),
        ("80/tcp", "+80/tcp"),
        ("80/tcp", "080/tcp"),
        ("80/tcp", "tcp/80"),
        ("80/tcp", "tcp:80"),
        ("80/tcp", "443/HTTP3"),
        ("[\"80/tcp\"]", "[]"),
        ("[\"80/tcp\"]", "[\"80/tcp\", \"443/quic\", \"400-500/udp\"]"),
        ("[\"80/tcp\"]", "[\"any/tcp\", \"any/tcp\"]"),
        ("[\"80/tcp\"]", "[\"80/tcp\"]\n[[service.port]]\nport = \"80-81/tcp\""),
        ("[\"80/tcp\"]", "[\"80/tcp\"]\n[[service.port]]\nudp = \"learn\""),
        ("[\"80/tcp\"]", "[\"80/tcp\"]\n[[service.port]]\nport = \"53/udp\"\nflow_table = true\nquic = true"),
        ("mode = \"ipip\"", "mode = \"ipip\"\nslots = 1000"),
        ("mode = \"ipip\"", "mode = \"nat\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nclient_address = \"toa\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nclient_address = \"proxy-v2\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nwhen_exhausted = \"closed\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nannounce = \"bgp\""),
        ("pools = [\"provider-a\"]", "pools = []"),
        ("pools = [\"provider-a\"]", "pools = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]"),
    ])));
}

#[test]
fn addresses() {
    let vips = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:192.0.2.10",
        "::ffff:192.0.2.0/120",
        "::ffff:192.0.2.10/128",
        "::ffff:0:0/90",
        "192.0.2.10-192.0.2.20",
        "192.0.2.10-20",
        "[2001:db8::1]",
        "192.0.2.0/255.255.255.0",
        "192.0.2.1/255.255.255.0",
        "192.0.2.0/255.0.255.0",
        "192.0.2.0/+24",
        "192.0.2.10/33",
        "192.0.2.10/28",
        "10.0.0.0/8",
        "2001:db8::/64",
        "0.0.0.0/24",
        "127.0.0.0/30",
        "/24",
        "192.0.2.1\", \"192.0.2.0/30",
        "192.0.2.1\", \"192.0.2.1",
        "192.0.2.10:80",
        "[2001:db8::1]:80",
        "192.0.2",
        "192.0.2.010",
        "www.example.org",
        "",
    ];
    let vips: Vec<_> = vips.iter().map(|vip| format!("[\"{vip}\"]")).collect();
    let mut cases: Vec<_> = vips.iter().map(|vip| ("[\"192.0.2.10\"]", vip.as_str())).collect();
    cases.push(("source_v4 = \"10.0.0.1\"", "source_v4 = \"fd00::1\""));
    cases.push(("source_v4 = \"10.0.0.1\"", "source_v6 = \"10.0.0.1\""));
    cases.push(("source_v4 = \"10.0.0.1\"", "source_v4 = \"0.0.0.0\""));
    cases.push(("address = \"10.1.0.11\"", "address = \"ff02::1\""));
    cases.push(("[tunnel]", "[edge]\nreference_targets = [\"[::ffff:192.0.2.1]:80\"]\n[tunnel]"));
    cases.push(("source_v4 = \"10.0.0.1\"", "source_v6 = \"fd00::1\"\nsource_v6_range = \"::ffff:192.0.2.0/120\""));
    check!(catalogue(&cases));
}

#[test]
fn flows() {
    let udp = |keys: &str| format!("ports = [\"80/udp\"]\n{keys}");
    let [on_udp, quic_and_udp, learn_alone, learn_stateless, idle_stateless, all] = [
        udp("flow_table = true"),
        "ports = [\"80/quic\"]\nudp = \"learn\"".to_owned(),
        udp("learn = \"10s\""),
        udp("udp = \"stateless\"\nlearn = \"10s\""),
        udp("flow_idle_timeout = \"1m\""),
        udp("udp = \"lern\"\nlearn = 30\nlinger = 5\naffinity = \"client\"\naffinity_prefix_v4 = 0"),
    ];
    let tcp = "ports = [\"80/tcp\"]";
    check!(catalogue(&[
        ("[tunnel]", "[limits]\nflows = 1000\n[tunnel]"),
        ("[tunnel]", "[limits]\nflows = 16777217\nflows_per_second = 0\nfragments = 63\n[tunnel]"),
        ("[tunnel]", "[limits]\nflow = 131072\nflows_per_sec = 1\nfragment = 64\n[tunnel]"),
        ("[tunnel]", "flows = 131072\n[tunnel]"),
        (tcp, "ports = [\"80/tcp\"]\nrecord = true"),
        (tcp, "ports = [\"80/tcp\"]\naffinity-prefix = 24"),
        (tcp, "ports = [\"80/tcp\"]\nrecords = false"),
        (tcp, "ports = [\"80/tcp\"]\nlinger = \"2m\""),
        (tcp, "ports = [\"80/tcp\"]\nflow_table = 1"),
        (tcp, "ports = [\"80/tcp\"]\nflow_table = \"no\""),
        (tcp, "ports = [\"80/tcp\"]\nlinger = \"500ms\""),
        (tcp, "ports = [\"80/tcp\"]\nlinger = \"25h\""),
        (tcp, "ports = [\"80/tcp\"]\nlinger = 300"),
        (tcp, "ports = [\"80/tcp\"]\nflow_table = false\nlinger = \"5m\""),
        (tcp, "ports = [\"80/tcp\"]\nquic = true\nudp = \"learn\"\nlearn = \"30s\""),
        (tcp, "ports = [\"80/tcp\"]\naffinity = \"sourc\""),
        (tcp, "ports = [\"80/tcp\"]\naffinity_prefix = 24\naffinity_prefix_v4 = 24"),
        (tcp, "ports = [\"80/tcp\"]\naffinity = \"source\"\naffinity_prefix_v4 = 33"),
        (tcp, "ports = [\"80/tcp\"]\naffinity = \"source\"\naffinity_prefix_v6 = 129"),
        (tcp, &on_udp),
        (tcp, &quic_and_udp),
        (tcp, &learn_alone),
        (tcp, &learn_stateless),
        (tcp, &idle_stateless),
        (tcp, &all),
    ]));
}

const WEB: &str = "[[service]]\nname = \"web\"\nvips = [\"192.0.2.10\"]";
const SECOND: &str = "[[service]]\nname = \"second\"\nvips = [\"192.0.2.10\"]\nports = [\"443/tcp\"]\nmode = \"ipip\"\n\
                      pools = [\"provider-a\"]";

#[test]
fn sections_that_do_not_fit_together() {
    let a1 = "[[pool.backend]]\nname = \"a1\"\naddress = \"10.1.0.11\"";
    let twice = |line: &str| format!("{line}\n{line}");
    let [two_interfaces, two_backends, two_names, two_addresses, two_pools] = [
        twice("[[interface]]\nname = \"eth0\""),
        twice(a1),
        format!("{a1}\n{}", a1.replace("11", "12")),
        format!("{a1}\n{}", a1.replace("a1", "a2")),
        format!("[[pool]]\nname = \"provider-a\"\n{a1}\n[[pool]]\nname = \"provider-a\""),
    ];
    let same_name = format!("{}\n{WEB}", SECOND.replace("second", "web"));
    let same_port = format!("{}\n{WEB}", SECOND.replace("443", "80"));
    let announces = format!("{SECOND}\nannounce = \"l2\"\n{WEB}");
    check!(catalogue(&[
        ("[[interface]]\nname = \"eth0\"", &two_interfaces),
        (a1, &two_backends),
        (a1, &two_names),
        (a1, &two_addresses),
        ("[[pool]]\nname = \"provider-a\"", &two_pools),
        (WEB, &same_name),
        (WEB, &same_port),
        (WEB, &announces),
        ("pools = [\"provider-a\"]", "pools = [\"provider-a\", \"provider-a\"]"),
        ("pools = [\"provider-a\"]", "pools = [\"provider-b\"]"),
        ("pools = [\"provider-a\"]", "pools = [\"elsewhere\"]"),
        ("mode = \"ipip\"", "mode = \"ipip\"\nannounce_interface = \"eth0\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nannounce = \"none\"\nannounce_interface = \"eth0\""),
        ("mode = \"ipip\"", "mode = \"ipip\"\nannounce = \"l2\"\nannounce_interface = \"eth1\""),
        (
            "mode = \"ipip\"",
            "mode = \"dsr\"\nannounce = \"l2\"\n[[interface]]\nname = \"eth1\"\n[[pool]]\nname = \"x\"\n[[pool.backend]]\nname = \"x\"\naddress = \"10.0.0.9\"\n[[service]]\nname = \"y\"\nvips = [\"192.0.2.11\"]\nports = [\"80/udp\"]\nmode = \"dsr\""
        ),
        ("address = \"10.1.0.11\"", "address = \"192.0.2.10\""),
        (
            "vips = [\"192.0.2.10\"]\nports = [\"80/tcp\"]\nmode = \"ipip\"",
            "vips = [\"2001:db8::10\"]\nports = [\"80/tcp\"]\nmode = \"dsr\""
        ),
        ("[tunnel]\nsource_v4 = \"10.0.0.1\"", ""),
        ("address = \"10.1.0.11\"", "address = \"fd00::11\""),
        (
            "[tunnel]",
            "[limits]\nservices = 1\n[[service]]\nname = \"other\"\nvips = [\"192.0.2.11\"]\nports = [\"80/tcp\"]\nmode = \"dsr\"\npools = [\"provider-a\"]\n[tunnel]"
        ),
        ("[tunnel]", "[limits]\ndestinations = 1\n[tunnel]"),
    ]));
}
