'use strict'

// The consumer protocol's subscription and assignment, as group descriptions hold them.

const int16 = (value) => { const b = Buffer.alloc(2); b.writeInt16BE(value); return b }
const int32 = (value) => { const b = Buffer.alloc(4); b.writeInt32BE(value); return b }
const text = (value) => { const b = Buffer.from(value); return Buffer.concat([int16(b.length), b]) }
const bytes = (value) => value ? Buffer.concat([int32(value.length), value]) : int32(-1)

class Reader {
  #buffer
  #at = 0
  constructor (buffer) { this.#buffer = buffer }
  int16 () { const v = this.#buffer.readInt16BE(this.#at); this.#at += 2; return v }
  int32 () { const v = this.#buffer.readInt32BE(this.#at); this.#at += 4; return v }
  take (length) { const v = this.#buffer.subarray(this.#at, this.#at + length); this.#at += length; return v }
  text () { return this.take(this.int16()).toString() }
  bytes () { const length = this.int32(); return length < 0 ? Buffer.alloc(0) : this.take(length) }
  list (read) { return Array.from({ length: this.int32() }, read) }
}

const MemberMetadata = {
  encode: ({ version, topics, userData = Buffer.alloc(0) }) =>
    Buffer.concat([int16(version), int32(topics.length), ...topics.map(text), bytes(userData)]),
  decode: (buffer) => {
    if (buffer.length === 0) return null
    const reader = new Reader(buffer)
    return { version: reader.int16(), topics: reader.list(() => reader.text()), userData: reader.bytes() }
  },
}

const MemberAssignment = {
  encode: ({ version, assignment, userData = Buffer.alloc(0) }) => Buffer.concat([
    int16(version),
    int32(Object.keys(assignment).length),
    ...Object.entries(assignment).flatMap(([topic, partitions]) => [text(topic), int32(partitions.length), ...partitions.map(int32)]),
    bytes(userData),
  ]),
  decode: (buffer) => {
    if (buffer.length === 0) return null
    const reader = new Reader(buffer)
    const version = reader.int16()
    const assignment = Object.fromEntries(reader.list(() => [reader.text(), reader.list(() => reader.int32())]))
    return { version, assignment, userData: reader.bytes() }
  },
}

module.exports = { MemberMetadata, MemberAssignment }
