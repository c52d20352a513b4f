//! Output of other programs, bounded in size and time.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

/// The first `most` bytes of what a program writes to its standard output.
///
/// # Errors
/// A text: the program is not there, it has failed, or it took longer than `patience`.
pub(super) async fn output(program: &str, args: &[&str], patience: Duration, most: u64) -> Result<Vec<u8>, String> {
    let command = || format!("`{program} {}`", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {program} on this host"),
            _ => format!("{} does not start: {error}", command()),
        })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(read(stdout, most), read(stderr, 4 << 10)) };
    let Ok((text, errors)) = timeout(patience, all).await else {
        return Err(format!("{} took longer than {} s", command(), patience.as_secs()));
    };
    // A program that has more to say than is wanted may be ended by the closed pipe.
    if u64::try_from(text.len()).is_ok_and(|length| length >= most) {
        return Ok(text);
    }
    match timeout(patience, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(text),
        Ok(Ok(status)) => {
            let errors = String::from_utf8_lossy(&errors).trim().to_owned();
            Err(format!("{} failed ({status}): {errors}", command()))
        }
        Ok(Err(error)) => Err(format!("{} failed: {error}", command())),
        Err(_) => Err(format!("{} took longer than {} s", command(), patience.as_secs())),
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(from) = from {
        // An error ends the text as its end does.
        let _read = from.take(most).read_to_end(&mut text).await;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_program_writes_too_much_or_takes_too_long() {
        const SOON: Duration = Duration::from_millis(200);
        const LATER: Duration = Duration::from_mins(1);
        assert_eq!(output("echo", &["hello"], LATER, 100).await, Ok(b"hello\n".to_vec()));
        assert_eq!(output("yes", &[], LATER, 100).await.map(|text| text.len()), Ok(100));
        assert_eq!(
            output("no-such-tool", &[], LATER, 9).await,
            Err("there is no no-such-tool on this host".to_owned())
        );
        assert!(output("sleep", &["60"], SOON, 9).await.unwrap_err().starts_with("`sleep 60` took longer"));
        let failed = output("sh", &["-c", "echo out; echo why >&2; exit 3"], LATER, 100).await.unwrap_err();
        assert!(failed.ends_with("failed (exit status: 3): why"), "{failed}");
    }
}
