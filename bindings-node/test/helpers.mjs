// What the tests share: brokers, messages, waiting.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Kafka, logLevel } from 'ottla'

/** A directory for the tests of one file. */
export const directory = mkdtempSync(join(tmpdir(), 'ottla-node-'))
after(() => rmSync(directory, { recursive: true, force: true }))

let places = 0
export const kafkaAt = (place, options = {}) => new Kafka({ brokers: [place], logLevel: logLevel.NOTHING, ...options })
/** A broker in memory lives as long as somebody uses it: an administrator that stays connected. */
export const memory = async (query = '', options = {}) => kept(`memory:node-${places++}${query}`, options)
export async function kept (place, options = {}) {
  const kafka = kafkaAt(place, options)
  await kafka.admin().connect()
  return kafka
}

/** Sends messages with a producer that is connected for that long. */
export async function send (kafka, topic, messages, options = {}) {
  const producer = kafka.producer()
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...options })
  } finally {
    await producer.disconnect()
  }
}

/** Waits until something holds. */
export async function until (holds, what = 'it') {
  const end = Date.now() + 60_000
  while (!await holds()) {
    assert.ok(Date.now() < end, `${what} within a minute`)
    await delay(5)
  }
}

/** For what the machine may be too busy for: once in ten times it must be so. `attempt` throws what is wrong in any case, and returns why it was not so. */
export async function onceInTen (attempt) {
  const why = []
  while (why.length < 10) {
    const wrong = await attempt(why.length)
    if (!wrong) return
    why.push(wrong)
  }
  assert.fail(why.join('; '))
}

/** A running consumer of `topic` that collects its messages. */
export async function collect (kafka, topic, { groupId = 'g', run = {}, options = {} } = {}) {
  const consumer = kafka.consumer({ groupId, ...options })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const seen = []
  const eachMessage = async ({ topic, partition, message }) => {
    seen.push({ topic, partition, message, value: message.value?.toString() ?? null })
  }
  await consumer.run({ eachMessage, ...run })
  return { consumer, seen }
}
