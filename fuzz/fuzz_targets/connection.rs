//! A whole connection: any bytes, arriving in any pieces, through frames and the broker to answers. No panic; and the pieces make no
//! difference to what comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_broker::Durability;
use ottla_driver::rehearse;

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (sync, cuts, bytes) = input;
    let durability = if sync {
        Durability::Fsync
    } else {
        Durability::Os
    };
    let heard = rehearse(durability, 1 << 16, &cuts, &bytes);
    // Answers of a connection that is closed may be cut off anywhere.
    if !heard.closed && !sync {
        let whole = rehearse(durability, 1 << 16, &[], &bytes);
        assert_eq!(heard.bytes.len(), whole.bytes.len());
    }
});
