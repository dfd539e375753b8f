// @confluentinc/kafka-javascript: librdkafka, built from the sources that the package brings.

import confluent from '@confluentinc/kafka-javascript'
import { BOOTSTRAP, FIRST, allOf, allRead, asKafkaJs, check, equal, failure, find, inPlace, numbers, reading, rebalanced, run, sameAsKafkaJs, settle, sleep, text, throughRestart, topic } from './harness.mjs'
import { cases, send, toEach } from './kafkajs_shape.mjs'

const { KafkaJS: { Kafka, ErrorCodes, logLevel }, RdKafka } = confluent
const { CODES: { ERRORS } } = RdKafka
const base = { 'bootstrap.servers': BOOTSTRAP }
const kafka = new Kafka({ ...base, kafkaJS: { logLevel: logLevel.NOTHING } })
const admin = kafka.admin()
await admin.connect()
const TIMEOUT = { timeout: 20_000 }

const code = async action => find(await failure(action), 'code')

async function make(name, partitions = 1, config = {}, replicas = 1) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const made = await admin.createTopics({ ...TIMEOUT, topics: [{ topic: name, numPartitions: partitions, replicationFactor: replicas, configEntries }] })
  check(made, 'the topic is there already')
  return name
}

async function producer(use, config = {}) {
  const p = kafka.producer({ 'linger.ms': 5, ...config })
  await p.connect()
  use(() => p.disconnect())
  return p
}

const QUICK = { 'session.timeout.ms': 6000, 'heartbeat.interval.ms': 300 }
let groups = 0

/** A consumer that runs, what it has, and what it has read. */
async function consumer(use, name, { group = `none-${groups++}`, ...config } = {}) {
  const self = reading(use, { joins: 0, revoked: [] }, () => c.disconnect())
  const c = kafka.consumer({
    'group.id': topic(group), 'auto.offset.reset': 'earliest', 'enable.auto.commit': false, 'fetch.wait.max.ms': 100, ...config,
    rebalance_cb: (event, parts) => {
      if (event.code === ErrorCodes.ERR__ASSIGN_PARTITIONS) self.joins++
      else if (parts.length) self.revoked.push(parts.length)
    },
  })
  self.c = c
  Object.defineProperty(self, 'has', { get: () => c.assignment().map(p => p.partition).sort() })
  await c.connect()
  await c.subscribe({ topic: name })
  await c.run({ eachMessage: async ({ partition, message }) => void self.got.push({ partition, ...message }) })
  return self
}

const readAll = allOf(consumer)

const codec = kind => async use => {
  const name = await make(topic(`codec-${kind}`))
  const p = await producer(use, { 'compression.codec': kind })
  await p.send({ topic: name, messages: asKafkaJs() })
  sameAsKafkaJs(await readAll(use, name, 12))
}

const acks = kind => async use => {
  const name = await make(topic(`acks-${kind}`))
  const p = await producer(use, { acks: kind === 'all' ? -1 : Number(kind) })
  const reports = []
  for (let i = 0; i < 5; i++) reports.push(...(await send(p, name, numbers(10, 10 * i))))
  if (kind !== '0') equal(reports.map(r => r.baseOffset), ['0', '10', '20', '30', '40'], 'offsets of the reports')
  equal((await readAll(use, name, 50)).map(text), numbers(50), 'records')
}

async function partitioner(use) {
  const name = await make(topic('partitioner'), 3)
  const p = await producer(use)
  for (const turn of ['0', '1']) await p.send({ topic: name, messages: numbers(60).map(key => ({ key, value: turn })) })
  inPlace(await readAll(use, name, 120))
}

async function seek(use) {
  const name = await make(topic('seek'))
  await send(await producer(use), name, numbers(10))
  const c = await consumer(use, name)
  await c.read(10)
  for (const offset of [5, 2]) {
    await c.c.seek({ topic: name, partition: 0, offset: `${offset}` })
    equal((await c.read(10 - offset)).map(m => m.offset), numbers(10 - offset, offset), 'offsets')
  }
}

async function edges(name) {
  const [{ low, high }] = await admin.fetchTopicOffsets(name, TIMEOUT)
  return [low, high]
}

async function watermarks(use) {
  const name = await make(topic('watermarks'))
  equal(await edges(name), ['0', '0'], 'empty')
  await send(await producer(use), name, numbers(10))
  equal(await edges(name), ['0', '10'], 'filled')
}

async function timed(use, name) {
  const p = await producer(use)
  await p.send({ topic: name, messages: numbers(10).map((value, i) => ({ value, timestamp: `${FIRST + 1000 * i}` })) })
}

const forTime = async (name, time) => (await admin.fetchTopicOffsetsByTimestamp(name, time, TIMEOUT))[0].offset

async function offsetsForTimes(use) {
  const name = await make(topic('offsets-for-times'))
  await timed(use, name)
  const asked = []
  for (const time of [FIRST, FIRST + 4500, FIRST + 9000]) asked.push(await forTime(name, time))
  equal(asked, ['0', '5', '9'], 'offsets')
  // It says the end where the broker says that there is none.
  equal(await forTime(name, FIRST + 9001), '10', 'after the last')
}

const rebalance = (group, config, then = () => {}) => async use => {
  const name = await make(topic(group), 4)
  then(await rebalanced(() => consumer(use, name, { group, ...config }), toEach(await producer(use), name)))
}

async function groupStatic(use) {
  const name = await make(topic('group-static'), 4)
  const member = id => consumer(use, name, { group: 'group-static', 'group.instance.id': id, ...QUICK })
  const a = await member('a')
  await settle('one has 4', () => a.has.length === 4)
  let b = await member('b')
  await settle('both have 2', () => a.has.length === 2 && b.has.length === 2)
  const had = b.has
  const joins = a.joins
  await b.close()
  b = await member('b')
  await settle('it is back', () => b.has.length === 2)
  await sleep(500)
  equal(b.has, had, 'partitions of the one that returned')
  equal(a.joins, joins, 'rebalances of the other one')
}

async function committed(group, name) {
  const [{ partitions: [{ offset, metadata }] }] = await admin.fetchOffsets({ ...TIMEOUT, groupId: topic(group), topics: [{ topic: name, partitions: [0] }] })
  return { offset: `${offset}`, metadata }
}

async function groupCommit(use) {
  const name = await make(topic('group-commit'))
  await send(await producer(use), name, numbers(10))
  const a = await consumer(use, name, { group: 'group-commit', ...QUICK })
  await a.read(10)
  await a.c.commitOffsets([{ topic: name, partition: 0, offset: '5', metadata: 'half' }])
  await a.close()
  const b = await consumer(use, name, { group: 'group-commit', ...QUICK })
  equal((await b.read(5)).map(m => m.offset), numbers(5, 5), 'offsets of the new member')
  equal(await committed('group-commit', name), { offset: '5', metadata: 'half' }, 'committed')
}

const transactional = (use, name) => producer(use, { 'transactional.id': topic(name), 'transaction.timeout.ms': 20000, 'socket.timeout.ms': 10000 })

async function txnOffsets(use) {
  const source = await make(topic('txn-offsets', '.in'))
  const sink = await make(topic('txn-offsets'))
  await send(await producer(use), source, numbers(10))
  const c = await consumer(use, source, { group: 'txn-offsets', ...QUICK })
  const p = await transactional(use, 'txn-offsets')
  for (const [prefix, end, offset] of [['aborted ', 'abort', '-1001'], ['', 'commit', '10']]) {
    const got = await c.read(10)
    const t = await p.transaction()
    await send(t, sink, got.map(m => prefix + text(m)))
    await t.sendOffsets({ consumer: c.c, topics: [{ topic: source, partitions: [{ partition: 0, offset: '10' }] }] })
    await t[end]()
    await settle(`the committed offset is ${offset}`, async () => {
      const at = await committed('txn-offsets', source).catch(() => ({}))
      return at.offset === offset || (at.offset === '-1' && end === 'abort')
    })
    await c.c.seek({ topic: source, partition: 0, offset: '0' })
  }
  equal((await readAll(use, sink, 10)).map(text), numbers(10), 'committed')
}

async function txnFencing(use) {
  const name = await make(topic('txn-fencing'))
  const old = await transactional(use, 'txn-fencing')
  const open = await old.transaction()
  await send(open, name, numbers(5))
  const p = await transactional(use, 'txn-fencing')
  const got = await code(async () => (await send(open, name, numbers(5, 5)), await open.commit()))
  check([ERRORS.ERR__FENCED, 47, 90].includes(got), `the error is ${got}`)
  const t = await p.transaction()
  await send(t, name, numbers(5, 10))
  await t.commit()
  equal((await readAll(use, name, 5)).map(text), numbers(5, 10), 'committed')
}

const there = async name => (await admin.listTopics(TIMEOUT)).includes(name)
const describe = async name => (await admin.fetchTopicMetadata({ ...TIMEOUT, topics: [name] }))[0].partitions

async function adminTopics() {
  const name = await make(topic('admin-topics'), 3, { 'cleanup.policy': 'compact' })
  check(await there(name), 'not listed')
  const partitions = await describe(name)
  equal(partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
  equal(partitions.map(p => p.isr), partitions.map(p => [p.leader]), 'in sync')
  await admin.deleteTopics({ ...TIMEOUT, topics: [name] })
  await settle('it is not listed', async () => !(await there(name)))
  equal(await code(() => describe(name)), 3, 'describing')
}

/** Of the older of its two interfaces. */
const grow = (name, count) =>
  new Promise((yes, no) => {
    const client = RdKafka.AdminClient.create(base)
    client.createPartitions(name, count, 20_000, error => {
      client.disconnect()
      error ? no(error) : yes()
    })
  })

async function adminPartitions(use) {
  const name = await make(topic('admin-partitions'))
  await grow(name, 3)
  await settle('it has 3 partitions', async () => (await describe(name)).length === 3)
  const p = await producer(use)
  await p.send({ topic: name, messages: [0, 1, 2].map(partition => ({ partition, value: `${partition}` })) })
  equal((await readAll(use, name, 3)).map(text).sort(), numbers(3), 'records')
}

const listed = async group => (await admin.listGroups(TIMEOUT)).groups.some(g => g.groupId === group)
const groupOf = async group => (await admin.describeGroups([group], TIMEOUT)).groups[0]
const STABLE = 3, EMPTY = 5

async function adminGroups(use) {
  const name = await make(topic('admin-groups'))
  const group = topic('admin-groups')
  const m = await consumer(use, name, { group: 'admin-groups', 'client.id': 'the-member', ...QUICK })
  await settle('assigned', () => m.has.length === 1)
  check(await listed(group), 'not listed')
  const { state, members } = await groupOf(group)
  equal([state, members.map(m => [m.clientId, m.assignment.topicPartitions.map(t => [t.topic, t.partition])])], [STABLE, [['the-member', [[name, 0]]]]], 'group')
  await m.close()
  const without = await groupOf(group)
  equal([without.state, without.members], [EMPTY, []], 'without members')
}

async function adminDeleteGroup(use) {
  const name = await make(topic('admin-delete-group'))
  const group = topic('admin-delete-group')
  const m = await consumer(use, name, { group: 'admin-delete-group', ...QUICK })
  await settle('assigned', () => m.has.length === 1)
  await m.c.commitOffsets([{ topic: name, partition: 0, offset: '0' }])
  const error = await failure(() => admin.deleteGroups([group], TIMEOUT))
  equal(error.groups[0].error.code, 68, 'with a member')
  await m.close()
  await admin.deleteGroups([group], TIMEOUT)
  check(!(await listed(group)), 'still listed')
}

async function adminDeleteRecords(use) {
  const name = await make(topic('admin-delete-records'))
  await send(await producer(use), name, numbers(10))
  const [{ lowWatermark }] = await admin.deleteTopicRecords({ ...TIMEOUT, topic: name, partitions: [{ partition: 0, offset: '5' }] })
  equal(Number(lowWatermark), 5, 'low watermark')
  equal(await edges(name), ['5', '10'], 'beginning and end')
  equal((await readAll(use, name, 5))[0].offset, '5', 'first record')
}

async function adminListOffsets(use) {
  const name = await make(topic('admin-list-offsets'))
  await timed(use, name)
  equal([...(await edges(name)), await forTime(name, FIRST + 4500)], ['0', '10', '5'], 'offsets')
}

async function errorUnknownTopic(use) {
  const name = topic('error-unknown-topic')
  const p = await producer(use, { 'topic.metadata.propagation.max.ms': 500, 'message.timeout.ms': 5000 })
  check([3, ERRORS.ERR__UNKNOWN_TOPIC].includes(await code(() => send(p, name, ['x']))), 'producing')
  equal(await code(() => describe(name)), 3, 'describing')
  check(!(await there(name)), 'the topic was made')
}

async function errorTooLarge(use) {
  const name = await make(topic('error-too-large'), 1, { 'max.message.bytes': '10000' })
  const p = await producer(use)
  equal(await code(() => send(p, name, ['x'.repeat(20000)])), 10, '20 kB')
  await send(p, name, ['small'])
  equal((await readAll(use, name, 1)).map(text), ['small'], 'records')
}

async function errorInvalidConfig() {
  const name = topic('error-invalid-config')
  equal(await code(() => make(name, 1, { 'retention.ms': 'soon' })), 40, 'a value')
  equal(await code(() => make(name, 1, { 'no.such.thing': '1' })), 40, 'a name')
  check(!(await there(name)), 'the topic was made')
}

async function errorAdmin() {
  const name = await make(topic('error-admin'))
  // It answers that the topic was not made where the broker says 36.
  equal(await admin.createTopics({ ...TIMEOUT, topics: [{ topic: name }] }), false, 'again')
  equal(await code(() => make(`${name}/`)), 17, 'name')
  equal(await code(() => grow(name, 1)), 37, 'no more partitions')
  equal(await code(() => make(`${name}-3`, 1, {}, 3)), 38, 'replicas')
  equal(await code(() => admin.deleteTopics({ ...TIMEOUT, topics: [`${name}-no`] })), 3, 'deletion')
}

/** A consumer of the older of its two interfaces, which hands its errors out. */
async function older(use, topicConfig) {
  const c = new RdKafka.KafkaConsumer({ ...base, 'group.id': topic('older'), 'enable.auto.commit': false }, topicConfig)
  await new Promise((yes, no) => c.connect({}, error => (error ? no(error) : yes())))
  use(() => new Promise(yes => c.disconnect(yes)))
  const errors = []
  c.on('event.error', error => errors.push(error.code))
  return { c, errors }
}

async function errorOutOfRange(use) {
  const name = await make(topic('error-out-of-range'))
  await send(await producer(use), name, numbers(3))
  const { c, errors } = await older(use, { 'auto.offset.reset': 'error' })
  c.assign([{ topic: name, partition: 0, offset: 100 }])
  const ask = () => new Promise(yes => c.consume(1, error => yes(error && errors.push(error.code))))
  await settle('an error', () => errors.length, ask)
  check([1, ERRORS.ERR__AUTO_OFFSET_RESET].includes(errors[0]), `the error is ${errors[0]}`)
}

async function errorDeletedTopic(use) {
  const name = await make(topic('error-deleted-topic'))
  await send(await producer(use), name, numbers(3))
  const c = await consumer(use, name, { 'topic.metadata.refresh.interval.ms': 500 })
  await c.read(3)
  await admin.deleteTopics({ ...TIMEOUT, topics: [name] })
  await c.nothing(3000)
}

async function brokerRestart(use) {
  const name = await make(topic('restart'))
  const p = await producer(use, { 'enable.idempotence': true, 'reconnect.backoff.max.ms': 1000 })
  const count = await throughRestart(value => send(p, name, [value]))
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

async function brokerKill(use) {
  const name = await make(topic('kill'))
  const patient = { 'reconnect.backoff.max.ms': 1000 }
  const member = await consumer(use, name, { group: 'kill', ...QUICK, ...patient, 'enable.auto.commit': true, 'auto.commit.interval.ms': 100 })
  const p = await producer(use, { acks: -1, 'enable.idempotence': true, ...patient })
  const count = await throughRestart(value => send(p, name, [value]))
  await allRead(member, count)
  // What it commits by itself comes in between.
  await settle('the commit', async () => {
    await member.c.commitOffsets([{ topic: name, partition: 0, offset: `${count}` }])
    return (await committed('kill', name)).offset === `${count}`
  })
  await member.close()
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

await run({
  'codec-none': codec('none'), 'codec-gzip': codec('gzip'), 'codec-snappy': codec('snappy'), 'codec-lz4': codec('lz4'), 'codec-zstd': codec('zstd'),
  'acks-0': acks('0'), 'acks-1': acks('1'), 'acks-all': acks('all'),
  partitioner, seek, watermarks, 'offsets-for-times': offsetsForTimes,
  'group-rebalance': rebalance('group-rebalance', { 'partition.assignment.strategy': 'range', ...QUICK }),
  'group-cooperative': rebalance('group-cooperative', { 'partition.assignment.strategy': 'cooperative-sticky', ...QUICK }, a => equal(a.revoked[0], 2, 'partitions revoked when the second one joined')),
  'group-static': groupStatic, 'group-commit': groupCommit, 'group-848': rebalance('group-848', { 'group.protocol': 'consumer' }),
  ...cases({ make, producer, consumer, idempotent: { 'enable.idempotence': true }, transactional, uncommitted: { 'isolation.level': 'read_uncommitted' } }),
  'txn-offsets': txnOffsets, 'txn-fencing': txnFencing,
  'admin-topics': adminTopics, 'admin-partitions': adminPartitions, 'admin-groups': adminGroups,
  'admin-delete-group': adminDeleteGroup, 'admin-delete-records': adminDeleteRecords, 'admin-list-offsets': adminListOffsets,
  'error-unknown-topic': errorUnknownTopic, 'error-too-large': errorTooLarge, 'error-invalid-config': errorInvalidConfig,
  'error-admin': errorAdmin, 'error-out-of-range': errorOutOfRange, 'error-deleted-topic': errorDeletedTopic,
  restart: brokerRestart, kill: brokerKill,
})
