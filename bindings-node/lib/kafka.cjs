'use strict'

const { Producer } = require('./producer.cjs')
const { Consumer } = require('./consumer.cjs')
const { Admin } = require('./admin.cjs')
const { Logger } = require('./logger.cjs')
const { KafkaJSNonRetriableError, KafkaJSNotImplemented } = require('./errors.cjs')

/** Options of connections to remote brokers, which come with a later version: an embedded broker has no sockets. */
const REFUSED = ['ssl', 'sasl', 'socketFactory']
const WITHOUT_MEANING = ['connectionTimeout', 'authenticationTimeout', 'reauthenticationThreshold', 'enforceRequestTimeout']

class Kafka {
  #options
  #logger

  constructor (options = {}) {
    options = options.kafkaJS ? { ...options, ...options.kafkaJS } : options
    if (!options.brokers || (Array.isArray(options.brokers) && options.brokers.length === 0)) {
      throw new KafkaJSNonRetriableError("Failed to connect: expected brokers, such as ['memory:'] or ['file:///var/lib/app']")
    }
    for (const name of REFUSED) {
      if (options[name]) throw new KafkaJSNotImplemented(`${name}: connections to remote brokers come with a later version`)
    }
    this.#options = options
    this.#logger = new Logger(options.logLevel, options.logCreator)
    for (const name of WITHOUT_MEANING) {
      if (options[name] !== undefined) this.#logger.warn(`${name} means nothing to an embedded broker`)
    }
  }

  producer (options = {}) {
    return new Producer(this.#connection(), this.#merged(options), this.#logger.namespace('Producer'))
  }

  consumer (options = {}) {
    return new Consumer(this.#connection(), this.#merged(options), this.#logger.namespace('Consumer'))
  }

  admin (options = {}) {
    return new Admin(this.#connection(), this.#merged(options), this.#logger.namespace('Admin'))
  }

  logger () {
    return this.#logger
  }

  /** A client's options; its own `retry` goes before that of all. */
  #merged (options) {
    const own = unnested(options)
    return { ...own, retry: { ...this.#options.retry, ...own.retry } }
  }

  /** Gives the properties that all clients share, once they connect. */
  #connection () {
    const { brokers, clientId = 'kafkajs', requestTimeout } = this.#options
    return async () => {
      const list = typeof brokers === 'function' ? await brokers() : brokers
      if (!Array.isArray(list) || !list.every((broker) => typeof broker === 'string') || list.length === 0) {
        throw new KafkaJSNonRetriableError('Failed to connect: brokers has to be an array of strings')
      }
      return {
        'bootstrap.servers': list.join(','),
        'client.id': clientId,
        'socket.timeout.ms': requestTimeout,
      }
    }
  }
}

const unnested = (options) => options.kafkaJS ? { ...options, ...options.kafkaJS } : options

module.exports = { Kafka }
