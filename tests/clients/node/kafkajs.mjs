// kafkajs. It has snappy, lz4 and zstd as codecs that its user plugs in.

import kafkajs from 'kafkajs'
import lz4 from 'lz4-napi'
import SnappyCodec from 'kafkajs-snappy'
import zlib from 'node:zlib'
import { BOOTSTRAP, FIRST, PORT, allOf, allRead, asKafkaJs, check, equal, failure, find, inPlace, numbers, reading, rebalanced, run, sameAsKafkaJs, settle, text, throughRestart, topic } from './harness.mjs'
import { cases, send, toEach } from './kafkajs_shape.mjs'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer),
})
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const kafka = new Kafka({ brokers: [BOOTSTRAP], clientId: 'kafkajs', logLevel: logLevel.NOTHING, retry: { initialRetryTime: 100, retries: 8 } })
const impatient = new Kafka({ brokers: [BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 2 } })
const admin = kafka.admin()
await admin.connect()

const code = async action => find(await failure(action), 'code')

async function make(name, partitions = 1, config = {}, replicas = 1) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const made = await admin.createTopics({ topics: [{ topic: name, numPartitions: partitions, replicationFactor: replicas, configEntries }] })
  check(made, 'the topic is there already')
  return name
}

async function producer(use, config = {}, from = kafka) {
  const p = from.producer({ allowAutoTopicCreation: false, ...config })
  await p.connect()
  use(() => p.disconnect())
  return p
}

let groups = 0

/** A consumer that runs, and what it has read. */
async function consumer(use, name, { group = `none-${groups++}`, run = {}, from = kafka, ...config } = {}) {
  const c = from.consumer({ groupId: topic(group), sessionTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 100, allowAutoTopicCreation: false, ...config })
  const self = reading(use, { c, has: [], joins: 0 }, () => c.disconnect())
  c.on(c.events.GROUP_JOIN, event => {
    self.has = [...(event.payload.memberAssignment[name] ?? [])].sort()
    self.joins++
  })
  c.on(c.events.CRASH, event => (self.error = event.payload.error))
  await c.connect()
  await c.subscribe({ topic: name, fromBeginning: true })
  await c.run({ autoCommit: false, ...run, eachMessage: async ({ partition, message }) => self.got.push({ partition, ...message }) })
  return self
}

const readAll = allOf(consumer)

const codec = kind => async use => {
  const name = await make(topic(`codec-${kind}`))
  const p = await producer(use)
  await p.send({ topic: name, compression: CODECS[kind], messages: asKafkaJs() })
  sameAsKafkaJs(await readAll(use, name, 12))
}

const acks = kind => async use => {
  const name = await make(topic(`acks-${kind}`))
  const p = await producer(use)
  const reports = []
  for (let i = 0; i < 5; i++) reports.push(...(await send(p, name, numbers(10, 10 * i), { acks: kind === 'all' ? -1 : Number(kind) }) ?? []))
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
    c.c.seek({ topic: name, partition: 0, offset: `${offset}` })
    equal((await c.read(10 - offset)).map(m => m.offset), numbers(10 - offset, offset), 'offsets')
  }
}

async function edges(name) {
  const [{ low, high }] = await admin.fetchTopicOffsets(name)
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

const forTime = async (name, time) => (await admin.fetchTopicOffsetsByTimestamp(name, time))[0].offset

async function offsetsForTimes(use) {
  const name = await make(topic('offsets-for-times'))
  await timed(use, name)
  const asked = []
  for (const time of [FIRST, FIRST + 4500, FIRST + 9000]) asked.push(await forTime(name, time))
  equal(asked, ['0', '5', '9'], 'offsets')
  // It says the end where the broker says that there is none.
  equal(await forTime(name, FIRST + 9001), '10', 'after the last')
}

async function groupRebalance(use) {
  const name = await make(topic('group-rebalance'), 4)
  await rebalanced(() => consumer(use, name, { group: 'group-rebalance' }), toEach(await producer(use), name))
}

async function groupCommit(use) {
  const name = await make(topic('group-commit'))
  await send(await producer(use), name, numbers(10))
  const a = await consumer(use, name, { group: 'group-commit' })
  await a.read(10)
  await a.c.commitOffsets([{ topic: name, partition: 0, offset: '5', metadata: 'half' }])
  await a.close()
  const b = await consumer(use, name, { group: 'group-commit' })
  equal((await b.read(5)).map(m => m.offset), numbers(5, 5), 'offsets of the new member')
  const [{ partitions: [{ offset, metadata }] }] = await admin.fetchOffsets({ groupId: topic('group-commit'), topics: [name] })
  equal([offset, metadata], ['5', 'half'], 'committed')
}

const transactional = (use, name, from) => producer(use, { transactionalId: topic(name), maxInFlightRequests: 1, idempotent: true, transactionTimeout: 20000 }, from)

async function txnOffsets(use) {
  const source = await make(topic('txn-offsets', '.in'))
  const sink = await make(topic('txn-offsets'))
  await send(await producer(use), source, numbers(10))
  const c = await consumer(use, source, { group: 'txn-offsets' })
  const p = await transactional(use, 'txn-offsets')
  for (const [prefix, end, committed] of [['aborted ', 'abort', '-1'], ['', 'commit', '10']]) {
    const got = await c.read(10)
    const t = await p.transaction()
    await send(t, sink, got.map(m => prefix + text(m)))
    await t.sendOffsets({ consumerGroupId: topic('txn-offsets'), topics: [{ topic: source, partitions: [{ partition: 0, offset: '10' }] }] })
    await t[end]()
    await settle('the committed offset', async () => {
      const [{ partitions: [{ offset }] }] = await admin.fetchOffsets({ groupId: topic('txn-offsets'), topics: [source] })
      return offset === committed
    })
    c.c.seek({ topic: source, partition: 0, offset: '0' })
  }
  equal((await readAll(use, sink, 10)).map(text), numbers(10), 'committed')
}

async function txnFencing(use) {
  const name = await make(topic('txn-fencing'))
  const old = await transactional(use, 'txn-fencing', impatient)
  const open = await old.transaction()
  await send(open, name, numbers(5))
  const p = await transactional(use, 'txn-fencing')
  const t = await p.transaction()
  const got = await code(async () => (await send(open, name, numbers(5, 5)), await open.commit()))
  check([47, 90].includes(got), `the error is ${got}`)
  await send(t, name, numbers(5, 10))
  await t.commit()
  equal((await readAll(use, name, 5)).map(text), numbers(5, 10), 'committed')
}

const there = async name => (await admin.listTopics()).includes(name)
const describe = async name => (await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions

async function adminTopics() {
  const name = await make(topic('admin-topics'), 3, { 'cleanup.policy': 'compact' })
  check(await there(name), 'not listed')
  const partitions = await describe(name)
  equal(partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
  equal(partitions.map(p => p.isr), partitions.map(p => [p.leader]), 'in sync')
  await admin.deleteTopics({ topics: [name] })
  check(!(await there(name)), 'still listed')
  equal(await code(() => describe(name)), 3, 'describing')
}

async function adminPartitions(use) {
  const name = await make(topic('admin-partitions'))
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 3 }] })
  // It sends everything again when one partition is not there yet.
  await settle('it has 3 partitions', async () => (await admin.fetchTopicOffsets(name).catch(() => [])).length === 3)
  const p = await producer(use)
  await p.send({ topic: name, messages: [0, 1, 2].map(partition => ({ partition, value: `${partition}` })) })
  equal((await readAll(use, name, 3)).map(text).sort(), numbers(3), 'records')
}

async function configOf(type, name) {
  const { resources: [{ configEntries }] } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type, name }] })
  return Object.fromEntries(configEntries.map(e => [e.configName, e.configValue]))
}

async function adminConfigs() {
  const name = await make(topic('admin-configs'), 1, { 'retention.ms': '1000000' })
  equal((await configOf(ConfigResourceTypes.TOPIC, name))['retention.ms'], '1000000', 'before')
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name, configEntries: [{ name: 'retention.ms', value: '2000000' }] }] })
  const after = await configOf(ConfigResourceTypes.TOPIC, name)
  equal([after['retention.ms'], after['cleanup.policy']], ['2000000', 'delete'], 'after')
  const { controller } = await admin.describeCluster()
  check((await configOf(ConfigResourceTypes.BROKER, `${controller}`))['message.max.bytes'], "the broker's")
}

const listed = async group => (await admin.listGroups()).groups.some(g => g.groupId === group)
const groupOf = async group => (await admin.describeGroups([group])).groups[0]

async function adminGroups(use) {
  const name = await make(topic('admin-groups'))
  const group = topic('admin-groups')
  const m = await consumer(use, name, { group: 'admin-groups' })
  await settle('assigned', () => m.has.length === 1)
  check(await listed(group), 'not listed')
  const { state, members } = await groupOf(group)
  equal([state, members.map(m => m.clientId)], ['Stable', ['kafkajs']], 'group')
  check(members[0].memberAssignment.includes(name), 'assignment')
  await m.close()
  const without = await groupOf(group)
  equal([without.state, without.members], ['Empty', []], 'without members')
}

async function adminDeleteGroup(use) {
  const name = await make(topic('admin-delete-group'))
  const group = topic('admin-delete-group')
  const m = await consumer(use, name, { group: 'admin-delete-group' })
  await settle('assigned', () => m.has.length === 1)
  await m.c.commitOffsets([{ topic: name, partition: 0, offset: '0' }])
  const error = await failure(() => admin.deleteGroups([group]))
  equal(error.groups[0].errorCode, 68, 'with a member')
  await m.close()
  await admin.deleteGroups([group])
  check(!(await listed(group)), 'still listed')
}

async function adminDeleteRecords(use) {
  const name = await make(topic('admin-delete-records'))
  await send(await producer(use), name, numbers(10))
  // It deletes in topics that it knows from before only.
  equal(await edges(name), ['0', '10'], 'before')
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '5' }] })
  equal(await edges(name), ['5', '10'], 'beginning and end')
  equal((await readAll(use, name, 5))[0].offset, '5', 'first record')
}

async function adminListOffsets(use) {
  const name = await make(topic('admin-list-offsets'))
  await timed(use, name)
  equal([...(await edges(name)), await forTime(name, FIRST + 4500)], ['0', '10', '5'], 'offsets')
}

async function adminCluster() {
  const { brokers, controller, clusterId } = await admin.describeCluster()
  check(clusterId, 'no cluster id')
  equal(brokers.map(b => [b.port, b.nodeId]), [[PORT, controller]], 'brokers')
}

async function errorUnknownTopic(use) {
  const name = topic('error-unknown-topic')
  const p = await producer(use, {}, impatient)
  equal(await code(() => send(p, name, ['x'])), 3, 'producing')
  const c = impatient.consumer({ groupId: name, allowAutoTopicCreation: false })
  await c.connect()
  use(() => c.disconnect())
  equal(await code(() => c.subscribe({ topic: name })), 3, 'reading')
  check(!(await there(name)), 'the topic was made')
}

async function errorTooLarge(use) {
  const name = await make(topic('error-too-large'), 1, { 'max.message.bytes': '10000' })
  const p = await producer(use, {}, impatient)
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
  equal(await admin.createTopics({ topics: [{ topic: name }] }), false, 'again')
  equal(await code(() => make(`${name}/`)), 17, 'name')
  equal(await code(() => admin.createPartitions({ topicPartitions: [{ topic: name, count: 1 }] })), 37, 'no more partitions')
  equal(await code(() => make(`${name}-3`, 1, {}, 3)), 38, 'replicas')
  const impatientAdmin = impatient.admin()
  await impatientAdmin.connect()
  equal(await code(() => impatientAdmin.deleteTopics({ topics: [`${name}-no`] })), 3, 'deletion')
  await impatientAdmin.disconnect()
}

async function errorDeletedTopic(use) {
  const name = await make(topic('error-deleted-topic'))
  await send(await producer(use), name, numbers(3))
  const c = await consumer(use, name, { metadataMaxAge: 500 })
  await c.read(3)
  await admin.deleteTopics({ topics: [name] })
  await c.nothing(3000)
  const got = find(c.error, 'code') ?? 3
  check([3, 100].includes(got), `the error is ${got}`)
}

async function errorUnsupported() {
  const acl = [{ resourceType: AclResourceTypes.TOPIC, resourceName: topic('acl'), resourcePatternType: ResourcePatternTypes.LITERAL, principal: 'User:x', host: '*', operation: AclOperationTypes.READ, permissionType: AclPermissionTypes.ALLOW }]
  const error = await failure(() => admin.createAcls({ acl }))
  check(find(error, 'code') === 54 || error.name === 'KafkaJSServerDoesNotSupportApiKey', `the error is ${error}`)
}

async function brokerRestart(use) {
  const name = await make(topic('restart'))
  const patient = new Kafka({ brokers: [BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { retries: 100, initialRetryTime: 100, maxRetryTime: 500 } })
  const p = await producer(use, { idempotent: true, maxInFlightRequests: 1 }, patient)
  // One request at a time is what keeps its sequence numbers in order.
  let last = Promise.resolve()
  const count = await throughRestart(value => (last = last.then(() => send(p, name, [value], { acks: -1 }))))
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

async function brokerKill(use) {
  const name = await make(topic('kill'))
  const patient = new Kafka({ brokers: [BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { retries: 100, initialRetryTime: 100, maxRetryTime: 500 } })
  const run = { autoCommit: true, autoCommitInterval: 100 }
  const member = await consumer(use, name, { group: 'kill', from: patient, run })
  const p = await producer(use, { idempotent: true, maxInFlightRequests: 1 }, patient)
  let last = Promise.resolve()
  const count = await throughRestart(value => (last = last.then(() => send(p, name, [value], { acks: -1 }))))
  await allRead(member, count)
  const late = patient.admin()
  await late.connect()
  use(() => late.disconnect())
  // What it commits by itself comes in between.
  await settle('the commit', async () => {
    await member.c.commitOffsets([{ topic: name, partition: 0, offset: `${count}` }])
    const [{ partitions: [{ offset }] }] = await late.fetchOffsets({ groupId: topic('kill'), topics: [name] })
    return offset === `${count}`
  })
  await member.close()
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

await run({
  'codec-none': codec('none'), 'codec-gzip': codec('gzip'), 'codec-snappy': codec('snappy'), 'codec-lz4': codec('lz4'), 'codec-zstd': codec('zstd'),
  'acks-0': acks('0'), 'acks-1': acks('1'), 'acks-all': acks('all'),
  partitioner, seek, watermarks, 'offsets-for-times': offsetsForTimes,
  'group-rebalance': groupRebalance, 'group-commit': groupCommit,
  ...cases({ make, producer, consumer, idempotent: { idempotent: true }, transactional, uncommitted: { readUncommitted: true } }),
  'txn-offsets': txnOffsets, 'txn-fencing': txnFencing,
  'admin-topics': adminTopics, 'admin-partitions': adminPartitions, 'admin-configs': adminConfigs, 'admin-groups': adminGroups,
  'admin-delete-group': adminDeleteGroup, 'admin-delete-records': adminDeleteRecords, 'admin-list-offsets': adminListOffsets,
  'admin-cluster': adminCluster,
  'error-unknown-topic': errorUnknownTopic, 'error-too-large': errorTooLarge, 'error-invalid-config': errorInvalidConfig,
  'error-admin': errorAdmin, 'error-deleted-topic': errorDeletedTopic, 'error-unsupported': errorUnsupported,
  restart: brokerRestart, kill: brokerKill,
})
