//! Bytes from a socket, cut into frames without being copied.
//!
//! A read goes into a chunk that all connections of an event loop share, behind what others left in it; a produce's frame is a slice
//! of the chunk, so its records stay where the system put them until they are written to the log. Other requests, and produces that
//! are small, are copied out: kept in memory they would keep the chunk. A connection has bytes of its own only while a
//! frame is incomplete. Memory is taken as bytes arrive, never because a size says so.

use bytes::{Bytes, BytesMut};
use ottla_protocol::{ApiKey, DecodeError};
use std::collections::VecDeque;

/// What is allocated at a time, if nothing else is known.
const CHUNK_BYTES: usize = 128 << 10;
/// Less room than this is not worth a read.
const LEAST_ROOM: usize = 16 << 10;
/// Produces from this size on are slices of their chunk; smaller ones are copied.
const SHARED_FROM: usize = 2 << 10;
/// Most bytes of chunks that are waited for: as many as the log keeps of recent appends.
const MOST_LENT_BYTES: usize = 8 << 20;
/// A connection that has sent a frame of some size gets room for the next of that size at once, up to this.
const MOST_TRUST: usize = 1 << 20;

/// A piece of memory that is read into and cut up. All of it is initialised; `begin..end` is received and not cut yet.
struct Chunk {
    bytes: BytesMut,
    begin: usize,
    end: usize,
    /// Bytes of the whole piece, with what was cut off.
    allocated: usize,
}

impl Chunk {
    fn new(len: usize) -> Self {
        Self {
            bytes: BytesMut::zeroed(len),
            begin: 0,
            end: 0,
            allocated: len,
        }
    }

    /// Takes all of the piece back, if nobody has slices of it and it is large enough.
    fn reclaim(&mut self, len: usize) -> bool {
        let is_ours = self.allocated >= len && self.bytes.try_reclaim(self.allocated);
        if is_ours {
            self.bytes.resize(self.allocated, 0);
        }
        is_ours
    }

    fn holding(received: &[u8]) -> Self {
        Self {
            bytes: BytesMut::from(received),
            begin: 0,
            end: received.len(),
            allocated: received.len(),
        }
    }

    fn received(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    fn put(&mut self, received: &[u8]) {
        self.bytes[self.end..][..received.len()].copy_from_slice(received);
        self.end += received.len();
    }

    /// Size of the frame at the beginning, without its size field, if it is known.
    fn frame_size(&self, max_size: usize) -> Result<Option<usize>, DecodeError> {
        let Some(size) = self.received().first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*size);
        let size = usize::try_from(claimed)
            .ok()
            .filter(|&size| size <= max_size);
        size.map(Some)
            .ok_or(DecodeError::FrameTooLarge { size: claimed })
    }

    /// Bytes that are missing from the frame at the beginning; 0 if nothing is known of it.
    fn missing(&self) -> usize {
        match self.frame_size(usize::MAX) {
            Ok(Some(size)) => (4 + size).saturating_sub(self.end - self.begin),
            _ => 0,
        }
    }

    /// Cuts off the frame at the beginning, which is complete.
    fn cut(&mut self, size: usize) -> Bytes {
        let start = self.begin + 4;
        let end = start + size;
        let key = self.bytes[start..end].first_chunk::<2>();
        let is_produce = key.is_some_and(|key| i16::from_be_bytes(*key) == ApiKey::Produce as i16);
        if is_produce && size >= SHARED_FROM {
            let mut frame = self.bytes.split_to(end).freeze();
            self.begin = 0;
            self.end -= end;
            return frame.split_off(start);
        }
        self.begin = end;
        let frame = Bytes::copy_from_slice(&self.bytes[start..end]);
        if self.begin == self.end {
            // Nothing of it is needed any more.
            (self.begin, self.end) = (0, 0);
        }
        frame
    }
}

/// The chunk that an event loop's connections share, and those before it that others have slices of.
#[derive(Default)]
pub(super) struct SharedChunk {
    chunk: Option<Chunk>,
    /// Chunks that are used up, the oldest first. Once the last slice of one is gone it is read into again: memory that the system
    /// hands out anew costs a page fault for every 4 KiB.
    lent: VecDeque<Chunk>,
    lent_bytes: usize,
}

impl SharedChunk {
    /// A chunk with at least `room` bytes of room.
    fn take(&mut self, room: usize) -> Chunk {
        if let Some(chunk) = self.chunk.take() {
            if chunk.room() >= room {
                return chunk;
            }
            self.lend(chunk);
        }
        let len = room.max(CHUNK_BYTES);
        // The log lets go of what it keeps in about the order that it came in, so the first ones are the likely ones.
        let free = self.lent.iter_mut().position(|lent| lent.reclaim(len));
        match free.and_then(|at| self.lent.remove(at)) {
            Some(chunk) => {
                self.lent_bytes -= chunk.allocated;
                chunk
            }
            None => Chunk::new(len),
        }
    }

    /// Gives a chunk back in which nothing is left.
    fn give(&mut self, chunk: Chunk) {
        match &mut self.chunk {
            Some(own) if own.room() >= chunk.room() => self.lend(chunk),
            own => {
                if let Some(smaller) = own.replace(chunk) {
                    self.lend(smaller);
                }
            }
        }
    }

    /// Keeps a chunk for when nobody has slices of it.
    fn lend(&mut self, mut chunk: Chunk) {
        chunk.bytes.clear();
        (chunk.begin, chunk.end) = (0, 0);
        self.lent_bytes += chunk.allocated;
        self.lent.push_back(chunk);
        while self.lent_bytes > MOST_LENT_BYTES
            && let Some(oldest) = self.lent.pop_front()
        {
            self.lent_bytes -= oldest.allocated;
        }
    }

    /// Gives the memory back to the system: there is nothing to do.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }
}

/// What one connection has received and not made requests of.
#[derive(Default)]
pub(super) struct Receiver {
    /// There only while a frame is incomplete, or has to wait.
    chunk: Option<Chunk>,
    /// The largest frame so far, up to [`MOST_TRUST`].
    trust: usize,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes that came.
    pub(super) bytes: usize,
    /// Whether there was room for more.
    pub(super) short: bool,
}

impl Receiver {
    /// Bytes that are held and not cut.
    pub(super) fn held(&self) -> usize {
        self.chunk
            .as_ref()
            .map_or(0, |chunk| chunk.end - chunk.begin)
    }

    /// Whether the beginning of a frame is there.
    pub(super) fn is_amid_frame(&self) -> bool {
        self.chunk.is_some()
    }

    /// Calls `read` once with room to read into. [`Self::next_frame`] has the frames that are complete then, and
    /// [`Self::put_away`] is to be called when no more are wanted.
    pub(super) fn read<E>(
        &mut self,
        shared: &mut SharedChunk,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Read, E> {
        let mut chunk = self.chunk_with_room(shared);
        let end = chunk.end;
        let room = chunk.room();
        let result = read(&mut chunk.bytes[end..]);
        chunk.end += result.as_ref().map_or(0, |&bytes| bytes.min(room));
        self.chunk = Some(chunk);
        result.map(|bytes| Read {
            bytes,
            short: bytes < room,
        })
    }

    fn chunk_with_room(&mut self, shared: &mut SharedChunk) -> Chunk {
        let Some(own) = self.chunk.take() else {
            return shared.take(self.trust.max(LEAST_ROOM));
        };
        let missing = own.missing();
        let enough = if missing > 0 { missing } else { LEAST_ROOM };
        if own.room() >= enough {
            return own;
        }
        // As much as it has sent already, or sent before: so it is never more than twice what came.
        let held = own.end - own.begin;
        let more = missing.min(held.max(self.trust)).max(LEAST_ROOM);
        let mut chunk = shared.take(held + more);
        chunk.put(own.received());
        shared.lend(own);
        chunk
    }

    /// Keeps no more memory than what is left is worth, and gives the rest back.
    pub(super) fn put_away(&mut self, shared: &mut SharedChunk) {
        let Some(mut chunk) = self.chunk.take() else {
            return;
        };
        let held = chunk.end - chunk.begin;
        if held == 0 {
            shared.give(chunk);
        } else if held * 4 < chunk.bytes.len() {
            self.chunk = Some(Chunk::holding(chunk.received()));
            (chunk.begin, chunk.end) = (0, 0);
            shared.give(chunk);
        } else {
            self.chunk = Some(chunk);
        }
    }

    /// The next complete frame, without its size field.
    ///
    /// # Errors
    /// A size out of range: the stream can't be read any further.
    pub(super) fn next_frame(&mut self, max_size: usize) -> Result<Option<Bytes>, DecodeError> {
        let Some(chunk) = &mut self.chunk else {
            return Ok(None);
        };
        let Some(size) = chunk.frame_size(max_size)? else {
            return Ok(None);
        };
        if chunk.end - chunk.begin < 4 + size {
            return Ok(None);
        }
        self.trust = self.trust.max((4 + size).min(MOST_TRUST));
        Ok(Some(chunk.cut(size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100 << 20;

    fn frame(key: i16, len: usize) -> Vec<u8> {
        let mut bytes = (len as i32 + 2).to_be_bytes().to_vec();
        bytes.extend(key.to_be_bytes());
        bytes.extend((0..len).map(|at| (at % 251) as u8));
        bytes
    }

    /// Feeds a stream in pieces and returns the frames.
    fn feed(
        receiver: &mut Receiver,
        shared: &mut SharedChunk,
        mut stream: &[u8],
        at_a_time: usize,
    ) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while !stream.is_empty() {
            let read = receiver
                .read(shared, |room| {
                    let n = room.len().min(stream.len()).min(at_a_time);
                    assert!(n > 0, "there is always room");
                    room[..n].copy_from_slice(&stream[..n]);
                    stream = &stream[n..];
                    Ok::<_, ()>(n)
                })
                .unwrap();
            assert!(read.bytes > 0);
            while let Some(frame) = receiver.next_frame(MAX).unwrap() {
                frames.push(frame);
            }
            receiver.put_away(shared);
        }
        frames
    }

    #[test]
    fn streams_are_cut_wherever_they_are_torn() {
        let lens = [0, 1, 100, 3000, 20_000, 5, 500_000, 70, 2_000_000, 1, 3000];
        let sent: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(at, len)| frame((at % 2) as i16, *len))
            .collect();
        let stream = sent.concat();
        for at_a_time in [1000, 4096, 65_536, 150_000, usize::MAX] {
            let mut shared = SharedChunk::default();
            let mut receiver = Receiver::default();
            let frames = feed(&mut receiver, &mut shared, &stream, at_a_time);
            assert_eq!(frames.len(), sent.len());
            for (frame, sent) in frames.iter().zip(&sent) {
                assert!(frame[..] == sent[4..], "{at_a_time}");
            }
            assert_eq!(receiver.held(), 0);
            assert!(!receiver.is_amid_frame());
        }
        let short = [frame(0, 10), frame(3, 4000)].concat();
        let mut receiver = Receiver::default();
        assert_eq!(
            feed(&mut receiver, &mut SharedChunk::default(), &short, 1).len(),
            2
        );
    }

    #[test]
    fn two_connections_share_a_chunk_and_do_not_mix() {
        let mut shared = SharedChunk::default();
        let mut one = Receiver::default();
        let mut two = Receiver::default();
        let (a, b) = (frame(0, 9000), frame(0, 7000));
        assert!(feed(&mut one, &mut shared, &a[..5000], MAX).is_empty());
        let frames = feed(&mut two, &mut shared, &b, MAX);
        assert!(frames[0][..] == b[4..]);
        let frames = feed(&mut one, &mut shared, &a[5000..], MAX);
        assert!(frames[0][..] == a[4..]);
    }

    #[test]
    fn memory_comes_with_bytes_not_with_sizes() {
        let mut shared = SharedChunk::default();
        let mut receiver = Receiver::default();
        let claims = i32::try_from(MAX).unwrap().to_be_bytes();
        feed(&mut receiver, &mut shared, &claims, MAX);
        assert_eq!(receiver.chunk.as_ref().unwrap().bytes.len(), 4);
        let mut sent = 4;
        for _ in 0..100 {
            sent += 50_000;
            feed(&mut receiver, &mut shared, &[7; 50_000], MAX);
            let taken = receiver.chunk.as_ref().unwrap().bytes.len();
            assert!(taken <= 2 * sent + CHUNK_BYTES, "{taken} for {sent}");
        }
    }

    #[test]
    fn chunks_are_read_into_again_when_their_slices_are_gone() {
        let mut shared = SharedChunk::default();
        let mut receiver = Receiver::default();
        let stream = frame(0, 10_000);
        let mut kept = VecDeque::new();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            for frame in feed(&mut receiver, &mut shared, &stream, usize::MAX) {
                assert!(frame[..] == stream[4..]);
                places.insert(frame.as_ptr() as usize & !(CHUNK_BYTES - 1));
                kept.push_back(frame);
            }
            // The log keeps so much of it.
            if kept.len() > 100 {
                kept.pop_front();
            }
            for frame in kept.iter().take(1) {
                assert!(frame[..] == stream[4..], "nobody wrote into it");
            }
        }
        // 20 MB went through; 100 frames are eight chunks, each on up to two multiples of its size.
        assert!(places.len() <= 30, "{}", places.len());
        assert!(shared.lent_bytes <= 14 * CHUNK_BYTES);
        shared.release();
        assert!(kept.iter().all(|frame| frame[..] == stream[4..]));
    }

    #[test]
    fn what_nobody_gives_back_is_not_waited_for_without_bounds() {
        let mut shared = SharedChunk::default();
        let mut receiver = Receiver::default();
        let stream = frame(0, 100_000);
        let mut kept = Vec::new();
        for _ in 0..1000 {
            kept.extend(feed(&mut receiver, &mut shared, &stream, usize::MAX));
        }
        assert!(shared.lent_bytes <= MOST_LENT_BYTES);
        let sum: usize = shared.lent.iter().map(|chunk| chunk.allocated).sum();
        assert_eq!(sum, shared.lent_bytes);
        assert!(kept.iter().all(|frame| frame[..] == stream[4..]));
    }

    #[test]
    fn sizes_out_of_range_end_the_stream() {
        for size in [-1, i32::MIN, i32::MAX, MAX as i32 + 1] {
            let mut shared = SharedChunk::default();
            let mut receiver = Receiver::default();
            let read = receiver.read(&mut shared, |room| {
                room[..4].copy_from_slice(&size.to_be_bytes());
                Ok::<_, ()>(4)
            });
            assert_eq!(read.unwrap().bytes, 4);
            assert!(receiver.next_frame(MAX).is_err());
        }
    }
}
