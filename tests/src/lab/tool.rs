//! Runs a system tool to its end; its standard error becomes the error when it fails.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs `command` with `input` on its standard input; returns its standard output.
///
/// # Errors
/// If the tool is missing, or ends with a status other than 0; the message then contains its standard error.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{shown}`"))?;
    // Dropping the pipe after the write gives the tool the end of its input.
    child.stdin.take().context("the child has no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a tool without input by [`run_with_input`].
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "")
}

/// The command line as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failing_tool_contains_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("no such thing") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn input_reaches_the_tool() {
        assert_eq!(run_with_input(&mut Command::new("cat"), "one\n").unwrap(), "one\n");
    }
}
