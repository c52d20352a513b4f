//! Retired backends, and what becomes of their numbers.

use super::{
    flows::{finish_all, key, pass, record, stable},
    *,
};

const START: Duration = Duration::from_secs(5000);
const IDLE_TIMEOUT: Duration = Duration::from_secs(302);

fn publish(kernel: &mut PinnedMaps, config: &Config) -> Image {
    let image = plan(kernel, config);
    kernel.publish(&image).expect("published");
    image
}

fn without(config: &Config, pool: usize, backend: usize) -> Config {
    let mut config = config.clone();
    config.pools[pool].backends.remove(backend);
    config
}

fn pool_number(kernel: &PinnedMaps, backend: u16) -> u16 {
    kernel.maps.backends.read(backend.into()).expect("in range").pool
}

fn retired(kernel: &PinnedMaps) -> Vec<u16> {
    let snapshot = kernel.snapshot().expect("readable").expect("published");
    snapshot.retired.iter().map(|retired| retired.number).collect()
}

#[test]
fn a_number_is_kept_while_an_owner_names_it() {
    let bpffs = Bpffs::mount();
    let mut kernel = stable(&bpffs.pins(), &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    pass(&mut kernel, START);
    assert!(owners(&kernel, "web").contains(&b1));
    assert!(kernel.held(b1).expect("looked at").slots > 0);
    assert!(kernel.state(b1).has_all(State::ALIVE | State::RETIRED));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), [b1], "its slots have not moved");

    pass(&mut kernel, START);
    pass(&mut kernel, START + IDLE_TIMEOUT);
    assert!(!owners(&kernel, "web").contains(&b1));
    finish_all(&mut kernel, START + IDLE_TIMEOUT);
    assert_eq!(kernel.held(b1), Some(Held::default()));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), Vec::<u16>::new());
    assert_eq!(kernel.state(b1), State(0));
}

#[test]
fn a_number_is_kept_while_a_record_names_it() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = stable(&pins, &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    pass(&mut kernel, START);
    let late = START + IDLE_TIMEOUT;
    record(&pins, key(1, 80, 6), b1, late);
    pass(&mut kernel, late);
    pass(&mut kernel, late);
    assert!(!owners(&kernel, "web").contains(&b1));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), [b1]);
    assert!(kernel.state(b1).has_all(State::ALIVE));

    finish_all(&mut kernel, late + IDLE_TIMEOUT);
    publish(&mut kernel, &smaller);
    assert_eq!((retired(&kernel), kernel.state(b1)), (Vec::new(), State(0)));
}

#[test]
fn who_comes_back_has_its_number_and_its_flows() {
    let bpffs = Bpffs::mount();
    let mut kernel = stable(&bpffs.pins(), &config());
    let before = owners(&kernel, "web");
    let b1 = backend(&kernel, "one/b1");
    let up = state(Admin::Enabled, Health::Up);
    kernel.set_state(b1, up, "answers").expect("known");
    publish(&mut kernel, &without(&config(), 0, 1));
    assert_eq!(kernel.state(b1), State(up.0 & !State::NEW | State::RETIRED));
    assert_eq!(pool_counts(&kernel, "one"), (2, 2));
    pass(&mut kernel, START);

    publish(&mut kernel, &config());
    assert_eq!(backend(&kernel, "one/b1"), b1);
    assert_eq!(kernel.state(b1), up);
    assert_eq!(pool_counts(&kernel, "one"), (3, 3));
    assert_eq!(retired(&kernel), Vec::<u16>::new());
    assert_eq!(owners(&kernel, "web"), before);
    finish_all(&mut kernel, START);
    assert_eq!(owners(&kernel, "web"), before);
}

#[test]
fn whose_pool_is_gone_is_in_none_until_both_come_back() {
    let bpffs = Bpffs::mount();
    let mut kernel = stable(&bpffs.pins(), &config());
    let b0 = backend(&kernel, "one/b0");
    let mut without_pool = config();
    without_pool.pools.remove(0);
    without_pool.services.iter_mut().for_each(|service| service.pools = vec![0]);
    publish(&mut kernel, &without_pool);
    assert_eq!(pool_number(&kernel, b0), u16::MAX);
    assert!(kernel.state(b0).has_all(State::ALIVE | State::RETIRED));
    // Its death is its own matter: no service lists it, so it begins no transition.
    let down = model_changed(&kernel, b0, Health::Down);
    kernel.set_state(b0, down, "no answer").expect("known");
    assert!(!kernel.state(b0).has_all(State::ALIVE) && kernel.state(b0).has_all(State::RETIRED));

    publish(&mut kernel, &config());
    assert_eq!(backend(&kernel, "one/b0"), b0);
    let new = kernel.snapshot().expect("readable").expect("published").pool("one").expect("configured").number;
    assert_eq!(pool_number(&kernel, b0), new);
    assert_eq!(kernel.state(b0), state(Admin::Enabled, Health::Down));
}

fn model_changed(kernel: &PinnedMaps, number: u16, health: Health) -> State {
    plan::changed(kernel.state(number), Admin::Enabled, health)
}

#[test]
fn a_publication_that_is_killed_before_its_store_changes_nothing() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = stable(&pins, &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    pass(&mut kernel, START);
    let (state, before) = (kernel.state(b1), owners(&kernel, "web"));

    // b1 comes back, and the controller dies when all but the store is done.
    let image = plan(&kernel, &config());
    kernel.write_new_numbers(&image).expect("written");
    kernel.write_bank(&image, kernel.maps.bank() ^ 1).expect("written");
    assert_ne!(kernel.state(b1), state);
    let mut kernel = reopened(&pins);
    kernel.repair().expect("repaired");
    assert_eq!(kernel.state(b1), state);
    assert_eq!(retired(&kernel), [b1]);
    assert_eq!(owners(&kernel, "web"), before);
    // And the next attempt is as good as any.
    publish(&mut kernel, &config());
    assert_eq!(kernel.state(b1), plan::returned(state));
}

#[test]
fn a_publication_that_is_killed_after_its_store_is_finished_by_the_next_start() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = stable(&pins, &config());
    let (b1, bank) = (backend(&kernel, "one/b1"), kernel.maps.bank() ^ 1);
    let image = plan(&kernel, &without(&config(), 0, 1));
    kernel.write_new_numbers(&image).expect("written");
    kernel.write_bank(&image, bank).expect("written");
    kernel.write_snapshot(&image, bank).expect("written");
    kernel.write_fresh_owners(&image, bank);
    let active = kernel.maps.published.atomic_u32(0, std::mem::offset_of!(edge_common::abi::Published, active));
    active.expect("there").store(bank, std::sync::atomic::Ordering::Release);

    let mut kernel = reopened(&pins);
    assert!(kernel.in_transition(service_number(&kernel, "web")), "all are, before anybody has looked");
    assert!(owners(&kernel, "web").contains(&b1) && kernel.state(b1).has_all(State::ALIVE), "its flows go on");
    kernel.repair().expect("repaired");
    assert!(kernel.state(b1).has_all(State::ALIVE | State::RETIRED) && !kernel.state(b1).has_all(State::NEW));
    pass(&mut kernel, START);
    pass(&mut kernel, START + IDLE_TIMEOUT);
    finish_all(&mut kernel, START + IDLE_TIMEOUT);
    assert!(!owners(&kernel, "web").contains(&b1));
}
