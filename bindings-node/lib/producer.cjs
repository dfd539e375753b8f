'use strict'

const { Native } = require('./native.cjs')
const { Encoder } = require('./messages.cjs')
const { Instrumented, networkEvents } = require('./instrumentation.cjs')
const { DEFAULTS, nativeBackoff } = require('./retry.cjs')
const { Partitioners } = require('./partitioners.cjs')
const { KafkaJSError, KafkaJSNonRetriableError, KafkaJSNotImplemented } = require('./errors.cjs')

const EVENTS = Object.freeze({
  CONNECT: 'producer.connect',
  DISCONNECT: 'producer.disconnect',
  ...networkEvents('producer'),
})

const COMPRESSION = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const CLOSE_TIMEOUT = 30_000

class Producer extends Instrumented {
  #connection
  #options
  #native = null
  #connecting = null
  #encoder = new Encoder()
  /** For a partitioner in JavaScript: itself, and the partitions of the topics that it was asked about. */
  #partitioner = null
  #partitions = new Map()

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
        ...nativeBackoff(retry),
        retries: retry.retries ?? (idempotent ? undefined : DEFAULTS.retries),
      },
      createTopics: allowAutoTopicCreation,
      onEvent: (name, value) => {
        if (name === 'log') this.logger().native(value)
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
    this.#partitions.clear()
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
    if (this.#partitioner) for (const { topic } of topicMessages) await this.#loadPartitions(native, topic)

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
      encoder.data, encoder.dataLength, acks, codec, timeout)
    if (acks === 0) return []
    return delivered.map(([topicName, partition, baseOffset, logAppendTime, logStartOffset]) => ({
      topicName, partition, errorCode: 0, baseOffset, logAppendTime, logStartOffset,
    }))
  }

  #partitionFor (topic, message) {
    if (message === null || typeof message !== 'object') throw new KafkaJSNonRetriableError('Invalid message')
    if (this.#partitioner) {
      const partitionMetadata = this.#partitions.get(topic).partitions
      const partition = this.#partitioner({ topic, partitionMetadata, message })
      if (!Number.isInteger(partition)) throw new KafkaJSNonRetriableError(`The partitioner gave no partition: ${partition}`)
      return partition
    }
    return message.partition ?? -1
  }

  /** The topic's partitions, asked again after `metadataMaxAge`. */
  async #loadPartitions (native, topic) {
    const known = this.#partitions.get(topic)
    if (known && Date.now() - known.at < (this.#options.metadataMaxAge ?? 300_000)) return
    const { allowAutoTopicCreation = true } = this.#options
    for (let tries = 0; tries < 20; tries++) {
      const { topics } = await native.call('metadata', allowAutoTopicCreation ? topic : null, 30_000)
      const found = topics.find(({ name }) => name === topic)
      if (found?.partitions.length > 0) {
        this.#partitions.set(topic, { at: Date.now(), partitions: found.partitions })
        return
      }
      if (!allowAutoTopicCreation) break
      await new Promise((resolve) => { setTimeout(resolve, 10) })
    }
    throw new KafkaJSNonRetriableError(`There is no topic ${topic}`)
  }
}

module.exports = { Producer }
