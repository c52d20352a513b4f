//! Changes: the guard, the history, publications that are killed, real maps, the watch, and rehearsals.

mod guard;
mod history;
mod killed;
mod moved_port;
mod maps;
mod watch;
mod rehearsal;
