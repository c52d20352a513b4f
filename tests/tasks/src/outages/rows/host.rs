//! Hosts that ran out of a resource, or whose network was changed by others.

use std::{
    fmt::Write as _,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edge_tests::lab::{
    Lab,
    tmpfs::Tmpfs,
    topology::{Backend, EDGE},
    wait_until,
};

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{Stage, api, restart, reweighed},
};

pub(super) fn rows() -> Vec<Incident> {
    vec![
        Incident {
            name: "flushed-network",
            story: "Datadog, 8 March 2023: an update restarted the network daemon, which removed routes that were not \
                    its own",
            done: "on the edge all neighbours are flushed, and then its interface to the backends goes down and up",
            expected: "clients are served again within 1 s of the network's return, without intervention",
            helped: Helped::Yes,
            why: "the controller follows the kernel's tables and attaches its program again where it is gone",
            long: false,
            replay: flushed_network,
        },
        Incident {
            name: "descriptors",
            story: "Amazon Kinesis, November 2020 (threads), and Slack, January 2021 (file descriptors): a limit of \
                    the host was taken for the death of others",
            done: "the controller starts with 64 file descriptors, and 500 more backends to probe that do not answer",
            expected: "no living backend is marked down, an alarm within 5 s, nothing is lost",
            helped: Helped::Yes,
            why: "an error of this host is unknown, never down",
            long: false,
            replay: descriptors,
        },
        Incident {
            name: "full-disk",
            story: "Again and again: a log fills a disk, and a program that forwards traffic can no longer write, and \
                    stops",
            done: "the disk of the state directory is full; a configuration is applied and taken back, a service fails \
                   over and back, and the controller is killed and started",
            expected: "all of it works, an alarm reports the state that could not be stored, nothing is lost",
            helped: Helped::Yes,
            why: "the maps are the state while the host runs, and the disk has a copy for the next boot",
            long: false,
            replay: full_disk,
        },
    ]
}

fn flushed_network(stage: &mut Stage) -> Result<Observed> {
    let (down, toll) = stage.toll(Duration::from_secs(3), |lab| {
        let edge = lab.netns(EDGE);
        edge.ip("neigh flush all\n")?;
        sleep(Duration::from_millis(500));
        let addresses = edge.within(|| addresses("eth1"))??;
        let start = Instant::now();
        edge.ip("link set eth1 down\n")?;
        sleep(Duration::from_millis(200));
        // The kernel removes the IPv6 addresses of an interface that goes down.
        let mut up = String::from("link set eth1 up\n");
        for address in addresses {
            writeln!(up, "addr replace {address} dev eth1 nodad")?;
        }
        edge.ip(&up)?;
        Ok(start.elapsed())
    })?;
    let gap = toll.longest_gap.max(toll.datagrams.longest);
    let status = stage.lab.status()?;
    let attached = status["interfaces"].as_array().is_some_and(|all| all.iter().all(|one| one["attached"] == true));
    Ok(Observed::all([
        (
            format!("{toll}; the interface was down for {} ms of it", down.as_millis()),
            gap < down + Duration::from_secs(1),
        ),
        ("the program is on all interfaces".to_owned(), attached),
    ]))
}

/// Configured IPv6 addresses of an interface, with their prefix lengths.
fn addresses(interface: &str) -> Result<Vec<String>> {
    let output = std::process::Command::new("ip").args(["-o", "-6", "addr", "show", "dev", interface]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let address = |line: &str| line.split_whitespace().skip_while(|word| *word != "inet6").nth(1).map(str::to_owned);
    Ok(text.lines().filter(|line| line.contains("scope global")).filter_map(address).collect())
}

fn descriptors(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    std::fs::write(&path, good.clone() + &silent()?)?;
    let (status, answer) = api(&stage.lab, "POST", "/v1/reload", "")?;
    ensure!(status == 200, "the silent backends are not configured: {answer}");
    let ((first, alarm), toll) = stage.toll(Duration::from_secs(2), |lab| {
        lab.kill_daemon()?;
        lab.limit_files(64)?;
        lab.start_daemon()?;
        // A daemon that does not answer is a result, too.
        let first = api(lab, "GET", "/v1/status", "").map_or(0, |answer| answer.0);
        let alarm = |lab: &Lab| lab.ctl(&["events"]).is_ok_and(|events| events.contains("LimitNOFILE"));
        Ok((first, wait_until(Duration::from_secs(5), || Ok(alarm(lab)))?))
    })?;
    let down = |status: &serde_json::Value| {
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        let backends = pools.iter().flat_map(|pool| pool["backends"].as_array().cloned().unwrap_or_default());
        backends
            .filter(|backend| {
                let name = backend["name"].as_str().unwrap_or_default();
                name.split('/').next_back().and_then(Backend::named).is_some() && backend["state"] == "down"
            })
            .count()
    };
    let dead = down(&stage.lab.status()?);
    std::fs::write(&path, good)?;
    restart(&mut stage.lab, |lab| lab.limit_files(4096))?;
    stage.lab.ctl(&["reload", "--allow-removal", "600"])?;
    Ok(Observed::all([
        (format!("{dead} of the living ones down"), dead == 0),
        ("the API answers".to_owned(), first == 200),
        ("within 5 s, an event says that probes need more descriptors".to_owned(), alarm),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

fn full_disk(stage: &mut Stage) -> Result<Observed> {
    let tried = reweighed(&stage.lab)?;
    // One page, while each text needs more.
    let disk = restart(&mut stage.lab, |lab| Tmpfs::mount(&lab.edge().state_dir(), "size=4k"))?;
    let (alarm, toll) = stage.toll(Duration::from_secs(1), |lab| {
        lab.ctl(&["apply", &tried])?;
        lab.ctl(&["failover", "web-dsr4", "--to", "provider-b-lan4"])?;
        restart(lab, |_| Ok(()))?;
        let failed_over = lab.status()?["services"].to_string().contains("\"failover\":{");
        lab.ctl(&["failback", "web-dsr4"])?;
        lab.ctl(&["rollback"])?;
        let alarm =
            || Ok(lab.status()?["daemon"]["state_error"].as_str().is_some_and(|why| why.contains("No space left")));
        Ok((failed_over, wait_until(Duration::from_secs(10), alarm)?))
    })?;
    restart(&mut stage.lab, |_| {
        drop(disk);
        Ok(())
    })?;
    let (failed_over, alarmed) = alarm;
    Ok(Observed::all([
        ("the failover was in force after the restart".to_owned(), failed_over),
        ("an alarm reports that no state is stored".to_owned(), alarmed),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// Ten pools of fifty backends that do not exist.
fn silent() -> Result<String> {
    let mut text = String::new();
    for pool in 0..20 {
        write!(
            text,
            "\n[[pool]]\nname = \"silent-{pool}\"\n[pool.probe]\ntype = \"tcp\"\nport = 80\ninterval = \"1s\"\n\
             timeout = \"1s\"\n"
        )?;
        for number in 0..25 {
            write!(text, "[[pool.backend]]\nname = \"s{number}\"\naddress = \"10.1.{}.{}\"\n", 100 + pool, number + 1)?;
        }
        write!(
            text,
            "\n[[service]]\nname = \"silent-{pool}\"\nvips = [\"192.0.2.200\"]\nports = [\"{}/tcp\"]\nmode = \"ipip\"\n\
             pools = [\"silent-{pool}\"]\n",
            100 + pool
        )?;
    }
    Ok(text)
}
