//! Transactions of both versions, and producers that take over from themselves.

use super::{super::transactions::decided, *};

/// A new producer of a transactional id.
pub(super) fn init(s: &mut Session, v: i16, id: &str) -> (i64, i16) {
    coordinator(s, id, 1);
    let request = InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let producer = id_of_producer(s, v, &request);
    s.call_it(
        &format!("producer_id: {},", producer.0),
        "producer_id: <producer>,",
    );
    producer
}

fn in_transaction((producer_id, producer_epoch): (i64, i16), base_sequence: i32) -> Records {
    let options = FinishOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: true,
        ..Default::default()
    };
    batch(&["a"], options)
}

pub(super) fn second_version(s: &mut Session, v: i16) {
    if v < 5 {
        return;
    }
    let id = "edges-second-version";
    make_topic(s, id, 2, &[]);
    let producer = init(s, 5, id);
    let end = |(producer_id, producer_epoch): (i64, i16), committed| {
        Request::EndTxn(EndTxnRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
            committed,
        })
    };
    let produce = |producer, sequence, partition| {
        let mut request = produce_to(
            id,
            Uuid::ZERO,
            12,
            partition,
            in_transaction(producer, sequence),
        );
        request.transactional_id = Some(id.into());
        Request::Produce(request)
    };
    s.ask("nothing committed", v, end(producer, true));
    s.ask("not from 0", 12, produce(producer, 5, 0));
    s.ask("first", 12, produce(producer, 0, 0));
    s.ask("next", 12, produce(producer, 1, 0));
    s.ask("next again", 12, produce(producer, 1, 0));
    s.ask("a gap", 12, produce(producer, 9, 0));
    s.ask("other partition", 12, produce(producer, 0, 1));
    s.ask("committed", v, end(producer, true));
    decided(s, id);
    s.ask("committed again", v, end(producer, true));
    s.ask("then aborted", v, end(producer, false));
    s.ask("produced with the old epoch", 12, produce(producer, 2, 0));
    let producer = (producer.0, producer.1 + 1);
    s.ask("nothing aborted", v, end(producer, false));
    decided(s, id);
    let producer = (producer.0, producer.1 + 1);
    s.ask("after it", 12, produce(producer, 0, 0));
    s.ask("aborted", v, end(producer, false));
    decided(s, id);
    s.ask("aborted again", v, end(producer, false));
    s.ask("then committed", v, end(producer, true));
    s.ask("two ahead", v, end((producer.0, producer.1 + 2), false));
    s.ask("another's", v, end((producer.0 + 999, 0), false));
    if let Some(Response::Fetch(answer)) = s.prepare(11, fetch_all(id, 1)) {
        for p in answer.responses.iter().flat_map(|t| &t.partitions) {
            let aborted: Vec<i64> = p
                .aborted_transactions
                .iter()
                .flatten()
                .map(|a| a.first_offset)
                .collect();
            let told = format!("{} {} {aborted:?}", p.high_watermark, p.last_stable_offset);
            s.note("stored", "ends and aborted", &told);
        }
    }
}

pub(super) fn taken_over(s: &mut Session, v: i16) {
    let id = format!("edges-taken-{v}");
    make_topic(s, &id, 1, &[]);
    let first = init(s, v, &id);
    let mut request = produce_to(&id, Uuid::ZERO, 12, 0, in_transaction(first, 0));
    request.transactional_id = Some(id.as_str().into());
    s.ask("opened", 12, Request::Produce(request.clone()));
    let ask = InitProducerIdRequest {
        transactional_id: Some(id.as_str().into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    s.ask("taken over", v, Request::InitProducerId(ask));
    let second = init(s, v, &id);
    s.note("second", "epoch", &second.1.to_string());
    s.ask("the first one produces", 12, Request::Produce(request));
    let add = |(producer_id, producer_epoch): (i64, i16)| {
        Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.as_str().into(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: id.as_str().into(),
                partitions: vec![0],
            }],
            ..Default::default()
        })
    };
    for version in [0, 1, 2, 3] {
        s.ask(
            &format!("the first one adds {version}"),
            version,
            add(first),
        );
    }
    for version in [0, 1, 2, 3] {
        let offsets = AddOffsetsToTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id: first.0,
            producer_epoch: first.1,
            group_id: "edges-taken".into(),
        };
        s.ask(
            &format!("the first one adds offsets {version}"),
            version,
            Request::AddOffsetsToTxn(offsets),
        );
    }
    for version in [0, 1, 2, 3, 4, 5] {
        let end = EndTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id: first.0,
            producer_epoch: first.1,
            committed: true,
        };
        s.ask(
            &format!("the first one ends {version}"),
            version,
            Request::EndTxn(end),
        );
    }
    s.ask("the second one adds", 3, add(second));
    s.ask("the second one adds again", 3, add(second));
    if v >= 3 {
        let known = |(producer_id, producer_epoch): (i64, i16)| {
            Request::InitProducerId(InitProducerIdRequest {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: 60_000,
                producer_id,
                producer_epoch,
            })
        };
        s.ask("the second one begins again", v, known(second));
        decided(s, &id);
        s.ask("once it is aborted", v, known(second));
        s.ask("of an id that is not known", v, {
            let mut request = InitProducerIdRequest {
                transactional_id: Some(format!("{id}-none").as_str().into()),
                transaction_timeout_ms: 60_000,
                producer_id: 77,
                producer_epoch: 3,
            };
            request.transaction_timeout_ms = 1;
            Request::InitProducerId(request)
        });
    }
}

/// A producer that did not hear that its transaction has ended, and so begins with the epoch that it had in it.
pub(super) fn unheard(s: &mut Session, v: i16) {
    if v < 3 {
        return;
    }
    for committed in [true, false] {
        let id = format!("edges-unheard-{v}-{committed}");
        make_topic(s, &id, 1, &[]);
        let producer = init(s, v, &id);
        let mut request = produce_to(&id, Uuid::ZERO, 12, 0, in_transaction(producer, 0));
        request.transactional_id = Some(id.as_str().into());
        s.ask("opened", 12, Request::Produce(request));
        let (producer_id, producer_epoch) = producer;
        let end = EndTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id,
            producer_epoch,
            committed,
        };
        s.ask("ended", 5, Request::EndTxn(end));
        decided(s, &id);
        let again = InitProducerIdRequest {
            transactional_id: Some(id.as_str().into()),
            transaction_timeout_ms: 30_000,
            producer_id,
            producer_epoch,
        };
        let what = |what: &str| format!("{what}, committed {committed}");
        s.ask(
            &what("begins again"),
            v,
            Request::InitProducerId(again.clone()),
        );
        let describe = DescribeTransactionsRequest {
            transactional_ids: vec![id.as_str().into()],
        };
        s.ask(
            &what("described"),
            0,
            Request::DescribeTransactions(describe),
        );
        s.ask(&what("and again"), v, Request::InitProducerId(again));
    }
}
