'use strict'

const { Native } = require('./native.cjs')
const { Runner } = require('./runner.cjs')
const { Instrumented, networkEvents } = require('./instrumentation.cjs')
const { DEFAULTS, nativeBackoff } = require('./retry.cjs')
const { KafkaJSError, KafkaJSNonRetriableError, KafkaJSNotImplemented, fromNative } = require('./errors.cjs')

const EVENTS = Object.freeze({
  HEARTBEAT: 'consumer.heartbeat',
  COMMIT_OFFSETS: 'consumer.commit_offsets',
  GROUP_JOIN: 'consumer.group_join',
  FETCH_START: 'consumer.fetch_start',
  FETCH: 'consumer.fetch',
  START_BATCH_PROCESS: 'consumer.start_batch_process',
  END_BATCH_PROCESS: 'consumer.end_batch_process',
  CONNECT: 'consumer.connect',
  DISCONNECT: 'consumer.disconnect',
  STOP: 'consumer.stop',
  CRASH: 'consumer.crash',
  REBALANCING: 'consumer.rebalancing',
  RECEIVED_UNSUBSCRIBED_TOPICS: 'consumer.received_unsubscribed_topics',
  ...networkEvents('consumer'),
})

const ASSIGNORS = ['range', 'roundrobin', 'cooperative-sticky']
const NOT_RUNNING = 'Consumer group was not initialized, consumer#run must be called first'

class Consumer extends Instrumented {
  #connection
  #options
  #assignors
  /** Asks the cluster; the group's member is the runner's. */
  #native = null
  #runner = null
  #subscription = new Map()
  #stopping = null
  /** The timer of a restart after a crash. */
  #restart = null

  constructor (connection, options, logger) {
    super(EVENTS, logger)
    if (!options.groupId) throw new KafkaJSNonRetriableError('Consumer groupId must be a non-empty string.')
    const { partitionAssigners = ['roundrobin'], rackId, maxInFlightRequests, sessionTimeout = 30_000, heartbeatInterval = 3000 } = options
    if (heartbeatInterval >= sessionTimeout) {
      throw new KafkaJSNonRetriableError(`heartbeatInterval (${heartbeatInterval}) has to be lower than sessionTimeout (${sessionTimeout}): a third of it is usual`)
    }
    this.#assignors = partitionAssigners.map((assigner) => {
      const name = typeof assigner === 'string' ? assigner : assigner?.assignerName
      if (!ASSIGNORS.includes(name)) {
        throw new KafkaJSNotImplemented(`partitionAssigners: expected PartitionAssigners' or ${ASSIGNORS.join(', ')}; own ones come with a later version`)
      }
      return name
    })
    if (rackId !== undefined) logger.warn('rackId means nothing to an embedded broker')
    if (maxInFlightRequests !== undefined && maxInFlightRequests !== null) logger.warn('maxInFlightRequests means nothing to a consumer of an embedded broker')
    this.#connection = connection
    this.#options = options
  }

  async connect () {
    await this.#open()
    this.emit(EVENTS.CONNECT)
  }

  async #open () {
    if (this.#native) return
    const native = new Native({ properties: await this.#connection(), onEvent: () => {} })
    await native.call('connect')
    this.#native = native
  }

  async disconnect () {
    await this.stop()
    await this.#close()
    this.emit(EVENTS.DISCONNECT)
  }

  async #close () {
    const native = this.#native
    this.#native = null
    if (native) await native.close(0)
  }

  async subscribe ({ topic, topics, fromBeginning = false } = {}) {
    if (this.#runner) throw new KafkaJSNonRetriableError('Cannot subscribe to topic while consumer is running')
    const wanted = topics ?? (topic === undefined ? [] : [topic])
    if (!Array.isArray(wanted) || wanted.length === 0) throw new KafkaJSNonRetriableError('Missing required argument "topics"')
    for (const one of wanted) {
      if (!one || (typeof one !== 'string' && !(one instanceof RegExp))) {
        throw new KafkaJSNonRetriableError(`Invalid topic ${one} (${typeof one}), the topic name has to be a String or a RegExp`)
      }
    }
    const names = wanted.filter((one) => typeof one === 'string')
    const expressions = wanted.filter((one) => one instanceof RegExp)
    if (expressions.length > 0) {
      // As KafkaJS does it: against the topics that there are now.
      const { topics: found } = await this.#connected().call('metadata', null, 30_000)
      const matching = found.filter(({ name, isInternal }) => !isInternal && expressions.some((expression) => name.search(expression) >= 0))
      names.push(...matching.map(({ name }) => name))
    }
    for (const name of names) this.#subscription.set(name, fromBeginning)
  }

  #connected () {
    if (!this.#native) throw new KafkaJSError('The consumer is disconnected', { retriable: true })
    return this.#native
  }

  async run (config = {}) {
    if (this.#runner) {
      this.logger().warn('consumer#run was called, but the consumer is already running', { groupId: this.#options.groupId })
      return
    }
    this.#connected()
    if (config.eachBatch && config.eachMessage) throw new KafkaJSNonRetriableError('run takes eachMessage or eachBatch, not both')
    if (this.#subscription.size === 0) throw new KafkaJSNonRetriableError('subscribe to a topic before run')
    clearTimeout(this.#restart)
    // All of this happens before `run` gives its promise: `seek`, `pause` and `stop` may follow without waiting for it.
    const runner = new Runner({
      properties: () => this.#properties(),
      options: this.#options,
      subscription: this.#subscription,
      config,
      events: EVENTS,
      emit: (name, payload) => this.emit(name, payload),
      logger: this.logger(),
      onCrash: (error) => this.#crashed(runner, config, error),
    })
    this.#runner = runner
    try {
      await runner.start()
    } catch (error) {
      if (this.#runner === runner) this.#runner = null
      throw error
    }
  }

  async #properties () {
    const {
      groupId, sessionTimeout = 30_000, rebalanceTimeout = 60_000, heartbeatInterval = 3000, metadataMaxAge, allowAutoTopicCreation = true,
      maxBytesPerPartition, minBytes, maxBytes, maxWaitTimeInMs, readUncommitted = false, groupInstanceId, retry,
    } = this.#options
    const fromBeginning = [...this.#subscription.values()].some(Boolean)
    return {
      ...await this.#connection(),
      ...nativeBackoff(retry),
      'group.id': groupId,
      'group.instance.id': groupInstanceId,
      'session.timeout.ms': sessionTimeout,
      'heartbeat.interval.ms': heartbeatInterval,
      // A handler may take longer than a rebalance: what ends a member is its session.
      'max.poll.interval.ms': Math.max(rebalanceTimeout, sessionTimeout, 300_000),
      'partition.assignment.strategy': this.#assignors.join(','),
      'topic.metadata.refresh.interval.ms': metadataMaxAge,
      'allow.auto.create.topics': allowAutoTopicCreation,
      'max.partition.fetch.bytes': maxBytesPerPartition,
      'fetch.min.bytes': minBytes,
      'fetch.max.bytes': maxBytes,
      'fetch.wait.max.ms': maxWaitTimeInMs,
      'isolation.level': readUncommitted ? 'read_uncommitted' : 'read_committed',
      'enable.auto.commit': false,
      'auto.offset.reset': fromBeginning ? 'earliest' : 'latest',
    }
  }

  async stop () {
    this.#stopping ??= this.#stop().finally(() => { this.#stopping = null })
    await this.#stopping
  }

  async #stop () {
    clearTimeout(this.#restart)
    const runner = this.#runner
    this.#runner = null
    if (!runner) return
    await runner.stop()
    this.emit(EVENTS.STOP)
  }

  /**
   * A handler failed too often. As in KafkaJS the consumer disconnects and begins again, unless the error or `restartOnFailure` forbids
   * it. It holds its broker open until then: one in memory would be gone.
   */
  async #crashed (runner, config, error) {
    if (this.#runner !== runner) return
    const { groupId, retry } = this.#options
    this.logger().error(`Crash: ${error?.name}: ${error?.message}`, { groupId, retryCount: error?.retryCount, stack: error?.stack })
    await this.stop()
    this.emit(EVENTS.DISCONNECT)
    const restart = mayRestart(error) && await this.#restartWanted(error)
    this.emit(EVENTS.CRASH, { error, groupId, restart })
    if (!restart) return this.#close()
    const retryTime = error.retryTime ?? retry?.initialRetryTime ?? DEFAULTS.initialRetryTime
    this.logger().error(`Restarting the consumer in ${retryTime}ms`, { groupId, retryCount: error.retryCount, retryTime })
    this.#restart = setTimeout(() => {
      if (!this.#native || this.#runner) return
      this.run(config).catch((failed) => this.logger().error(`The consumer could not be restarted: ${failed.message}`, { groupId }))
    }, retryTime)
  }

  async #restartWanted (error) {
    const { groupId, retry } = this.#options
    if (!retry?.restartOnFailure) return true
    try {
      return Boolean(await retry.restartOnFailure(error))
    } catch (failure) {
      this.logger().error('restartOnFailure failed; the consumer is restarted', { groupId, error: failure.message, cause: error.message })
      return true
    }
  }

  #running () {
    if (!this.#runner) throw new KafkaJSNonRetriableError(NOT_RUNNING)
    return this.#runner
  }

  async commitOffsets (topicPartitions = []) {
    const offsets = topicPartitions.map(({ topic, partition, offset, metadata = null }) => {
      if (!topic || typeof topic !== 'string') throw new KafkaJSNonRetriableError(`Invalid topic ${topic}`)
      if (!Number.isInteger(partition)) throw new KafkaJSNonRetriableError(`Invalid partition, expected a number received ${partition}`)
      return { topic, partition, offset: offsetNumber(offset), metadata: metadata ?? undefined }
    })
    if (offsets.length === 0) return
    await this.#running().commit(offsets)
  }

  seek ({ topic, partition, offset } = {}) {
    if (!topic) throw new KafkaJSNonRetriableError(`Invalid topic ${topic}`)
    if (!Number.isInteger(partition)) throw new KafkaJSNonRetriableError(`Invalid partition, expected a number received ${partition}`)
    const number = Number(offset)
    // -1 and -2 stand for the end and the beginning.
    if (number !== -1 && number !== -2) offsetNumber(offset)
    this.#running().seek(topic, partition, number)
  }

  pause (topicPartitions = []) {
    for (const { topic, partitions } of checked(topicPartitions)) this.#running().pause(topic, partitions)
  }

  resume (topicPartitions = []) {
    for (const { topic, partitions } of checked(topicPartitions)) this.#running().resume(topic, partitions)
  }

  paused () {
    return this.#runner?.paused() ?? []
  }

  async describeGroup () {
    const [group] = await this.#connected().call('describeGroups', [this.#options.groupId], 30_000)
    if (group.error) throw fromNative(group.error)
    return group
  }
}

/** What lies at the bottom of an error says whether it may pass. */
function mayRestart (error) {
  if (error?.name === 'KafkaJSNumberOfRetriesExceeded') return true
  while (error?.cause) error = error.cause
  return error?.retriable === true
}

function checked (topicPartitions) {
  for (const entry of topicPartitions) {
    if (!entry?.topic) throw new KafkaJSNonRetriableError(`Invalid topic ${entry?.topic}`)
    if (entry.partitions !== undefined && (!Array.isArray(entry.partitions) || !entry.partitions.every(Number.isInteger))) {
      throw new KafkaJSNonRetriableError(`Array of valid partitions required: ${entry.partitions}`)
    }
  }
  return topicPartitions
}

function offsetNumber (offset) {
  const number = Number(offset)
  if (offset === null || offset === undefined || offset === '' || !Number.isSafeInteger(number) || number < 0) {
    throw new KafkaJSNonRetriableError(`Invalid offset, expected a long received ${offset}`)
  }
  return number
}

module.exports = { Consumer }
