//! Reads any bytes as a producer snapshot, a leader epoch file and an offset checkpoint. What is read is written alike.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_log::{LeaderEpochs, MemoryStorage, ProducerState, data_dir, write_file};
use ottla_record::crc32c;

fuzz_target!(|data: &[u8]| {
    // Mutations hardly ever hit the checksum: it is set right.
    let mut snapshot = data.to_vec();
    if snapshot.len() >= 6 {
        let crc = crc32c(&snapshot[6..]);
        snapshot[2..6].copy_from_slice(&crc.to_be_bytes());
    }
    if let Some(state) = ProducerState::from_snapshot(&Bytes::from(snapshot)) {
        let written = Bytes::from(state.to_snapshot());
        let again = ProducerState::from_snapshot(&written).expect("our own");
        assert_eq!(again.to_snapshot(), written);
    }
    if let Ok(text) = core::str::from_utf8(data)
        && let Ok(epochs) = LeaderEpochs::from_text(text)
    {
        assert_eq!(LeaderEpochs::from_text(&epochs.to_text()), Ok(epochs));
    }
    let storage = MemoryStorage::new();
    write_file(&storage, "c", data).expect("memory");
    if let Ok(offsets) = data_dir::read_offsets(&storage, "c") {
        data_dir::write_offsets(&storage, "c", &offsets).expect("memory");
        assert_eq!(data_dir::read_offsets(&storage, "c"), Ok(offsets));
    }
});
