//! The same requests to a JVM Kafka and to Ottla, and the answers field by field: `cargo xtask test differential`.
//!
//! Every case of [`script`] runs at every version that both serve, against either peer in turn; [`hostile`] sends what no client
//! should. What differs and is not in the table of `docs/differential.md` is a failure, and so is a line of that table that
//! nothing needs any more. `--control` runs against an Ottla with other settings, which must be found out;
//! `--same` compares two JVM Kafkas, to see what a case leaves to chance.

mod allowed;
mod answer;
mod hostile;
mod peers;
mod script;
mod session;

use allowed::Allowed;
use peers::Peer;
use session::Session;
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Instant};

/// What a step ends with: nothing, or the sentence that says what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// One field that is not the same.
pub struct Difference {
    /// The case's name.
    pub case: String,
    /// The version of the case's key.
    pub version: i16,
    /// Which of the case's answers.
    pub answer: String,
    /// The field, with the lists' indexes.
    pub field: String,
    /// What the JVM Kafka says.
    pub theirs: String,
    /// What Ottla says.
    pub ours: String,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &[String]) -> Outcome {
    let control = args.iter().any(|arg| arg == "--control");
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let work = std::env::var_os("OTTLA_DIFFERENTIAL_WORK").map_or_else(
        || std::env::temp_dir().join("ottla-differential"),
        PathBuf::from,
    );
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let started = Instant::now();
    let mut theirs = Peer::kafka(&work, "kafka")?;
    println!(
        "the JVM Kafka answers after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let mut ours = if args.iter().any(|arg| arg == "--same") {
        Peer::kafka(&work, "kafka-again")?
    } else {
        Peer::ottla(&work, control)?
    };
    let mut allowed = Allowed::read()?;
    let mut differences = Vec::new();
    let (mut compared, mut cases) = (0, 0);
    for case in script::cases() {
        if !only.is_empty() && !only.iter().any(|name| case.name.starts_with(name.as_str())) {
            continue;
        }
        let began = Instant::now();
        for version in case.versions() {
            cases += 1;
            let mut sessions = [Session::new(&theirs)?, Session::new(&ours)?];
            for session in &mut sessions {
                (case.run)(session, version);
            }
            let [theirs, ours] = sessions.map(Session::finish);
            compared += answer::compare(case.name, version, &theirs, &ours, &mut differences);
        }
        let took = began.elapsed().as_secs_f64();
        if took > 3.0 {
            println!("{}: {took:.1} s", case.name);
        }
    }
    println!("{cases} cases with a version, {compared} fields");
    if only.is_empty() {
        let (sent, differ) = hostile::compare(&theirs, &ours)?;
        println!("{sent} hostile requests");
        differences.extend(differ);
    }
    for peer in [&mut theirs, &mut ours] {
        if !peer.lives() {
            return Err(format!("{} did not survive", peer.name));
        }
    }
    let unexplained: Vec<&Difference> = differences
        .iter()
        .filter(|d| !allowed.explains(d))
        .collect();
    report(&unexplained);
    if control {
        return if unexplained.is_empty() {
            Err("an Ottla with other settings was taken for a Kafka".into())
        } else {
            println!(
                "control: {} differences found, as it must be",
                unexplained.len()
            );
            Ok(())
        };
    }
    if !unexplained.is_empty() {
        return Err(format!(
            "{} differences that no line of docs/differential.md explains",
            unexplained.len()
        ));
    }
    if only.is_empty() {
        allowed.check_all_used()?;
    }
    println!(
        "{} differences, all explained in docs/differential.md",
        differences.len()
    );
    Ok(())
}

/// The differences, those of one field of a case over all versions as one line.
fn report(differences: &[&Difference]) {
    let mut grouped: BTreeMap<(&str, &str, &str, &str, &str), Vec<i16>> = BTreeMap::new();
    for d in differences {
        let key = (&*d.case, &*d.answer, &*d.field, &*d.theirs, &*d.ours);
        grouped.entry(key).or_default().push(d.version);
    }
    for ((case, answer, field, theirs, ours), versions) in grouped {
        println!("{case} v{versions:?} {answer}: {field}: theirs {theirs}, ours {ours}");
    }
}
