//! Produces whose appends are done beside the broker, as threads of the driver do them (docs/internals/serve.md): some are on their
//! way, appended or not, while others begin. Before anything else is asked of the broker all of them are back, in any order. A crash
//! may come before.

use super::*;

/// A produce that has its partitions with it.
pub(super) struct Lent {
    job: ProduceJob,
    is_done: bool,
}

impl World {
    /// A request arrives: now and then a produce is appended beside others.
    pub(super) fn hand_in(&mut self, conn: BrokerConn, mut envelope: RequestEnvelope) {
        let now = self.now();
        if matches!(envelope.request, Request::Produce(_)) && self.random.chance(400) {
            if self.broker.as_ref().is_some_and(Broker::wants_all_back) {
                self.bring_back();
            }
            let Some(broker) = &mut self.broker else {
                return;
            };
            envelope = match broker.begin_produce(now, conn, envelope) {
                Err(envelope) => envelope,
                Ok(mut job) => {
                    let is_done = self.random.chance(500);
                    if is_done {
                        job.run(&mut self.codecs);
                    }
                    trace!(self, "{} is lent, done: {is_done}", conn.0);
                    self.lent.push(Lent { job, is_done });
                    let delay = self.random.between(1, 300);
                    self.after(delay, What::BroughtBack);
                    return;
                }
            };
        }
        if let Some(broker) = self.whole_broker() {
            broker.handle_request(now, conn, envelope);
        }
    }

    /// The broker with all its partitions.
    pub(super) fn whole_broker(&mut self) -> Option<&mut Broker> {
        self.bring_back();
        self.broker.as_mut()
    }

    /// Everything that is lent comes back.
    pub(super) fn bring_back(&mut self) {
        let now = self.now();
        while !self.lent.is_empty() {
            let pick = self.random.below(self.lent.len() as u64) as usize;
            let Lent { mut job, is_done } = self.lent.swap_remove(pick);
            if !is_done {
                job.run(&mut self.codecs);
            }
            if let Some(broker) = &mut self.broker {
                broker.handle_appended(now, job);
            }
        }
    }
}
