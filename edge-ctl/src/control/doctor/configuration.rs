//! The configuration file, and whether it is in force.

use super::Checked;

#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) file: String,
    /// The file's text, or why it is refused; absent if there is no such file.
    pub(crate) read: Option<Result<String, String>>,
    /// Number and text of the generation in force.
    pub(crate) in_force: Option<(u64, String)>,
    /// Whether the file was named, and is not only the default.
    pub(crate) named: bool,
}

impl Configuration {
    pub(super) fn check(&self) -> Checked {
        let file = &self.file;
        let seen = match &self.in_force {
            Some((generation, _)) => format!("generation {generation} is in force"),
            None => "nothing is in force".to_owned(),
        };
        let mut check = Checked::new("configuration", seen);
        let remedy = format!("edge-ctl check {file} shows every mistake with its line");
        match (&self.read, &self.in_force) {
            (Some(Err(why)), _) => check.fail(format!("{file} is refused: {}", first_line(why)), remedy),
            (Some(Ok(text)), Some((_, in_force))) if text != in_force => check.warn(
                format!("{file} is not what is in force: a restart or a reload brings it into force"),
                format!("edge-ctl plan {file} shows the difference; edge-ctl reload applies it"),
            ),
            (Some(Ok(_)), None) => check.warn(format!("{file} is good, and not in force"), "systemctl start edge"),
            (None, None) => check.fail(
                format!("there is no {file}, and nothing is in force: the load balancer does nothing"),
                format!("write {file}: man edge.toml; the examples are in /usr/share/doc/edge/examples"),
            ),
            (None, Some(_)) if self.named => check.fail(format!("there is no {file}"), "name the daemon's file"),
            (None, Some(_)) => check.warn(
                format!("there is no {file}: a start finds only what is pinned or kept"),
                format!("edge-ctl history --text GENERATION > {file}, or name the daemon's file: edge-ctl doctor FILE"),
            ),
            (Some(Ok(_)), Some(_)) => {}
        }
        check
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Severity;

    #[test]
    fn what_is_wrong_with_a_configuration() {
        use Severity::{Error, Warning};
        let text = |text: &str| Some(Ok(text.to_owned()));
        let in_force = || Some((7, "a".to_owned()));
        for (read, in_force, named, expected) in [
            (text("a"), in_force(), false, None),
            (text("b"), in_force(), false, Some(Warning)),
            (text("a"), None, false, Some(Warning)),
            (Some(Err("edge.toml:1:1: wrong\n  write: right".to_owned())), in_force(), false, Some(Error)),
            (None, in_force(), false, Some(Warning)),
            (None, in_force(), true, Some(Error)),
            (None, None, false, Some(Error)),
        ] {
            let configuration = Configuration { file: "edge.toml".to_owned(), read, in_force, named };
            let check = configuration.check();
            assert_eq!(check.findings.first().map(|finding| finding.severity), expected, "{configuration:?}");
            assert!(check.findings.iter().all(|finding| !finding.message.contains('\n')));
        }
    }
}
