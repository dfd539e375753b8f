'use strict'

// KafkaJS's retries: growing, randomised pauses.

const { KafkaJSNumberOfRetriesExceeded, KafkaJSProtocolError } = require('./errors.cjs')

const DEFAULTS = Object.freeze({ maxRetryTime: 30_000, initialRetryTime: 300, factor: 0.2, multiplier: 2, retries: 5 })
/** Mistakes of a program: trying again doesn't help. */
const UNRECOVERABLE = ['RangeError', 'ReferenceError', 'SyntaxError', 'TypeError']
/** The longest pause that the native library takes. */
const LONGEST_NATIVE = 300_000

/** The pauses of one thing that is tried again and again. */
class Backoff {
  #options
  #next
  count = 0
  /** The pause that was taken last, or the first one to come. */
  retryTime

  constructor (options) {
    this.#options = { ...DEFAULTS, ...withoutUndefined(options) }
    this.#next = this.#spread(this.#options.initialRetryTime)
    this.retryTime = this.#next
  }

  #spread (time) {
    const { factor } = this.#options
    return Math.ceil(time * (1 - factor + 2 * factor * Math.random()))
  }

  /** Ms to wait before the next try; `null`: there is none for this error. */
  pauseAfter (error) {
    const { retries, multiplier, maxRetryTime } = this.#options
    if (this.count >= retries || error?.retriable === false || UNRECOVERABLE.includes(error?.name)) return null
    this.count++
    this.retryTime = this.#next
    this.#next = Math.min(this.#spread(this.retryTime) * multiplier, maxRetryTime)
    return this.retryTime
  }

  /** The error for a thing that is given up. */
  exceeded (error) {
    return new KafkaJSNumberOfRetriesExceeded(error, { retryCount: this.count, retryTime: this.retryTime })
  }
}

/** Tries again while the broker answers that it can't just now. A topic that isn't there is an answer. */
async function retrying (options, attempt) {
  const backoff = new Backoff(options)
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof KafkaJSProtocolError) || !error.retriable || error.type === 'UNKNOWN_TOPIC_OR_PARTITION') throw error
      const pause = backoff.pauseAfter(error)
      if (pause === null) throw backoff.exceeded(error)
      await new Promise((resolve) => { setTimeout(resolve, pause) })
    }
  }
}

/** What the native library is told of retries; it doubles its pauses, and spreads them by a fifth. */
function nativeBackoff ({ initialRetryTime, maxRetryTime } = {}) {
  const pause = (ms) => ms === undefined ? undefined : Math.min(Math.max(Math.round(ms), 1), LONGEST_NATIVE)
  return { 'retry.backoff.ms': pause(initialRetryTime), 'retry.backoff.max.ms': pause(maxRetryTime) }
}

/** The pauses before all retries, in ms, as they are without chance. */
function pauses (options) {
  const { initialRetryTime, multiplier, maxRetryTime, retries } = { ...DEFAULTS, ...withoutUndefined(options) }
  const all = []
  // A thousand are more than the native library waits for anything.
  for (let pause = initialRetryTime; all.length < Math.min(retries, 1000); pause = Math.min(pause * multiplier, maxRetryTime)) all.push(pause)
  return all
}

const withoutUndefined = (options = {}) => Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined && value !== null))

module.exports = { Backoff, DEFAULTS, nativeBackoff, pauses, retrying }
