//! The lists of tests/clients: the cases, the clients, and the control.

use crate::shell::{Outcome, root};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What every client has to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub demands: String,
    /// What has to be in the log of the case's topic.
    #[serde(default)]
    pub stored: Option<Stored>,
    /// Whether the broker is restarted while it runs, and how it ends before.
    #[serde(default)]
    pub restarts: Option<End>,
}

/// How a broker ends before it is started again.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// SIGTERM: it closes its logs.
    Stopped,
    /// SIGKILL: it does nothing more.
    Killed,
}

/// What the batches of a partition have to be.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stored {
    /// The codec of those that are compressed, some have to be.
    pub codec: Option<u8>,
    /// All have a producer id.
    pub producer: bool,
    /// All are part of transactions.
    pub transactional: bool,
}

/// A client, and what it can't do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub name: String,
    pub version: String,
    pub from: String,
    /// What runs it (`python`, `node`, `go`, `rust`), and the program.
    pub program: (String, String),
    /// Cases that it can't run, and why.
    pub skip: BTreeMap<String, String>,
    /// Cases that fail though it can run them, and why.
    pub pending: BTreeMap<String, String>,
}

/// A broker that is wrong on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    pub settings: Vec<String>,
    /// Cases that have to fail against it, and why.
    pub must_fail: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Clients {
    client: Vec<Client>,
}

/// All lists.
pub struct Lists {
    pub cases: Vec<Case>,
    pub clients: Vec<Client>,
    pub control: Control,
}

impl Lists {
    /// Reads them, and checks that they name only what is there.
    pub fn read() -> Outcome<Self> {
        let cases: Cases = file("cases.toml")?;
        let clients: Clients = file("clients.toml")?;
        let lists = Self {
            cases: cases.case,
            clients: clients.client,
            control: file("control.toml")?,
        };
        let named = |name: &String| lists.cases.iter().any(|case| case.name == *name);
        for client in &lists.clients {
            if let Some(unknown) = client
                .skip
                .keys()
                .chain(client.pending.keys())
                .find(|n| !named(n))
            {
                return Err(format!(
                    "clients.toml: {}: no case is called {unknown}",
                    client.name
                ));
            }
        }
        match lists.control.must_fail.keys().find(|name| !named(name)) {
            Some(unknown) => Err(format!("control.toml: no case is called {unknown}")),
            None => Ok(lists),
        }
    }
}

fn file<T: for<'a> Deserialize<'a>>(name: &str) -> Outcome<T> {
    let path = root().join("tests/clients").join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}
