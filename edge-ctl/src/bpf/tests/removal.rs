//! Retired backends, and the reuse of their numbers.

use super::{
    flows::{finish_all, key, pass, record, stable},
    *,
};

const START: Duration = Duration::from_secs(5000);
const IDLE_TIMEOUT: Duration = Duration::from_secs(302);

fn publish(pinned: &mut PinnedMaps, config: &Config) -> Image {
    let image = plan(pinned, config);
    pinned.publish(&image).expect("published");
    image
}

fn without(config: &Config, pool: usize, backend: usize) -> Config {
    let mut config = config.clone();
    config.pools[pool].backends.remove(backend);
    config
}

fn pool_number(pinned: &PinnedMaps, backend: u16) -> u16 {
    pinned.maps.backends.read(backend.into()).expect("in range").pool
}

fn retired(pinned: &PinnedMaps) -> Vec<u16> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    snapshot.retired.iter().map(|retired| retired.number).collect()
}

#[test]
fn a_number_is_kept_while_an_owner_names_it() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let b1 = backend(&pinned, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut pinned, &smaller);
    pass(&mut pinned, START);
    assert!(owners(&pinned, "web").contains(&b1));
    assert!(pinned.held(b1).expect("looked at").slots > 0);
    assert!(pinned.state(b1).has_all(State::ALIVE | State::RETIRED));
    publish(&mut pinned, &smaller);
    assert_eq!(retired(&pinned), [b1], "its slots have not moved");

    pass(&mut pinned, START);
    pass(&mut pinned, START + IDLE_TIMEOUT);
    assert!(!owners(&pinned, "web").contains(&b1));
    finish_all(&mut pinned, START + IDLE_TIMEOUT);
    assert_eq!(pinned.held(b1), Some(Held::default()));
    publish(&mut pinned, &smaller);
    assert_eq!(retired(&pinned), Vec::<u16>::new());
    assert_eq!(pinned.state(b1), State(0));
}

#[test]
fn a_number_is_kept_while_a_record_names_it() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let b1 = backend(&pinned, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut pinned, &smaller);
    pass(&mut pinned, START);
    let late = START + IDLE_TIMEOUT;
    record(&pins, key(1, 80, 6), b1, late);
    pass(&mut pinned, late);
    pass(&mut pinned, late);
    assert!(!owners(&pinned, "web").contains(&b1));
    publish(&mut pinned, &smaller);
    assert_eq!(retired(&pinned), [b1]);
    assert!(pinned.state(b1).has_all(State::ALIVE));

    finish_all(&mut pinned, late + IDLE_TIMEOUT);
    publish(&mut pinned, &smaller);
    assert_eq!((retired(&pinned), pinned.state(b1)), (Vec::new(), State(0)));
}

#[test]
fn a_backend_that_returns_keeps_its_number_and_its_flows() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let before = owners(&pinned, "web");
    let b1 = backend(&pinned, "one/b1");
    let up = state(Admin::Enabled, Health::Up);
    pinned.set_state(b1, up, "answers").expect("known");
    publish(&mut pinned, &without(&config(), 0, 1));
    assert_eq!(pinned.state(b1), State(up.0 & !State::NEW | State::RETIRED));
    assert_eq!(pool_counts(&pinned, "one"), (2, 2));
    pass(&mut pinned, START);

    publish(&mut pinned, &config());
    assert_eq!(backend(&pinned, "one/b1"), b1);
    assert_eq!(pinned.state(b1), up);
    assert_eq!(pool_counts(&pinned, "one"), (3, 3));
    assert_eq!(retired(&pinned), Vec::<u16>::new());
    assert_eq!(owners(&pinned, "web"), before);
    finish_all(&mut pinned, START);
    assert_eq!(owners(&pinned, "web"), before);
}

#[test]
fn a_backend_of_a_removed_pool_is_in_none_until_both_return() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let b0 = backend(&pinned, "one/b0");
    let mut without_pool = config();
    without_pool.pools.remove(0);
    without_pool.services.iter_mut().for_each(|service| service.pools = vec![0]);
    publish(&mut pinned, &without_pool);
    assert_eq!(pool_number(&pinned, b0), u16::MAX);
    assert!(pinned.state(b0).has_all(State::ALIVE | State::RETIRED));
    // No service lists the retired backend, so its death begins no transition.
    let down = model_changed(&pinned, b0, Health::Down);
    pinned.set_state(b0, down, "no answer").expect("known");
    assert!(!pinned.state(b0).has_all(State::ALIVE) && pinned.state(b0).has_all(State::RETIRED));

    publish(&mut pinned, &config());
    assert_eq!(backend(&pinned, "one/b0"), b0);
    let new = pinned.snapshot().expect("readable").expect("published").pool("one").expect("configured").number;
    assert_eq!(pool_number(&pinned, b0), new);
    assert_eq!(pinned.state(b0), state(Admin::Enabled, Health::Down));
}

fn model_changed(pinned: &PinnedMaps, number: u16, health: Health) -> State {
    plan::changed(pinned.state(number), Admin::Enabled, health)
}

#[test]
fn a_publication_that_is_killed_before_its_store_changes_nothing() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let b1 = backend(&pinned, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut pinned, &smaller);
    pass(&mut pinned, START);
    let (state, before) = (pinned.state(b1), owners(&pinned, "web"));

    // b1 comes back, and the controller dies when everything but the store is done.
    let image = plan(&pinned, &config());
    pinned.write_new_numbers(&image).expect("written");
    pinned.write_bank(&image, pinned.maps.bank() ^ 1).expect("written");
    assert_ne!(pinned.state(b1), state);
    let mut pinned = reopened(&pins);
    pinned.repair().expect("repaired");
    assert_eq!(pinned.state(b1), state);
    assert_eq!(retired(&pinned), [b1]);
    assert_eq!(owners(&pinned, "web"), before);
    // The next attempt succeeds.
    publish(&mut pinned, &config());
    assert_eq!(pinned.state(b1), plan::returned(state));
}

#[test]
fn a_publication_that_is_killed_after_its_store_is_finished_by_the_next_start() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let (b1, bank) = (backend(&pinned, "one/b1"), pinned.maps.bank() ^ 1);
    let image = plan(&pinned, &without(&config(), 0, 1));
    pinned.write_new_numbers(&image).expect("written");
    pinned.write_bank(&image, bank).expect("written");
    pinned.write_snapshot(&image, bank).expect("written");
    pinned.write_fresh_owners(&image, bank);
    let active = pinned.maps.published.atomic_u32(0, std::mem::offset_of!(edge_common::abi::Published, active));
    active.expect("there").store(bank, std::sync::atomic::Ordering::Release);

    let mut pinned = reopened(&pins);
    assert!(pinned.in_transition(service_number(&pinned, "web")), "all are, before the first look");
    assert!(owners(&pinned, "web").contains(&b1) && pinned.state(b1).has_all(State::ALIVE), "its flows go on");
    pinned.repair().expect("repaired");
    assert!(pinned.state(b1).has_all(State::ALIVE | State::RETIRED) && !pinned.state(b1).has_all(State::NEW));
    pass(&mut pinned, START);
    pass(&mut pinned, START + IDLE_TIMEOUT);
    finish_all(&mut pinned, START + IDLE_TIMEOUT);
    assert!(!owners(&pinned, "web").contains(&b1));
}
