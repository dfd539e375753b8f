// The scenarios' interpreter for the npm package: runs a plan, prints a line of JSON for each step that has a result.
//
//   node run.mjs PLAN
//
// What a plan's lines mean, and how what KafkaJS lacks is done with what it has, is in docs/internals/scenarios.md.
import { readFileSync } from 'node:fs'
import { CompressionTypes, Kafka, logLevel } from 'ottla'

/** How long anything may take, in ms. */
const PATIENCE = 10_000
/** How long nothing more must come before an end is believed: KafkaJS doesn't tell the end of a partition. */
const QUIET = 30
const OK = { ok: true }

/** Where librdkafka's names for the broker's errors are not Kafka's. */
const LIBRDKAFKA_NAMES = {
  UNKNOWN_TOPIC_OR_PARTITION: 'UNKNOWN_TOPIC_OR_PART',
  MESSAGE_TOO_LARGE: 'MSG_SIZE_TOO_LARGE',
  INVALID_TOPIC_EXCEPTION: 'TOPIC_EXCEPTION',
}
const COMPRESSION = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const bytes = (text) => text === '-' ? null : Buffer.from(text, 'hex')
const hex = (value) => value === null || value === undefined ? null : Buffer.from(value).toString('hex')
const keyOf = (topic, partition) => `${topic}/${partition}`
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms) })

function errorOf (error) {
  if (error.name === 'KafkaJSNumberOfRetriesExceeded') error = error.cause
  const name = typeof error.code === 'string' ? error.code : error.type ?? error.name
  return { error: { code: LIBRDKAFKA_NAMES[name] ?? name, message: error.message } }
}

/** name=value properties, of which each must be taken out with `take` before `rest` is asked. */
class Properties {
  constructor (list) {
    this.values = new Map(list.map((property) => {
      const at = property.indexOf('=')
      return [property.slice(0, at), property.slice(at + 1)]
    }))
  }

  take (name) {
    const value = this.values.get(name)
    this.values.delete(name)
    return value
  }

  number (name) {
    const value = this.take(name)
    return value === undefined ? undefined : Number(value)
  }

  none () {
    for (const name of this.values.keys()) throw new Error(`KafkaJS has no option for ${name}`)
  }
}

/** A consumer that is asked for records: its handler waits until one is wanted. */
class Reader {
  constructor (kafka, list) {
    const properties = new Properties(list)
    const groupId = properties.take('group.id')
    this.fromBeginning = ['earliest', 'beginning', 'smallest'].includes(properties.take('auto.offset.reset'))
    this.autoCommit = properties.take('enable.auto.commit') === 'true'
    const assignor = properties.take('partition.assignment.strategy')
    const options = {
      groupId,
      groupInstanceId: properties.take('group.instance.id'),
      allowAutoTopicCreation: properties.take('allow.auto.create.topics') === 'true',
      maxBytesPerPartition: properties.number('max.partition.fetch.bytes'),
      partitionAssigners: assignor?.split(','),
    }
    properties.none()
    this.groupId = groupId
    this.consumer = kafka.consumer(options)
    this.records = []
    /** How many more records may be taken. */
    this.wanted = 0
    /** Handlers that wait: partition's key, and what to call with whether to go on. */
    this.waiting = []
    this.consumed = new Map()
    /** Assigned partitions that are to be read; null: all. */
    this.only = null
    this.failure = null
    this.changed = () => {}
    this.consumer.on(this.consumer.events.CRASH, ({ payload }) => { this.failure = payload.error; this.changed() })
  }

  async run (topics) {
    await this.consumer.subscribe({ topics, fromBeginning: this.fromBeginning })
    await this.consumer.run({
      autoCommit: this.autoCommit,
      partitionsConsumedConcurrently: 100,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch, resolveOffset, isStale, pause }) => {
        const { topic, partition } = batch
        if (this.only && !this.only.has(keyOf(topic, partition))) {
          pause()
          return
        }
        for (const message of batch.messages) {
          if (!(await this.mayTake(keyOf(topic, partition))) || isStale()) return
          this.take(topic, partition, message)
          resolveOffset(message.offset)
        }
      },
    })
  }

  take (topic, partition, { offset, timestamp, key, value, headers }) {
    this.consumed.set(keyOf(topic, partition), { topic, partition, offset: String(Number(offset) + 1) })
    this.wanted--
    this.records.push({
      topic,
      partition,
      offset: Number(offset),
      timestamp: Number(timestamp),
      key: hex(key),
      value: hex(value),
      headers: Object.entries(headers).flatMap(([name, one]) => (Array.isArray(one) ? one : [one]).map((v) => [name, hex(v)])),
    })
    this.changed()
  }

  mayTake (key) {
    if (this.wanted > 0) return true
    return new Promise((go) => { this.waiting.push({ key, go }) })
  }

  /** Lets handlers that wait go on, or end: all, or those of these partitions. */
  release (goOn, keys) {
    const waiting = this.waiting.filter(({ key }) => !keys || keys.includes(key))
    this.waiting = this.waiting.filter((one) => !waiting.includes(one))
    for (const { go } of waiting) go(goOn)
  }

  /** Takes records until there are `count`, and what comes within `quiet` ms behind them. */
  async read (count, timeout, quiet) {
    const until = Date.now() + timeout
    this.records = []
    this.wanted = count
    if (count > 0) {
      while (this.wanted > 0 && !this.failure && Date.now() < until) {
        this.release(true)
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, Math.max(until - Date.now(), 1))
          this.changed = () => { clearTimeout(timer); resolve() }
        })
      }
    }
    if (quiet > 0 && !this.failure) {
      this.wanted = Infinity
      this.release(true)
      await sleep(quiet)
    }
    this.wanted = 0
    this.changed = () => {}
    if (this.failure) throw this.failure
    return { records: this.records }
  }

  async stop () {
    this.release(false)
    await this.consumer.disconnect()
  }
}

/** What a scenario has open. */
class Scenario {
  producers = []
  sends = []
  reader = null

  constructor (name, servers) {
    this.name = name
    this.kafka = new Kafka({ brokers: [servers], clientId: 'scenarios', logLevel: logLevel.NOTHING })
  }

  async step (verb, args) {
    if (verb === 'producer') return this.producer(args)
    if (verb === 'deliver') {
      const deliveries = await Promise.all(this.sends)
      this.sends = []
      return { deliveries }
    }
    if (verb === 'consumer') {
      const reader = new Reader(this.kafka, args)
      await reader.consumer.connect()
      this.reader = reader
      return OK
    }
    if (!this.reader) throw new Error('there is no consumer')
    if (verb === 'close') {
      const reader = this.reader
      this.reader = null
      await reader.stop()
      return OK
    }
    return this.readStep(verb, args)
  }

  async producer (list) {
    const properties = new Properties(list)
    const acks = properties.take('acks')
    const options = { acks: { all: -1, undefined: -1 }[acks] ?? Number(acks), compression: properties.take('compression.type') ?? 'none' }
    options.compression = COMPRESSION[options.compression] ?? options.compression
    const partitioner = properties.take('partitioner') ?? 'murmur2_random'
    if (partitioner !== 'murmur2_random') throw new Error(`KafkaJS has no partitioner ${partitioner}`)
    const createTopics = properties.take('allow.auto.create.topics')
    // How long a topic may be on its way: KafkaJS has retries, here one after that time.
    const propagation = properties.number('topic.metadata.propagation.max.ms')
    const retry = propagation === undefined ? { maxRetryTime: properties.number('message.timeout.ms') } : { initialRetryTime: propagation, retries: 1 }
    const producer = this.kafka.producer({
      idempotent: properties.take('enable.idempotence') === 'true',
      maxInFlightRequests: properties.number('max.in.flight.requests.per.connection'),
      retry,
      allowAutoTopicCreation: createTopics === undefined ? undefined : createTopics === 'true',
    })
    properties.none()
    await producer.connect()
    this.producers.push({ producer, options })
    return OK
  }

  /** A send for each record, none waits for another: they share batches, and each knows its own partition and offset. */
  produce (topic, partition, timestamp, key, value, ...headers) {
    const message = { key: bytes(key), value: bytes(value) }
    if (partition !== '-1') message.partition = Number(partition)
    if (timestamp !== '0') message.timestamp = timestamp
    for (const header of headers) {
      const at = header.indexOf('=')
      const [name, one] = at < 0 ? [header, null] : [header.slice(0, at), bytes(header.slice(at + 1))]
      message.headers ??= {}
      if (!Object.hasOwn(message.headers, name)) message.headers[name] = one
      else message.headers[name] = [message.headers[name], one].flat()
    }
    const { producer, options } = this.producers.at(-1) ?? {}
    if (!producer) return void this.sends.push(errorOf(new Error('there is no producer')))
    this.sends.push(producer.send({ topic, messages: [message], ...options }).then(
      // Nothing is known of what nobody acknowledges.
      ([delivered]) => ({ partition: delivered?.partition ?? null, offset: delivered ? Number(delivered.baseOffset) : null }),
      errorOf,
    ))
  }

  async readStep (verb, args) {
    const { reader } = this
    const { consumer } = reader
    if (verb === 'assign') {
      // KafkaJS has no assignment of one's own: the group's only member has all partitions, and seeks.
      const starts = []
      for (let i = 0; i < args.length; i += 3) starts.push([args[i], Number(args[i + 1]), await this.start(...args.slice(i, i + 3))])
      // What the others give is not read, and so isn't committed.
      reader.only = new Set(starts.map(([topic, partition]) => keyOf(topic, partition)))
      await reader.run([...new Set(starts.map(([topic]) => topic))])
      for (const [topic, partition, offset] of starts) if (offset !== null) consumer.seek({ topic, partition, offset })
    } else if (verb === 'subscribe') {
      await reader.run(args.map((topic) => topic.startsWith('^') ? new RegExp(topic) : topic))
    } else if (verb === 'take') {
      return reader.read(Number(args[0]), PATIENCE, 0)
    } else if (verb === 'end') {
      return reader.read(Number(args[1]), PATIENCE, QUIET)
    } else if (verb === 'idle') {
      return reader.read(0, 0, Number(args[0]))
    } else if (verb === 'error') {
      await reader.read(Infinity, PATIENCE, 0)
      throw new Error('no error came')
    } else if (verb === 'pause' || verb === 'resume') {
      const [topic, ...numbers] = args
      consumer[verb]([{ topic, partitions: numbers.map(Number) }])
      if (verb === 'pause') reader.release(false, numbers.map((number) => keyOf(topic, number)))
    } else if (verb === 'seek') {
      const [topic, partition] = args
      consumer.seek({ topic, partition: Number(partition), offset: await this.start(...args) })
      reader.release(false, [keyOf(topic, partition)])
    } else if (verb === 'commit') {
      await consumer.commitOffsets([...reader.consumed.values()])
    } else if (verb === 'committed') {
      const [topic, partition] = args
      const [found] = await this.admin((admin) => admin.fetchOffsets({ groupId: reader.groupId, topics: [topic] }))
      return this.offset(found.partitions, partition)
    } else if (verb === 'watermarks') {
      const [topic, partition] = args
      const found = (await this.admin((admin) => admin.fetchTopicOffsets(topic))).find((one) => one.partition === Number(partition))
      return { offsets: [Number(found.low), Number(found.high)] }
    } else if (verb === 'time') {
      return { offsets: [await this.atTime(...args)] }
    } else {
      throw new Error(`not a step: ${verb} ${args}`)
    }
    return OK
  }

  async admin (ask) {
    const admin = this.kafka.admin()
    await admin.connect()
    try {
      return await ask(admin)
    } finally {
      await admin.disconnect()
    }
  }

  offset (partitions, number) {
    const offset = Number(partitions.find(({ partition }) => partition === Number(number)).offset)
    return { offsets: [offset >= 0 ? offset : null] }
  }

  /** KafkaJS gives the end's offset where no record is late enough. */
  async atTime (topic, partition, ms) {
    const [found, ends] = await this.admin((admin) => Promise.all([admin.fetchTopicOffsetsByTimestamp(topic, Number(ms)), admin.fetchTopicOffsets(topic)]))
    const of = (offsets) => Number(offsets.find((one) => one.partition === Number(partition)).offset)
    return of(found) === of(ends) ? 'end' : of(found)
  }

  /** Where to begin, as `seek` wants it; null: where the group is. */
  async start (topic, partition, start) {
    if (start === 'beginning') return '-2'
    if (start === 'end') return '-1'
    if (start === 'stored') return null
    if (start.startsWith('@')) {
      const offset = await this.atTime(topic, partition, start.slice(1))
      return offset === 'end' ? '-1' : String(offset)
    }
    if (start.startsWith('tail:')) throw new Error('KafkaJS has no offsets from the end')
    return start
  }

  async done () {
    await this.reader?.stop()
    for (const { producer } of this.producers) await producer.disconnect()
  }
}

const [path] = process.argv.slice(2)
if (!path) {
  console.error('usage: run.mjs PLAN')
  process.exit(2)
}
let scenario = null
for (const line of readFileSync(path, 'utf8').split('\n')) {
  if (line === '') continue
  const [verb, ...args] = line.split('\t')
  if (verb === 'scenario') scenario = new Scenario(...args)
  else if (verb === 'done') await scenario.done()
  else if (verb === 'record') scenario.produce(...args.slice(1))
  else {
    const [step, ...rest] = args
    const result = await scenario.step(verb, rest).catch(errorOf)
    console.log(JSON.stringify({ scenario: scenario.name, step: Number(step), result }))
  }
}
