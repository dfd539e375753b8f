//! What producers are told, what follows from it, and which errors they must never get.

use ottla_protocol::ErrorCode;

use super::*;

/// The outcome of a request, its first error if it has several.
pub(super) fn error_of(response: &Response) -> ErrorCode {
    let mut errors: Vec<ErrorCode> = Vec::new();
    match response {
        Response::CreateTopics(answer) => {
            errors.extend(answer.topics.iter().map(|it| it.error_code))
        }
        Response::InitProducerId(answer) => errors.push(answer.error_code),
        Response::AddOffsetsToTxn(answer) => errors.push(answer.error_code),
        Response::EndTxn(answer) => errors.push(answer.error_code),
        Response::AddPartitionsToTxn(answer) => {
            for topic in &answer.results_by_topic_v3_and_below {
                let of = topic.results_by_partition.iter();
                errors.extend(of.map(|it| it.partition_error_code));
            }
        }
        Response::Produce(answer) => {
            for topic in &answer.responses {
                errors.extend(topic.partition_responses.iter().map(|it| it.error_code));
            }
        }
        Response::TxnOffsetCommit(answer) => {
            for topic in &answer.topics {
                errors.extend(topic.partitions.iter().map(|it| it.error_code));
            }
        }
        _ => {}
    }
    // One that can't be repeated counts more than one that can.
    let first = |known: fn(ErrorCode) -> bool| {
        let mut errors = errors.iter().copied();
        errors.find(|it| *it != ErrorCode::NONE && known(*it))
    };
    first(|it| !passes(it))
        .or(first(passes))
        .unwrap_or_default()
}

/// Errors after which the same request is sent again.
pub(super) fn passes(error: ErrorCode) -> bool {
    error == ErrorCode::CONCURRENT_TRANSACTIONS || speakers::passes(error)
}

impl World {
    pub(super) fn succeeds(&mut self, index: usize, response: &Response) {
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let ask = script.ask.take();
        let Does::Produces(p) = &mut script.does else {
            let created = matches!(ask, Some(Ask::Create));
            self.script_ends(index);
            if created {
                self.start_transactions();
            }
            return;
        };
        let mut goes_on_as = p.id;
        match response {
            Response::InitProducerId(it) => goes_on_as = (it.producer_id, it.producer_epoch),
            Response::EndTxn(end) => {
                if p.v2 {
                    goes_on_as = (end.producer_id, end.producer_epoch);
                }
                let open = p.open.take();
                if let (Some((number, _)), Some(Ask::End(true))) = (open, ask) {
                    it.ledger.knows(number, Fate::Committed);
                }
            }
            _ => {}
        }
        if goes_on_as != p.id {
            p.id = goes_on_as;
            p.sequences.clear();
            let newest = &mut it.names[p.name].newest;
            *newest = goes_on_as.max(*newest);
        }
    }

    /// It is shut out: its transaction is another's to end.
    pub(super) fn fails(&mut self, index: usize, error: ErrorCode) {
        trace!(self, "script {index}: {error}");
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let Does::Produces(p) = &mut script.does else {
            let created = error == ErrorCode::TOPIC_ALREADY_EXISTS;
            let late = matches!(script.ask, Some(Ask::Late(_)));
            self.script_ends(index);
            if created {
                self.start_transactions();
            } else if !late {
                let what = format!("transactions: script {index} got {error}");
                self.checker.violation(what);
            }
            return;
        };
        let since = p.open.map_or(self.now_us, |(_, since)| since);
        let in_time = self.now_us - since < TIMEOUT_MS as u64 * 1000;
        let alone = it.names[p.name].is_newest(p);
        let known = [
            ErrorCode::PRODUCER_FENCED,
            ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            ErrorCode::INVALID_TXN_STATE,
            ErrorCode::TRANSACTION_ABORTABLE,
        ];
        if let Some((number, _)) = p.open
            && !p.uncertain
        {
            it.ledger.knows(number, Fate::NotCommitted);
        }
        if !known.contains(&error) || in_time && alone && error != ErrorCode::TRANSACTION_ABORTABLE
        {
            self.checker.violation(format!(
                "transactions: script {index} got {error} though nobody shut it out"
            ));
        }
        self.script_ends(index);
    }
}
