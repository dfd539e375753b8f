// Speed of the Node package.
//
//   node bench.mjs WHAT BOOTSTRAP COUNT SIZE       WHAT is produce-batch or consume
//
// Batches of 10,000 messages cross the border once each. Prints one line of JSON.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { Kafka } = require(process.env.OTTLA_NODE ?? 'ottla')
const [what, bootstrap, countText, sizeText] = process.argv.slice(2)
const count = Number(countText)
const value = Buffer.alloc(Number(sizeText), 'abcdefghijklmnopqrstuvwxyz')
const topic = 'bench'
const kafka = new Kafka({ brokers: [bootstrap] })

const producer = kafka.producer()
await producer.connect()
const messages = Array.from({ length: 10_000 }, () => ({ value }))
const produce = async () => {
  for (let sent = 0; sent < count; sent += messages.length) await producer.send({ topic, messages })
}
let started = performance.now()
let cpu = process.cpuUsage()
await produce()
if (what === 'consume') {
  const consumer = kafka.consumer({ groupId: 'bench' })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  started = performance.now()
  cpu = process.cpuUsage()
  let seen = 0
  await new Promise((resolve, reject) => {
    consumer.run({
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) if (message.value.length === value.length) seen++
        if (seen >= count) resolve()
      },
    }).catch(reject)
  })
  const used = process.cpuUsage(cpu)
  report(used)
  await consumer.disconnect()
} else if (what === 'produce-batch') {
  report(process.cpuUsage(cpu))
} else {
  throw new Error(`unknown: ${what}`)
}
await producer.disconnect()

function report (used) {
  console.log(JSON.stringify({
    messages: count,
    seconds: (performance.now() - started) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6,
  }))
}
