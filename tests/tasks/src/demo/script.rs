//! The events of the demo, in order.

use std::time::Duration;

use anyhow::Result;
use edge_tests::lab::{
    Lab,
    configuration::Configuration,
    topology::{Backend, Protocol, Provider, Service},
};

/// A lab, and the events in it.
pub(super) struct Chapter {
    /// Name in the JSON output.
    pub(super) name: &'static str,
    pub(super) opening: &'static str,
    pub(super) configuration: Configuration,
    pub(super) acts: Vec<Act>,
    /// Whether clients in flight to a failed part are reset, as in translated flows.
    pub(super) resets: bool,
}

impl Chapter {
    /// The services that clients use.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> {
        self.configuration.services.iter().copied().filter(|service| service.protocol == Protocol::Tcp)
    }
}

pub(super) fn chapters() -> [Chapter; 2] {
    let all_slots = |configuration| Configuration { all_slots: true, ..configuration };
    [
        Chapter {
            name: "nat",
            opening: "Two providers, a and b, with three plain web servers each: nothing was prepared there. Two clients send \
                      requests by IPv4 and\nIPv6 (`nat`), on kept and on new connections. Backends are probed each 200 ms, \
                      and down after 3 misses.",
            configuration: all_slots(Configuration::translated()),
            acts: plain_acts(),
            resets: true,
        },
        Chapter {
            name: "dsr_and_ipip",
            opening: "The same providers, their servers prepared for `dsr` and `ipip`: they answer clients directly. Two clients \
                      send requests to 7 services\n(IPv4 and IPv6; L2 and tunnels).",
            configuration: all_slots(Configuration::default()),
            acts: acts(),
            resets: false,
        },
    ]
}

/// An event under load.
pub(super) struct Act {
    /// Name in the JSON output.
    pub(super) name: &'static str,
    /// Text in the timeline.
    pub(super) caption: &'static str,
    pub(super) run: fn(&mut Lab) -> Result<()>,
    /// Time to watch before the next act.
    pub(super) then: Duration,
    /// Whether backends or the paths to them fail, so that the time of detection is of interest.
    pub(super) is_death: bool,
}

/// Longer than detection (0.8 s at most) and a client's timeout (1 s) together: failures end before the next act.
const LONG: Duration = Duration::from_millis(2500);
const SHORT: Duration = Duration::from_millis(1500);

const A1: Backend = Backend { provider: Provider::A, number: 1 };
const A2: Backend = Backend { provider: Provider::A, number: 2 };

fn act(name: &'static str, caption: &'static str, run: fn(&mut Lab) -> Result<()>, then: Duration) -> Act {
    Act { name, caption, run, then, is_death: false }
}

fn death(name: &'static str, caption: &'static str, run: fn(&mut Lab) -> Result<()>) -> Act {
    Act { name, caption, run, then: LONG, is_death: true }
}

fn plain_acts() -> Vec<Act> {
    vec![
        act("load_started", "All backends are up; provider a, the first pool, serves.", |_| Ok(()), SHORT),
        death("provider_killed", "Provider a fails: all three of its servers at once, in silence.", kill_provider),
        act("provider_healed", "Provider a is back, and takes new connections.", heal_provider, SHORT),
        act("controller_killed", "kill -9 of the controller: the packet path works alone.", Lab::kill_daemon, LONG),
        act(
            "controller_restarted",
            "The controller starts again and adopts the pinned state.",
            Lab::start_daemon,
            SHORT,
        ),
    ]
}

fn acts() -> Vec<Act> {
    vec![
        act("load_started", "All backends are up; provider a, the first pool, serves.", |_| Ok(()), SHORT),
        death("backend_killed", "Backend a2 loses power, and falls silent.", |lab| lab.kill_backend(A2)),
        act("backend_healed", "a2 is back.", heal_a2, SHORT),
        death("provider_killed", "Provider a fails: all three of its backends at once.", kill_provider),
        act("provider_healed", "Provider a is back, and takes its traffic back by itself.", heal_provider, SHORT),
        act("controller_killed", "kill -9 of the controller: the packet path works alone.", Lab::kill_daemon, LONG),
        act(
            "controller_restarted",
            "The controller starts again and adopts the pinned state.",
            Lab::start_daemon,
            SHORT,
        ),
        act("drained", "edge-ctl drain a1: it gets no new connections.", |lab| each_pool(lab, "drain"), SHORT),
        act("enabled", "edge-ctl enable a1.", |lab| each_pool(lab, "enable"), SHORT),
        act("failover", "edge-ctl failover SERVICE --to provider b, for each service.", failover, SHORT),
        act("failback", "edge-ctl failback SERVICE, for each service.", failback, SHORT),
        act("link_laid", "Tunnels to provider a leave by a link of their own, eth2.", lay_link, SHORT),
        death("link_down", "eth2 loses its carrier.", |lab| lab.plug_provider_a(false)),
        act("link_up", "eth2 has a carrier again.", plug_in, SHORT),
        death("route_gone", "The routes to provider a are gone.", |lab| lab.route_provider_a(false)),
        act("route_back", "The routes are back.", route_back, SHORT),
        death("neighbour_failed", "The router on eth2 falls silent; the kernel gives it up.", |lab| {
            lab.mute_provider_a(true)
        }),
        act("neighbour_back", "The router answers again.", speak_again, SHORT),
    ]
}

fn heal_a2(lab: &mut Lab) -> Result<()> {
    lab.heal_backend(A2)?;
    lab.wait_for_health(|_| "up")
}

fn kill_provider(lab: &mut Lab) -> Result<()> {
    Backend::of(Provider::A).try_for_each(|backend| lab.kill_backend(backend))
}

fn heal_provider(lab: &mut Lab) -> Result<()> {
    Backend::of(Provider::A).try_for_each(|backend| lab.heal_backend(backend))?;
    lab.wait_for_health(|_| "up")
}

fn lay_link(lab: &mut Lab) -> Result<()> {
    lab.give_provider_a_a_link()?;
    lab.wait_for_health(|_| "up")
}

fn plug_in(lab: &mut Lab) -> Result<()> {
    lab.plug_provider_a(true)?;
    lab.wait_for_health(|_| "up")
}

fn route_back(lab: &mut Lab) -> Result<()> {
    lab.route_provider_a(true)?;
    lab.wait_for_health(|_| "up")
}

fn speak_again(lab: &mut Lab) -> Result<()> {
    lab.mute_provider_a(false)?;
    lab.wait_for_health(|_| "up")
}

/// Applies a verb to every pool that contains the host `a1`.
fn each_pool(lab: &Lab, verb: &str) -> Result<()> {
    A1.pools().iter().try_for_each(|pool| lab.ctl(&[verb, &format!("{pool}/{A1}")]).map(drop))
}

fn failover(lab: &mut Lab) -> Result<()> {
    Service::of(Protocol::Tcp).try_for_each(|service| {
        let [_, second] = service.pools();
        lab.ctl(&["failover", service.name, "--to", &second]).map(drop)
    })
}

fn failback(lab: &mut Lab) -> Result<()> {
    Service::of(Protocol::Tcp).try_for_each(|service| lab.ctl(&["failback", service.name]).map(drop))
}
