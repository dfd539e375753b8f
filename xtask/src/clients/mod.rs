//! `cargo xtask clients`: unmodified clients from their registries, one list of cases, against `ottla serve`.
//!
//! First each client runs all cases but those that restart the broker, two clients at a time; then all of them run those
//! together, and the broker is stopped or killed and started again when each has asked for it. `--control` runs them against
//! a broker that is wrong on purpose. How to add a case or a client: docs/internals/clients.md.

mod document;
mod judge;
mod list;
mod programs;
mod servers;
mod stored;

pub use document::text as document;

use crate::shell::{Outcome, step, target_dir};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use judge::Verdict;
use list::{Case, Client, End, Lists};
use servers::{Kind, Server};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a program may take for all its cases, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(900);

/// How many clients run at a time.
const AT_A_TIME: usize = 2;

const USAGE: &str = "usage: cargo xtask clients [CLIENT…] [--case NAME]… [--against ottla|jvm] [--server PROGRAM] \
                     [--bootstrap HOST:PORT] [--control] [--pending]";

/// What is asked for.
struct Wanted {
    clients: Vec<String>,
    cases: Vec<String>,
    kind: Kind,
    ottla: Option<PathBuf>,
    bootstrap: Option<String>,
    control: bool,
    pending: bool,
}

/// `cargo xtask clients`.
pub fn main(args: &[String]) -> Outcome {
    let mut wanted = Wanted {
        clients: Vec::new(),
        cases: Vec::new(),
        kind: Kind::Ottla,
        ottla: None,
        bootstrap: None,
        control: false,
        pending: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(USAGE);
        match arg.as_str() {
            "--case" => wanted.cases.push(value()?),
            "--against" => {
                wanted.kind = match value()?.as_str() {
                    "ottla" => Kind::Ottla,
                    "jvm" => Kind::Jvm,
                    _ => return Err(USAGE.into()),
                }
            }
            "--server" => wanted.ottla = Some(value()?.into()),
            "--bootstrap" => wanted.bootstrap = Some(value()?),
            "--control" => wanted.control = true,
            "--pending" => wanted.pending = true,
            client if !client.starts_with('-') => wanted.clients.push(client.to_string()),
            _ => return Err(USAGE.into()),
        }
    }
    run(&wanted)
}

/// The suite of `cargo xtask test`: everything, and the control.
pub fn suite() -> Outcome {
    main(&[])?;
    main(&["--control".to_string()])
}

fn run(wanted: &Wanted) -> Outcome {
    let lists = Lists::read()?;
    let clients = chosen(&lists.clients, &wanted.clients, |c| &c.name)?;
    let mut cases = chosen(&lists.cases, &wanted.cases, |c| &c.name)?;
    if wanted.control {
        cases.retain(|case| lists.control.must_fail.contains_key(&case.name));
    }
    programs::prepare(&clients)?;
    let mut server = match (&wanted.bootstrap, wanted.control) {
        (Some(_), _) => None,
        (None, false) => Some(server(wanted, "run", &[])?),
        (None, true) => Some(server(wanted, "control", &lists.control.settings)?),
    };
    let bootstrap = match (&wanted.bootstrap, &server) {
        (Some(given), _) => given.clone(),
        (None, server) => server.as_ref().map(Server::bootstrap).unwrap_or_default(),
    };
    let begun = Instant::now();
    let mut results = Results::default();
    let runs = |client: &Client, case: &Case| {
        wanted.pending || wanted.control || !client.pending.contains_key(&case.name)
    };
    for client in &clients {
        let left = cases.iter().filter(|case| !runs(client, case));
        left.for_each(|case| results.leave(client, case));
    }
    let of = |client: &Client| -> Vec<&Case> {
        let those = cases
            .iter()
            .filter(|case| case.restarts.is_none() && runs(client, case));
        those.copied().collect()
    };
    if cases.iter().any(|case| case.restarts.is_none()) {
        let runs = at_a_time(&clients, |client| {
            Run::start(client, &bootstrap, &of(client))?.finish(|| Ok(()))
        });
        for (client, run) in clients.iter().zip(runs) {
            results.take(client, &of(client), run?, server.as_ref());
        }
    }
    match &mut server {
        Some(server) => {
            for end in [End::Stopped, End::Killed] {
                let ends = |case: &&&Case| case.restarts == Some(end);
                let last: Vec<&Case> = cases.iter().filter(ends).copied().collect();
                if last.is_empty() {
                    continue;
                }
                step(match end {
                    End::Stopped => "clients: while the broker is stopped and started again",
                    End::Killed => "clients: while the broker is killed and started again",
                });
                for (client, run) in clients.iter().zip(restarted(&clients, &last, server, end)) {
                    results.take(client, &last, run?, Some(server));
                }
            }
        }
        None => {
            let before = cases.len();
            cases.retain(|case| case.restarts.is_none());
            if cases.len() < before {
                eprintln!(
                    "the broker is not ours to restart: {} cases are left out",
                    before - cases.len()
                );
            }
        }
    }
    if let Some(mut server) = server {
        server.down()?;
    }
    if wanted.control {
        return results.control(&lists.control.must_fail);
    }
    results.report(&clients, &cases, begun.elapsed())
}

fn server(wanted: &Wanted, name: &str, more: &[String]) -> Outcome<Server> {
    Server::start(wanted.kind, name, more, wanted.ottla.as_deref())
}

/// Those that are named, or all.
fn chosen<'a, T>(all: &'a [T], names: &[String], name: fn(&T) -> &String) -> Outcome<Vec<&'a T>> {
    if let Some(unknown) = names
        .iter()
        .find(|n| !all.iter().any(|one| name(one) == *n))
    {
        let known: Vec<&str> = all.iter().map(|one| name(one).as_str()).collect();
        return Err(format!(
            "there is no {unknown}; there are: {}",
            known.join(", ")
        ));
    }
    let is = |one: &&T| names.is_empty() || names.contains(name(one));
    Ok(all.iter().filter(is).collect())
}

/// Does it for all clients, a few at a time, in their order.
fn at_a_time<T: Send>(clients: &[&Client], work: impl Fn(&Client) -> T + Sync) -> Vec<T> {
    let next = Mutex::new(0..clients.len());
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(i) = next.lock().expect("no one panics with it").next() {
                    let begun = Instant::now();
                    let result = work(clients[i]);
                    eprintln!(
                        "{}: {:.0} s",
                        clients[i].name,
                        begun.elapsed().as_secs_f64()
                    );
                    done.lock()
                        .expect("no one panics with it")
                        .insert(i, result);
                }
            });
        }
    });
    done.into_inner()
        .expect("no one panicked")
        .into_values()
        .collect()
}

/// Runs them all together; the broker is restarted when each has asked for it or has ended.
fn restarted(
    clients: &[&Client],
    cases: &[&Case],
    server: &mut Server,
    end: End,
) -> Vec<Outcome<Told>> {
    let bootstrap = server.bootstrap();
    let (ask, asked) = mpsc::channel::<()>();
    let (gates, waits): (Vec<_>, Vec<_>) = clients.iter().map(|_| mpsc::channel()).unzip();
    thread::scope(|scope| {
        let runs: Vec<_> = clients
            .iter()
            .zip(waits)
            .map(|(client, wait)| {
                let (ask, bootstrap) = (ask.clone(), bootstrap.as_str());
                scope.spawn(move || {
                    let mut waiting = true;
                    let told = Run::start(client, bootstrap, cases)?.finish(|| {
                        waiting = false;
                        let _ = ask.send(());
                        wait.recv()
                            .map_err(|_| "the broker did not come back".into())
                    });
                    if waiting {
                        let _ = ask.send(());
                    }
                    told
                })
            })
            .collect();
        for _ in clients {
            let _ = asked.recv_timeout(PATIENCE);
        }
        match server.restart(end) {
            Ok(()) => gates.iter().for_each(|gate| {
                let _ = gate.send(());
            }),
            Err(why) => eprintln!("{why}"),
        }
        drop(gates);
        runs.into_iter()
            .map(|run| run.join().unwrap_or(Err("a thread panicked".into())))
            .collect()
    })
}

/// A program that runs.
struct Run<'a> {
    client: &'a Client,
    prefix: String,
    log: PathBuf,
    child: Child,
    stdin: ChildStdin,
}

/// What a program said.
struct Told {
    prefix: String,
    lines: Vec<String>,
}

impl<'a> Run<'a> {
    fn start(client: &'a Client, bootstrap: &str, cases: &[&Case]) -> Outcome<Self> {
        let dir = target_dir().join("test/clients/logs");
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let log = dir.join(format!("{}.log", client.name));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| format!("{}: {e}", log.display()))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.map_or(0, |since| since.as_millis() % 100_000_000);
        let prefix = format!("{}-{since}", client.name);
        let mut child = programs::program(client)
            .args([bootstrap, &prefix])
            .args(cases.iter().map(|case| &case.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|e| format!("{}: {e}", client.name))?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        Ok(Self {
            client,
            prefix,
            log,
            child,
            stdin,
        })
    }

    /// Reads its lines to the end; `restart` is called when it asks for that.
    fn finish(mut self, mut restart: impl FnMut() -> Outcome) -> Outcome<Told> {
        let stdout = self.child.stdout.take().ok_or("no standard output")?;
        let (say, said) = mpsc::channel();
        let reading = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        let (end, mut lines) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "restart" => {
                    restart()?;
                    let _ = self.stdin.write_all(b"up\n");
                }
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    eprintln!("{}: it does not end, and is ended", self.client.name);
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        let status = self.child.wait().map_err(|e| e.to_string())?;
        let _ = reading.join();
        if !status.success() {
            eprintln!(
                "{} ended with {status}; its log: {}",
                self.client.name,
                self.log.display()
            );
        }
        Ok(Told {
            prefix: self.prefix,
            lines,
        })
    }
}

/// What came out.
#[derive(Default)]
struct Results {
    verdicts: BTreeMap<(String, String), Verdict>,
    findings: Vec<String>,
}

impl Results {
    /// A case that is pending, and is not run.
    fn leave(&mut self, client: &Client, case: &Case) {
        let verdict = Verdict::Pending(client.pending[&case.name].clone());
        let key = (client.name.clone(), case.name.clone());
        self.verdicts.insert(key, verdict);
    }

    /// Takes what a client's program said, and looks into the broker's files.
    fn take(&mut self, client: &Client, cases: &[&Case], told: Told, server: Option<&Server>) {
        let (verdicts, findings) = judge::judge(client, cases, &told.lines);
        self.findings.extend(findings);
        for case in cases {
            let mut verdict = verdicts[&case.name].clone();
            if let (Verdict::Passed, Some(wanted), Some(server)) = (&verdict, case.stored, server) {
                let topic = format!("{}.{}", told.prefix, case.name);
                if let Err(why) = stored::check(&server.data(), &topic, wanted) {
                    verdict = Verdict::Failed(why);
                }
            }
            self.verdicts
                .insert((client.name.clone(), case.name.clone()), verdict);
        }
    }

    /// The table, and what is not as it should be.
    fn report(&self, clients: &[&Client], cases: &[&Case], took: Duration) -> Outcome {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let heads = clients.iter().map(|client| client.name.as_str());
        table.set_header(std::iter::once("case").chain(heads));
        let verdict = |client: &Client, case: &Case| {
            &self.verdicts[&(client.name.clone(), case.name.clone())]
        };
        for case in cases {
            let cells = clients.iter().map(|client| match verdict(client, case) {
                Verdict::Passed => "ok",
                Verdict::Skipped => "-",
                Verdict::Pending(_) => "pending",
                Verdict::Failed(_) => "FAILED",
            });
            table.add_row(std::iter::once(case.name.as_str()).chain(cells));
        }
        println!("{table}");
        let (mut passed, mut failed) = (0, 0);
        for ((client, case), verdict) in &self.verdicts {
            match verdict {
                Verdict::Passed => passed += 1,
                Verdict::Skipped => (),
                Verdict::Pending(why) => println!("pending: {client}: {case}: {why}"),
                Verdict::Failed(why) => {
                    failed += 1;
                    println!("FAILED: {client}: {case}: {why}");
                }
            }
        }
        self.findings
            .iter()
            .for_each(|finding| println!("FAILED: {finding}"));
        failed += self.findings.len();
        println!(
            "clients: {passed} passed, {failed} failed, in {:.0} s",
            took.as_secs_f64()
        );
        match failed {
            0 => Ok(()),
            _ => Err(format!("the logs are in {}", logs().display())),
        }
    }

    /// Every case must have failed with every client that runs it.
    fn control(&self, must_fail: &BTreeMap<String, String>) -> Outcome {
        let mut failed = 0;
        let mut missed = Vec::new();
        for ((client, case), verdict) in &self.verdicts {
            match verdict {
                Verdict::Failed(_) => failed += 1,
                Verdict::Skipped => (),
                other => missed.push(format!(
                    "{client}: {case}: {other:?}, though {}",
                    must_fail[case]
                )),
            }
        }
        missed.iter().for_each(|one| println!("NOT SEEN: {one}"));
        println!(
            "clients: control: {failed} of the broker's faults are seen, {} are not",
            missed.len()
        );
        match (missed.len(), failed) {
            (0, 1..) => Ok(()),
            _ => Err(format!("the logs are in {}", logs().display())),
        }
    }
}

fn logs() -> PathBuf {
    Path::new(&target_dir()).join("test/clients/logs")
}
