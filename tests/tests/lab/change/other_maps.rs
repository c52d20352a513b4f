//! Changes that need other maps than the pinned ones.

use super::*;

#[test]
fn a_trial_outlives_a_start_with_smaller_maps_and_the_way_back_makes_larger_ones() {
    let mut lab = lab();
    lab.prepare(Mode::Native, "").expect("a configuration");
    let path = lab.edge().unwrap().configuration();
    let old = text(&lab);
    let mut large = old.replace("flows = 1024", "flows = 1024\npools = 42");
    for number in 0..40 {
        let address = format!("10.1.1.{}", 100 + number);
        write!(large, "[[pool]]\nname = \"g{number}\"\nbackend = [{{ name = \"x\", address = \"{address}\" }}]\n")
            .unwrap();
    }
    std::fs::write(&path, &large).unwrap();
    lab.start_daemon().expect("the load balancer starts");
    let requests = lab.start_requests().expect("a client");
    let small = old.replace("flows = 1024", "flows = 1024\npools = 2");
    std::fs::write(&path, &small).unwrap();
    let grows = |lab: &Small, text: &str| {
        let plan: Value = serde_json::from_str(&lab.ctl(&["plan", &file(lab, text), "--json"]).unwrap()).unwrap();
        !plan["new_maps"].is_null() && plan["memory"]["anew"].as_u64() > plan["memory"]["pinned"].as_u64()
    };
    assert!(!grows(&lab, &small));
    lab.ctl(&["apply", path.to_str().unwrap(), "--confirm", "10m", "--allow-removal", "80"]).unwrap();
    lab.kill_daemon().unwrap();
    lab.start_daemon().expect("it starts with smaller maps");
    assert_eq!(status(&lab)["history"]["trial"]["back_to"], 1, "{}", lab.ctl(&["history"]).unwrap());
    assert_eq!(history(&lab).len(), 2, "the start only gives the generation another number");

    assert!(grows(&lab, &large), "a plan shows what an apply would do");
    // Without a daemon nobody can load the program onto larger maps.
    lab.kill_daemon().unwrap();
    let refused = output(&lab, &["rollback"]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && stderr.contains("only a running daemon makes other maps"), "{stderr}");
    lab.start_daemon().expect("it starts again");
    let soon = Duration::from_secs(30);
    wait_for(&lab, "it goes back", soon, || lab.ctl(&["rollback"]).is_ok());
    assert_eq!((in_force(&lab), status(&lab)["history"]["trial"].is_null()), (large, true));
    assert_eq!(history(&lab).last().unwrap()["text_of"], 1);
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 300 && counts.lost == 0, "{counts:?}");
}
