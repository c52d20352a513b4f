//! A probe's packet leaves as a client's packet does, to the byte.

use aya::{EbpfLoader, programs::SchedClassifier};
use edge_common::{
    abi::{Exit, FlowKeyV4, FlowKeyV6, Mode, ProbeRoute, program},
    host::Frame,
    pipeline, probe,
};
use edge_tests::{
    cases::{self, Scene},
    kernel,
};

/// Every flow is that of a probe.
struct All(ProbeRoute);

impl probe::Probes for All {
    fn find_v4(&self, _key: &FlowKeyV4) -> Option<ProbeRoute> {
        Some(self.0)
    }

    fn find_v6(&self, _key: &FlowKeyV6) -> Option<ProbeRoute> {
        Some(self.0)
    }
}

struct None;

impl probe::Probes for None {
    fn find_v4(&self, _key: &FlowKeyV4) -> Option<ProbeRoute> {
        Option::None
    }

    fn find_v6(&self, _key: &FlowKeyV6) -> Option<ProbeRoute> {
        Option::None
    }
}

#[test]
fn a_probe_is_sent_as_a_clients_packet_is() {
    let scene = Scene::new();
    let (mut dsr, mut ipip) = (0, 0);
    for case in cases::all(&scene) {
        let (memory, mut came) = (scene.world.memory(), Frame::new(&case.frame));
        let outcome = pipeline::process(&mut came, &memory);
        #[expect(clippy::wildcard_enum_match_arm, reason = "a mode without probes is another test's to miss")]
        let (mode, count) = match outcome.exit {
            Exit::DsrTx | Exit::DsrRedirect => (Mode::Dsr, &mut dsr),
            Exit::IpipTx | Exit::IpipRedirect => (Mode::Ipip, &mut ipip),
            _ => continue,
        };
        let route = ProbeRoute { door: 7, backend: memory.last_backend(), mode: mode as u8, reserved: 0 };
        let mut sent = Frame::new(&case.frame);
        // Fragments and errors are no probe's.
        let Some(egress) = probe::send(&mut sent, &scene.world.memory(), &All(route)) else { continue };
        if sent.bytes() != came.bytes() {
            // The flow of an ICMP error's packet is that of what it quotes.
            assert!(["icmp", "echo", "error"].iter().any(|word| case.name.contains(word)), "{}", case.name);
            continue;
        }
        assert_eq!(egress, outcome.egress, "{}", case.name);
        *count += 1;
        let mut nobodys = Frame::new(&case.frame);
        assert_eq!(probe::send(&mut nobodys, &memory, &None), Option::None);
        assert_eq!(nobodys.bytes(), &case.frame[..], "what is no probe's is not touched");
    }
    println!("{dsr} by dsr, {ipip} by ipip");
    assert!(dsr > 50 && ipip > 50, "{dsr} by dsr, {ipip} by ipip");
}

#[test]
fn the_programs_of_probes_load() {
    let mut object = EbpfLoader::new().load(&kernel::object()).expect("the object loads");
    for name in [program::PROBE_OUT, program::PROBE_IN] {
        let program: &mut SchedClassifier = object.program_mut(name).expect(name).try_into().expect("a tc program");
        program.load().unwrap_or_else(|error| panic!("the kernel refuses `{name}`: {error:#}"));
        // Linux 5.16 is the first to say.
        if let Some(verified) = program.info().expect(name).verified_instruction_count() {
            println!("{name}: {verified} instructions verified");
        }
    }
}
