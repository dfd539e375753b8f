'use strict'

const { logLevel: LEVELS } = require('./enums.cjs')

const LABELS = { 1: 'ERROR', 2: 'WARN', 4: 'INFO', 5: 'DEBUG' }

/** KafkaJS's own way of writing: a line of JSON on the console. */
const consoleLog = () => ({ namespace, level, label, log }) => {
  const line = JSON.stringify({ level: label, ...(namespace && { logger: namespace }), ...log })
  if (level === LEVELS.ERROR) console.error(line)
  else if (level === LEVELS.WARN) console.warn(line)
  else console.log(line)
}

class Logger {
  #level
  #write
  #namespace

  constructor (level = LEVELS.INFO, create = consoleLog, namespace = '', write = create(level)) {
    this.#level = level
    this.#write = write
    this.#namespace = namespace
  }

  #log (level, message, extra) {
    if (level > this.#level) return
    const log = { timestamp: new Date().toISOString(), message, ...extra }
    this.#write({ namespace: this.#namespace, level, label: LABELS[level], log })
  }

  error (message, extra) { this.#log(LEVELS.ERROR, message, extra) }
  warn (message, extra) { this.#log(LEVELS.WARN, message, extra) }
  info (message, extra) { this.#log(LEVELS.INFO, message, extra) }
  debug (message, extra) { this.#log(LEVELS.DEBUG, message, extra) }
  setLogLevel (level) { this.#level = level }
  namespace (name, level = this.#level) { return new Logger(level, undefined, name, this.#write) }

  /** A line of the native library, with syslog's severity. */
  native ({ level, facility, message }) {
    const own = level <= 3 ? LEVELS.ERROR : level === 4 ? LEVELS.WARN : level <= 6 ? LEVELS.INFO : LEVELS.DEBUG
    this.#log(own, message, { facility })
  }
}

module.exports = { Logger }
