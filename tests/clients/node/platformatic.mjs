// @platformatic/kafka: a client in TypeScript alone.

import { Admin, ConfigResourceTypes, Consumer, Producer } from '@platformatic/kafka'
import { BOOTSTRAP, FIRST, PORT, allOf, allRead, check, equal, failure, find, inPlace, numbers, reading, rebalanced, records, run, same, settle, text, throughRestart, topic } from './harness.mjs'

const base = { clientId: 'platformatic', bootstrapBrokers: [BOOTSTRAP], retryDelay: 100 }
const admin = new Admin(base)

/** The code of the error that it throws; it has words of its own for a topic that is not there. */
async function code(action) {
  const error = await failure(action)
  return find(error, 'apiCode') ?? (`${error}`.includes('Unknown topic') ? 3 : `${error}`)
}

async function make(name, partitions = 1, config = {}, replicas = 1) {
  const configs = Object.entries(config).map(([name, value]) => ({ name, value }))
  await admin.createTopics({ topics: [name], partitions, replicas, configs })
  await known(name, partitions)
  return name
}

/** The broker has the partitions: it sends everything again when one is not there yet. */
function known(name, partitions) {
  const all = Array.from({ length: partitions }, (_, partitionIndex) => ({ partitionIndex, timestamp: -1n }))
  return settle(`${name} is there`, () => admin.listOffsets({ topics: [{ name, partitions: all }] }).catch(() => false))
}

function producer(use, config = {}) {
  const p = new Producer({ ...base, ...config })
  use(() => p.close(true))
  return p
}

const send = (p, name, values, more = {}) => p.send({ messages: values.map(value => ({ topic: name, value: Buffer.from(value) })), acks: -1, ...more })

let groups = 0

/** A consumer that reads, and what it has read. */
async function consumer(use, name, { group = `none-${groups++}`, stream = {}, ...config } = {}) {
  const quick = config.groupProtocol ? {} : { sessionTimeout: 6000, heartbeatInterval: 300, rebalanceTimeout: 6000 }
  const c = new Consumer({ ...base, groupId: topic(group), maxWaitTime: 100, ...quick, ...config })
  const self = reading(use, { c, joins: 0 }, () => c.close(true))
  c.on('consumer:group:join', () => self.joins++)
  Object.defineProperty(self, 'has', { get: () => [...(c.assignments?.find(a => a.topic === name)?.partitions ?? [])].sort() })
  self.stream = await c.consume({ topics: [name], mode: 'earliest', autocommit: false, ...stream })
  self.stream.on('data', m => self.got.push(m))
  self.stream.on('error', error => (self.error = error))
  return self
}

const readAll = allOf(consumer)

const codec = kind => async use => {
  const name = await make(topic(`codec-${kind}`))
  const messages = records().map(r => ({ ...r, topic: name, headers: new Map(r.headers.map(([n, v]) => [Buffer.from(n), v])), timestamp: BigInt(r.timestamp) }))
  await producer(use).send({ messages, compression: kind })
  const got = await readAll(use, name, 12)
  equal(got.map(m => m.offset), got.map((_, i) => BigInt(i)), 'offsets')
  same(got.map(m => ({ key: m.key ?? null, value: m.value ?? null, headers: [...m.headers].map(([n, v]) => [n.toString(), v]), timestamp: Number(m.timestamp) })), records())
}

const acks = kind => async use => {
  const name = await make(topic(`acks-${kind}`))
  const p = producer(use)
  const reports = []
  for (let i = 0; i < 5; i++) reports.push(...((await send(p, name, numbers(10, 10 * i), { acks: kind === 'all' ? -1 : Number(kind) })).offsets ?? []))
  if (kind !== '0') equal(reports.map(r => r.offset), [0n, 10n, 20n, 30n, 40n], 'offsets of the reports')
  equal((await readAll(use, name, 50)).map(text), numbers(50), 'records')
}

async function partitioner(use) {
  const name = await make(topic('partitioner'), 3)
  const p = producer(use)
  for (const turn of ['0', '1']) await p.send({ messages: numbers(60).map(key => ({ topic: name, key: Buffer.from(key), value: Buffer.from(turn) })) })
  inPlace(await readAll(use, name, 120))
}

async function seek(use) {
  // What it has for a seek is a stream that begins at given offsets.
  const name = await make(topic('seek'))
  await send(producer(use), name, numbers(10))
  await readAll(use, name, 10)
  for (const offset of [5, 2]) {
    const c = await consumer(use, name, { stream: { mode: 'manual', offsets: [{ topic: name, partition: 0, offset: BigInt(offset) }] } })
    equal((await c.read(10 - offset)).map(m => Number(m.offset)), numbers(10 - offset, offset).map(Number), 'offsets')
    await c.close()
  }
}

async function at(name, timestamp, isolationLevel) {
  const [{ partitions: [{ offset }] }] = await admin.listOffsets({ topics: [{ name, partitions: [{ partitionIndex: 0, timestamp }] }], ...isolationLevel })
  return offset
}

const edges = async name => [await at(name, -2n), await at(name, -1n)]

async function watermarks(use) {
  const name = await make(topic('watermarks'))
  const c = new Consumer({ ...base, groupId: name })
  use(() => c.close(true))
  const ask = async () => [(await c.listOffsets({ topics: [name], timestamp: -2n })).get(name)[0], (await c.listOffsets({ topics: [name], timestamp: -1n })).get(name)[0]]
  equal(await ask(), [0n, 0n], 'empty')
  await send(producer(use), name, numbers(10))
  equal(await ask(), [0n, 10n], 'filled')
}

const timed = (use, name) => producer(use).send({ messages: numbers(10).map((value, i) => ({ topic: name, value: Buffer.from(value), timestamp: BigInt(FIRST + 1000 * i) })), acks: -1 })

async function offsetsForTimes(use) {
  const name = await make(topic('offsets-for-times'))
  await timed(use, name)
  const c = new Consumer({ ...base, groupId: name })
  use(() => c.close(true))
  const ask = async time => (await c.listOffsetsWithTimestamps({ topics: [name], timestamp: BigInt(time) })).get(name).get(0).offset
  equal([await ask(FIRST), await ask(FIRST + 4500), await ask(FIRST + 9000), await ask(FIRST + 9001)], [0n, 5n, 9n, -1n], 'offsets')
}

const rebalance = (group, config = {}) => async use => {
  const name = await make(topic(group), 4)
  const p = producer(use)
  const fill = () => p.send({ messages: [0, 1, 2, 3].map(partition => ({ topic: name, partition, value: Buffer.from('x') })) })
  await rebalanced(() => consumer(use, name, { group, ...config }), fill)
}

async function committed(group, name) {
  const [{ topics }] = await admin.listConsumerGroupOffsets({ groups: [topic(group)] })
  const at = topics.find(t => t.name === name)?.partitions[0]
  return at ? Number(at.committedOffset) : -1
}

async function groupCommit(use) {
  const name = await make(topic('group-commit'))
  await send(producer(use), name, numbers(10))
  const stream = { mode: 'committed', fallbackMode: 'earliest' }
  const a = await consumer(use, name, { group: 'group-commit', stream })
  await a.read(10)
  await a.c.commit({ offsets: [{ topic: name, partition: 0, offset: 5n, leaderEpoch: 0 }] })
  await a.close()
  const b = await consumer(use, name, { group: 'group-commit', stream })
  equal((await b.read(5)).map(m => m.offset), [5n, 6n, 7n, 8n, 9n], 'offsets of the new member')
  equal(await committed('group-commit', name), 5, 'committed')
}

async function idempotent(use) {
  const name = await make(topic('idempotent'))
  const p = producer(use, { idempotent: true })
  for (let i = 0; i < 20; i++) await send(p, name, numbers(10, 10 * i))
  equal((await readAll(use, name, 200)).map(text), numbers(200), 'records')
}

const transactional = (use, name, config) => producer(use, { idempotent: true, transactionalId: topic(name), ...config })
const COMMITTED = { stream: { isolationLevel: 1 } }
const UNCOMMITTED = { stream: { isolationLevel: 0 } }

async function txnCommit(use) {
  const name = await make(topic('txn-commit'), 2)
  const t = await transactional(use, 'txn-commit').beginTransaction()
  await t.send({ messages: numbers(20).map((value, i) => ({ topic: name, value: Buffer.from(value), partition: i % 2 })) })
  const c = await consumer(use, name, COMMITTED)
  await c.nothing(1000)
  await t.commit()
  equal((await c.read(20)).map(text).sort(), numbers(20).sort(), 'records')
}

async function txnAbort(use) {
  const name = await make(topic('txn-abort'))
  const p = transactional(use, 'txn-abort')
  for (const [first, end] of [[0, 'commit'], [10, 'abort'], [20, 'commit']]) {
    const t = await p.beginTransaction()
    await send(t, name, numbers(10, first))
    await t[end]()
  }
  equal((await readAll(use, name, 20, COMMITTED)).map(text), [...numbers(10), ...numbers(10, 20)], 'committed')
  equal((await readAll(use, name, 30, UNCOMMITTED)).map(text), numbers(30), 'uncommitted')
}

async function txnOffsets(use) {
  const source = await make(topic('txn-offsets', '.in'))
  const sink = await make(topic('txn-offsets'))
  await send(producer(use), source, numbers(10))
  const p = transactional(use, 'txn-offsets')
  for (const [prefix, end, offset] of [['aborted ', 'abort', -1], ['', 'commit', 10]]) {
    const c = await consumer(use, source, { group: 'txn-offsets', stream: { mode: 'committed', fallbackMode: 'earliest' } })
    const got = await c.read(10)
    const t = await p.beginTransaction()
    await t.addConsumer(c.c)
    await send(t, sink, got.map(m => prefix + text(m)))
    await t.addOffset(got[9])
    await t[end]()
    await settle(`the committed offset is ${offset}`, async () => (await committed('txn-offsets', source)) === offset)
    await c.close()
  }
  equal((await readAll(use, sink, 10, COMMITTED)).map(text), numbers(10), 'committed')
}

const there = async name => (await admin.listTopics()).includes(name)
const describe = async name => (await admin.metadata({ topics: [name], forceUpdate: true })).topics.get(name).partitions

async function adminTopics() {
  const name = await make(topic('admin-topics'), 3, { 'cleanup.policy': 'compact' })
  check(await there(name), 'not listed')
  const partitions = await describe(name)
  equal(partitions.length, 3, 'partitions')
  equal(partitions.map(p => p.isr), partitions.map(p => [p.leader]), 'in sync')
  await admin.deleteTopics({ topics: [name] })
  check(!(await there(name)), 'still listed')
  const impatient = new Admin({ ...base, retries: 0 })
  equal(await code(() => impatient.metadata({ topics: [name], forceUpdate: true })), 3, 'describing')
  await impatient.close()
}

async function adminPartitions(use) {
  const name = await make(topic('admin-partitions'))
  await admin.createPartitions({ topics: [{ name, count: 3, assignments: null }] })
  await settle('it has 3 partitions', async () => (await describe(name)).length === 3)
  await known(name, 3)
  await producer(use).send({ messages: [0, 1, 2].map(partition => ({ topic: name, partition, value: Buffer.from(`${partition}`) })) })
  equal((await readAll(use, name, 3)).map(text).sort(), numbers(3), 'records')
}

async function configOf(resourceType, resourceName) {
  const [{ configs }] = await admin.describeConfigs({ resources: [{ resourceType, resourceName }] })
  return Object.fromEntries(configs.map(c => [c.name, c.value]))
}

async function adminConfigs() {
  const name = await make(topic('admin-configs'), 1, { 'retention.ms': '1000000' })
  const { TOPIC, BROKER } = ConfigResourceTypes
  equal((await configOf(TOPIC, name))['retention.ms'], '1000000', 'before')
  await admin.incrementalAlterConfigs({ resources: [{ resourceType: TOPIC, resourceName: name, configs: [{ name: 'retention.ms', configOperation: 0, value: '2000000' }] }] })
  await settle('it is altered', async () => (await configOf(TOPIC, name))['retention.ms'] === '2000000')
  equal((await configOf(TOPIC, name))['cleanup.policy'], 'delete', 'another one')
  const { brokers } = await admin.metadata({})
  check((await configOf(BROKER, `${[...brokers.keys()][0]}`))['message.max.bytes'], "the broker's")
}

const listed = async group => (await admin.listGroups({})).has(group)
const groupOf = async group => (await admin.describeGroups({ groups: [group] })).get(group)

async function adminGroups(use) {
  const name = await make(topic('admin-groups'))
  const group = topic('admin-groups')
  const m = await consumer(use, name, { group: 'admin-groups', clientId: 'the-member' })
  await settle('assigned', () => m.has.length === 1)
  check(await listed(group), 'not listed')
  const { state, members } = await groupOf(group)
  const [member] = [...members.values()]
  equal([state.toLowerCase(), member.clientId, [...member.assignments.keys()]], ['stable', 'the-member', [name]], 'group')
  await m.close()
  const without = await groupOf(group)
  equal([without.state.toLowerCase(), without.members.size], ['empty', 0], 'without members')
}

async function adminDeleteGroup(use) {
  const name = await make(topic('admin-delete-group'))
  const group = topic('admin-delete-group')
  const m = await consumer(use, name, { group: 'admin-delete-group' })
  await settle('assigned', () => m.has.length === 1)
  await m.c.commit({ offsets: [{ topic: name, partition: 0, offset: 0n, leaderEpoch: 0 }] })
  equal(await code(() => admin.deleteGroups({ groups: [group] })), 68, 'with a member')
  await m.close()
  await admin.deleteGroups({ groups: [group] })
  check(!(await listed(group)), 'still listed')
}

async function adminDeleteRecords(use) {
  const name = await make(topic('admin-delete-records'))
  await send(producer(use), name, numbers(10))
  const [{ partitions: [{ lowWatermark }] }] = await admin.deleteRecords({ topics: [{ name, partitions: [{ partition: 0, offset: 5n }] }] })
  equal(lowWatermark, 5n, 'low watermark')
  equal(await edges(name), [5n, 10n], 'beginning and end')
  equal((await readAll(use, name, 5))[0].offset, 5n, 'first record')
}

async function adminListOffsets(use) {
  const name = await make(topic('admin-list-offsets'))
  await timed(use, name)
  equal([...(await edges(name)), await at(name, BigInt(FIRST + 4500)), await at(name, -3n)], [0n, 10n, 5n, 9n], 'offsets')
}

async function adminCluster() {
  const { id, brokers, controllerId } = await admin.metadata({})
  check(id, 'no cluster id')
  equal([...brokers].map(([node, { port }]) => [port, node]), [[PORT, controllerId]], 'brokers')
}

async function errorUnknownTopic(use) {
  const name = topic('error-unknown-topic')
  equal(await code(() => send(producer(use, { retries: 1 }), name, ['x'])), 3, 'producing')
  equal(await code(() => consumer(use, name, { retries: 1 })), 3, 'reading')
  check(!(await there(name)), 'the topic was made')
}

async function errorTooLarge(use) {
  const name = await make(topic('error-too-large'), 1, { 'max.message.bytes': '10000' })
  const p = producer(use, { retries: 1 })
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
  equal(await code(() => make(name)), 36, 'again')
  equal(await code(() => make(`${name}/`)), 17, 'name')
  equal(await code(() => admin.createPartitions({ topics: [{ name, count: 1, assignments: null }] })), 37, 'no more partitions')
  equal(await code(() => make(`${name}-3`, 1, {}, 3)), 38, 'replicas')
  const impatient = new Admin({ ...base, retries: 0 })
  equal(await code(() => impatient.deleteTopics({ topics: [`${name}-no`] })), 3, 'deletion')
  await impatient.close()
}

async function errorOutOfRange(use) {
  const name = await make(topic('error-out-of-range'))
  await send(producer(use), name, numbers(3))
  const c = await consumer(use, name, { retries: 1, stream: { mode: 'manual', fallbackMode: 'fail', offsets: [{ topic: name, partition: 0, offset: 100n }] } })
  await settle('an error', () => c.error)
  equal(find(c.error, 'apiCode'), 1, 'the error')
}

async function errorDeletedTopic(use) {
  const name = await make(topic('error-deleted-topic'))
  await send(producer(use), name, numbers(3))
  const c = await consumer(use, name, { retries: 1 })
  await c.read(3)
  await admin.deleteTopics({ topics: [name] })
  await c.nothing(3000)
  const got = find(c.error, 'apiCode') ?? 3
  check([3, 100].includes(got), `the error is ${got}`)
}

async function errorUnsupported() {
  const rule = { resourceType: 2, resourceName: topic('acl'), resourcePatternType: 3, principal: 'User:x', host: '*', operation: 3, permissionType: 3 }
  const error = await failure(() => admin.createAcls({ creations: [rule] }))
  check(find(error, 'apiCode') === 54 || `${error}`.includes('Unsupported'), `the error is ${error}`)
}

async function brokerRestart(use) {
  const name = await make(topic('restart'))
  const p = producer(use, { idempotent: true, retries: 1000 })
  // It has one request of an idempotent producer at a time, as kafkajs.
  let last = Promise.resolve()
  const count = await throughRestart(value => (last = last.then(() => send(p, name, [value], { acks: -1 }))))
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

async function brokerKill(use) {
  const name = await make(topic('kill'))
  const patient = { retries: 1000 }
  const stream = { mode: 'committed', fallbackMode: 'earliest', autocommit: 100 }
  const member = await consumer(use, name, { group: 'kill', stream, ...patient })
  const p = producer(use, { idempotent: true, ...patient })
  let last = Promise.resolve()
  const count = await throughRestart(value => (last = last.then(() => send(p, name, [value], { acks: -1 }))))
  await allRead(member, count)
  // What it commits by itself comes in between.
  await settle('the commit', async () => {
    await member.c.commit({ offsets: [{ topic: name, partition: 0, offset: BigInt(count), leaderEpoch: 0 }] })
    return (await committed('kill', name)) === count
  })
  await member.close()
  equal((await readAll(use, name, count)).map(text), numbers(count), 'records')
}

await run({
  'codec-none': codec('none'), 'codec-gzip': codec('gzip'), 'codec-snappy': codec('snappy'), 'codec-lz4': codec('lz4'), 'codec-zstd': codec('zstd'),
  'acks-0': acks('0'), 'acks-1': acks('1'), 'acks-all': acks('all'),
  partitioner, seek, watermarks, 'offsets-for-times': offsetsForTimes,
  'group-rebalance': rebalance('group-rebalance'), 'group-commit': groupCommit,
  'group-848': rebalance('group-848', { groupProtocol: 'consumer' }),
  idempotent, 'txn-commit': txnCommit, 'txn-abort': txnAbort, 'txn-offsets': txnOffsets,
  'admin-topics': adminTopics, 'admin-partitions': adminPartitions, 'admin-configs': adminConfigs, 'admin-groups': adminGroups,
  'admin-delete-group': adminDeleteGroup, 'admin-delete-records': adminDeleteRecords, 'admin-list-offsets': adminListOffsets,
  'admin-cluster': adminCluster,
  'error-unknown-topic': errorUnknownTopic, 'error-too-large': errorTooLarge, 'error-invalid-config': errorInvalidConfig,
  'error-admin': errorAdmin, 'error-out-of-range': errorOutOfRange, 'error-deleted-topic': errorDeletedTopic,
  'error-unsupported': errorUnsupported,
  restart: brokerRestart, kill: brokerKill,
})
