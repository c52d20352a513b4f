//! The pages of the screen.

/// What a table is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Services,
    Backends,
    Exits,
    /// One service, by its name, and its backends.
    Service(String),
    /// One backend, by its name, and the services that use its pool.
    Backend(String),
}

/// The pages that can be opened directly, by the number of their key.
pub(super) const PAGES: [(Page, &str); 3] =
    [(Page::Services, "services"), (Page::Backends, "backends"), (Page::Exits, "exits and drops")];
