// Third step of the demo: read the topic from its beginning and check that the records of each key are the lines of
// FILE with that first word, in FILE's order.
//
//   node verify.mjs BOOTSTRAP TOPIC FILE
//
// It prints JSON lines: {"progress":N} now and then, one {"result":{...}} at the end, and exits with 1 on any difference.
import { readFileSync } from 'node:fs'
import { Kafka } from 'ottla'

const [bootstrap, topic, path] = process.argv.slice(2)
if (!path) {
  console.error('usage: verify.mjs BOOTSTRAP TOPIC FILE')
  process.exit(2)
}

/** The lines of the file by key, in order; latin1 keeps every byte apart. */
const text = readFileSync(path, 'latin1')
const lines = text.split('\n')
if (lines.at(-1) === '') lines.pop()
const expected = new Map()
for (const line of lines) {
  const key = line.split(/[ \t]/, 1)[0]
  const queue = expected.get(key)
  if (queue) queue.lines.push(line)
  else expected.set(key, { lines: [line], next: 0 })
}

const consumer = new Kafka({ brokers: [bootstrap] }).consumer({ groupId: 'demo-verifier' })
const started = performance.now()
const waits = []
const partitions = new Set()
let seen = 0
let lastEnd = started
let failure = null

const finished = new Promise((resolve) => {
  let stalled = setTimeout(resolve, 30_000)
  const check = (count) => {
    if (Math.floor(seen / 65536) !== Math.floor((seen - count) / 65536)) console.log(JSON.stringify({ progress: seen }))
    clearTimeout(stalled)
    if (failure || seen >= lines.length) resolve()
    else stalled = setTimeout(resolve, 30_000)
  }
  if (lines.length === 0) resolve()
  consumer.connect()
    .then(() => consumer.subscribe({ topic, fromBeginning: true }))
    .then(() => consumer.run({
      eachBatchAutoResolve: true,
      eachBatch: async ({ batch }) => {
        waits.push(performance.now() - lastEnd)
        partitions.add(batch.partition)
        for (const message of batch.messages) {
          const key = message.key === null ? '' : message.key.toString('latin1')
          const queue = expected.get(key)
          const line = queue?.lines[queue.next++]
          if (failure === null && line !== message.value.toString('latin1')) {
            failure = `partition ${batch.partition}, offset ${message.offset}, key ${JSON.stringify(key)}: ` +
              `expected ${JSON.stringify(line)}, read ${JSON.stringify(message.value.toString('latin1'))}`
          }
        }
        seen += batch.messages.length
        lastEnd = performance.now()
        check(batch.messages.length)
      },
    }))
    .catch((error) => { failure = error.message; resolve() })
})

await finished
const seconds = (performance.now() - started) / 1000
await consumer.disconnect()
if (!failure && seen !== lines.length) failure = `${seen} records read, ${lines.length} lines in the file`
if (failure) {
  console.error(`verify: ${failure}`)
  process.exit(1)
}
waits.sort((a, b) => a - b)
const percentile = (part) => Math.round((waits[Math.min(Math.floor(waits.length * part), waits.length - 1)] ?? 0) * 1000)
console.log(JSON.stringify({
  result: { lines: seen, keys: expected.size, partitions: partitions.size, seconds, p50_us: percentile(0.5), p99_us: percentile(0.99) },
}))
process.exit(0)
