// What consumers, producers and admins tell while they work: events, heartbeats, retries, crashes.
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { KafkaJSNonRetriableError } from 'ottla'
import { collect, directory, kafkaAt, memory, send, onceInTen, until } from './helpers.mjs'

/** Notes what a client tells, in order. */
function listen (client) {
  const told = []
  for (const name of Object.values(client.events)) client.on(name, (event) => { told.push(event) })
  told.names = () => told.map(({ type }) => type.replace(/^\w+\./, ''))
  told.last = (name) => told.findLast(({ type }) => type.endsWith(`.${name}`))?.payload
  told.count = (name) => told.filter(({ type }) => type.endsWith(`.${name}`)).length
  return told
}

/** A consumer whose events are noted, from before it connects. */
async function listened (kafka, { options = {}, run }) {
  const consumer = kafka.consumer({ groupId: 'g', ...options })
  const told = listen(consumer)
  await consumer.connect()
  await consumer.subscribe({ topic: 't', fromBeginning: true })
  await consumer.run(run)
  return { consumer, told }
}

test('a consumer tells of its life with KafkaJS\'s payloads', async () => {
  const kafka = await memory()
  await send(kafka, 't', [{ value: 'a' }, { value: 'b' }])
  let handled = 0
  const { consumer, told } = await listened(kafka, { options: { heartbeatInterval: 50 }, run: { eachMessage: async () => { handled++ } } })
  await until(() => handled === 2 && told.count('commit_offsets') === 1 && told.count('heartbeat') > 0)
  await consumer.disconnect()
  await until(() => told.count('disconnect') === 1)
  const order = told.names().filter((name) => name !== 'heartbeat')
  assert.deepEqual(order, ['connect', 'group_join', 'fetch', 'start_batch_process', 'commit_offsets', 'end_batch_process', 'stop', 'disconnect'])
  for (const { id, type, timestamp } of told) {
    assert.ok(Number.isInteger(id) && type.startsWith('consumer.') && Math.abs(Date.now() - timestamp) < 20_000)
  }
  const { memberId, leaderId, duration: joining, ...join } = told.last('group_join')
  assert.ok(memberId.startsWith('kafkajs-') && joining >= 0)
  assert.equal(leaderId, memberId)
  assert.deepEqual(join, { groupId: 'g', isLeader: true, groupProtocol: 'roundrobin', memberAssignment: { t: [0] } })
  const { duration: fetching, ...fetched } = told.last('fetch')
  assert.ok(fetching >= 0 && fetching < 10_000)
  assert.deepEqual(fetched, { numberOfBatches: 1, nodeId: 1 })
  const batch = {
    topic: 't', partition: 0, highWatermark: '2', offsetLag: '0', offsetLagLow: '1', batchSize: 2, firstOffset: '0', lastOffset: '1',
  }
  assert.deepEqual(told.last('start_batch_process'), batch)
  const { duration, ...ended } = told.last('end_batch_process')
  assert.ok(duration >= 0)
  assert.deepEqual(ended, batch)
  assert.deepEqual(told.last('commit_offsets'), {
    groupId: 'g', memberId, groupGenerationId: 1, topics: [{ topic: 't', partitions: [{ partition: '0', offset: '2' }] }],
  })
  assert.deepEqual(told.last('heartbeat'), { groupId: 'g', memberId, groupGenerationId: 1 })
  assert.equal(told.last('connect'), null)
})

test('a producer beyond its quota tells for how long it waits, and when that is over', async () => {
  // A quota of the client id `limited`, as the broker keeps it: 10,000 bytes a second.
  const place = join(directory, 'quota')
  mkdirSync(place)
  writeFileSync(join(place, 'ottla-quotas'), 'ottla-quotas 1\nof - =limited\nquota producer_byte_rate 10000\ncrc32c cc0c473f\n')
  const producer = kafkaAt(`file://${place}`, { clientId: 'limited' }).producer()
  const told = []
  producer.on(producer.events.THROTTLE, ({ payload }) => { told.push(payload) })
  await producer.connect()
  const started = Date.now()
  // What ten seconds may have, and a little more: half a second.
  await producer.send({ topic: 't', messages: [{ value: 'x'.repeat(105_000) }] })
  await until(() => told.length > 0)
  const { brokerName, brokerId, throttleTime } = told[0]
  assert.ok(/^.+:\d+$/.test(brokerName) && brokerId === 1 && throttleTime >= 400 && throttleTime < 1500, JSON.stringify(told[0]))
  // The next request waits so long. It asks for the new topic, and that answer says that it is over.
  await producer.send({ topic: 'u', messages: [{ value: 'y' }] })
  assert.ok(Date.now() - started >= throttleTime, `${Date.now() - started} of ${throttleTime} ms`)
  await until(() => told.length > 1)
  assert.equal(told[1].throttleTime, 0)
  await producer.disconnect()
})

test('producers and admins tell when they connect and disconnect; a listener can go', async () => {
  const kafka = await memory()
  for (const client of [kafka.producer(), kafka.admin()]) {
    const told = listen(client)
    let heard = 0
    const remove = client.on(client.events.CONNECT, () => { heard++ })
    await client.connect()
    await until(() => heard === 1)
    remove()
    await client.disconnect()
    await client.connect()
    await client.disconnect()
    await until(() => told.length === 4)
    assert.deepEqual(told.names(), ['connect', 'disconnect', 'connect', 'disconnect'])
    assert.equal(heard, 1)
    assert.throws(() => client.on('no.such.event', () => {}), { name: 'KafkaJSNonRetriableError' })
  }
})

test('an idle member tells of a heartbeat each heartbeatInterval', async () => {
  const kafka = await memory()
  await send(kafka, 't', [{ value: 'a' }])
  const started = performance.now()
  const { consumer, told } = await listened(kafka, { options: { heartbeatInterval: 100 }, run: { eachMessage: async () => {} } })
  await onceInTen(async () => {
    const before = told.count('heartbeat')
    await delay(1050)
    const heartbeats = told.count('heartbeat')
    const most = (performance.now() - started) / 100 + 1
    assert.ok(heartbeats <= most, `${heartbeats} heartbeats, and not ${most}`)
    return heartbeats - before < 4 && `${heartbeats - before} heartbeats in a second`
  })
  await consumer.disconnect()
})

test('heartbeat ends a handler when the group rebalances, also with batches that wait', async () => {
  const kafka = await memory('?num.partitions=2')
  await send(kafka, 't', [0, 1].map((partition) => ({ partition, value: '0' })))
  let blocked = true
  const seen = []
  const failures = []
  const { consumer, told } = await listened(kafka, {
    // The default of five retries would hide a failure that counts.
    options: { heartbeatInterval: 100, retry: { retries: 0 } },
    run: {
      eachMessage: async ({ partition, message, heartbeat }) => {
        while (blocked) {
          await delay(10)
          await heartbeat().catch((error) => { failures.push(error); throw error })
        }
        seen.push(`${partition}:${message.value}`)
      },
    },
  })
  // More batches than are prefetched: nothing more is taken until one is done.
  for (let i = 1; i < 8; i++) {
    await send(kafka, 't', [0, 1].map((partition) => ({ partition, value: String(i) })))
    await delay(20)
  }
  const other = await collect(kafka, 't')
  await until(() => failures.length > 0, 'a heartbeat that fails')
  const [{ name, type, code, retriable }] = failures
  assert.deepEqual({ name, type, code, retriable }, { name: 'KafkaJSProtocolError', type: 'REBALANCE_IN_PROGRESS', code: 27, retriable: true })
  assert.ok(told.count('rebalancing') > 0)
  assert.deepEqual(Object.keys(told.last('rebalancing')), ['groupId', 'memberId'])
  blocked = false
  const all = () => [...seen, ...other.seen.map(({ partition, value }) => `${partition}:${value}`)]
  await until(() => new Set(all()).size === 16, 'all messages')
  assert.equal(told.count('crash'), 0)
  assert.equal(told.last('group_join').memberAssignment.t.length, 1)
  assert.equal(all().length, 16, 'none comes twice, as none was worked off before')
  await Promise.all([consumer.disconnect(), other.consumer.disconnect()])
})

test('retry: pauses of the client and of the consumer, then a crash and a new beginning', () => onceInTen(async () => {
  // What the consumer doesn't say is the client's.
  const kafka = await memory('', { retry: { initialRetryTime: 60, factor: 0, retries: 9 } })
  await send(kafka, 't', [{ value: 'a' }])
  const calls = []
  const { consumer, told } = await listened(kafka, {
    options: { retry: { multiplier: 3, retries: 2 } },
    run: {
      eachMessage: async () => {
        calls.push(performance.now())
        if (calls.length <= 3) throw new Error('not yet')
      },
    },
  })
  await until(() => calls.length === 4 && told.count('group_join') === 2, 'the new beginning')
  const [first, second] = [calls[1] - calls[0], calls[2] - calls[1]]
  assert.ok(first >= 55, `${first} ms before the first retry`)
  assert.ok(second >= 175, `${second} ms before the second one`)
  const { error, groupId, restart } = told.last('crash')
  assert.deepEqual([error.name, error.message, error.retryCount, error.retryTime], ['KafkaJSNumberOfRetriesExceeded', 'not yet', 2, 180])
  assert.equal(error.cause.message, 'not yet')
  assert.deepEqual([groupId, restart], ['g', true])
  assert.deepEqual(told.names().filter((name) => ['stop', 'disconnect', 'crash', 'group_join'].includes(name)),
    ['group_join', 'stop', 'disconnect', 'crash', 'group_join'])
  await consumer.disconnect()
  return (first >= 160 || second >= 400) && `${first} ms before the first retry, ${second} ms before the second one`
}))

test('no new beginning after errors that stay, when restartOnFailure says so, or after stop', async () => {
  const crash = async (thrown, retry = {}) => {
    const kafka = await memory()
    await send(kafka, 't', [{ value: 'a' }])
    let calls = 0
    const { consumer, told } = await listened(kafka, {
      options: { retry: { initialRetryTime: 20, ...retry } },
      run: { eachMessage: async () => { calls++; throw thrown } },
    })
    await until(() => told.count('crash') > 0)
    const { restart, error } = told.last('crash')
    return { consumer, told, restart, error, calls }
  }
  const stays = await crash(new KafkaJSNonRetriableError('never'))
  assert.deepEqual([stays.restart, stays.error.message, stays.calls], [false, 'never', 1])
  await assert.rejects(stays.consumer.run({}), /disconnected/)

  const asked = []
  const forbidden = await crash(new Error('no'), { retries: 1, restartOnFailure: async (error) => { asked.push(error.name); return false } })
  assert.deepEqual([forbidden.restart, forbidden.calls, asked], [false, 2, ['KafkaJSNumberOfRetriesExceeded']])

  const mistake = await crash(new TypeError('x is not a function'), { restartOnFailure: async () => false })
  assert.equal(mistake.calls, 1, 'a mistake of the program is not tried again')

  const stopped = await crash(new Error('no'), { retries: 0, initialRetryTime: 2000 })
  assert.equal(stopped.restart, true)
  await stopped.consumer.stop()
  await delay(2200)
  assert.equal(stopped.told.count('group_join'), 1, 'stop ends the wait for the new beginning')
  for (const { consumer } of [stays, forbidden, mistake, stopped]) await consumer.disconnect()
})

test('run, then seek and pause, without waiting', async () => {
  const kafka = await memory('?num.partitions=2')
  await send(kafka, 't', Array.from({ length: 6 }, (_, i) => ({ value: String(i), partition: i % 2 })))
  const consumer = kafka.consumer({ groupId: 'g' })
  await consumer.connect()
  await consumer.subscribe({ topic: 't', fromBeginning: true })
  assert.throws(() => consumer.seek({ topic: 't', partition: 0, offset: '1' }), /run must be called first/)
  const seen = []
  const running = consumer.run({ eachMessage: async ({ message }) => { seen.push(message.value.toString()) } })
  consumer.seek({ topic: 't', partition: 0, offset: '2' })
  consumer.pause([{ topic: 't', partitions: [1] }])
  await running
  await until(() => seen.length === 1)
  await delay(100)
  assert.deepEqual(seen, ['4'])
  assert.deepEqual(consumer.paused(), [{ topic: 't', partitions: [1] }])
  consumer.resume([{ topic: 't', partitions: [1] }])
  await until(() => seen.length === 4)
  assert.deepEqual(seen, ['4', '1', '3', '5'])
  assert.deepEqual(consumer.paused(), [])
  consumer.seek({ topic: 't', partition: 1, offset: '-2' })
  await until(() => seen.length === 7)
  await consumer.disconnect()
})

test('a handler pauses its partition, and what it gets resumes it', async () => {
  const kafka = await memory()
  await send(kafka, 't', ['a', 'b', 'c'].map((value) => ({ value })))
  const seen = []
  let resume
  const { consumer } = await listened(kafka, {
    run: {
      eachMessage: async ({ message, pause }) => {
        seen.push(message.value.toString())
        if (seen.length === 1) resume = pause()
      },
    },
  })
  await until(() => resume !== undefined)
  await delay(100)
  assert.deepEqual(seen, ['a'])
  assert.deepEqual(consumer.paused(), [{ topic: 't', partitions: [0] }])
  resume()
  await until(() => seen.length === 3)
  assert.deepEqual(seen, ['a', 'b', 'c'])
  await consumer.disconnect()
})

test('stop, run, stop and disconnect at once, at any time', async () => {
  const kafka = await memory()
  await send(kafka, 't', [{ value: 'a' }])
  for (let i = 0; i < 20; i++) {
    const consumer = kafka.consumer({ groupId: `g${i}` })
    await consumer.connect()
    await consumer.subscribe({ topic: 't', fromBeginning: true })
    const running = consumer.run({ eachMessage: async () => {} })
    if (i % 2 === 1) await delay(i / 4)
    await Promise.all([running, consumer.stop(), consumer.stop()])
    await consumer.disconnect()
  }
})
