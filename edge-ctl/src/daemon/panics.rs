//! A panic in any task or thread ends the daemon: the silent end of a single task would go unnoticed, whereas the unit
//! starts another daemon after this one, which finds everything as it was.

use std::{panic, process};

/// The exit code of a Rust program whose main thread has panicked.
const CODE: i32 = 101;

/// Makes each panic from now on end the process.
pub(super) fn end_the_process() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        print(panic);
        process::exit(CODE);
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::Command,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_task_that_panics_ends_the_process() {
        let start = Instant::now();
        let child = Command::new(env::current_exe().expect("this test's path"))
            .args(["--exact", "--ignored", "--nocapture", "daemon::panics::tests::a_task_panics"])
            .output()
            .expect("starts");
        assert_eq!(child.status.code(), Some(CODE));
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert!(stderr.contains("nobody would miss it"), "{stderr}");
        assert!(start.elapsed() < Duration::from_mins(1), "it went on");
    }

    #[tokio::test]
    #[ignore = "ends its process: a_task_that_panics_ends_the_process runs it apart"]
    async fn a_task_panics() {
        end_the_process();
        let _task = tokio::spawn(async { panic!("nobody would miss it") });
        tokio::time::sleep(Duration::from_mins(2)).await;
    }
}
