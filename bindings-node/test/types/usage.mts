// Compiles if the types are KafkaJS's, from ES modules.
import ottla, { CompressionTypes, Kafka, KafkaJSProtocolError, logLevel, type ConsumerCrashEvent, type EachBatchPayload, type RecordMetadata } from 'ottla'

const kafka = new Kafka({ brokers: ['memory:'], clientId: 'types', logLevel: logLevel.ERROR })
const producer = kafka.producer({ idempotent: true })
const sent: RecordMetadata[] = await producer.send({ topic: 't', messages: [{ key: 'k', value: null }], compression: CompressionTypes.LZ4 })
const consumer = kafka.consumer({ groupId: 'g' })
await consumer.subscribe({ topics: ['a', /^b/], fromBeginning: true })
await consumer.run({
  eachBatch: async ({ batch, resolveOffset }: EachBatchPayload) => {
    for (const message of batch.messages) resolveOffset(message.offset)
  },
})
const remove: () => void = consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => payload.memberId.length + payload.memberAssignment.t.length)
consumer.on('consumer.crash', ({ payload: { error, restart } }: ConsumerCrashEvent) => restart ? error.message : '')
consumer.on(consumer.events.END_BATCH_PROCESS, async ({ payload }) => { const ms: number = payload.duration; void ms })
producer.on(producer.events.DISCONNECT, ({ payload }) => { const nothing: null = payload; void nothing })
// @ts-expect-error no such event
consumer.on('consumer.nothing', () => {})
await kafka.admin().deleteTopicRecords({ topic: 't', partitions: [{ partition: 0, offset: '1' }] })
const same: typeof Kafka = ottla.Kafka
const code = (error: KafkaJSProtocolError): number => error.code
// @ts-expect-error a consumer needs its group
kafka.consumer({})
void [sent, remove, code, same]
