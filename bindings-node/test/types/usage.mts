// Compiles if the types are KafkaJS's, from ES modules.
import ottla, { CompressionTypes, ConfigResourceTypes, Kafka, KafkaJSProtocolError, logLevel, type ConsumerCrashEvent, type EachBatchPayload, type RecordMetadata } from 'ottla'

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
producer.on(producer.events.THROTTLE, ({ payload }) => { const ms: number = payload.throttleTime; void [ms, payload.brokerName, payload.brokerId] })
// @ts-expect-error no such event
consumer.on('consumer.nothing', () => {})
await kafka.admin().deleteTopicRecords({ topic: 't', partitions: [{ partition: 0, offset: '1' }] })
const { resources: [altered] } = await kafka.admin().alterConfigs({
  validateOnly: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: 't', configEntries: [{ name: 'retention.ms', value: '1' }] }],
})
const moving: number[] = (await kafka.admin().listPartitionReassignments({})).topics.flatMap(({ partitions }) => partitions.map(({ partitionIndex }) => partitionIndex))
void [altered.errorCode, moving]
const same: typeof Kafka = ottla.Kafka
const code = (error: KafkaJSProtocolError): number => error.code
// @ts-expect-error a consumer needs its group
kafka.consumer({})
void [sent, remove, code, same]
