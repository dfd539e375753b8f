//! `cargo xtask bench peers [--quick] [--only TEXT] [--json]`: `ottla serve` beside a JVM Kafka of the current release, in one run, with the same
//! load generators: Kafka's own perf tools, and librdkafka. docs/internals/peers.md says how to read it.

mod broker;
mod load;

use crate::shell::{Outcome, step};
use broker::{Broker, Kind};
use comfy_table::{CellAlignment, Table, presets};
use load::{Generators, Latency, Load};
use serde_json::{Value, json};
use std::time::Duration;

/// A figure of both, and what the project promises: ours is at least (or at most) so much of theirs.
pub struct Compared {
    what: String,
    unit: &'static str,
    kafka: f64,
    ottla: f64,
    goal: Goal,
}

/// Ours divided by theirs.
#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Ours alone, in the row's unit.
    Own(f64),
}

impl Compared {
    fn ratio(&self) -> f64 {
        self.ottla / self.kafka
    }

    fn reached(&self) -> bool {
        match self.goal {
            Goal::AtLeast(least) => self.ratio() >= least,
            Goal::AtMost(most) => self.ratio() <= most,
            Goal::Own(most) => self.ottla <= most,
        }
    }
}

/// Runs the command.
pub fn main(args: &[String]) -> Outcome {
    const USAGE: &str = "usage: cargo xtask bench peers [--quick] [--only TEXT] [--json]";
    let (mut as_json, mut quick, mut only) = (false, false, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => as_json = true,
            "--quick" => quick = true,
            "--only" => only = Some(args.next().ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    let loads: Vec<Load> = Load::all(quick)
        .into_iter()
        .filter(|load| only.is_none_or(|only| load.corner().contains(only.as_str())))
        .collect();
    if loads.is_empty() {
        let all = Load::all(quick);
        let all = all.iter().map(|load| format!("\n  {load}"));
        return Err(format!(
            "no load has that in its name; they are{}",
            all.collect::<String>()
        ));
    }
    let generators = Generators::prepare()?;
    let mut rows = Vec::new();
    step("starting both");
    let mut kafka = Broker::start(Kind::Kafka, &generators, 0)?;
    let mut ottla = Broker::start(Kind::Ottla, &generators, 0)?;
    rows.push(Compared {
        what: "start to the first answer".into(),
        unit: "ms",
        kafka: kafka.start_ms,
        ottla: ottla.start_ms,
        goal: Goal::AtMost(1.0 / 20.0),
    });
    step("warming up, so that the JVM has compiled what matters");
    for load in Load::warm_up() {
        load.prepare(&generators, [&kafka, &ottla])?;
        load.run(&generators, &mut kafka)?;
        load.run(&generators, &mut ottla)?;
        load.tidy_up(&generators, [&kafka, &ottla])?;
    }
    for load in loads {
        step(&load.to_string());
        load.prepare(&generators, [&kafka, &ottla])?;
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        // In turns, so that what else the machine does hits both.
        for _ in 0..Load::ROUNDS {
            theirs.push(load.run(&generators, &mut kafka)?);
            ours.push(load.run(&generators, &mut ottla)?);
        }
        load.tidy_up(&generators, [&kafka, &ottla])?;
        rows.push(Compared {
            what: load.to_string(),
            unit: "k messages/s",
            kafka: median(theirs.iter().map(|one| one.per_second / 1e3)),
            ottla: median(ours.iter().map(|one| one.per_second / 1e3)),
            goal: Goal::AtLeast(1.0),
        });
        rows.push(Compared {
            what: format!("  the broker's CPU, {load}"),
            unit: "µs/message",
            kafka: median(theirs.iter().map(|one| one.cpu_us)),
            ottla: median(ours.iter().map(|one| one.cpu_us)),
            goal: Goal::AtMost(0.5),
        });
    }
    if only.is_some() {
        return report(&rows, as_json);
    }
    step("end-to-end latency at 20,000 messages/s");
    let rounds = if quick { 3 } else { 5 };
    for linger in ["1", "5"] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            theirs.push(load::latency(&generators, &mut kafka, linger, round)?);
            ours.push(load::latency(&generators, &mut ottla, linger, round)?);
        }
        let compared = |what: &str, unit, of: fn(&Latency) -> f64| Compared {
            what: format!("{what} at 20,000/s, linger.ms={linger}"),
            unit,
            kafka: median(theirs.iter().map(of)),
            ottla: median(ours.iter().map(of)),
            goal: Goal::AtMost(0.5),
        };
        rows.push(compared("p99 end to end", "µs", |one| one.p99_us));
        rows.push(compared("  the broker's CPU", "µs/message", |one| {
            one.cpu_us
        }));
    }
    rows.push(Compared {
        what: "resident memory after all that".into(),
        unit: "MiB",
        kafka: kafka.resident_mib(),
        ottla: ottla.resident_mib(),
        goal: Goal::AtMost(0.1),
    });
    drop((kafka, ottla));
    step("10,000 partitions");
    rows.extend(many_partitions(&generators)?);
    report(&rows, as_json)
}

fn report(rows: &[Compared], as_json: bool) -> Outcome {
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what.trim(), "unit": row.unit, "kafka": row.kafka, "ottla": row.ottla,
                    "ratio": row.ratio(), "reached": row.reached(),
                })
            })
            .collect();
        println!("{}", Value::Array(rows));
    } else {
        print(rows);
    }
    Ok(())
}

/// Start and memory with 10,000 partitions; Kafka would take minutes, so that only ours is measured.
fn many_partitions(generators: &Generators) -> Outcome<Vec<Compared>> {
    let broker = Broker::start(Kind::Ottla, generators, 10_000)?;
    std::thread::sleep(Duration::from_millis(500));
    let own = |what: &str, unit, ottla, most| Compared {
        what: what.into(),
        unit,
        kafka: f64::NAN,
        ottla,
        goal: Goal::Own(most),
    };
    Ok(vec![
        own(
            "start with 10,000 partitions",
            "ms",
            broker.start_ms,
            2000.0,
        ),
        own(
            "memory with 10,000 partitions",
            "MiB",
            broker.resident_mib(),
            200.0,
        ),
    ])
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(rows: &[Compared]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "Kafka", "Ottla", "unit", "ratio", "goal", ""]);
    for row in rows {
        let number = |value: f64| {
            if value.is_nan() {
                "-".to_string()
            } else if value >= 100.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.2}")
            }
        };
        let goal = match row.goal {
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::Own(most) => format!("≤ {most} {}", row.unit),
        };
        let reached = if row.reached() { "reached" } else { "MISSED" };
        let cells = [
            row.what.clone(),
            number(row.kafka),
            number(row.ottla),
            row.unit.into(),
            number(row.ratio()),
            goal,
            reached.into(),
        ];
        table.add_row(cells);
    }
    for column in 1..=2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
}
