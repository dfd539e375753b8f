// The administrator's calls, and what a producer is told of its records.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigResourceTypes, ConfigSource, KafkaJSError } from 'ottla'
import { collect, memory, send, until } from './helpers.mjs'

/** An administrator of a broker in memory of its own. */
async function administrator (query) {
  const kafka = await memory(query)
  const admin = kafka.admin()
  await admin.connect()
  return { kafka, admin }
}

test('topics: created, validated, grown, described', async () => {
  const { admin } = await administrator()
  assert.equal(await admin.createTopics({ topics: [{ topic: 'v', numPartitions: 2 }], validateOnly: true }), true)
  assert.deepEqual(await admin.listTopics(), [])
  await admin.createTopics({ topics: [{ topic: 't', numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '5000' }] }] })
  await assert.rejects(admin.createTopics({ topics: [{ topic: 'b', configEntries: [{ name: 'no.such.setting', value: '1' }] }] }),
    ({ name, errors: [error] }) => name === 'KafkaJSAggregateError' && error.topic === 'b' && error.type === 'INVALID_CONFIG')
  await assert.rejects(admin.createPartitions({ topicPartitions: [{ topic: 't', count: 1 }] }), { type: 'INVALID_PARTITIONS' })
  const { topics: [{ partitions }] } = await admin.fetchTopicMetadata({ topics: ['t'] })
  assert.deepEqual(partitions[1], { partitionErrorCode: 0, partitionId: 1, leader: 1, replicas: [1], isr: [1], offlineReplicas: [] })
  const { resources: [resource] } = await admin.describeConfigs({
    includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: 't', configNames: ['retention.ms'] }],
  })
  assert.deepEqual(resource.configEntries.map(({ configName, configValue, isDefault }) => [configName, configValue, isDefault]), [['retention.ms', '5000', false]])
  await assert.rejects(admin.deleteTopics({ topics: ['none'] }), { type: 'UNKNOWN_TOPIC_OR_PARTITION' })
  const { brokers, controller, clusterId } = await admin.describeCluster()
  assert.deepEqual([brokers.map(({ nodeId }) => nodeId), controller], [[1], 1])
  assert.equal(typeof clusterId, 'string')
  await admin.disconnect()
  await assert.rejects(admin.listTopics(), /disconnected/)
})

test('offsets of topics and groups', async () => {
  const { kafka, admin } = await administrator('?num.partitions=2')
  await send(kafka, 't', ['1000', '2000', '3000'].map((timestamp) => ({ partition: 0, value: timestamp, timestamp })))
  assert.deepEqual(await admin.fetchTopicOffsets('t'),
    [{ partition: 0, offset: '3', high: '3', low: '0' }, { partition: 1, offset: '0', high: '0', low: '0' }])
  assert.deepEqual(await admin.fetchTopicOffsetsByTimestamp('t', 1500), [{ partition: 0, offset: '1' }, { partition: 1, offset: '0' }])
  assert.deepEqual(await admin.fetchTopicOffsetsByTimestamp('t'), [{ partition: 0, offset: '3' }, { partition: 1, offset: '0' }])
  await assert.rejects(admin.fetchTopicOffsets('none'), { type: 'UNKNOWN_TOPIC_OR_PARTITION' })

  const fetch = async (options = {}) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: 'g', topics: ['t'], ...options })
    return partitions.map(({ offset }) => offset)
  }
  assert.deepEqual(await fetch(), ['-1', '-1'], 'a group that has committed nothing')
  await admin.setOffsets({ groupId: 'g', topic: 't', partitions: [{ partition: 0, offset: '2' }] })
  assert.deepEqual(await fetch(), ['2', '-1'])
  assert.deepEqual(await fetch({ resolveOffsets: true }), ['2', '0'])
  assert.deepEqual(await fetch(), ['2', '0'], 'what was resolved is committed')
  await admin.resetOffsets({ groupId: 'g', topic: 't', earliest: true })
  assert.deepEqual(await fetch(), ['0', '0'])
  await admin.resetOffsets({ groupId: 'g', topic: 't' })
  assert.deepEqual(await fetch(), ['3', '0'])
  await admin.setOffsets({ groupId: 'g', topic: 't', partitions: [{ partition: 0, offset: '-2' }, { partition: 1, offset: '-1' }] })
  assert.deepEqual(await fetch(), ['0', '0'])
  assert.deepEqual((await admin.fetchOffsets({ groupId: 'g' })).map(({ topic }) => topic), ['t'])

  const { consumer, seen } = await collect(kafka, 't')
  await until(() => seen.length === 3)
  await assert.rejects(admin.setOffsets({ groupId: 'g', topic: 't', partitions: [{ partition: 0, offset: '0' }] }), /no running instances.*Stable/)
  await assert.rejects(admin.deleteGroups(['g']), ({ name, groups: [{ groupId, errorCode, error }] }) =>
    name === 'KafkaJSDeleteGroupsError' && groupId === 'g' && errorCode === 68 && error.type === 'NON_EMPTY_GROUP')
  const { groups: [group, unknown] } = await admin.describeGroups(['g', 'none'])
  assert.deepEqual([group.state, group.protocol, group.protocolType, group.members[0].clientId], ['Stable', 'roundrobin', 'consumer', 'kafkajs'])
  assert.deepEqual([unknown.state, unknown.members], ['Dead', []])
  assert.deepEqual(await consumer.describeGroup(), group)
  await consumer.commitOffsets([{ topic: 't', partition: 0, offset: '1', metadata: 'why' }])
  assert.deepEqual((await admin.fetchOffsets({ groupId: 'g', topics: ['t'] }))[0].partitions[0], { partition: 0, offset: '1', metadata: 'why' })
  await consumer.disconnect()
  assert.deepEqual((await admin.listGroups()).groups, [{ groupId: 'g', protocolType: 'consumer' }])
  assert.deepEqual(await admin.deleteGroups(['g']), [{ groupId: 'g', errorCode: 0 }])
  assert.deepEqual((await admin.listGroups()).groups, [])
})

test('records are deleted, and producers are told the truth', async () => {
  const { kafka, admin } = await administrator()
  await admin.createTopics({ topics: [{ topic: 't' }, { topic: 'stamped', configEntries: [{ name: 'message.timestamp.type', value: 'LogAppendTime' }] }] })
  const [first] = await send(kafka, 't', [{ value: 'a' }, { value: 'b' }, { value: 'c' }])
  assert.deepEqual(first, { topicName: 't', partition: 0, errorCode: 0, baseOffset: '0', logAppendTime: '-1', logStartOffset: '0' })
  await admin.deleteTopicRecords({ topic: 't', partitions: [{ partition: 0, offset: '2' }] })
  assert.deepEqual(await admin.fetchTopicOffsets('t'), [{ partition: 0, offset: '3', high: '3', low: '2' }])
  const [second] = await send(kafka, 't', [{ value: 'd' }])
  assert.deepEqual([second.baseOffset, second.logStartOffset], ['3', '2'])
  await admin.deleteTopicRecords({ topic: 't', partitions: [{ partition: 0, offset: '-1' }] })
  assert.equal((await admin.fetchTopicOffsets('t'))[0].low, '4')
  await assert.rejects(admin.deleteTopicRecords({ topic: 't', partitions: [{ partition: 0, offset: '9' }] }), ({ name, topic, partitions: [entry] }) =>
    name === 'KafkaJSDeleteTopicRecordsError' && topic === 't' && entry.offset === '9' && entry.error.type === 'OFFSET_OUT_OF_RANGE')
  await assert.rejects(admin.deleteTopicRecords({ topic: 't', partitions: [{ partition: 7, offset: '1' }] }), { name: 'KafkaJSDeleteTopicRecordsError' })
  const before = Date.now()
  const [stamped] = await send(kafka, 'stamped', [{ value: 'a', timestamp: '1000' }])
  assert.ok(Number(stamped.logAppendTime) >= before && Number(stamped.logAppendTime) <= Date.now())
  assert.deepEqual(await send(kafka, 't', [{ value: 'x' }], { acks: 0 }), [], 'nobody answers without acks')
})

test('settings are replaced, validated and told with their synonyms', async () => {
  const { admin } = await administrator()
  const { TOPIC, BROKER, BROKER_LOGGER } = ConfigResourceTypes
  await admin.createTopics({ topics: [{ topic: 't', configEntries: [{ name: 'retention.ms', value: '5000' }] }] })
  const described = async (name, options = {}) => {
    const asked = [{ type: TOPIC, name: 't', configNames: [name] }]
    const { resources: [{ configEntries: [entry] }] } = await admin.describeConfigs({ resources: asked, ...options })
    return entry
  }
  const altered = (name, value, options = {}) => admin.alterConfigs({
    resources: [{ type: TOPIC, name: 't', configEntries: [{ name, value }] }], ...options,
  })
  assert.deepEqual(await altered('segment.ms', '70000', { validateOnly: true }), {
    throttleTime: 0, resources: [{ errorCode: 0, errorMessage: null, resourceName: 't', resourceType: TOPIC }],
  })
  assert.equal((await described('segment.ms')).isDefault, true)
  await altered('segment.ms', '70000')
  const segment = await described('segment.ms', { includeSynonyms: true })
  assert.deepEqual([segment.configValue, segment.isDefault], ['70000', false])
  assert.deepEqual(segment.configSynonyms[0], { configName: 'segment.ms', configValue: '70000', configSource: ConfigSource.TOPIC_CONFIG })
  assert.deepEqual((await described('segment.ms')).configSynonyms, [])
  assert.equal((await described('retention.ms')).isDefault, true, 'what is not named goes back to its default')
  await assert.rejects(altered('segment.ms', 'soon'), { type: 'INVALID_CONFIG' })
  await assert.rejects(admin.alterConfigs({ resources: [{ type: TOPIC, name: 'none', configEntries: [] }] }), { type: 'UNKNOWN_TOPIC_OR_PARTITION' })

  await admin.alterConfigs({ resources: [{ type: BROKER, name: '', configEntries: [{ name: 'log.retention.ms', value: '123456' }] }] })
  const { resources: [{ configEntries: [ofAll] }] } = await admin.describeConfigs({
    resources: [{ type: BROKER, name: '1', configNames: ['log.retention.ms'] }],
  })
  assert.deepEqual([ofAll.configValue, ofAll.configSource], ['123456', ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG])
  await assert.rejects(admin.describeConfigs({ resources: [{ type: BROKER, name: 'one' }] }), /its number/)

  for (const [resources, message] of [
    [undefined, /Invalid resources array/], [[], /cannot be empty/],
    [[{ type: BROKER_LOGGER, name: '1', configEntries: [] }], /Invalid resource type 8/],
    [[{ type: TOPIC, configEntries: [] }], /Invalid resource name/],
    [[{ type: TOPIC, name: 't' }], /Invalid resource configEntries/],
    [[{ type: TOPIC, name: 't', configEntries: [{ name: 'a', value: 1 }] }], /Invalid resource config value/],
  ]) await assert.rejects(admin.alterConfigs({ resources }), { name: 'KafkaJSNonRetriableError', message })
})

test('no partition moves', async () => {
  const { admin } = await administrator()
  await admin.createTopics({ topics: [{ topic: 't', numPartitions: 2 }] })
  assert.deepEqual(await admin.listPartitionReassignments(), { topics: [] })
  assert.deepEqual(await admin.listPartitionReassignments({ topics: [{ topic: 't', partitions: [0, 1] }] }), { topics: [] })
  for (const [topics, message] of [
    ['t', /Invalid topics array/], [[{ topic: 1, partitions: [] }], /valid string/],
    [[{ topic: 't', partitions: [0] }, { topic: 't', partitions: [1] }], /multiple entries/],
    [[{ topic: 't' }], /Invalid partition array/], [[{ topic: 't', partitions: [-1] }], /Invalid partition index/],
  ]) await assert.rejects(admin.listPartitionReassignments({ topics }), { name: 'KafkaJSNonRetriableError', message })
})

test('what the broker does not serve says so', async () => {
  const { admin } = await administrator()
  for (const [name, api] of [['describeAcls', 29], ['createAcls', 30], ['deleteAcls', 31], ['alterPartitionReassignments', 45]]) {
    await assert.rejects(admin[name]({}), (error) =>
      error instanceof KafkaJSError && error.name === 'KafkaJSNotImplemented' && error.message.includes(`${name} needs`) && error.message.includes(`(${api})`))
  }
})
