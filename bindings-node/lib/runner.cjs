'use strict'

// A running consumer: takes the batches of its group member to the handlers, and commits what they have done.

const { Native } = require('./native.cjs')
const { messagesOf, offsetAt } = require('./messages.cjs')
const { KafkaJSProtocolError, fromNative } = require('./errors.cjs')
const { Backoff } = require('./retry.cjs')

/** Batches that may wait here for their handlers. */
const PREFETCHED = 4

/** One partition of the assignment. */
class Partition {
  queue = []
  isBusy = false
  /** Counts seeks: batches that were fetched before the last one are dropped. */
  epoch = 0
  /** The next offset to be worked off, and what of it was committed; null: unknown. */
  resolved = null
  committed = null
  /** Whether it still belongs to this member; while the group takes it away, its handler has to come to an end. */
  isAssigned = true
  isRevoked = false
  /** The pauses between tries of a handler that fails, and whether one is taken now. */
  backoff = null
  isWaiting = false

  constructor (topic, partition) {
    this.topic = topic
    this.partition = partition
  }
}

class Runner {
  #native = null
  #properties
  #options
  #subscription
  #config
  #events
  #emit
  #logger
  #onCrash

  #partitions = new Map()
  #paused = new Map()
  /** Epochs outlive assignments. */
  #epochs = new Map()
  /** Seeks that came before there was a member. */
  #early = []
  #ready = []
  #busy = 0
  #isRunning = false
  #idle = []
  #group = { memberId: '', generationId: -1 }
  #commitTimer = null
  #heartbeatTimer = null
  #lastHeartbeat = 0
  #heartbeating = null
  #sinceCommit = 0
  #joined
  #startedAt = 0

  constructor ({ properties, options, subscription, config, events, emit, logger, onCrash }) {
    this.#properties = properties
    this.#options = options
    this.#subscription = subscription
    this.#config = config
    this.#events = events
    this.#emit = emit
    this.#logger = logger
    this.#onCrash = onCrash
  }

  /** Resolves when the member has joined its group. `seek`, `pause` and `stop` may come before that. */
  async start () {
    this.#isRunning = true
    this.#startedAt = Date.now()
    const joined = new Promise((resolve) => { this.#joined = resolve })
    const properties = await this.#properties()
    if (!this.#isRunning) return
    const native = new Native({ isConsumer: true, properties, onEvent: (name, value) => this.#event(name, value) })
    native.hold()
    this.#native = native
    try {
      // The calls are worked off in turn. The member takes commands as soon as it is to start.
      const { rebalanceTimeout = 60_000 } = this.#options
      const done = [
        native.call('connect'),
        native.call('start', [...this.#subscription.keys()], [...this.#subscription.values()], PREFETCHED, rebalanceTimeout),
      ]
      for (const [topic, number, offset, epoch] of this.#early.splice(0)) native.tell('seek', topic, number, offset, epoch)
      for (const result of await Promise.allSettled(done)) if (result.status === 'rejected') throw result.reason
    } catch (error) {
      await this.stop()
      throw error
    }
    if (!this.#isRunning) return
    const { heartbeatInterval = 3000 } = this.#options
    this.#lastHeartbeat = Date.now()
    this.#heartbeatTimer = setInterval(() => {
      // While handlers are at work, it is theirs to say that they are alive.
      if (this.#busy === 0) this.#heartbeat().catch((error) => this.#logger.debug(error.message))
    }, heartbeatInterval)
    this.#heartbeatTimer.unref()
    const { autoCommit = true, autoCommitInterval } = this.#config
    if (autoCommit && autoCommitInterval) {
      this.#commitTimer = setInterval(() => { this.#commitResolved().catch((error) => this.#warn(error)) }, autoCommitInterval)
      this.#commitTimer.unref()
    }
    await joined
  }

  async stop () {
    if (!this.#isRunning) return
    this.#isRunning = false
    this.#joined()
    clearInterval(this.#commitTimer)
    clearInterval(this.#heartbeatTimer)
    const native = this.#native
    if (native === null) return
    await this.#handlersDone()
    if (this.#config.autoCommit ?? true) await this.#commitResolved().catch((error) => this.#warn(error))
    await native.call('stop').catch((error) => this.#warn(error))
    native.release()
    await native.close(0)
  }

  /** Resolves once no handler is at work. */
  #handlersDone () {
    if (this.#busy === 0) return Promise.resolve()
    return new Promise((resolve) => { this.#idle.push(resolve) })
  }

  #warn (error) {
    this.#logger.warn(error.message, { groupId: this.#options.groupId })
  }

  #event (name, value) {
    if (name === 'batch') this.#batch(value)
    else if (name === 'assign') this.#assigned(value)
    else if (name === 'revoke') this.#revoked(value)
    else if (name === 'log') this.#logger.native(value)
    else if (name === 'warning') this.#warn(value)
    else if (name === 'throttle') this.#emit(this.#events.THROTTLE, value)
    else if (value.fatal) this.#onCrash(fromNative(value))
    else this.#logger.error(value.message, { groupId: this.#options.groupId, code: value.name })
  }

  #assigned ({ partitions, memberId, generationId, leaderId, protocol }) {
    this.#group = { memberId, generationId }
    for (const { topic, partition, offset } of partitions) {
      const assigned = new Partition(topic, partition)
      const key = keyOf(topic, partition)
      assigned.epoch = this.#epochs.get(key) ?? 0
      if (!offset.startsWith('-')) assigned.committed = Number(offset)
      this.#partitions.set(key, assigned)
      if (this.#isPaused(topic, partition)) this.#native.tell('pause', topic, [partition], true)
    }
    const memberAssignment = {}
    for (const { topic, partition } of this.#partitions.values()) (memberAssignment[topic] ??= []).push(partition)
    this.#emit(this.#events.GROUP_JOIN, {
      duration: Date.now() - this.#startedAt,
      groupId: this.#options.groupId,
      isLeader: leaderId === memberId,
      leaderId,
      groupProtocol: protocol,
      memberId,
      memberAssignment,
    })
    this.#joined()
  }

  /** Waits for handlers that are at work, commits, and lets the group go on. What is lost may be another's by now: nobody waits for it. */
  async #revoked ({ partitions, memberId, lost }) {
    this.#emit(this.#events.REBALANCING, { groupId: this.#options.groupId, memberId })
    this.#startedAt = Date.now()
    const revoked = partitions.map(({ topic, partition }) => this.#partitions.get(keyOf(topic, partition))).filter(Boolean)
    for (const partition of revoked) {
      partition.isRevoked = true
      this.#drop(partition)
    }
    if (lost) {
      for (const partition of revoked) this.#unassigned(partition)
      return
    }
    while (revoked.some(({ isBusy }) => isBusy)) await new Promise((resolve) => { setTimeout(resolve, 2) })
    if (this.#config.autoCommit ?? true) await this.#commitResolved().catch((error) => this.#warn(error))
    for (const partition of revoked) this.#unassigned(partition)
    this.#native.tell('revoked')
  }

  #unassigned (partition) {
    partition.isAssigned = false
    this.#partitions.delete(keyOf(partition.topic, partition.partition))
  }

  #batch (batch) {
    const partition = this.#partitions.get(keyOf(batch.topic, batch.partition))
    if (!this.#isRunning || partition === undefined || batch.epoch !== partition.epoch) return this.#native.tell('credit')
    this.#emit(this.#events.FETCH, { numberOfBatches: 1, duration: batch.waited, nodeId: batch.node })
    partition.queue.push(batch)
    if (this.#isHeld(partition)) this.#giveBack(batch)
    else this.#schedule(partition)
  }

  /** Whether its batches have to wait. */
  #isHeld (partition) {
    return partition.isWaiting || this.#isPaused(partition.topic, partition.partition)
  }

  /** Makes room for another batch: this one is done, or waits for so long that others mustn't wait for it. */
  #giveBack (batch) {
    if (batch.isGivenBack) return
    batch.isGivenBack = true
    this.#native.tell('credit')
  }

  #schedule (partition) {
    if (partition.isBusy || partition.queue.length === 0 || this.#isHeld(partition) || this.#ready.includes(partition)) return
    this.#ready.push(partition)
    this.#next()
  }

  #next () {
    const limit = this.#config.partitionsConsumedConcurrently ?? 1
    while (this.#busy < limit && this.#isRunning) {
      const partition = this.#ready.shift()
      if (partition === undefined) return
      if (this.#isHeld(partition)) continue
      const batch = partition.queue.shift()
      if (batch === undefined) continue
      partition.isBusy = true
      this.#busy++
      this.#process(partition, batch).catch((error) => this.#failed(partition, error)).finally(() => {
        partition.isBusy = false
        this.#busy--
        this.#giveBack(batch)
        this.#schedule(partition)
        this.#next()
        if (this.#busy === 0) for (const resolve of this.#idle.splice(0)) resolve()
      })
    }
  }

  async #process (partition, batch) {
    const { topic, partition: number } = partition
    const { epoch } = batch
    const messages = messagesOf(batch)
    const last = offsetAt(batch, messages.length - 1)
    const high = batch.highWatermark
    const view = {
      topic,
      partition: number,
      highWatermark: high,
      messages,
      isEmpty: () => messages.length === 0,
      firstOffset: () => String(batch.firstOffset),
      lastOffset: () => String(last),
      offsetLag: () => String(Math.max(Number(high) - 1 - last, 0)),
      offsetLagLow: () => String(Math.max(Number(high) - 1 - batch.firstOffset, 0)),
    }
    const payload = {
      topic,
      partition: number,
      highWatermark: high,
      offsetLag: view.offsetLag(),
      offsetLagLow: view.offsetLagLow(),
      batchSize: messages.length,
      firstOffset: view.firstOffset(),
      lastOffset: view.lastOffset(),
    }
    this.#emit(this.#events.START_BATCH_PROCESS, payload)
    const started = Date.now()
    if (partition.resolved === null) partition.resolved = batch.firstOffset
    const isStale = () => !this.#isRunning || !partition.isAssigned || partition.isRevoked || partition.epoch !== epoch
    const resolve = (next) => {
      // A seek or a rebalance in the meantime has the last word.
      if (partition.epoch !== epoch || !partition.isAssigned) return
      if (partition.resolved === null || next > partition.resolved) {
        this.#sinceCommit += next - (partition.resolved ?? next - 1)
        partition.resolved = next
      }
    }
    const pause = () => {
      this.pause(topic, [number])
      return () => this.resume(topic, [number])
    }
    const heartbeat = () => this.#heartbeat(partition)
    try {
      if (this.#config.eachMessage) {
        for (let i = 0; i < messages.length; i++) {
          if (isStale() || this.#isPaused(topic, number)) break
          await this.#config.eachMessage({ topic, partition: number, message: messages[i], heartbeat, pause })
          resolve(offsetAt(batch, i) + 1)
          if (this.#isHeartbeatDue() && !isStale()) await heartbeat()
          if (this.#isCommitDue()) await this.#commitResolved()
        }
      } else if (this.#config.eachBatch) {
        await this.#config.eachBatch({
          batch: view,
          resolveOffset: (offset) => resolve(Number(offset) + 1),
          heartbeat,
          pause,
          commitOffsetsIfNecessary: async (offsets) => {
            if (offsets) await this.commit(flat(offsets))
            else if (this.#isCommitDue()) await this.#commitResolved()
          },
          uncommittedOffsets: () => this.#uncommitted(),
          isRunning: () => this.#isRunning,
          isStale,
        })
        if (this.#config.eachBatchAutoResolve ?? true) resolve(last + 1)
      }
      partition.backoff = null
    } finally {
      // What wasn't resolved comes again.
      if (!isStale() && partition.resolved !== null && partition.resolved <= last) {
        this.seek(topic, number, partition.resolved)
      }
    }
    const { autoCommit = true, autoCommitInterval, autoCommitThreshold } = this.#config
    if (autoCommit && (this.#isCommitDue() || (!autoCommitInterval && !autoCommitThreshold && this.#ready.length === 0))) {
      await this.#commitResolved()
    }
    this.#emit(this.#events.END_BATCH_PROCESS, { ...payload, duration: Date.now() - started })
    if (!isStale()) await heartbeat()
  }

  #isHeartbeatDue () {
    return Date.now() >= this.#lastHeartbeat + (this.#options.heartbeatInterval ?? 3000)
  }

  /**
   * What KafkaJS's `heartbeat` does: nothing until the last one is `heartbeatInterval` ago. The heartbeats themselves are sent by the
   * client's own thread; this one tells it that the handlers are alive, and rejects when the member or the partition is lost.
   */
  async #heartbeat (partition) {
    if (partition?.isRevoked) throw membershipError('REBALANCE_IN_PROGRESS', 27, 'The group is rebalancing')
    if (partition && !partition.isAssigned) throw membershipError('UNKNOWN_MEMBER_ID', 25, 'The member is not in the group any more')
    if (!this.#isHeartbeatDue()) return
    const { groupId } = this.#options
    this.#heartbeating ??= this.#native.call('heartbeat').then(({ memberId, generationId }) => {
      if (generationId < 0) throw membershipError('UNKNOWN_MEMBER_ID', 25, 'The member is not in the group any more')
      this.#lastHeartbeat = Date.now()
      this.#emit(this.#events.HEARTBEAT, { groupId, memberId, groupGenerationId: generationId })
    }).finally(() => { this.#heartbeating = null })
    await this.#heartbeating
  }

  /** Tries again with growing pauses, then crashes. The failed messages were given back already. */
  async #failed (partition, error) {
    const { topic, partition: number } = partition
    // It goes on elsewhere, or here after the rebalance.
    if (partition.isRevoked || !partition.isAssigned || MEMBERSHIP.includes(error?.type)) return this.#logger.debug(`A handler was given up: ${error?.message}`, { topic, partition: number })
    this.#logger.error(`Error when calling ${this.#config.eachMessage ? 'eachMessage' : 'eachBatch'}`, {
      topic, partition: number, offset: String(partition.resolved), stack: error?.stack, error: String(error?.message ?? error),
    })
    if (!this.#isRunning) return
    partition.backoff ??= new Backoff(this.#options.retry)
    const retryTime = partition.backoff.pauseAfter(error)
    if (retryTime === null) {
      const exceeded = partition.backoff.exceeded(error)
      partition.backoff = null
      return void this.#onCrash(error?.retriable === false ? error : exceeded)
    }
    this.#hold(partition)
    partition.isWaiting = true
    setTimeout(() => {
      partition.isWaiting = false
      if (this.#isRunning && partition.isAssigned && !this.#isPaused(topic, number)) this.#goOn(partition)
    }, retryTime)
  }

  #isCommitDue () {
    const { autoCommit = true, autoCommitThreshold } = this.#config
    return autoCommit && Boolean(autoCommitThreshold) && this.#sinceCommit >= autoCommitThreshold
  }

  #pending () {
    return [...this.#partitions.values()].filter(({ resolved, committed }) => resolved !== null && resolved !== committed)
  }

  #uncommitted () {
    const topics = {}
    for (const { topic, partition, resolved } of this.#pending()) {
      (topics[topic] ??= []).push({ partition: String(partition), offset: String(resolved) })
    }
    return { topics: Object.entries(topics).map(([topic, partitions]) => ({ topic, partitions })) }
  }

  async #commitResolved () {
    this.#sinceCommit = 0
    const pending = this.#pending()
    if (pending.length > 0) await this.commit(pending.map(({ topic, partition, resolved }) => ({ topic, partition, offset: resolved })))
  }

  async commit (offsets) {
    await this.#native.call('commit', offsets)
    for (const { topic, partition, offset } of offsets) {
      const known = this.#partitions.get(keyOf(topic, partition))
      if (known) known.committed = offset
    }
    const topics = {}
    for (const { topic, partition, offset } of offsets) (topics[topic] ??= []).push({ partition: String(partition), offset: String(offset) })
    this.#emit(this.#events.COMMIT_OFFSETS, {
      groupId: this.#options.groupId,
      memberId: this.#group.memberId,
      groupGenerationId: this.#group.generationId,
      topics: Object.entries(topics).map(([topic, partitions]) => ({ topic, partitions })),
    })
  }

  /** Gives up what waits of a partition. */
  #drop (partition) {
    for (const batch of partition.queue) this.#giveBack(batch)
    partition.queue = []
  }

  /** Nothing of a partition is to come, but what is on its way; that, and what waits here, waits on. */
  #hold (partition) {
    this.#native.tell('pause', partition.topic, [partition.partition], true)
    for (const batch of partition.queue) this.#giveBack(batch)
  }

  #goOn (partition) {
    this.#native.tell('pause', partition.topic, [partition.partition], false)
    this.#schedule(partition)
  }

  /** Offsets -1 and -2 are the end and the beginning. */
  seek (topic, number, offset) {
    const key = keyOf(topic, number)
    const epoch = (this.#epochs.get(key) ?? 0) + 1
    this.#epochs.set(key, epoch)
    const partition = this.#partitions.get(key)
    if (partition) {
      partition.epoch = epoch
      partition.resolved = offset >= 0 ? offset : null
      this.#drop(partition)
    }
    if (this.#native === null) this.#early.push([topic, number, offset, epoch])
    else this.#native.tell('seek', topic, number, offset, epoch)
  }

  pause (topic, numbers) {
    const paused = this.#paused.get(topic) ?? { all: false, partitions: new Set() }
    this.#paused.set(topic, paused)
    if (numbers === undefined) paused.all = true
    else for (const number of numbers) paused.partitions.add(number)
    for (const partition of this.#assignedOf(topic, numbers)) this.#hold(partition)
  }

  resume (topic, numbers) {
    const paused = this.#paused.get(topic)
    if (!paused) return
    if (numbers === undefined) this.#paused.delete(topic)
    else {
      if (paused.all) {
        paused.all = false
        for (const { partition } of this.#assignedOf(topic)) paused.partitions.add(partition)
      }
      for (const number of numbers) paused.partitions.delete(number)
    }
    for (const partition of this.#assignedOf(topic, numbers)) if (!partition.isWaiting) this.#goOn(partition)
  }

  paused () {
    return [...this.#paused].map(([topic, { all, partitions }]) => ({
      topic,
      partitions: all ? this.#assignedOf(topic).map(({ partition }) => partition) : [...partitions].sort((a, b) => a - b),
    })).filter(({ partitions }) => partitions.length > 0)
  }

  #assignedOf (topic, numbers) {
    return [...this.#partitions.values()].filter((p) => p.topic === topic && (numbers === undefined || numbers.includes(p.partition)))
  }

  #isPaused (topic, number) {
    const paused = this.#paused.get(topic)
    return paused !== undefined && (paused.all || paused.partitions.has(number))
  }
}

/** Errors that say that the group gives the work to somebody. */
const MEMBERSHIP = ['REBALANCE_IN_PROGRESS', 'UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION']
const membershipError = (type, code, message) => new KafkaJSProtocolError({ type, code, message, retriable: true })

const keyOf = (topic, partition) => `${partition}:${topic}`

const flat = ({ topics }) => topics.flatMap(({ topic, partitions }) =>
  partitions.map(({ partition, offset }) => ({ topic, partition: Number(partition), offset: Number(offset) })))

module.exports = { Runner }
