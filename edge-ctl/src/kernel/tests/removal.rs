//! Backends that leave the configuration, and what becomes of them and of their numbers.

use super::{
    flows::{key, record, round, settle_all, settled},
    *,
};

const START: Duration = Duration::from_secs(5000);
const LINGER: Duration = Duration::from_secs(302);

fn publish(kernel: &mut Kernel, config: &Config) -> Image {
    let image = plan(kernel, config);
    kernel.publish(&image).expect("published");
    image
}

fn without(config: &Config, pool: usize, backend: usize) -> Config {
    let mut config = config.clone();
    config.pools[pool].backends.remove(backend);
    config
}

fn pool_number(kernel: &Kernel, backend: u16) -> u16 {
    kernel.maps.backends.read(backend.into()).expect("in range").pool
}

fn retired(kernel: &Kernel) -> Vec<u16> {
    let snapshot = kernel.snapshot().expect("readable").expect("published");
    snapshot.retired.iter().map(|gone| gone.number).collect()
}

#[test]
fn a_number_is_kept_while_an_owner_names_it() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    round(&mut kernel, START);
    assert!(owners(&kernel, "web").contains(&b1));
    assert!(kernel.held(b1).expect("looked at").slots > 0);
    assert!(kernel.state(b1).has_all(State::ALIVE | State::RETIRED));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), [b1], "its slots have not moved");

    round(&mut kernel, START);
    round(&mut kernel, START + LINGER);
    assert!(!owners(&kernel, "web").contains(&b1));
    settle_all(&mut kernel, START + LINGER);
    assert_eq!(kernel.held(b1), Some(Held::default()));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), Vec::<u16>::new());
    assert_eq!(kernel.state(b1), State(0));
}

#[test]
fn a_number_is_kept_while_a_record_names_it() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    round(&mut kernel, START);
    let late = START + LINGER;
    record(&pins, key(1, 80, 6), b1, late);
    round(&mut kernel, late);
    round(&mut kernel, late);
    assert!(!owners(&kernel, "web").contains(&b1));
    publish(&mut kernel, &smaller);
    assert_eq!(retired(&kernel), [b1]);
    assert!(kernel.state(b1).has_all(State::ALIVE));

    settle_all(&mut kernel, late + LINGER);
    publish(&mut kernel, &smaller);
    assert_eq!((retired(&kernel), kernel.state(b1)), (Vec::new(), State(0)));
}

#[test]
fn who_comes_back_has_its_number_and_its_flows() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let before = owners(&kernel, "web");
    let b1 = backend(&kernel, "one/b1");
    let up = state(Admin::Enabled, Health::Up);
    kernel.set_state(b1, up, "answers").expect("known");
    publish(&mut kernel, &without(&config(), 0, 1));
    assert_eq!(kernel.state(b1), State(up.0 & !State::NEW | State::RETIRED));
    assert_eq!(pool_counts(&kernel, "one"), (2, 2));
    round(&mut kernel, START);

    publish(&mut kernel, &config());
    assert_eq!(backend(&kernel, "one/b1"), b1);
    assert_eq!(kernel.state(b1), up);
    assert_eq!(pool_counts(&kernel, "one"), (3, 3));
    assert_eq!(retired(&kernel), Vec::<u16>::new());
    assert_eq!(owners(&kernel, "web"), before);
    settle_all(&mut kernel, START);
    assert_eq!(owners(&kernel, "web"), before);
}

#[test]
fn whose_pool_is_gone_is_in_none_until_both_come_back() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let b0 = backend(&kernel, "one/b0");
    let mut without_pool = config();
    without_pool.pools.remove(0);
    without_pool.services.iter_mut().for_each(|service| service.pools = vec![0]);
    publish(&mut kernel, &without_pool);
    assert_eq!(pool_number(&kernel, b0), u16::MAX);
    assert!(kernel.state(b0).has_all(State::ALIVE | State::RETIRED));
    // Its death is its own matter: no service lists it, and no change of one is to be told.
    let down = model_changed(&kernel, b0, Health::Down);
    kernel.set_state(b0, down, "no answer").expect("known");
    assert!(!kernel.state(b0).has_all(State::ALIVE) && kernel.state(b0).has_all(State::RETIRED));

    publish(&mut kernel, &config());
    assert_eq!(backend(&kernel, "one/b0"), b0);
    let new = kernel.snapshot().expect("readable").expect("published").pool("one").expect("configured").number;
    assert_eq!(pool_number(&kernel, b0), new);
    assert_eq!(kernel.state(b0), state(Admin::Enabled, Health::Down));
}

fn model_changed(kernel: &Kernel, number: u16, health: Health) -> State {
    crate::model::changed(kernel.state(number), Admin::Enabled, health)
}

#[test]
fn a_publication_that_is_killed_before_its_store_changes_nothing() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let b1 = backend(&kernel, "one/b1");
    let smaller = without(&config(), 0, 1);
    publish(&mut kernel, &smaller);
    round(&mut kernel, START);
    let (state, before) = (kernel.state(b1), owners(&kernel, "web"));

    // b1 comes back, and the controller dies when all but the store is done.
    let image = plan(&kernel, &config());
    kernel.write_new_numbers(&image).expect("written");
    kernel.write_half(&image, kernel.maps.half() ^ 1).expect("written");
    assert_ne!(kernel.state(b1), state);
    let mut kernel = reopened(&pins);
    kernel.settle().expect("settled");
    assert_eq!(kernel.state(b1), state);
    assert_eq!(retired(&kernel), [b1]);
    assert_eq!(owners(&kernel, "web"), before);
    // And the next attempt is as good as any.
    publish(&mut kernel, &config());
    assert_eq!(kernel.state(b1), crate::model::returned(state));
}

#[test]
fn a_publication_that_is_killed_after_its_store_is_finished_by_the_next_start() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let (b1, half) = (backend(&kernel, "one/b1"), kernel.maps.half() ^ 1);
    let image = plan(&kernel, &without(&config(), 0, 1));
    kernel.write_new_numbers(&image).expect("written");
    kernel.write_half(&image, half).expect("written");
    kernel.write_snapshot(&image, half).expect("written");
    kernel.write_fresh_owners(&image, half);
    let active = kernel.maps.published.word(0, std::mem::offset_of!(edge_common::abi::Published, active));
    active.expect("there").store(half, std::sync::atomic::Ordering::Release);

    let mut kernel = reopened(&pins);
    assert!(kernel.is_unsettled(service_number(&kernel, "web")), "all are, before anybody has looked");
    assert!(owners(&kernel, "web").contains(&b1) && kernel.state(b1).has_all(State::ALIVE), "its flows go on");
    kernel.settle().expect("settled");
    assert!(kernel.state(b1).has_all(State::ALIVE | State::RETIRED) && !kernel.state(b1).has_all(State::NEW));
    round(&mut kernel, START);
    round(&mut kernel, START + LINGER);
    settle_all(&mut kernel, START + LINGER);
    assert!(!owners(&kernel, "web").contains(&b1));
}
