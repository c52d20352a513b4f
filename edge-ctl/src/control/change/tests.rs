//! What a change takes away, what is remembered of it, and what it is to blame for.

mod guard;
mod history;
mod killed;
mod maps;
mod watch;
mod rehearsal;
