// What the Node programs have in common: the records, the order of the cases, and one line for each.
//
// A program is called with BOOTSTRAP PREFIX CASE…; every topic and group that it makes begins with PREFIX.

import assert from 'node:assert'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }

/** How long, in milliseconds, anything may take before it has failed. */
export const PATIENCE = 30_000

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

const text = value => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))?.slice(0, 300)

export function equal(got, wanted, what) {
  try {
    assert.deepStrictEqual(got, wanted)
  } catch {
    throw new Error(`${what}: ${text(got)}, not ${text(wanted)}`)
  }
}

export function check(holds, what) {
  if (!holds) throw new Error(what)
}

export const numbers = (count, first = 0) => Array.from({ length: count }, (_, i) => `${first + i}`)

/** Waits until it holds. */
export async function settle(what, holds, turn = () => sleep(30)) {
  const end = Date.now() + PATIENCE
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`)
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
  throw new Error(`no error, but ${text(result)}`)
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

/** Waits until a consumer has read so many numbers, first in their order; what it had not committed may come again. */
export async function allRead(consumer, text, count) {
  const seen = () => [...new Set(consumer.got.map(text))]
  await settle(`${count} records`, () => seen().length >= count)
  equal(seen(), numbers(count), 'records of the member')
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
