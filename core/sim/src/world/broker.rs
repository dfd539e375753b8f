//! The broker's life: openings, stops, what it puts out.

use super::*;

impl World {
    pub(super) fn open(&mut self) {
        if self.broker.is_some() {
            return;
        }
        self.storage
            .set_failing(if self.chaos { self.failing } else { 0 });
        let storage = Arc::new(self.storage.clone());
        let seed = self.random.next();
        match Broker::open(self.config.clone(), storage, self.now(), seed) {
            Ok(broker) => {
                self.opening += 1;
                trace!(self, "broker opens, recovering {:?}", broker.recoveries());
                self.broker = Some(broker);
                self.drain_broker();
            }
            Err(error) => {
                trace!(self, "broker does not open: {error}");
                if self.storage.faults() == self.seen_faults {
                    self.broken = true;
                    self.checker
                        .violation(format!("the broker does not open: {error}"));
                    return;
                }
                self.seen_faults = self.storage.faults();
                self.after(50_000, What::Open);
            }
        }
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if stop == Stop::Clean {
            self.bring_back();
        }
        self.lent.clear();
        let Some(mut broker) = self.broker.take() else {
            return;
        };
        trace!(self, "broker stops: {stop:?}");
        self.crashes += 1;
        self.storage.set_failing(0);
        if let Some(it) = &mut self.players.membership {
            it.broker_stopped();
        }
        if let Some(it) = &mut self.players.sharing {
            it.broker_stopped(self.now_us);
        }
        if stop == Stop::Clean {
            // A partition that failed keeps it from being clean; that is for the next opening.
            let _ = broker.close(self.now());
        }
        drop(broker);
        if stop == Stop::Power {
            self.storage.crash();
        }
        for conn in self.connections.keys().copied().collect::<Vec<_>>() {
            self.cut(conn);
        }
        let pause = self.random.between(1000, 300_000);
        self.after(pause, What::Open);
    }

    pub(super) fn drain_broker(&mut self) {
        while let Some(output) = self.broker.as_mut().and_then(Broker::poll_output) {
            match output {
                BrokerOutput::Respond {
                    conn,
                    correlation_id,
                    api_version,
                    response,
                } => self.answer(conn, correlation_id, api_version, response),
                BrokerOutput::Sync { id, job } => {
                    let early = self.random.chance(500);
                    let delay = self.random.below(self.slowest_sync_us) + 50;
                    self.syncs_under_way += 1;
                    let (delay, result) = match self.planted {
                        Some(Bug::AckBeforeSync) => (1, Some(Ok(()))),
                        _ => (delay, early.then(|| job.run())),
                    };
                    self.after(delay, What::Synced(self.opening, id, job, result));
                }
                BrokerOutput::Compact { id, job } => {
                    let delay = self.random.below(self.slowest_sync_us) + 50;
                    self.after(delay, What::Compacted(self.opening, id, job));
                }
                BrokerOutput::Remove { job } => {
                    let delay = self.random.below(self.slowest_sync_us) + 50;
                    self.after(delay, What::Removed(self.opening, job));
                }
                // No connection of the simulator is slowed down: nobody has a quota.
                BrokerOutput::Mute { .. } => {}
                BrokerOutput::Warn(text) => trace!(self, "broker warns: {text}"),
                BrokerOutput::Disconnect(conn) => {
                    trace!(self, "broker hangs up on {}", conn.0);
                    self.checker
                        .violation("the broker refused a client's request".into());
                    self.cut(conn);
                }
            }
        }
    }
}
