// Cases that are the same, word for word, in the clients of KafkaJS's shape.

import { allOf, equal, numbers, text, topic } from './harness.mjs'

export const send = (p, name, values, more = {}) => p.send({ topic: name, messages: values.map(value => ({ value })), ...more })

/** Writes a record to each of four partitions. */
export const toEach = (p, name) => () => p.send({ topic: name, messages: [0, 1, 2, 3].map(partition => ({ partition, value: 'x' })) })

/**
 * A client says how it makes topics, producers and consumers, what makes a producer idempotent or transactional, and what makes a
 * consumer read what is not committed.
 */
export function cases({ make, producer, consumer, idempotent, transactional, uncommitted }) {
  const readAll = allOf(consumer)
  return {
    async idempotent(use) {
      const name = await make(topic('idempotent'))
      const p = await producer(use, idempotent)
      for (let i = 0; i < 20; i++) await send(p, name, numbers(10, 10 * i))
      equal((await readAll(use, name, 200)).map(text), numbers(200), 'records')
    },

    async 'txn-commit'(use) {
      const name = await make(topic('txn-commit'), 2)
      const p = await transactional(use, 'txn-commit')
      const t = await p.transaction()
      await t.send({ topic: name, messages: numbers(20).map((value, i) => ({ value, partition: i % 2 })) })
      const c = await consumer(use, name)
      await c.nothing(1000)
      await t.commit()
      equal((await c.read(20)).map(text).sort(), numbers(20).sort(), 'records')
    },

    async 'txn-abort'(use) {
      const name = await make(topic('txn-abort'))
      const p = await transactional(use, 'txn-abort')
      for (const [first, end] of [[0, 'commit'], [10, 'abort'], [20, 'commit']]) {
        const t = await p.transaction()
        await send(t, name, numbers(10, first))
        await t[end]()
      }
      equal((await readAll(use, name, 20)).map(text), [...numbers(10), ...numbers(10, 20)], 'committed')
      equal((await readAll(use, name, 30, uncommitted)).map(text), numbers(30), 'uncommitted')
    },
  }
}
