// What the Node programs have in common: the records, the order of the cases, and one line for each.
//
// A program is called with BOOTSTRAP PREFIX CASE…; every topic and group that it makes begins with PREFIX.

import assert from 'node:assert'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }

/** How long, in milliseconds, anything may take before it has failed. */
export const PATIENCE = 90_000

export const [BOOTSTRAP, PREFIX] = process.argv.slice(2)
export const PORT = Number(BOOTSTRAP.split(':').pop())

export const topic = (name, suffix = '') => `${PREFIX}.${name}${suffix}`

/** Bytes that compress to somewhat more than half, the same in every language. */
function noise(length) {
  let state = 12345
  const out = Buffer.alloc(length)
  for (let i = 0; i < length; i++) {
    state = Number((BigInt(state) * 1103515245n + 12345n) & 0x7fffffffn)
    out[i] = (state >> 16) & 0x0f
  }
  return out
}

export const FIRST = 1_700_000_000_000

/** The records of the codec cases, a second apart; headers as [name, value]. */
export function records() {
  const b = text => Buffer.from(text)
  const all = [
    [b('k0'), b('v0'), [['h', b('1')]]],
    [null, b('no key'), []],
    [b('tombstone'), null, [['why', b('deleted')]]],
    [b(''), b(''), []],
    [Buffer.from('00ff80fe00', 'hex'), Buffer.from(Array.from({ length: 256 }, (_, i) => i)), [['binary', Buffer.from('00ff0a', 'hex')], ['empty', b('')]]],
    [b('large'), noise(100_000), []],
  ]
  for (let i = 6; i < 12; i++) all.push([b(`key-${i}`), b(`value-${i} `.repeat(i)), [['n', b(`${i}`)], ['m', b('x')]]])
  return all.map(([key, value, headers], i) => ({ key, value, headers, timestamp: FIRST + 1000 * i }))
}

/** The records are these. */
export function same(got, wanted) {
  const show = field => JSON.stringify(field instanceof Buffer ? field.toString('latin1') : field, (_, v) => v?.type === 'Buffer' ? Buffer.from(v.data).toString('latin1') : v)?.slice(0, 80)
  wanted.forEach((w, i) => {
    for (const name of ['key', 'value', 'headers', 'timestamp']) {
      const g = got[i]?.[name]
      try {
        assert.deepStrictEqual(g, w[name])
      } catch {
        throw new Error(`record ${i}: ${name} is ${show(g)}, not ${show(w[name])}`)
      }
    }
  })
  equal(got.length, wanted.length, 'records')
}

const shown = value => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))?.slice(0, 300)

export function equal(got, wanted, what) {
  try {
    assert.deepStrictEqual(got, wanted)
  } catch {
    throw new Error(`${what}: ${shown(got)}, not ${shown(wanted)}`)
  }
}

export function check(holds, what) {
  if (!holds) throw new Error(what)
}

export const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => `${first + i}`)

/** Waits until it holds; `what` is a text, or gives it when it is needed. */
export async function settle(what, holds, turn = () => sleep(30)) {
  const end = Date.now() + PATIENCE
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not in time: ${what instanceof Function ? what() : what}`)
    await turn()
  }
}

/** The error that it throws. */
export async function failure(action) {
  let result
  try {
    result = await action()
  } catch (error) {
    return error
  }
  throw new Error(`no error, but ${shown(result)}`)
}

/** The first of these fields in an error, its causes and its parts. */
export function find(error, ...fields) {
  if (!error || typeof error !== 'object') return undefined
  for (const field of fields) if (error[field] !== undefined && error[field] !== null) return error[field]
  for (const inner of [...(error.errors ?? []), error.cause, error.originalError]) {
    const found = find(inner, ...fields)
    if (found !== undefined) return found
  }
  return undefined
}

/** Asks for a restart of the broker; `done` is true when it is up again. */
export function restart() {
  const asked = { done: false }
  const lines = createInterface({ input: process.stdin })
  lines.once('line', () => {
    asked.done = true
    lines.close()
    process.stdin.unref?.()
  })
  process.stdout.write('restart\n')
  return asked
}

/** Sends until 50 records after the restart of the broker that begins after 50; the number of records. */
export async function throughRestart(send) {
  let sent = 0, more = 50, asked
  const end = Date.now() + 50_000
  const failed = []
  const all = []
  while (more > 0) {
    if (Date.now() > end) throw new Error('not in time: the broker is back')
    all.push(send(`${sent++}`).catch(error => failed.push(error)))
    await sleep(20)
    if (sent === 50) asked = restart()
    if (asked?.done) more--
  }
  await Promise.all(all)
  if (failed.length) throw failed[0]
  return sent
}

/** A record's value as text. */
export const text = m => m.value?.toString()

/** Does it when it is called first, and never again. */
function once(action) {
  let done = false
  return async () => done || ((done = true), await action())
}

/** A consumer for a case: its records come to `got` and are taken from there; `error` is what went wrong with it, if something did. */
export function reading(use, self, close) {
  self.got = []
  self.read = async count => {
    await settle(() => `${count} records (error: ${self.error})`, () => self.got.length >= count)
    return self.got.splice(0, count)
  }
  self.nothing = async (time = 500) => {
    await sleep(time)
    equal(self.got.map(text), [], 'records that should not be there')
  }
  self.close = once(close)
  use(self.close)
  return self
}

/** Reads so many records of a topic, and no more, with consumers that are made so. */
export const allOf = consumer => async (use, name, count, config) => {
  const c = await consumer(use, name, config)
  const got = await c.read(count)
  await c.nothing(300)
  await c.close()
  return got
}

/**
 * A second member comes to a group that reads four partitions, and leaves: nothing is lost meanwhile. The one that stayed.
 * `fill` writes a record to each partition.
 */
export async function rebalanced(join, fill) {
  await fill()
  const a = await join()
  await settle('one has 4', () => a.has.length === 4 && a.got.length >= 4)
  const b = await join()
  await settle('both have 2', () => a.has.length === 2 && b.has.length === 2 && new Set([...a.has, ...b.has]).size === 4)
  await fill()
  await settle('both read', () => new Set([...a.got, ...b.got].filter(m => `${m.offset}` === '1').map(m => m.partition)).size === 4)
  await b.close()
  await settle('the one that stays has 4', () => a.has.length === 4)
  return a
}

/** Waits until a consumer has read so many numbers, first in their order; what it had not committed may come again. */
export async function allRead(consumer, count) {
  const seen = () => [...new Set(consumer.got.map(text))]
  await settle(`${count} records`, () => seen().length >= count)
  equal(seen(), numbers(count), 'records of the member')
}

/** Of 60 keys, each written with 0 and then with 1, each is in one partition of three and in that order, and no partition is without. */
export function inPlace(records) {
  const where = {}
  for (const m of records) (where[m.key] ??= []).push([m.partition, text(m)])
  equal(Object.keys(where).length, 60, 'keys')
  equal(Object.values(where).filter(([[a, x], [b, y]]) => a !== b || x !== '0' || y !== '1'), [], 'keys out of place')
  equal([...new Set(Object.values(where).map(([[p]]) => p))].sort(), [0, 1, 2], 'partitions used')
}

/** The records of the codec cases in the form that KafkaJS has. */
export const asKafkaJs = () => records().map(r => ({ ...r, headers: Object.fromEntries(r.headers), timestamp: `${r.timestamp}` }))

/** Records that were read in the form that KafkaJS has are those of the codec cases. */
export function sameAsKafkaJs(got) {
  const flat = headers => Object.entries(headers ?? {}).flatMap(([name, values]) => [values].flat().map(value => [name, value]))
  equal(got.map(m => m.offset), numbers(12), 'offsets')
  same(got.map(m => ({ ...m, headers: flat(m.headers), timestamp: Number(m.timestamp) })), records())
}

/** Runs the cases that the command line names. */
export async function run(cases) {
  process.on('unhandledRejection', error => console.error('unhandled', error))
  for (const name of process.argv.slice(4)) {
    const begin = Date.now()
    if (!cases[name]) {
      process.stdout.write(`skip ${name}\n`)
      continue
    }
    const open = []
    let timer
    try {
      const late = new Promise((_, no) => (timer = setTimeout(() => no(new Error('the case does not end')), 2 * PATIENCE)))
      await Promise.race([cases[name](resource => (open.push(resource), resource)), late])
      process.stdout.write(`ok ${name}\n`)
    } catch (error) {
      console.error(error)
      process.stdout.write(`not ok ${name}: ${`${error}`.replace(/\s+/g, ' ').slice(0, 400)}\n`)
    }
    clearTimeout(timer)
    for (const close of open.reverse()) await Promise.race([Promise.resolve().then(close).catch(() => {}), sleep(5000)])
    console.error(`${name}: ${(Date.now() - begin) / 1000} s`)
  }
  process.exit(0)
}
