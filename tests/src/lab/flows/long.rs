//! Connections that stay.

use std::time::{Duration, Instant};

use tokio::time;

use super::{
    Shared,
    connection::{ASK, Connection},
};

/// From a connection's end to the start of the one that replaces it.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(shared: &Shared, connections: usize, pace: Duration) {
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            // Spread over one pace: in step they would hit the lab in bursts.
            let delay = pace.mul_f64(fraction(number, connections));
            tokio::task::spawn_local(stay(shared.clone(), number, delay, pace))
        })
        .collect();
    for task in tasks {
        task.await.expect("a task is not cancelled, and its panic is the test's");
    }
}

/// One connection after the other, until told to stop.
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
        // From another address next time, so that the same way is not tried again and again.
        number += shared.plan.to.len();
        time::sleep(PAUSE).await;
    }
}

/// Asks until the connection breaks, or told to stop.
async fn talk(shared: &Shared, mut connection: Connection, pace: Duration) {
    let mut next = Instant::now();
    while !shared.stopping() {
        match connection.ask(ASK).await {
            Ok(backend) => shared.note(|tally| tally.answered(backend)),
            Err(broken) => return shared.note(|tally| tally.broken.push(broken)),
        }
        next = (next + pace).max(Instant::now());
        time::sleep_until(next.into()).await;
    }
}

/// `number / count`, for counts of connections, which are small.
fn fraction(number: usize, count: usize) -> f64 {
    let small = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    small(number) / small(count.max(1))
}
