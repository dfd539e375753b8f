'use strict'

const { Native } = require('./native.cjs')
const { nativeBackoff, retrying } = require('./retry.cjs')
const { Instrumented, networkEvents } = require('./instrumentation.cjs')
const {
  KafkaJSAggregateError, KafkaJSCreateTopicError, KafkaJSDeleteGroupsError, KafkaJSDeleteTopicRecordsError, KafkaJSError, KafkaJSNonRetriableError,
  KafkaJSNotImplemented, KafkaJSProtocolError, fromNative,
} = require('./errors.cjs')

const EVENTS = Object.freeze({ CONNECT: 'admin.connect', DISCONNECT: 'admin.disconnect', ...networkEvents('admin') })
const TIMEOUT = 30_000
const EARLIEST = -2
const LATEST = -1
const TOPIC_EXISTS = 36

class Admin extends Instrumented {
  #connection
  #retry
  #native = null

  constructor (connection, options, logger) {
    super(EVENTS, logger)
    this.#connection = connection
    this.#retry = options.retry
  }

  async connect () {
    if (this.#native) return
    const native = new Native({
      properties: { ...await this.#connection(), ...nativeBackoff(this.#retry) },
      onEvent: (name, value) => {
        if (name === 'log') this.logger().native(value)
        else if (name === 'throttle') this.emit(EVENTS.THROTTLE, value)
      },
    })
    await native.call('connect')
    this.#native = native
    this.emit(EVENTS.CONNECT)
  }

  async disconnect () {
    const native = this.#native
    this.#native = null
    if (native) await native.close(0)
    this.emit(EVENTS.DISCONNECT)
  }

  async #call (method, ...args) {
    return retrying(this.#retry, () => {
      if (!this.#native) throw new KafkaJSError('The admin is disconnected', { retriable: true })
      return this.#native.call(method, ...args)
    })
  }

  async listTopics () {
    const { topics } = await this.#call('metadata', null, TIMEOUT)
    return topics.filter(({ isInternal }) => !isInternal).map(({ name }) => name)
  }

  /** `false` if one of the topics was there before. */
  async createTopics ({ topics, validateOnly = false, timeout = 5000, waitForLeaders = true } = {}) {
    if (!Array.isArray(topics)) throw new KafkaJSNonRetriableError(`Invalid topics array ${topics}`)
    if (topics.some(({ topic }) => typeof topic !== 'string')) {
      throw new KafkaJSNonRetriableError('Invalid topics array, the topic names have to be a valid string')
    }
    if (new Set(topics.map(({ topic }) => topic)).size < topics.length) {
      throw new KafkaJSNonRetriableError('Invalid topics array, it cannot have multiple entries for the same topic')
    }
    if (topics.some(({ replicaAssignment }) => replicaAssignment?.length > 0)) {
      throw new KafkaJSNotImplemented('replicaAssignment: an embedded broker has no replicas')
    }
    void waitForLeaders // a topic has its leader before the answer comes
    const wanted = topics.map(({ topic, numPartitions = -1, replicationFactor = -1, configEntries = [] }) => ({
      topic, partitions: numPartitions, replicationFactor, config: configEntries.flatMap(({ name, value }) => [name, String(value)]),
    }))
    const results = await this.#call('createTopics', wanted, validateOnly, timeout)
    const failed = results.map((error, i) => error && new KafkaJSCreateTopicError(fromNative(error), topics[i].topic)).filter(Boolean)
    if (failed.length === 0) return true
    if (failed.every(({ code }) => code === TOPIC_EXISTS)) return false
    throw new KafkaJSAggregateError('Topic creation errors', failed)
  }

  async deleteTopics ({ topics, timeout = TIMEOUT } = {}) {
    if (!Array.isArray(topics) || topics.some((topic) => typeof topic !== 'string')) {
      throw new KafkaJSNonRetriableError(`Invalid topics array ${topics}`)
    }
    throwFirst(await this.#call('deleteTopics', topics, timeout))
  }

  async createPartitions ({ topicPartitions, validateOnly = false, timeout = 5000 } = {}) {
    if (!Array.isArray(topicPartitions) || topicPartitions.length === 0) {
      throw new KafkaJSNonRetriableError(`Empty topic partitions array ${topicPartitions}`)
    }
    if (topicPartitions.some(({ assignments }) => assignments?.length > 0)) {
      throw new KafkaJSNotImplemented('assignments: an embedded broker has no replicas')
    }
    const names = topicPartitions.map(({ topic }) => topic)
    const counts = topicPartitions.map(({ count }) => count)
    throwFirst(await this.#call('createPartitions', names, counts, validateOnly, timeout))
    return true
  }

  async fetchTopicMetadata ({ topics = [] } = {}) {
    const found = (await this.#call('metadata', null, TIMEOUT)).topics
    const named = topics.length === 0 ? found : topics.map((topic) => this.#named(found, topic))
    return { topics: named.map(({ name, partitions }) => ({ name, partitions })) }
  }

  #named (topics, topic) {
    const found = topics.find(({ name }) => name === topic)
    if (found) return found
    throw new KafkaJSProtocolError({ type: 'UNKNOWN_TOPIC_OR_PARTITION', code: 3, message: `There is no topic ${topic}`, retriable: true })
  }

  async #partitions (topic) {
    const { topics } = await this.#call('metadata', null, TIMEOUT)
    return this.#named(topics, topic).partitions.map(({ partitionId }) => partitionId)
  }

  /** Offsets of all partitions of a topic: the end, the beginning, or those at a timestamp. */
  async #offsets (topic, spec) {
    const partitions = await this.#partitions(topic)
    const found = await this.#call('listOffsets', partitions.map((partition) => ({ topic, partition, offset: spec })), TIMEOUT)
    return found.map(({ error, offset }, i) => {
      if (error) throw fromNative(error)
      return { partition: partitions[i], offset }
    })
  }

  async fetchTopicOffsets (topic) {
    checkTopic(topic)
    const [high, low] = await Promise.all([this.#offsets(topic, LATEST), this.#offsets(topic, EARLIEST)])
    return high.map(({ partition, offset }, i) => ({ partition, offset, high: offset, low: low[i].offset }))
  }

  /** The first offsets that are not older; where there is none, the end. */
  async fetchTopicOffsetsByTimestamp (topic, timestamp) {
    checkTopic(topic)
    const end = await this.#offsets(topic, LATEST)
    if (timestamp === undefined) return end
    const found = await this.#offsets(topic, Number(timestamp))
    return found.map(({ partition, offset }, i) => ({ partition, offset: offset === '-1' ? end[i].offset : offset }))
  }

  async fetchOffsets ({ groupId, topics = [], resolveOffsets = false } = {}) {
    checkGroup(groupId)
    const committed = await this.#call('groupOffsets', groupId, TIMEOUT)
    const names = topics.length > 0 ? topics : [...new Set(committed.map(({ topic }) => topic))]
    const result = []
    for (const topic of names) {
      const partitions = []
      for (const partition of await this.#partitions(topic)) {
        const found = committed.find((entry) => entry.topic === topic && entry.partition === partition)
        const offset = found && !found.offset.startsWith('-') ? found.offset : '-1'
        partitions.push({ partition, offset, metadata: found?.metadata ?? null })
      }
      if (resolveOffsets) {
        // As in KafkaJS: what isn't committed is the end, and is committed as such.
        const high = await this.#offsets(topic, LATEST)
        partitions.forEach((entry, i) => { if (entry.offset === '-1') entry.offset = high[i].offset })
        await this.setOffsets({ groupId, topic, partitions })
      }
      result.push({ topic, partitions })
    }
    return result
  }

  async setOffsets ({ groupId, topic, partitions } = {}) {
    checkGroup(groupId)
    checkTopic(topic)
    if (!Array.isArray(partitions) || partitions.length === 0) throw new KafkaJSNonRetriableError(`Invalid partitions ${partitions}`)
    await this.#checkIdle(groupId)
    const resolved = []
    for (const { partition, offset } of partitions) {
      const number = Number(offset)
      // -1 and -2 stand for the end and the beginning.
      const real = number < 0 ? (await this.#offsets(topic, number)).find((entry) => entry.partition === partition)?.offset : offset
      resolved.push({ topic, partition, offset: Number(real) })
    }
    await this.#call('setGroupOffsets', groupId, resolved, TIMEOUT)
  }

  async resetOffsets ({ groupId, topic, earliest = false } = {}) {
    checkGroup(groupId)
    checkTopic(topic)
    const partitions = await this.#offsets(topic, earliest ? EARLIEST : LATEST)
    await this.setOffsets({ groupId, topic, partitions })
  }

  async #checkIdle (groupId) {
    const { groups: [group] } = await this.describeGroups([groupId])
    if (!['Empty', 'Dead'].includes(group.state)) {
      throw new KafkaJSNonRetriableError(`The consumer group must have no running instances, current state: ${group.state}`)
    }
  }

  async describeCluster () {
    const { brokers, controller, clusterId } = await this.#call('metadata', null, TIMEOUT)
    return { brokers, controller: controller < 0 ? null : controller, clusterId }
  }

  async describeConfigs ({ resources, includeSynonyms = false } = {}) {
    if (!Array.isArray(resources) || resources.length === 0) throw new KafkaJSNonRetriableError('Resources array must not be empty')
    if (resources.some(({ type }) => type !== 2 && type !== 4)) throw new KafkaJSNonRetriableError('Invalid resource type: expected TOPIC or BROKER')
    const found = await this.#call('describeConfigs', resources.map(({ type, name }) => ({ kind: type, name: String(name) })), TIMEOUT)
    return {
      throttleTime: 0,
      resources: resources.map(({ type, name, configNames }, i) => {
        if (found[i].error) throw fromNative(found[i].error)
        const named = configNames ? found[i].filter(({ configName }) => configNames.includes(configName)) : found[i]
        const configEntries = includeSynonyms ? named : named.map((entry) => ({ ...entry, configSynonyms: [] }))
        return { errorCode: 0, errorMessage: null, resourceType: type, resourceName: name, configEntries }
      }),
    }
  }

  /** Replaces all that is set of each resource: what isn't named goes back to its default. */
  async alterConfigs ({ resources, validateOnly = false } = {}) {
    if (!Array.isArray(resources)) throw new KafkaJSNonRetriableError(`Invalid resources array ${resources}`)
    if (resources.length === 0) throw new KafkaJSNonRetriableError('Resources array cannot be empty')
    for (const resource of resources) {
      const { type, name, configEntries } = resource
      const told = JSON.stringify(resource)
      if (type !== 2 && type !== 4) throw new KafkaJSNonRetriableError(`Invalid resource type ${type}: ${told}`)
      if (typeof name !== 'string') throw new KafkaJSNonRetriableError(`Invalid resource name ${name}: ${told}`)
      if (!Array.isArray(configEntries)) throw new KafkaJSNonRetriableError(`Invalid resource configEntries ${configEntries}: ${told}`)
      if (configEntries.some((entry) => typeof entry.name !== 'string' || typeof entry.value !== 'string')) {
        throw new KafkaJSNonRetriableError(`Invalid resource config value: ${told}`)
      }
    }
    const wanted = resources.map(({ type, name, configEntries }) => ({
      kind: type, name, config: configEntries.flatMap((entry) => [entry.name, entry.value]),
    }))
    throwFirst(await this.#call('alterConfigs', wanted, Boolean(validateOnly), TIMEOUT))
    return {
      throttleTime: 0,
      resources: resources.map(({ type, name }) => ({ errorCode: 0, errorMessage: null, resourceName: name, resourceType: type })),
    }
  }

  /** Partitions that move to other brokers; an embedded broker has nowhere to move them. */
  async listPartitionReassignments ({ topics = null, timeout = 5000 } = {}) {
    if (topics !== null) {
      if (!Array.isArray(topics)) throw new KafkaJSNonRetriableError(`Invalid topics array ${topics}`)
      if (topics.some(({ topic }) => typeof topic !== 'string')) {
        throw new KafkaJSNonRetriableError('Invalid topics array, the topic names have to be a valid string')
      }
      if (new Set(topics.map(({ topic }) => topic)).size < topics.length) {
        throw new KafkaJSNonRetriableError('Invalid topics array, it cannot have multiple entries for the same topic')
      }
      for (const { topic, partitions } of topics) {
        if (!Array.isArray(partitions)) throw new KafkaJSNonRetriableError(`Invalid partition array: ${partitions} for topic: ${topic}`)
        if (partitions.some((partition) => !Number.isInteger(partition) || partition < 0)) {
          throw new KafkaJSNonRetriableError(`Invalid partition index among ${partitions} for topic: ${topic}`)
        }
      }
    }
    const named = topics?.flatMap(({ topic, partitions }) => partitions.map((partition) => ({ topic, partition, offset: 0 })))
    const moving = new Map()
    for (const { topic, ...partition } of await this.#call('listPartitionReassignments', named ?? null, timeout)) {
      if (!moving.has(topic)) moving.set(topic, [])
      moving.get(topic).push(partition)
    }
    return { topics: [...moving].map(([topic, partitions]) => ({ topic, partitions })) }
  }

  /** Deletes the records before each offset; -1: all of the partition. */
  async deleteTopicRecords ({ topic, partitions } = {}) {
    checkTopic(topic)
    if (!Array.isArray(partitions) || partitions.length === 0) throw new KafkaJSNonRetriableError(`Invalid partitions: ${partitions}`)
    const known = await this.#partitions(topic)
    const unknown = partitions.filter(({ partition }) => !known.includes(partition))
    if (unknown.length > 0) {
      const error = new KafkaJSNonRetriableError(`${topic} has no partition ${unknown.map(({ partition }) => partition)}`)
      throw new KafkaJSDeleteTopicRecordsError({ topic, partitions: unknown.map((entry) => ({ ...entry, error })) })
    }
    const wanted = partitions.map(({ partition, offset }) => ({ topic, partition, offset: Number(offset) }))
    const results = await this.#call('deleteRecords', wanted, TIMEOUT)
    const failed = partitions.map((entry, i) => results[i].error && { ...entry, error: fromNative(results[i].error) }).filter(Boolean)
    if (failed.length > 0) throw new KafkaJSDeleteTopicRecordsError({ topic, partitions: failed })
  }

  async listGroups () {
    return { groups: await this.#call('listGroups', TIMEOUT) }
  }

  async describeGroups (groupIds) {
    const found = await this.#call('describeGroups', groupIds, TIMEOUT)
    return {
      groups: found.map((group, i) => group.error
        ? { errorCode: group.error.code, groupId: groupIds[i], members: [], protocol: '', protocolType: '', state: 'Dead' }
        : group),
    }
  }

  async deleteGroups (groupIds) {
    if (!Array.isArray(groupIds)) throw new KafkaJSNonRetriableError(`Invalid groupIds array ${groupIds}`)
    const errors = await this.#call('deleteGroups', groupIds, TIMEOUT)
    const results = errors.map((error, i) => error
      ? { groupId: groupIds[i], errorCode: error.code, error: fromNative(error) }
      : { groupId: groupIds[i], errorCode: 0 })
    const failed = results.filter(({ error }) => error)
    if (failed.length > 0) throw new KafkaJSDeleteGroupsError('Error in DeleteGroups', failed)
    return results
  }
}

/** Calls whose requests the broker doesn't serve, with Kafka's numbers of those. */
const NOT_SERVED = {
  describeAcls: 'DescribeAcls (29)',
  createAcls: 'CreateAcls (30)',
  deleteAcls: 'DeleteAcls (31)',
  alterPartitionReassignments: 'AlterPartitionReassignments (45)',
}
for (const [name, request] of Object.entries(NOT_SERVED)) {
  Object.defineProperty(Admin.prototype, name, {
    value: async () => { throw new KafkaJSNotImplemented(`admin.${name} needs ${request}, which the embedded broker does not serve yet`) },
  })
}

function throwFirst (results) {
  const error = results.find(Boolean)
  if (error) throw fromNative(error)
}

function checkTopic (topic) {
  if (!topic || typeof topic !== 'string') throw new KafkaJSNonRetriableError(`Invalid topic ${topic}`)
}

function checkGroup (groupId) {
  if (!groupId) throw new KafkaJSNonRetriableError(`Invalid groupId ${groupId}`)
}

module.exports = { Admin }
