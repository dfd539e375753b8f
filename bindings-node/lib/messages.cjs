'use strict'

// Messages on their way over the border: many of them in one buffer and one table of numbers.

const { KafkaJSNonRetriableError } = require('./errors.cjs')

/** Numbers in the table for a message to produce: partition, lengths of key and value, headers, timestamp's halves. */
const PRODUCED = 6
/** Numbers in the table for a consumed message: position, lengths of key and value, headers, offset behind the first. */
const CONSUMED = 5

/** Encodes messages into memory that is used again: the native side copies it before the call returns. */
class Encoder {
  data = Buffer.allocUnsafeSlow(1 << 16)
  table = new Int32Array(PRODUCED * 1024)
  dataLength = 0
  tableLength = 0

  reset () {
    this.dataLength = 0
    this.tableLength = 0
    // One large send must not keep its memory for good.
    if (this.data.length > 1 << 26) this.data = Buffer.allocUnsafeSlow(1 << 16)
  }

  /** @param {number} partition -1: the partitioner chooses */
  add (message, partition) {
    if (this.tableLength + PRODUCED > this.table.length) {
      const larger = new Int32Array(this.table.length * 2)
      larger.set(this.table)
      this.table = larger
    }
    const { key, value, headers, timestamp } = message
    if (value === undefined) throw new KafkaJSNonRetriableError('Invalid message without value')
    const at = this.tableLength
    const table = this.table
    table[at] = partition
    table[at + 1] = this.bytes(key)
    table[at + 2] = this.bytes(value)
    table[at + 3] = headers === undefined || headers === null ? 0 : this.headers(headers)
    if (timestamp === undefined || timestamp === null) {
      table[at + 4] = 0
      table[at + 5] = 0
    } else {
      const ms = Number(timestamp)
      if (!Number.isSafeInteger(ms)) throw new KafkaJSNonRetriableError(`Invalid timestamp: ${timestamp}`)
      table[at + 4] = ms % 0x100000000
      table[at + 5] = Math.floor(ms / 0x100000000)
    }
    this.tableLength = at + PRODUCED
  }

  /** Appends bytes; returns their number, -1 for null. */
  bytes (value) {
    if (value === null || value === undefined) return -1
    if (typeof value === 'string') {
      // A UTF-16 unit has at most three bytes in UTF-8.
      this.reserve(value.length * 3)
      const written = this.data.write(value, this.dataLength)
      this.dataLength += written
      return written
    }
    if (!(value instanceof Uint8Array)) {
      throw new KafkaJSNonRetriableError(`Keys, values and headers are Buffers, strings or null, not ${typeof value}`)
    }
    const length = value.length
    this.reserve(length)
    this.data.set(value, this.dataLength)
    this.dataLength += length
    return length
  }

  /** Appends headers; returns their number. A header with an array is there once for each of its values. */
  headers (headers) {
    let count = 0
    for (const name of Object.keys(headers)) {
      const values = headers[name]
      for (const value of Array.isArray(values) ? values : [values]) {
        this.reserve(8)
        const at = this.dataLength
        this.dataLength += 8
        const nameLength = this.bytes(name)
        const valueLength = this.bytes(value)
        this.data.writeInt32LE(nameLength, at)
        this.data.writeInt32LE(valueLength, at + 4)
        count++
      }
    }
    return count
  }

  reserve (length) {
    const wanted = this.dataLength + length
    if (wanted <= this.data.length) return
    if (wanted > 0x7fffffff) throw new KafkaJSNonRetriableError('More than 2 GiB in one send')
    const larger = Buffer.allocUnsafeSlow(Math.min(Math.max(this.data.length * 2, wanted), 0x7fffffff))
    larger.set(this.data.subarray(0, this.dataLength))
    this.data = larger
  }
}

/** A consumed message: key, value and headers are views of its batch's buffer, made when they are asked for. */
class Message {
  #batch
  #row
  #key
  #value
  #headers

  constructor (batch, row) {
    this.#batch = batch
    this.#row = row
  }

  get key () {
    if (this.#key === undefined) {
      const { table, data } = this.#batch
      const at = table[this.#row]
      const length = table[this.#row + 1]
      this.#key = length < 0 ? null : data.subarray(at, at + length)
    }
    return this.#key
  }

  set key (key) { this.#key = key }

  get value () {
    if (this.#value === undefined) {
      const { table, data } = this.#batch
      const row = this.#row
      const length = table[row + 2]
      if (length < 0) this.#value = null
      else {
        const keyLength = table[row + 1]
        const at = table[row] + (keyLength > 0 ? keyLength : 0)
        this.#value = data.subarray(at, at + length)
      }
    }
    return this.#value
  }

  set value (value) { this.#value = value }

  get headers () {
    this.#headers ??= readHeaders(this.#batch, this.#row)
    return this.#headers
  }

  set headers (headers) { this.#headers = headers }

  get offset () { return String(this.#batch.firstOffset + this.#batch.table[this.#row + 4]) }

  get timestamp () { return String(this.#batch.timestamps[this.#row / CONSUMED]) }

  get attributes () { return 0 }

  toJSON () {
    const { key, value, headers, offset, timestamp, attributes } = this
    return { key, value, headers, offset, timestamp, attributes }
  }

  [Symbol.for('nodejs.util.inspect.custom')] () { return this.toJSON() }
}

function readHeaders ({ table, data }, row) {
  const headers = {}
  let at = table[row] + Math.max(table[row + 1], 0) + Math.max(table[row + 2], 0)
  for (let left = table[row + 3]; left > 0; left--) {
    const nameLength = data.readInt32LE(at)
    const valueLength = data.readInt32LE(at + 4)
    at += 8
    const name = data.toString('utf8', at, at + nameLength)
    at += nameLength
    const value = valueLength < 0 ? null : data.subarray(at, at + valueLength)
    at += Math.max(valueLength, 0)
    if (!Object.hasOwn(headers, name)) headers[name] = value
    else if (Array.isArray(headers[name])) headers[name].push(value)
    else headers[name] = [headers[name], value]
  }
  return headers
}

/** The messages of what the native side fetched. */
function messagesOf (batch) {
  const count = batch.timestamps.length
  const messages = new Array(count)
  for (let i = 0; i < count; i++) messages[i] = new Message(batch, i * CONSUMED)
  return messages
}

/** Offset of the message with this index, as a number. */
const offsetAt = (batch, index) => batch.firstOffset + batch.table[index * CONSUMED + 4]

module.exports = { Encoder, messagesOf, offsetAt }
