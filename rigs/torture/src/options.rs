//! What the command line says.

/// Settings of a rig, or of a process that a rig starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many rounds; each rig has its own default.
    pub rounds: Option<u64>,
    /// Ends after so many minutes, whatever `rounds` says.
    pub minutes: Option<u64>,
    /// What random numbers come from.
    pub seed: u64,
    /// Every so many points of a sweep only; 1 is all of them.
    pub stride: u64,
    /// A few words that some rigs take: file systems, kinds of files.
    pub only: Vec<String>,
    /// Of a child: the broker's address.
    pub address: String,
    /// Of a child: which run on this directory.
    pub run: u32,
    /// Of a child: acknowledges what isn't written; the control.
    pub lie: bool,
    /// Of a child: has time for what must succeed.
    pub patient: bool,
    /// Of a child: dies at this operation of its storage.
    pub die_at: u64,
    /// Of a child: the operation that it dies at is done by half.
    pub torn: bool,
}

impl Options {
    /// Reads arguments.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            rounds: None,
            minutes: None,
            seed: 1,
            stride: 1,
            only: Vec::new(),
            address: String::new(),
            run: 0,
            lie: false,
            patient: false,
            die_at: u64::MAX,
            torn: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut text = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let number = |text: &String| {
                text.parse::<u64>()
                    .map_err(|_| format!("{arg}: {text} is no number"))
            };
            match arg.as_str() {
                "--rounds" => options.rounds = Some(number(text()?)?),
                "--minutes" => options.minutes = Some(number(text()?)?),
                "--seed" => options.seed = number(text()?)?,
                "--stride" => options.stride = number(text()?)?.max(1),
                "--only" => options.only.push(text()?.clone()),
                "--address" => options.address = text()?.clone(),
                "--run" => options.run = number(text()?)? as u32,
                "--die-at" => options.die_at = number(text()?)?,
                "--lie" => options.lie = true,
                "--patient" => options.patient = true,
                "--torn" => options.torn = true,
                _ => return Err(format!("no option is called {arg}")),
            }
        }
        Ok(options)
    }

    /// Whether a rig that can be narrowed down is to do this.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
