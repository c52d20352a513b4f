//! New connections at a steady rate, each for one request.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::time;

use super::{
    Broken, Shared,
    connection::{Connection, LAST_REQUEST},
};
use crate::lab::pace::Pace;

/// Maximum number of open connections: those that arrive at 2,000 a second while a backend dies, and a limit for a lab
/// that is stuck.
const MOST: usize = 8_192;

const TICK: Duration = Duration::from_millis(1);

pub(super) async fn run(shared: &Shared, per_second: u32) {
    let pace = Pace::start(per_second);
    let open = Rc::new(Cell::new(0));
    let mut begun = 0;
    while !shared.stopping() {
        let due = usize::try_from(pace.due()).unwrap_or(usize::MAX);
        for number in begun..due {
            if open.get() < MOST {
                open.set(open.get() + 1);
                tokio::task::spawn_local(once(shared.clone(), number, Rc::clone(&open)));
            } else {
                shared.note(|tally| tally.held += 1);
            }
        }
        begun = due.max(begun);
        time::sleep(TICK).await;
    }
    while open.get() > 0 {
        time::sleep(TICK).await;
    }
}

async fn once(shared: Shared, number: usize, open: Rc<Cell<usize>>) {
    if let Some(ends) = shared.plan.ends(number)
        && let Err(broken) = exchange(&shared, ends).await
    {
        shared.note(|tally| tally.broken.push(broken));
    }
    open.set(open.get() - 1);
}

async fn exchange(shared: &Shared, ends: (IpAddr, SocketAddr)) -> Result<(), Broken> {
    let mut connection = Connection::open(ends).await?;
    shared.note(|tally| tally.opened += 1);
    let backend = connection.exchange(LAST_REQUEST).await?;
    shared.note(|tally| tally.answered(backend));
    connection.end().await
}
