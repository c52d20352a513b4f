//! Whatever options a client sends, its backend reads the client's address, or none.

use edge_common::abi::Exit;
use edge_tests::{
    namespace::{LO, in_namespace},
    packet::{ACK, SYN, Tcp, verify},
    world::Side,
};
use proptest::{prelude::*, sample};

use super::{
    exit, segment,
    told::{BACKEND, CLIENT, Flow, both_run, option},
};

/// The addresses that a server reads in the options of a segment, as Linux goes through them.
fn read(mut options: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((&kind, rest)) = options.split_first() {
        match (kind, rest.first()) {
            (0, _) | (2.., None) => break,
            (1, _) => options = rest,
            (_, Some(&length)) => {
                let length = usize::from(length);
                if length < 2 || length > options.len() {
                    break;
                }
                if kind == 254 {
                    found.push(options[..length].to_vec());
                }
                options = &options[length..];
            }
        }
    }
    found
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just(vec![1]),
        (sample::select(vec![2u8, 3, 8, 253, 254, 254, 254]), 0u8..12).prop_map(|(kind, length)| {
            let mut option = vec![kind, length];
            option.resize(usize::from(length).max(2), 0xaa);
            option
        }),
        prop::collection::vec(any::<u8>(), 1..6),
    ];
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let mut all = all.concat();
        all.resize(all.len().next_multiple_of(4), 1);
        all.truncate(40);
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_options_a_client_sends_its_backend_reads_its_address_or_none(
        clients in sample::select(Side::BOTH.to_vec()),
        backends in sample::select(Side::BOTH.to_vec()),
        packets in prop::collection::vec((options(), 0usize..50, any::<bool>(), any::<bool>()), 1..30),
    ) {
        in_namespace(|| {
            let flow = Flow::new(clients, backends, LO);
            flow.shakes();
            for (options, length, starts, wrong) in packets {
                let flags = if starts { SYN } else { ACK };
                let checksum = if wrong { Some(0x1234) } else { None };
                let sent = Tcp { options, data: vec![9; length], checksum, ..segment(flags, CLIENT, BACKEND + 1) };
                let frame = flow.client.sends(sent.clone());
                let was = verify::checksums(&frame.bytes());
                let seen = both_run(&flow.both, &frame);
                assert_eq!(exit(&seen), Exit::NatTx, "{sent:?}");
                assert_eq!(verify::checksums(&seen.frame).is_ok(), was.is_ok(), "{sent:?}: {seen:?}");
                let tcp = if backends == Side::V4 { 34 } else { 54 };
                let header = usize::from(seen.frame[tcp + 12] >> 4) * 4;
                let found = read(&seen.frame[tcp + 20..tcp + header]);
                let room = 40 - option(flow.client).len();
                if sent.options.len() <= room {
                    assert_eq!(found, [option(flow.client)], "{sent:?}");
                } else {
                    assert_eq!(found, Vec::<Vec<u8>>::new(), "{sent:?}");
                }
                assert_eq!(seen.frame[tcp + header..], sent.data, "{sent:?}");
            }
        });
    }
}
