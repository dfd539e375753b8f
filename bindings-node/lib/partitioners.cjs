'use strict'

const { KafkaJSNotImplemented } = require('./errors.cjs')

/** Java's murmur2, whose sign bit is cleared to choose a partition. */
function murmur2 (bytes) {
  const m = 0x5bd1e995
  let hash = 0x9747b28c ^ bytes.length
  const whole = bytes.length & ~3
  for (let i = 0; i < whole; i += 4) {
    let k = bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24
    k = Math.imul(k, m)
    k ^= k >>> 24
    hash = Math.imul(hash, m) ^ Math.imul(k, m)
  }
  const rest = bytes.length - whole
  if (rest === 3) hash ^= bytes[whole + 2] << 16
  if (rest >= 2) hash ^= bytes[whole + 1] << 8
  if (rest >= 1) hash = Math.imul(hash ^ bytes[whole], m)
  hash = Math.imul(hash ^ hash >>> 13, m)
  return hash ^ hash >>> 15
}

/** Java's partitioner: the key's murmur2; without a key the partitions in turn. A producer with it doesn't call it: it is native. */
function DefaultPartitioner () {
  let turn = Math.floor(Math.random() * 0x7fffffff)
  return ({ partitionMetadata, message }) => {
    if (message.partition !== undefined && message.partition !== null) return message.partition
    const count = partitionMetadata.length
    if (message.key === undefined || message.key === null) return turn++ % count
    return (murmur2(Buffer.from(message.key)) & 0x7fffffff) % count
  }
}

function LegacyPartitioner () {
  throw new KafkaJSNotImplemented('Partitioners.LegacyPartitioner is not implemented: use DefaultPartitioner, or a createPartitioner of your own')
}

const Partitioners = Object.freeze({ DefaultPartitioner, LegacyPartitioner, JavaCompatiblePartitioner: DefaultPartitioner })

/** Assignors by name; a consumer takes these or the names themselves. */
const assigner = (name) => {
  const build = () => { throw new KafkaJSNotImplemented('partition assigners are native: they cannot be called') }
  return Object.freeze(Object.assign(build, { assignerName: name }))
}
const PartitionAssigners = Object.freeze({
  roundRobin: assigner('roundrobin'),
  range: assigner('range'),
  cooperativeSticky: assigner('cooperative-sticky'),
})

module.exports = { Partitioners, PartitionAssigners, AssignerProtocol: require('./assigner_protocol.cjs') }
