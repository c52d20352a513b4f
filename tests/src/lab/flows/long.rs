//! Long-lived connections.

use std::time::{Duration, Instant};

use tokio::time;

use super::{
    Shared,
    connection::{Connection, REQUEST},
};

/// Pause between a connection's end and its replacement.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(shared: &Shared, connections: usize, pace: Duration) {
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            // Spread over one interval: simultaneous requests would load the lab in bursts.
            let delay = pace.mul_f64(fraction(number, connections));
            tokio::task::spawn_local(stay(shared.clone(), number, delay, pace))
        })
        .collect();
    for task in tasks {
        task.await.expect("a task is not cancelled, and its panic is the test's");
    }
}

/// Makes one connection after the other until stopped.
async fn stay(shared: Shared, mut number: usize, delay: Duration, pace: Duration) {
    time::sleep(delay).await;
    while !shared.stopping() {
        let Some(ends) = shared.plan.ends(number) else { return };
        match Connection::open(ends).await {
            Ok(connection) => {
                shared.note(|tally| (tally.opened += 1, tally.open += 1));
                talk(&shared, connection, pace).await;
                shared.note(|tally| tally.open -= 1);
            }
            Err(broken) => shared.note(|tally| tally.broken.push(broken)),
        }
        // The next connection has another source address, so that the same path is not retried again and again.
        number += shared.plan.to.len();
        time::sleep(PAUSE).await;
    }
}

/// Sends requests until the connection breaks or the flows are stopped.
async fn talk(shared: &Shared, mut connection: Connection, pace: Duration) {
    let mut next = Instant::now();
    while !shared.stopping() {
        match connection.exchange(REQUEST).await {
            Ok(backend) => shared.note(|tally| tally.answered(backend)),
            Err(broken) => return shared.note(|tally| tally.broken.push(broken)),
        }
        next = (next + pace).max(Instant::now());
        time::sleep_until(next.into()).await;
    }
}

/// `number / count` of connections, both of which are small.
fn fraction(number: usize, count: usize) -> f64 {
    let small = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    small(number) / small(count.max(1))
}
