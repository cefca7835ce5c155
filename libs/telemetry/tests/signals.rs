//! Signals, on a process of its own: this test binary run again with a variable set.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; the child reports on stdout"
)]

use std::io::BufRead as _;
use std::process::{Command, Stdio};

const CHILD: &str = "HAWSER_TEST_SIGNALS_CHILD";

#[test]
fn first_signal_asks_and_second_aborts() {
    if let Ok(mode) = std::env::var(CHILD) {
        return child(&mode);
    }
    for (mode, signals, code) in
        [("ends", &["-TERM"][..], 0), ("ends", &["-INT"], 0), ("hangs", &["-TERM", "-TERM"], 1)]
    {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["first_signal_asks_and_second_aborts", "--exact", "--nocapture"])
            .env(CHILD, mode)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.ends_with("waiting")), "child did not start");
        for signal in signals {
            let id = process.id().to_string();
            assert!(Command::new("kill").args([signal, id.as_str()]).status().unwrap().success());
            if mode == "hangs" && *signal == "-TERM" {
                let _asked = lines.by_ref().find(|line| line == "asked");
            }
        }
        let rest: Vec<_> = lines.collect();
        let status = process.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{mode} {signals:?}: {rest:?}");
    }
}

fn child(mode: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let shutdown = hawser_telemetry::Shutdown::on_signals().unwrap();
        println!("\nwaiting");
        shutdown.requested().await;
        println!("\nasked");
        if mode == "hangs" {
            std::future::pending::<()>().await;
        }
    });
}
