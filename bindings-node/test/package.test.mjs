// The package against embedded brokers: node --test test/*.test.mjs
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { AssignerProtocol, CompressionTypes, Kafka, KafkaJSProtocolError, Partitioners } from 'ottla'
import { collect, directory, kafkaAt, kept, memory, onceInTen, send, until } from './helpers.mjs'

for (const place of ['memory:node-basic', `file://${directory}/basic`]) {
  test(`what is sent is read: ${place.split(':')[0]}`, async () => {
    const kafka = await kept(place)
    const before = Date.now()
    const [metadata] = await send(kafka, 't', [
      { key: 'k', value: 'ä', headers: { one: 'x', many: ['y', Buffer.from('z')] }, timestamp: '1700000000123' },
      { key: null, value: null },
      { value: Buffer.alloc(0) },
    ], { compression: CompressionTypes.LZ4 })
    assert.deepEqual([metadata.topicName, metadata.partition, metadata.errorCode, metadata.baseOffset], ['t', 0, 0, '0'])
    const { consumer, seen } = await collect(kafka, 't')
    await until(() => seen.length === 3)
    const [first, tombstone, empty] = seen.map(({ message }) => message)
    assert.equal(first.key.toString(), 'k')
    assert.equal(first.value.toString(), 'ä')
    assert.equal(first.timestamp, '1700000000123')
    assert.equal(first.offset, '0')
    assert.deepEqual(first.headers, { one: Buffer.from('x'), many: [Buffer.from('y'), Buffer.from('z')] })
    assert.deepEqual([tombstone.key, tombstone.value, tombstone.offset], [null, null, '1'])
    assert.ok(Number(tombstone.timestamp) >= before)
    assert.equal(empty.value.length, 0)
    assert.deepEqual(empty.headers, {})
    await consumer.disconnect()
  })
}

test('a directory keeps records and commits', async () => {
  const place = `file://${directory}/kept`
  await send(kafkaAt(place), 't', [{ value: 'a' }, { value: 'b' }])
  const first = await collect(kafkaAt(place), 't')
  await until(() => first.seen.length === 2)
  await first.consumer.disconnect()
  await send(kafkaAt(place), 't', [{ value: 'c' }])
  const second = await collect(kafkaAt(place), 't')
  await until(() => second.seen.length === 1)
  assert.equal(second.seen[0].value, 'c')
  await second.consumer.disconnect()
})

test('eachMessage keeps the order, also after stop and run', async () => {
  const kafka = await memory('?num.partitions=3')
  const messages = Array.from({ length: 3000 }, (_, i) => ({ key: `k${i % 7}`, value: String(i) }))
  await send(kafka, 't', messages)
  const { consumer, seen } = await collect(kafka, 't', { run: { partitionsConsumedConcurrently: 3 } })
  await until(() => seen.length === 3000)
  await consumer.stop()
  await send(kafka, 't', [{ key: 'k0', value: '3000' }])
  await consumer.run({ eachMessage: async ({ message }) => { seen.push({ message, value: message.value.toString() }) } })
  await until(() => seen.length === 3001)
  const last = new Map()
  for (const { message, value } of seen) {
    const key = message.key.toString()
    assert.ok((last.get(key) ?? -1) < Number(value), `order of ${key}`)
    last.set(key, Number(value))
  }
  await consumer.disconnect()
})

test('eachBatch resolves, commits and shows offsets', async () => {
  const kafka = await memory()
  await send(kafka, 't', Array.from({ length: 10 }, (_, i) => ({ value: String(i) })))
  const commits = []
  const consumer = kafka.consumer({ groupId: 'g' })
  consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => commits.push(payload.topics[0].partitions[0].offset))
  await consumer.connect()
  await consumer.subscribe({ topic: 't', fromBeginning: true })
  const seen = []
  await consumer.run({
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, uncommittedOffsets, isRunning, isStale, heartbeat }) => {
      assert.ok(isRunning() && !isStale())
      assert.equal(batch.lastOffset(), '9')
      assert.equal(batch.highWatermark, '10')
      for (const message of batch.messages.slice(0, 5)) {
        seen.push(message.value.toString())
        resolveOffset(message.offset)
      }
      assert.equal(uncommittedOffsets().topics[0].partitions[0].offset, String(seen.length))
      await heartbeat()
    },
  })
  await until(() => seen.length === 10)
  assert.deepEqual(seen, ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'], 'what was not resolved comes again')
  await until(() => commits.at(-1) === '10', 'the commit')
  await consumer.disconnect()
})

test('seek, pause and resume', async () => {
  const kafka = await memory()
  await send(kafka, 't', Array.from({ length: 5 }, (_, i) => ({ value: String(i) })))
  const { consumer, seen } = await collect(kafka, 't')
  await until(() => seen.length === 5)
  consumer.seek({ topic: 't', partition: 0, offset: '3' })
  await until(() => seen.length === 7)
  assert.deepEqual(seen.slice(5).map(({ value }) => value), ['3', '4'])
  consumer.pause([{ topic: 't' }])
  assert.deepEqual(consumer.paused(), [{ topic: 't', partitions: [0] }])
  await send(kafka, 't', [{ value: '5' }])
  await delay(100)
  assert.equal(seen.length, 7)
  consumer.resume([{ topic: 't' }])
  await until(() => seen.length === 8)
  assert.throws(() => consumer.seek({ topic: 't', partition: 0, offset: 'x' }), /Invalid offset/)
  await consumer.disconnect()
})

test('a failing handler gets its message again', async () => {
  const kafka = await memory()
  await send(kafka, 't', [{ value: 'a' }, { value: 'b' }])
  const seen = []
  let failures = 0
  const { consumer } = await collect(kafka, 't', {
    options: { retry: { initialRetryTime: 10 } },
    run: {
      eachMessage: async ({ message }) => {
        const value = message.value.toString()
        if (value === 'b' && failures++ < 2) throw new Error('not yet')
        seen.push(value)
      },
    },
  })
  await until(() => seen.length === 2)
  assert.deepEqual(seen, ['a', 'b'])
  await consumer.disconnect()
})

test('two members share the partitions', async () => {
  const kafka = await memory('?num.partitions=4')
  await send(kafka, 't', [{ value: 'x' }])
  const assignments = []
  const members = []
  for (let i = 0; i < 2; i++) {
    const consumer = kafka.consumer({ groupId: 'g' })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { assignments[i] = payload.memberAssignment.t ?? [] })
    await consumer.connect()
    await consumer.subscribe({ topic: 't' })
    await consumer.run({ eachMessage: async () => {} })
    members.push(consumer)
  }
  await until(() => assignments[0]?.length === 2 && assignments[1]?.length === 2, 'two partitions each')
  assert.deepEqual([...assignments[0], ...assignments[1]].sort(), [0, 1, 2, 3])
  const group = await members[0].describeGroup()
  assert.deepEqual([group.state, group.members.length], ['Stable', 2])
  assert.ok(AssignerProtocol.MemberAssignment.decode(group.members[0].memberAssignment).assignment.t.length === 2)
  await Promise.all(members.map((member) => member.disconnect()))
})

test('topics by regular expression', async () => {
  const kafka = await memory()
  for (const topic of ['a-1', 'a-2', 'b-1']) await send(kafka, topic, [{ value: topic }])
  const { consumer, seen } = await collect(kafka, /^A-\d$/i)
  await until(() => seen.length === 2)
  assert.deepEqual(seen.map(({ value }) => value).sort(), ['a-1', 'a-2'])
  await consumer.disconnect()
})

test('partitioners', async () => {
  const kafka = await memory('?num.partitions=5')
  const keys = ['a', 'bc', 'def', 'ghij', 'ärger']
  await send(kafka, 't', keys.map((key) => ({ key, value: key })))
  const producer = kafka.producer({ createPartitioner: () => (args) => Partitioners.DefaultPartitioner()(args) })
  await producer.connect()
  await producer.send({ topic: 't', messages: keys.map((key) => ({ key, value: key })) })
  await producer.send({ topic: 't', messages: [{ key: 'z', value: 'z', partition: 2 }] })
  await producer.disconnect()
  const { consumer, seen } = await collect(kafka, 't')
  await until(() => seen.length === 11)
  for (const key of keys) {
    const partitions = seen.filter(({ value }) => value === key).map(({ partition }) => partition)
    assert.equal(partitions[0], partitions[1], `the same partition for ${key}`)
  }
  assert.equal(seen.find(({ value }) => value === 'z').partition, 2)
  await consumer.disconnect()
})

test('the administrator', async () => {
  const kafka = await memory()
  const admin = kafka.admin()
  await admin.connect()
  assert.equal(await admin.createTopics({ topics: [{ topic: 't', numPartitions: 2 }] }), true)
  assert.equal(await admin.createTopics({ topics: [{ topic: 't' }] }), false)
  await admin.createPartitions({ topicPartitions: [{ topic: 't', count: 3 }] })
  assert.deepEqual(await admin.listTopics(), ['t'])
  const { topics: [metadata] } = await admin.fetchTopicMetadata({ topics: ['t'] })
  assert.equal(metadata.partitions.length, 3)
  await assert.rejects(admin.fetchTopicMetadata({ topics: ['none'] }), { name: 'KafkaJSProtocolError', type: 'UNKNOWN_TOPIC_OR_PARTITION' })
  await send(kafka, 't', [{ value: 'a', partition: 1, timestamp: '1000' }, { value: 'b', partition: 1, timestamp: '2000' }])
  assert.deepEqual((await admin.fetchTopicOffsets('t'))[1], { partition: 1, offset: '2', high: '2', low: '0' })
  assert.deepEqual((await admin.fetchTopicOffsetsByTimestamp('t', 1500))[1], { partition: 1, offset: '1' })
  await admin.setOffsets({ groupId: 'g', topic: 't', partitions: [{ partition: 1, offset: '1' }] })
  const [{ partitions }] = await admin.fetchOffsets({ groupId: 'g', topics: ['t'] })
  assert.deepEqual(partitions.map(({ offset }) => offset), ['-1', '1', '-1'])
  await admin.resetOffsets({ groupId: 'g', topic: 't', earliest: true })
  assert.equal((await admin.fetchOffsets({ groupId: 'g' }))[0].partitions[1].offset, '0')
  assert.deepEqual((await admin.listGroups()).groups.map(({ groupId }) => groupId), ['g'])
  assert.equal((await admin.describeGroups(['g'])).groups[0].state, 'Empty')
  await admin.deleteGroups(['g'])
  const cluster = await admin.describeCluster()
  assert.equal(cluster.brokers.length, 1)
  await admin.deleteTopics({ topics: ['t'] })
  assert.deepEqual(await admin.listTopics(), [])
  await assert.rejects(admin.createAcls({}), { name: 'KafkaJSNotImplemented' })
  await admin.disconnect()
})

test('errors have KafkaJS\'s classes', async () => {
  assert.throws(() => new Kafka({}), { name: 'KafkaJSNonRetriableError' })
  assert.throws(() => kafkaAt('memory:').consumer({}), { name: 'KafkaJSNonRetriableError' })
  await assert.rejects(kafkaAt('localhost:9092').producer().connect(), /./)
  const producer = (await memory()).producer({ allowAutoTopicCreation: false, retry: { initialRetryTime: 10, retries: 2 } })
  await assert.rejects(producer.send({ topic: 't', messages: [] }), /disconnected/)
  await producer.connect()
  await assert.rejects(producer.send({ topic: 't', messages: [{ value: 'x' }] }), ({ name, retriable, retryCount, cause }) =>
    name === 'KafkaJSNumberOfRetriesExceeded' && !retriable && retryCount === 2 &&
    cause instanceof KafkaJSProtocolError && cause.type === 'UNKNOWN_TOPIC_OR_PARTITION' && cause.code === 3)
  await assert.rejects(producer.transaction(), { name: 'KafkaJSNotImplemented' })
  await producer.disconnect()
  const large = (await memory()).producer()
  await large.connect()
  await assert.rejects(large.send({ topic: 't', messages: [{ value: 7 }] }), { name: 'KafkaJSNonRetriableError' })
  await assert.rejects(large.send({ topic: 't', messages: [{ value: Buffer.alloc(3_000_000) }] }), { type: 'MESSAGE_TOO_LARGE' })
  await large.disconnect()
})

test('a producer looks for a topic as often as `retry` says', async () => {
  const kafka = await memory()
  const admin = kafka.admin()
  await admin.connect()
  const retry = { initialRetryTime: 20, maxRetryTime: 100, retries: 5 }
  const patient = { ...retry, retries: 600 }
  for (const createPartitioner of [undefined, () => () => 0]) {
    const topic = createPartitioner ? 'late-with-a-partitioner' : 'late'
    const [waiting, producer] = [patient, retry].map((retry) => kafka.producer({ allowAutoTopicCreation: false, retry, createPartitioner }))
    await waiting.connect()
    await producer.connect()
    const sends = ['0', '1', '2'].map((value) => waiting.send({ topic, messages: [{ key: 'k', value }] }))
    await new Promise((resolve) => { setTimeout(resolve, 30) })
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] })
    assert.deepEqual((await Promise.all(sends)).map(([{ baseOffset }]) => baseOffset), ['0', '1', '2'], 'it came in time')
    assert.equal((await producer.send({ topic, messages: [{ key: 'k', value: '3' }] }))[0].baseOffset, '3')
    await admin.deleteTopics({ topics: [topic] })
    for (let i = 0; i < 2; i++) {
      await assert.rejects(producer.send({ topic, messages: [{ key: 'k', value: '4' }] }), (error) =>
        error.name === 'KafkaJSNumberOfRetriesExceeded' && error.cause.type === 'UNKNOWN_TOPIC_OR_PARTITION')
    }
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] })
    await producer.send({ topic, messages: [{ key: 'k', value: '5' }] })
    await producer.disconnect()
    await waiting.disconnect()
  }
  await admin.disconnect()
})

test('the event loop goes on while clients work and wait', async () => {
  const kafka = kafkaAt(`file://${directory}/loop`)
  const { consumer } = await collect(kafka, 'nothing-yet')
  const producer = kafka.producer()
  await producer.connect()
  const value = Buffer.alloc(100)
  await onceInTen(async () => {
    let longest = 0
    let last = performance.now()
    const ticker = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 1)
    for (let i = 0; i < 20; i++) await producer.send({ topic: 't', messages: Array.from({ length: 1000 }, () => ({ value })) })
    await delay(200)
    clearInterval(ticker)
    return longest >= 250 && `${longest} ms without a tick`
  })
  await producer.disconnect()
  await consumer.disconnect()
})

test('CommonJS has the same exports', async () => {
  const required = createRequire(import.meta.url)('ottla')
  const imported = await import('ottla')
  assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).filter((name) => name !== 'default').sort())
  assert.equal(required.Kafka, Kafka)
})

test('a process ends by itself after disconnect, and with an idle producer', () => {
  const program = `
    import { Kafka } from 'ottla'
    const kafka = new Kafka({ brokers: ['memory:'], logLevel: 0 })
    const idle = kafka.producer()
    await idle.connect()
    await idle.send({ topic: 't', messages: [{ value: 'x' }] })
    const consumer = kafka.consumer({ groupId: 'g' })
    await consumer.connect()
    await consumer.subscribe({ topic: 't', fromBeginning: true })
    await new Promise((resolve) => { consumer.run({ eachMessage: async () => resolve() }) })
    await consumer.disconnect()
    console.log('done')`
  const cwd = dirname(fileURLToPath(import.meta.url))
  const result = spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd, timeout: 100_000, encoding: 'utf8' })
  assert.equal(result.stderr, '')
  assert.deepEqual([result.status, result.stdout], [0, 'done\n'])
})
