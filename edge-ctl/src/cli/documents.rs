//! Generates the files that a package has beside the binary: man pages, and completions for shells.

mod config_page;
mod roff;

use std::{fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

use super::args::Args;

const NAME: &str = "edge-ctl";

/// Writes `man/` and `completions/` into `directory`.
pub(super) fn write(directory: &Path) -> io::Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Args::command(), &man)?;
    // Hidden verbs get no page.
    for hidden in Args::command().get_subcommands().filter(|verb| verb.is_hide_set()) {
        match fs::remove_file(man.join(format!("{NAME}-{}.1", hidden.get_name()))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::write(man.join("edge.toml.5"), config_page::page())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Args::command(), NAME, &completions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_page_and_each_shell_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let read =
            |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read("man/edge-ctl.1").contains("drain"));
        for verb in Args::command().get_subcommands() {
            let page = format!("man/edge-ctl-{}.1", verb.get_name());
            assert_eq!(dir.path().join(&page).exists(), !verb.is_hide_set(), "{page}");
        }
        for file in ["edge-ctl.bash", "_edge-ctl", "edge-ctl.fish"] {
            let text = read(&format!("completions/{file}"));
            assert!(text.contains("failover") && text.contains("evacuate"), "{file}");
        }
    }
}
