'use strict'

const { EventEmitter } = require('node:events')
const { KafkaJSNonRetriableError } = require('./errors.cjs')

let nextId = 0

/** What producers, consumers and admins have in common: `events`, `on`, `logger`. */
class Instrumented {
  #emitter = new EventEmitter()
  #logger

  constructor (events, logger) {
    this.events = events
    this.#logger = logger
  }

  on (name, listener) {
    if (!Object.values(this.events).includes(name)) {
      throw new KafkaJSNonRetriableError(`Event name should be one of ${Object.keys(this.events).join(', ')}`)
    }
    const guarded = (event) => {
      Promise.resolve().then(() => listener(event)).catch((error) => {
        this.#logger.error(`Failed to execute listener: ${error.message}`, { eventName: name, stack: error.stack })
      })
    }
    this.#emitter.on(name, guarded)
    return () => { this.#emitter.removeListener(name, guarded) }
  }

  logger () {
    return this.#logger
  }

  /** For the subclasses. */
  emit (name, payload = null) {
    if (this.#emitter.listenerCount(name) === 0) return
    this.#emitter.emit(name, { id: nextId++, type: name, timestamp: Date.now(), payload })
  }
}

const networkEvents = (role) => ({
  REQUEST: `${role}.network.request`,
  REQUEST_TIMEOUT: `${role}.network.request_timeout`,
  REQUEST_QUEUE_SIZE: `${role}.network.request_queue_size`,
  /** KafkaJS has no such event: node-rdkafka's `event.throttle`. */
  THROTTLE: `${role}.network.throttle`,
})

module.exports = { Instrumented, networkEvents }
