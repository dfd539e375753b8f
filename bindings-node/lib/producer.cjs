'use strict'

const { Native } = require('./native.cjs')
const { Encoder } = require('./messages.cjs')
const { Instrumented, networkEvents } = require('./instrumentation.cjs')
const { Backoff, DEFAULTS, nativeBackoff, pauses } = require('./retry.cjs')
const { Partitioners } = require('./partitioners.cjs')
const {
  KafkaJSError, KafkaJSNonRetriableError, KafkaJSNotImplemented, KafkaJSNumberOfRetriesExceeded, KafkaJSProtocolError,
} = require('./errors.cjs')

const EVENTS = Object.freeze({
  CONNECT: 'producer.connect',
  DISCONNECT: 'producer.disconnect',
  ...networkEvents('producer'),
})

const COMPRESSION = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const CLOSE_TIMEOUT = 30_000
const UNKNOWN_TOPIC_OR_PARTITION = 3
const LEADER_NOT_AVAILABLE = 5
/** The native library's longest `topic.metadata.propagation.max.ms`. */
const LONGEST_PROPAGATION = 3_600_000

class Producer extends Instrumented {
  #connection
  #options
  #native = null
  #connecting = null
  #encoder = new Encoder()
  /** In JavaScript; `null` for the native one. */
  #partitioner = null
  /** Topics that are there, with their partitions and when that was asked. */
  #topics = new Map()
  /** The search for a topic, while it is on: all `send`s share it, and go on in their order. */
  #searches = new Map()

  constructor (connection, options, logger) {
    super(EVENTS, logger)
    const { createPartitioner, transactionalId, transactionTimeout, idempotent, maxInFlightRequests } = options
    if (transactionalId !== undefined) throw new KafkaJSNotImplemented('transactionalId: transactions come with a later version')
    if (transactionTimeout !== undefined) logger.warn('transactionTimeout means nothing without transactionalId')
    for (const name of ['multiplier', 'factor']) {
      const wanted = options.retry?.[name]
      if (wanted !== undefined && wanted !== DEFAULTS[name]) logger.warn(`retry.${name} of a producer is ${DEFAULTS[name]}: pauses double, and differ by a fifth`)
    }
    if (idempotent && maxInFlightRequests > 5) {
      throw new KafkaJSNonRetriableError('An idempotent producer has at most 5 requests in flight: maxInFlightRequests')
    }
    if (createPartitioner && createPartitioner !== Partitioners.DefaultPartitioner) this.#partitioner = createPartitioner()
    this.#connection = connection
    this.#options = options
  }

  async connect () {
    this.#connecting ??= this.#connect().finally(() => { this.#connecting = null })
    await this.#connecting
  }

  async #connect () {
    if (this.#native) return
    const { allowAutoTopicCreation = true, idempotent = false, maxInFlightRequests, metadataMaxAge, retry = {} } = this.#options
    const native = new Native({
      properties: {
        ...await this.#connection(),
        acks: -1,
        'linger.ms': 5,
        partitioner: 'murmur2_random',
        'request.timeout.ms': 30_000,
        'enable.idempotence': idempotent,
        'max.in.flight.requests.per.connection': maxInFlightRequests ?? undefined,
        'topic.metadata.refresh.interval.ms': metadataMaxAge,
        'allow.auto.create.topics': allowAutoTopicCreation,
        ...nativeBackoff(retry),
        'topic.metadata.propagation.max.ms': Math.min(pauses(retry).reduce((sum, pause) => sum + pause, 0), LONGEST_PROPAGATION),
        retries: retry.retries ?? (idempotent ? undefined : DEFAULTS.retries),
      },
      createTopics: allowAutoTopicCreation,
      onEvent: (name, value) => {
        if (name === 'log') this.logger().native(value)
        else if (name === 'throttle') this.emit(EVENTS.THROTTLE, value)
        else this.logger().error(value.message, { code: value.name })
      },
    })
    await native.call('connect')
    this.#native = native
    this.emit(EVENTS.CONNECT)
  }

  async disconnect () {
    const native = this.#native
    this.#native = null
    this.#topics.clear()
    if (native) await native.close(CLOSE_TIMEOUT)
    this.emit(EVENTS.DISCONNECT)
  }

  isIdempotent () {
    return Boolean(this.#options.idempotent)
  }

  async transaction () {
    throw new KafkaJSNotImplemented('transactions come with a later version')
  }

  async send ({ topic, messages, ...options }) {
    return this.sendBatch({ topicMessages: [{ topic, messages }], ...options })
  }

  async sendBatch ({ topicMessages = [], acks = -1, timeout = 30_000, compression = 0 }) {
    const native = this.#native
    if (!native) throw new KafkaJSError('The producer is disconnected', { retriable: true })
    if (topicMessages.some(({ topic }) => !topic || typeof topic !== 'string')) throw new KafkaJSNonRetriableError('Invalid topic')
    if (topicMessages.length === 0 || topicMessages.some(({ messages }) => !messages)) {
      throw new KafkaJSNonRetriableError(`Invalid messages array [${topicMessages.map(({ messages }) => messages)}]`)
    }
    if (![-1, 0, 1].includes(acks)) throw new KafkaJSNonRetriableError(`Invalid acks: ${acks}: expected -1, 0 or 1`)
    if (this.isIdempotent() && acks !== -1) {
      throw new KafkaJSNonRetriableError("Not requiring ack for all messages invalidates the idempotent producer's EoS guarantees")
    }
    const codec = COMPRESSION[compression ?? 0]
    if (codec === undefined) throw new KafkaJSNotImplemented(`Invalid compression: ${compression}`)
    for (const { topic } of topicMessages) if (!this.#isThere(topic)) await this.#search(native, topic)

    const encoder = this.#encoder
    encoder.reset()
    const topics = []
    const counts = []
    for (const { topic, messages } of topicMessages) {
      topics.push(topic)
      counts.push(messages.length)
      for (const message of messages) encoder.add(message, this.#partitionFor(topic, message))
    }
    if (encoder.tableLength === 0) return []
    const delivered = await native.call('produce', topics, counts, encoder.table, encoder.tableLength,
      encoder.data, encoder.dataLength, acks, codec, timeout).catch((error) => { throw this.#told(topics, error) })
    if (acks === 0) return []
    return delivered.map(([topicName, partition, baseOffset, logAppendTime, logStartOffset]) => ({
      topicName, partition, errorCode: 0, baseOffset, logAppendTime, logStartOffset,
    }))
  }

  #partitionFor (topic, message) {
    if (message === null || typeof message !== 'object') throw new KafkaJSNonRetriableError('Invalid message')
    if (this.#partitioner) {
      const partitionMetadata = this.#topics.get(topic).partitions
      const partition = this.#partitioner({ topic, partitionMetadata, message })
      if (!Number.isInteger(partition)) throw new KafkaJSNonRetriableError(`The partitioner gave no partition: ${partition}`)
      return partition
    }
    return message.partition ?? -1
  }

  /** Whether the topic is known to be there; its partitions count for `metadataMaxAge`. */
  #isThere (topic) {
    const known = this.#topics.get(topic)
    return known !== undefined && (!this.#partitioner || Date.now() - known.at < (this.#options.metadataMaxAge ?? 300_000))
  }

  #search (native, topic) {
    let search = this.#searches.get(topic)
    if (search === undefined) {
      search = this.#find(native, topic).finally(() => { this.#searches.delete(topic) })
      this.#searches.set(topic, search)
    }
    return search
  }

  /** Asks for the topic, as KafkaJS does before it sends: if it isn't there, again and again until the retries are used up. */
  async #find (native, topic) {
    const { allowAutoTopicCreation = true, retry } = this.#options
    const backoff = new Backoff(retry)
    for (;;) {
      const { topics } = await native.call('metadata', allowAutoTopicCreation ? topic : null, 30_000)
      const { errorCode, partitions } = topics.find(({ name }) => name === topic) ?? { errorCode: UNKNOWN_TOPIC_OR_PARTITION }
      if (![UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE].includes(errorCode)) {
        // What else is wrong with the topic, producing to it tells; but a partitioner has nothing to choose from.
        if (this.#partitioner && partitions.length === 0) throw new KafkaJSNonRetriableError(`There is no topic ${topic}`)
        this.#topics.set(topic, { at: Date.now(), partitions })
        return
      }
      const error = missing(topic)
      const pause = backoff.pauseAfter(error)
      if (pause === null) throw backoff.exceeded(error)
      await new Promise((resolve) => { setTimeout(resolve, pause) })
      if (this.#native !== native) throw new KafkaJSError('The producer is disconnected', { retriable: true })
    }
  }

  /** The error of a `send`. If a topic is gone, the native library has waited as long as all retries take. */
  #told (topics, error) {
    if (error.code !== '_UNKNOWN_TOPIC' && error.type !== 'UNKNOWN_TOPIC_OR_PARTITION') return error
    for (const topic of topics) this.#topics.delete(topic)
    const waits = pauses(this.#options.retry)
    return new KafkaJSNumberOfRetriesExceeded(missing(topics.join(', ')), { retryCount: waits.length, retryTime: waits.at(-1) })
  }
}

const missing = (topic) => new KafkaJSProtocolError({
  message: `There is no topic ${topic}`, type: 'UNKNOWN_TOPIC_OR_PARTITION', code: UNKNOWN_TOPIC_OR_PARTITION, retriable: true,
})

module.exports = { Producer }
