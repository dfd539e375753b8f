'use strict'

// The native client: calls with a number each, whose promises settle when the one callback says so.

const { KafkaJSError, KafkaJSNonRetriableError, fromNative } = require('./errors.cjs')

/** The addon, loaded when the first client connects. */
let addon
function load () {
  try {
    addon ??= require('../ottla.node')
  } catch (cause) {
    throw new KafkaJSNonRetriableError(`ottla has no native library for ${process.platform}-${process.arch}: ${cause.message}`)
  }
  return addon
}

class Native {
  #client
  #calls = new Map()
  #next = 1
  #holds = 0
  #keepAlive = null

  /**
   * @param {{isConsumer?: boolean, properties: Record<string, string>, createTopics?: boolean,
   *   onEvent?: (name: string, value: any) => void}} options
   */
  constructor ({ isConsumer = false, properties, createTopics = true, onEvent = () => {} }) {
    const { NativeClient } = load()
    const pairs = Object.entries(properties).filter(([, value]) => value !== undefined && value !== null)
    const callback = (id, error, value) => {
      if (id === 0) return onEvent(error, value)
      const call = this.#calls.get(id)
      if (call === undefined) return
      this.#calls.delete(id)
      this.release()
      if (error === null) call.resolve(value)
      else call.reject(fromNative(error))
    }
    try {
      this.#client = new NativeClient(isConsumer, pairs.flatMap(([name, value]) => [name, String(value)]), createTopics, callback)
    } catch (error) {
      throw new KafkaJSNonRetriableError(error.message)
    }
  }

  /** Calls a method that settles later. The process stays alive until then. */
  call (method, ...args) {
    return new Promise((resolve, reject) => {
      const id = this.#next
      this.#next = id === 0x7fffffff ? 1 : id + 1
      this.#calls.set(id, { resolve, reject })
      this.hold()
      try {
        this.#client[method](id, ...args)
      } catch (error) {
        this.#calls.delete(id)
        this.release()
        reject(new KafkaJSError(error.message, { retriable: false }))
      }
    })
  }

  /** Calls a method that is done at once. */
  tell (method, ...args) {
    this.#client[method](...args)
  }

  /** Keeps the process alive until `release`. */
  hold () {
    if (this.#holds++ > 0) return
    if (this.#keepAlive === null) this.#keepAlive = setInterval(() => {}, 0x7fffffff)
    else this.#keepAlive.ref()
  }

  release () {
    if (--this.#holds === 0) this.#keepAlive.unref()
  }

  /** Ends the client. */
  async close (timeout) {
    await this.call('close', timeout)
    clearInterval(this.#keepAlive)
  }
}

module.exports = { Native }
