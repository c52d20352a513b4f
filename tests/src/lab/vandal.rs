//! A fault that only the program shows: tables that are staged for publication lead it astray.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{Array, Map, MapData};
use edge_common::abi::{ABI_VERSION, Published, Service, banked, map};

use super::{patience::patience, wait_until};

/// Directory of the pinned maps under the pin directory `pins`.
pub fn maps(pins: &Path) -> PathBuf {
    pins.join(format!("v{ABI_VERSION}/maps"))
}

/// Another writer: it repeatedly gives each service in the inactive bank pools that do not exist.
#[derive(Debug)]
pub struct Vandal {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Vandal {
    /// Starts on the maps under the pin directory `pins`; returns once it is at work.
    pub fn start(pins: &Path) -> Result<Self> {
        let maps = maps(pins);
        let opened = |name: &str| anyhow::Ok(Map::from_map_data(MapData::from_pin(maps.join(name))?)?);
        let mut services: Array<_, [u8; size_of::<Service>()]> = opened(map::SERVICES)?.try_into()?;
        let published: Array<_, [u8; size_of::<Published>()]> = opened(map::PUBLISHED)?.try_into()?;
        // Those in force only, so that a round is short: a candidate has the same numbers.
        let active: Published = bytemuck::pod_read_unaligned(&published.get(&0, 0)?);
        let mut numbers = Vec::new();
        for number in 0..services.len() / 2 {
            let service: Service = bytemuck::pod_read_unaligned(&services.get(&banked(active.active, number), 0)?);
            numbers.extend((service.pool_count != 0).then_some(number));
        }
        ensure!(!numbers.is_empty(), "no service is in force");
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                for &number in &numbers {
                    let active: Published = bytemuck::pod_read_unaligned(&published.get(&0, 0)?);
                    let at = banked(active.active ^ 1, number);
                    let service: Service = bytemuck::pod_read_unaligned(&services.get(&at, 0)?);
                    if service.pool_count != 0 {
                        let damaged = Service { pools: [u16::MAX; _], ..service };
                        services.set(at, bytemuck::cast::<_, [u8; _]>(damaged), 0)?;
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let works = wait_until(patience(Duration::from_secs(10)), || Ok(rounds.load(Ordering::Relaxed) > 100))?;
        ensure!(works, "the maps cannot be damaged");
        Ok(Self { stop, thread })
    }

    /// Stops it.
    pub fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("it panicked"))?.context("damaging the maps")
    }
}
