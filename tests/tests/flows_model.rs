//! A flow whose backend lives never moves: random upheaval, judged by a plain model of who owns each flow.

#[path = "flows_model/controller.rs"]
mod controller;
#[path = "flows_model/edge.rs"]
mod edge;
#[path = "flows_model/flow.rs"]
mod flow;
#[path = "flows_model/plan.rs"]
mod plan;
#[path = "flows_model/population.rs"]
mod population;
#[path = "flows_model/random.rs"]
mod random;
#[path = "flows_model/run.rs"]
mod run;
#[path = "flows_model/scene.rs"]
mod scene;
#[path = "flows_model/truth.rs"]
mod truth;
#[path = "flows_model/upheaval.rs"]
mod upheaval;

use plan::{Broken, Plan};
use run::Run;

#[test]
fn try_it() {
    let show = |name: &str, plan: Plan, kernel| {
        let begin = std::time::Instant::now();
        let r = Run::new(plan, kernel).run();
        println!("{name} {:?}: moved {} shaken {} misplaced {} packets {} changes {} orphaned {} forgotten {} {:?} {:?} {:?}", plan.seed, r.moved.len(), r.shaken.len(), r.misplaced.len(), r.packets, r.changes, r.orphaned, r.forgotten, r.done, r.counts.0, begin.elapsed());
        for line in r.moved.iter().chain(&r.misplaced).chain(&r.shaken).take(3) { println!("   {line}"); }
    };
    for seed in 0..10 {
        show("roomy", Plan::roomy(seed, 100_000), false);
    }
    for room in [0, 1, 10, 50, 200] {
        for seed in 0..3 {
            show(&format!("tight {room}"), Plan::tight(seed, 100_000, room), false);
        }
    }
    for broken in [Broken::Stateless, Broken::MissedIgnored, Broken::FollowPerBackend, Broken::FollowAtOnce, Broken::ChangesUncounted, Broken::ClearedUnscanned, Broken::ExpiredEarly, Broken::NumberGivenAway] {
        for seed in 0..3 {
            show(&format!("{broken:?}"), if broken == Broken::MissedIgnored { Plan::tight(seed, 50_000, 20) } else { Plan::roomy(seed, 50_000) }.broken(broken), false);
        }
    }
}
