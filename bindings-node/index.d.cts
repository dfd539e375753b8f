/// <reference types="node" />

// KafkaJS's shapes.

import type * as tls from 'node:tls'

export interface RetryOptions {
  maxRetryTime?: number
  initialRetryTime?: number
  factor?: number
  multiplier?: number
  retries?: number
  restartOnFailure?: (error: Error) => Promise<boolean>
}

export enum logLevel { NOTHING = 0, ERROR = 1, WARN = 2, INFO = 4, DEBUG = 5 }
export enum CompressionTypes { None = 0, GZIP = 1, Snappy = 2, LZ4 = 3, ZSTD = 4 }
export enum ConfigResourceTypes { UNKNOWN = 0, TOPIC = 2, BROKER = 4, BROKER_LOGGER = 8 }
export enum ConfigSource {
  UNKNOWN = 0, TOPIC_CONFIG = 1, DYNAMIC_BROKER_CONFIG = 2, DYNAMIC_DEFAULT_BROKER_CONFIG = 3, STATIC_BROKER_CONFIG = 4,
  DEFAULT_CONFIG = 5, DYNAMIC_BROKER_LOGGER_CONFIG = 6
}
export enum AclResourceTypes { UNKNOWN = 0, ANY = 1, TOPIC = 2, GROUP = 3, CLUSTER = 4, TRANSACTIONAL_ID = 5, DELEGATION_TOKEN = 6 }
export enum AclOperationTypes {
  UNKNOWN = 0, ANY = 1, ALL = 2, READ = 3, WRITE = 4, CREATE = 5, DELETE = 6, ALTER = 7, DESCRIBE = 8, CLUSTER_ACTION = 9,
  DESCRIBE_CONFIGS = 10, ALTER_CONFIGS = 11, IDEMPOTENT_WRITE = 12
}
export enum AclPermissionTypes { UNKNOWN = 0, ANY = 1, DENY = 2, ALLOW = 3 }
export enum ResourcePatternTypes { UNKNOWN = 0, ANY = 1, MATCH = 2, LITERAL = 3, PREFIXED = 4 }
export const CompressionCodecs: Record<number, () => unknown>

export interface LogEntry {
  namespace: string
  level: logLevel
  label: string
  log: { readonly timestamp: string, readonly message: string, [key: string]: any }
}
export type logCreator = (level: logLevel) => (entry: LogEntry) => void
export interface Logger {
  info (message: string, extra?: object): void
  error (message: string, extra?: object): void
  warn (message: string, extra?: object): void
  debug (message: string, extra?: object): void
  namespace (namespace: string, level?: logLevel): Logger
  setLogLevel (level: logLevel): void
}

export type BrokersFunction = () => string[] | Promise<string[]>
export interface KafkaConfig {
  /** `memory:`, `memory:NAME` or `file:///path`, with settings of the broker as a query. */
  brokers: string[] | BrokersFunction
  /** Refused unless false, as are `sasl` and `socketFactory`: an embedded broker has no sockets. */
  ssl?: tls.ConnectionOptions | boolean
  sasl?: object
  socketFactory?: (args: any) => any
  clientId?: string
  connectionTimeout?: number
  authenticationTimeout?: number
  reauthenticationThreshold?: number
  requestTimeout?: number
  enforceRequestTimeout?: boolean
  retry?: RetryOptions
  logLevel?: logLevel
  logCreator?: logCreator
}
/** The form with everything under `kafkaJS` is taken, too. */
export type Nested<T> = T | { kafkaJS: T }

export class Kafka {
  constructor (config: Nested<KafkaConfig>)
  producer (config?: Nested<ProducerConfig>): Producer
  consumer (config: Nested<ConsumerConfig>): Consumer
  admin (config?: Nested<AdminConfig>): Admin
  logger (): Logger
}

export interface InstrumentationEvent<T> { id: number, type: string, timestamp: number, payload: T }
export type RemoveInstrumentationEventListener = () => void
export type ConnectEvent = InstrumentationEvent<null>
export type DisconnectEvent = InstrumentationEvent<null>
/** Never fires, as the two below: an embedded broker has no network. */
export type RequestEvent = InstrumentationEvent<{
  apiKey: number
  apiName: string
  apiVersion: number
  broker: string
  clientId: string
  correlationId: number
  createdAt: number
  duration: number
  pendingDuration: number
  sentAt: number
  size: number
}>
export type RequestTimeoutEvent = InstrumentationEvent<{
  apiKey: number
  apiName: string
  apiVersion: number
  broker: string
  clientId: string
  correlationId: number
  createdAt: number
  pendingDuration: number
  sentAt: number
}>
export type RequestQueueSizeEvent = InstrumentationEvent<{ broker: string, clientId: string, queueSize: number }>
/** A broker makes the client wait for so many ms, because a quota is used up; 0: no longer. KafkaJS has no such event. */
export type ThrottleEvent = InstrumentationEvent<{ brokerName: string, brokerId: number, throttleTime: number }>
type ClientEventMap<Role extends string> =
  { [Name in `${Role}.connect` | `${Role}.disconnect`]: InstrumentationEvent<null> } &
  { [Name in `${Role}.network.request`]: RequestEvent } &
  { [Name in `${Role}.network.request_timeout`]: RequestTimeoutEvent } &
  { [Name in `${Role}.network.request_queue_size`]: RequestQueueSizeEvent } &
  { [Name in `${Role}.network.throttle`]: ThrottleEvent }
/** What a client tells: events by their names. */
type Listeners<Map> = <Name extends keyof Map & string>(event: Name, listener: (event: Map[Name]) => void) => RemoveInstrumentationEventListener

export interface PartitionMetadata {
  partitionErrorCode: number
  partitionId: number
  leader: number
  replicas: number[]
  isr: number[]
  offlineReplicas?: number[]
}
export interface PartitionerArgs { topic: string, partitionMetadata: PartitionMetadata[], message: Message }
export type ICustomPartitioner = () => (args: PartitionerArgs) => number
export const Partitioners: {
  DefaultPartitioner: ICustomPartitioner
  LegacyPartitioner: ICustomPartitioner
  JavaCompatiblePartitioner: ICustomPartitioner
}

export interface ProducerConfig {
  createPartitioner?: ICustomPartitioner
  /** `retries`, `initialRetryTime` and `maxRetryTime` count; pauses double, and differ by a fifth. */
  retry?: RetryOptions
  metadataMaxAge?: number
  allowAutoTopicCreation?: boolean
  idempotent?: boolean
  maxInFlightRequests?: number
}
export interface IHeaders { [key: string]: Buffer | string | (Buffer | string)[] | undefined }
export interface Message {
  key?: Buffer | string | null
  value: Buffer | string | null
  partition?: number
  headers?: IHeaders
  timestamp?: string
}
export interface SendOptions { acks?: number, timeout?: number, compression?: CompressionTypes }
export interface ProducerRecord extends SendOptions { topic: string, messages: Message[] }
export interface TopicMessages { topic: string, messages: Message[] }
export interface ProducerBatch extends SendOptions { topicMessages?: TopicMessages[] }
/** What became of a send's records of one partition. `offset` and `timestamp` belong to protocol versions that are gone: they are never there. */
export interface RecordMetadata {
  topicName: string
  partition: number
  errorCode: number
  offset?: string
  timestamp?: string
  baseOffset?: string
  /** In ms, if the topic has `LogAppendTime`; else -1. */
  logAppendTime?: string
  logStartOffset?: string
}
export interface ProducerEvents {
  CONNECT: 'producer.connect'
  DISCONNECT: 'producer.disconnect'
  REQUEST: 'producer.network.request'
  REQUEST_TIMEOUT: 'producer.network.request_timeout'
  REQUEST_QUEUE_SIZE: 'producer.network.request_queue_size'
  THROTTLE: 'producer.network.throttle'
}
export interface Producer {
  connect (): Promise<void>
  disconnect (): Promise<void>
  send (record: ProducerRecord): Promise<RecordMetadata[]>
  sendBatch (batch: ProducerBatch): Promise<RecordMetadata[]>
  isIdempotent (): boolean
  /** Rejects: transactions come with a later version. */
  transaction (): Promise<never>
  readonly events: ProducerEvents
  on: Listeners<ClientEventMap<'producer'>>
  logger (): Logger
}

export interface PartitionAssigner { readonly assignerName: string }
export type AssignorName = 'range' | 'roundrobin' | 'cooperative-sticky'
export const PartitionAssigners: { roundRobin: PartitionAssigner, range: PartitionAssigner, cooperativeSticky: PartitionAssigner }
export interface Assignment { [topic: string]: number[] }
export interface MemberMetadata { version: number, topics: string[], userData: Buffer }
export interface MemberAssignment { version: number, assignment: Assignment, userData: Buffer }
export interface ISerializer<T> { encode (value: T): Buffer, decode (buffer: Buffer): T | null }
export const AssignerProtocol: { MemberMetadata: ISerializer<MemberMetadata>, MemberAssignment: ISerializer<MemberAssignment> }

export interface ConsumerConfig {
  groupId: string
  groupInstanceId?: string
  partitionAssigners?: (PartitionAssigner | AssignorName)[]
  metadataMaxAge?: number
  sessionTimeout?: number
  rebalanceTimeout?: number
  heartbeatInterval?: number
  maxBytesPerPartition?: number
  minBytes?: number
  maxBytes?: number
  maxWaitTimeInMs?: number
  retry?: RetryOptions
  allowAutoTopicCreation?: boolean
  maxInFlightRequests?: number
  readUncommitted?: boolean
  rackId?: string
}
export interface KafkaMessage {
  key: Buffer | null
  value: Buffer | null
  timestamp: string
  attributes: number
  offset: string
  headers?: IHeaders
}
export interface Batch {
  topic: string
  partition: number
  highWatermark: string
  messages: KafkaMessage[]
  isEmpty (): boolean
  firstOffset (): string | null
  lastOffset (): string
  offsetLag (): string
  offsetLagLow (): string
}
export interface PartitionOffset { partition: number, offset: string }
export type SeekEntry = PartitionOffset
export interface TopicOffsets { topic: string, partitions: PartitionOffset[] }
export interface Offsets { topics: TopicOffsets[] }
export type OffsetsByTopicPartition = Offsets
export interface EachMessagePayload {
  topic: string
  partition: number
  message: KafkaMessage
  heartbeat (): Promise<void>
  pause (): () => void
}
export interface EachBatchPayload {
  batch: Batch
  resolveOffset (offset: string): void
  heartbeat (): Promise<void>
  pause (): () => void
  commitOffsetsIfNecessary (offsets?: Offsets): Promise<void>
  uncommittedOffsets (): OffsetsByTopicPartition
  isRunning (): boolean
  isStale (): boolean
}
export type EachMessageHandler = (payload: EachMessagePayload) => Promise<void>
export type EachBatchHandler = (payload: EachBatchPayload) => Promise<void>
export interface ConsumerRunConfig {
  autoCommit?: boolean
  autoCommitInterval?: number | null
  autoCommitThreshold?: number | null
  eachBatchAutoResolve?: boolean
  partitionsConsumedConcurrently?: number
  eachBatch?: EachBatchHandler
  eachMessage?: EachMessageHandler
}
export interface ConsumerSubscribeTopic { topic: string | RegExp, fromBeginning?: boolean }
export interface ConsumerSubscribeTopics { topics: (string | RegExp)[], fromBeginning?: boolean }
export interface TopicPartition { topic: string, partition: number }
export interface TopicPartitionOffset extends TopicPartition { offset: string }
export interface TopicPartitionOffsetAndMetadata extends TopicPartitionOffset { metadata?: string | null }
export interface TopicPartitions { topic: string, partitions: number[] }
export interface MemberDescription {
  clientHost: string
  clientId: string
  memberId: string
  memberAssignment: Buffer
  memberMetadata: Buffer
}
export type ConsumerGroupState = 'Unknown' | 'PreparingRebalance' | 'CompletingRebalance' | 'Stable' | 'Dead' | 'Empty'
export interface GroupDescription {
  groupId: string
  members: MemberDescription[]
  protocol: string
  protocolType: string
  state: ConsumerGroupState
}
export interface GroupDescriptions { groups: GroupDescription[] }
export interface ConsumerEvents {
  HEARTBEAT: 'consumer.heartbeat'
  COMMIT_OFFSETS: 'consumer.commit_offsets'
  GROUP_JOIN: 'consumer.group_join'
  FETCH_START: 'consumer.fetch_start'
  FETCH: 'consumer.fetch'
  START_BATCH_PROCESS: 'consumer.start_batch_process'
  END_BATCH_PROCESS: 'consumer.end_batch_process'
  CONNECT: 'consumer.connect'
  DISCONNECT: 'consumer.disconnect'
  STOP: 'consumer.stop'
  CRASH: 'consumer.crash'
  REBALANCING: 'consumer.rebalancing'
  RECEIVED_UNSUBSCRIBED_TOPICS: 'consumer.received_unsubscribed_topics'
  REQUEST: 'consumer.network.request'
  REQUEST_TIMEOUT: 'consumer.network.request_timeout'
  REQUEST_QUEUE_SIZE: 'consumer.network.request_queue_size'
  THROTTLE: 'consumer.network.throttle'
}
export type ConsumerHeartbeatEvent = InstrumentationEvent<{ groupId: string, memberId: string, groupGenerationId: number }>
export type ConsumerCommitOffsetsEvent =
  InstrumentationEvent<{ groupId: string, memberId: string, groupGenerationId: number, topics: TopicOffsets[] }>
export interface IMemberAssignment { [topic: string]: number[] }
export type ConsumerGroupJoinEvent = InstrumentationEvent<{
  duration: number
  groupId: string
  isLeader: boolean
  leaderId: string
  groupProtocol: string
  memberId: string
  memberAssignment: IMemberAssignment
}>
/** Never fires: fetches run ahead of the handlers. */
export type ConsumerFetchStartEvent = InstrumentationEvent<{ nodeId: number }>
/** `duration`: how long the consumer waited for it, in ms. */
export type ConsumerFetchEvent = InstrumentationEvent<{ numberOfBatches: number, duration: number, nodeId: number }>
export interface IBatchProcessEvent {
  topic: string
  partition: number
  highWatermark: string
  offsetLag: string
  offsetLagLow: string
  batchSize: number
  firstOffset: string
  lastOffset: string
}
export type ConsumerStartBatchProcessEvent = InstrumentationEvent<IBatchProcessEvent>
export type ConsumerEndBatchProcessEvent = InstrumentationEvent<IBatchProcessEvent & { duration: number }>
export type ConsumerCrashEvent = InstrumentationEvent<{ error: Error, groupId: string, restart: boolean }>
export type ConsumerRebalancingEvent = InstrumentationEvent<{ groupId: string, memberId: string }>
/** Never fires: the assignors give a member nothing that it isn't subscribed to. */
export type ConsumerReceivedUnsubcribedTopicsEvent = InstrumentationEvent<{
  groupId: string
  generationId: number
  memberId: string
  assignedTopics: string[]
  topicsSubscribed: string[]
  topicsNotSubscribed: string[]
}>
type ConsumerEventMap = ClientEventMap<'consumer'> & {
  'consumer.heartbeat': ConsumerHeartbeatEvent
  'consumer.commit_offsets': ConsumerCommitOffsetsEvent
  'consumer.group_join': ConsumerGroupJoinEvent
  'consumer.fetch_start': ConsumerFetchStartEvent
  'consumer.fetch': ConsumerFetchEvent
  'consumer.start_batch_process': ConsumerStartBatchProcessEvent
  'consumer.end_batch_process': ConsumerEndBatchProcessEvent
  'consumer.stop': InstrumentationEvent<null>
  'consumer.crash': ConsumerCrashEvent
  'consumer.rebalancing': ConsumerRebalancingEvent
  'consumer.received_unsubscribed_topics': ConsumerReceivedUnsubcribedTopicsEvent
}
export interface Consumer {
  connect (): Promise<void>
  disconnect (): Promise<void>
  subscribe (subscription: ConsumerSubscribeTopic | ConsumerSubscribeTopics): Promise<void>
  run (config?: ConsumerRunConfig): Promise<void>
  stop (): Promise<void>
  commitOffsets (topicPartitions: TopicPartitionOffsetAndMetadata[]): Promise<void>
  seek (topicPartitionOffset: TopicPartitionOffset): void
  pause (topics: { topic: string, partitions?: number[] }[]): void
  paused (): TopicPartitions[]
  resume (topics: { topic: string, partitions?: number[] }[]): void
  describeGroup (): Promise<GroupDescription>
  readonly events: ConsumerEvents
  on: Listeners<ConsumerEventMap>
  logger (): Logger
}

export interface AdminConfig { retry?: RetryOptions }
export interface ITopicConfig {
  topic: string
  numPartitions?: number
  replicationFactor?: number
  configEntries?: { name: string, value: string }[]
}
export interface ITopicMetadata { name: string, partitions: PartitionMetadata[] }
export interface ConfigEntries {
  configName: string
  configValue: string | null
  isDefault: boolean
  configSource: ConfigSource
  isSensitive: boolean
  readOnly: boolean
  configSynonyms: { configName: string, configValue: string, configSource: ConfigSource }[]
}
export interface DescribeConfigResponse {
  resources: {
    configEntries: ConfigEntries[]
    errorCode: number
    errorMessage: string | null
    resourceName: string
    resourceType: ConfigResourceTypes
  }[]
  throttleTime: number
}
export interface IResourceConfigEntry { name: string, value: string }
export interface IResourceConfig { type: ConfigResourceTypes, name: string, configEntries: IResourceConfigEntry[] }
export interface AlterConfigsResponse {
  resources: { errorCode: number, errorMessage: string | null, resourceName: string, resourceType: ConfigResourceTypes }[]
  throttleTime: number
}
export interface OngoingPartitionReassignment {
  partitionIndex: number
  replicas: number[]
  addingReplicas?: number[]
  removingReplicas?: number[]
}
export interface OngoingTopicReassignment { topic: string, partitions: OngoingPartitionReassignment[] }
export interface ListPartitionReassignmentsResponse { topics: OngoingTopicReassignment[] }
export interface DeleteGroupsResult { groupId: string, errorCode?: number, error?: KafkaJSProtocolError }
export interface AdminEvents {
  CONNECT: 'admin.connect'
  DISCONNECT: 'admin.disconnect'
  REQUEST: 'admin.network.request'
  REQUEST_TIMEOUT: 'admin.network.request_timeout'
  REQUEST_QUEUE_SIZE: 'admin.network.request_queue_size'
  THROTTLE: 'admin.network.throttle'
}
export interface Admin {
  connect (): Promise<void>
  disconnect (): Promise<void>
  listTopics (): Promise<string[]>
  createTopics (options: { topics: ITopicConfig[], validateOnly?: boolean, waitForLeaders?: boolean, timeout?: number }): Promise<boolean>
  deleteTopics (options: { topics: string[], timeout?: number }): Promise<void>
  createPartitions (options: { topicPartitions: { topic: string, count: number }[], validateOnly?: boolean, timeout?: number }): Promise<boolean>
  fetchTopicMetadata (options?: { topics: string[] }): Promise<{ topics: ITopicMetadata[] }>
  fetchOffsets (options: { groupId: string, topics?: string[], resolveOffsets?: boolean }):
    Promise<{ topic: string, partitions: (PartitionOffset & { metadata: string | null })[] }[]>
  fetchTopicOffsets (topic: string): Promise<(SeekEntry & { high: string, low: string })[]>
  fetchTopicOffsetsByTimestamp (topic: string, timestamp?: number): Promise<SeekEntry[]>
  setOffsets (options: { groupId: string, topic: string, partitions: SeekEntry[] }): Promise<void>
  resetOffsets (options: { groupId: string, topic: string, earliest: boolean }): Promise<void>
  describeCluster (): Promise<{ brokers: { nodeId: number, host: string, port: number }[], controller: number | null, clusterId: string }>
  describeConfigs (configs: { resources: { type: ConfigResourceTypes, name: string, configNames?: string[] }[], includeSynonyms?: boolean }):
    Promise<DescribeConfigResponse>
  /** Deletes the records before each offset, -1 for all; rejects with `KafkaJSDeleteTopicRecordsError`. */
  deleteTopicRecords (options: { topic: string, partitions: SeekEntry[] }): Promise<void>
  /** Replaces all that is set of each topic or broker (an empty name: of all brokers): what isn't named goes back to its default. */
  alterConfigs (configs: { validateOnly: boolean, resources: IResourceConfig[] }): Promise<AlterConfigsResponse>
  /** Partitions that move to other brokers: an embedded broker moves none. */
  listPartitionReassignments (request?: { topics?: TopicPartitions[], timeout?: number }): Promise<ListPartitionReassignmentsResponse>
  /** Rejects, as do the three below, with `KafkaJSNotImplemented`: the embedded broker doesn't serve their requests yet. */
  describeAcls (options: object): Promise<never>
  createAcls (options: { acl: object[] }): Promise<never>
  deleteAcls (options: { filters: object[] }): Promise<never>
  alterPartitionReassignments (request: { topics: object[], timeout?: number }): Promise<never>
  listGroups (): Promise<{ groups: { groupId: string, protocolType: string }[] }>
  describeGroups (groupIds: string[]): Promise<GroupDescriptions>
  deleteGroups (groupIds: string[]): Promise<DeleteGroupsResult[]>
  readonly events: AdminEvents
  on: Listeners<ClientEventMap<'admin'>>
  logger (): Logger
}

export class KafkaJSError extends Error {
  readonly retriable: boolean
  readonly helpUrl?: string
  readonly code?: number | string
  constructor (error: Error | string, metadata?: { retriable?: boolean, cause?: Error })
}
export class KafkaJSNonRetriableError extends KafkaJSError {}
export class KafkaJSProtocolError extends KafkaJSError {
  readonly code: number
  readonly type: string
}
export class KafkaJSOffsetOutOfRange extends KafkaJSProtocolError { readonly topic: string; readonly partition: number }
export class KafkaJSMemberIdRequired extends KafkaJSProtocolError {}
export class KafkaJSCreateTopicError extends KafkaJSProtocolError { readonly topic: string }
export class KafkaJSAlterPartitionReassignmentsError extends KafkaJSProtocolError {}
export class KafkaJSAggregateError extends Error { readonly errors: (Error | string)[] }
export class KafkaJSNumberOfRetriesExceeded extends KafkaJSNonRetriableError { readonly retryCount: number; readonly retryTime: number }
export class KafkaJSConnectionError extends KafkaJSError { readonly broker: string }
export class KafkaJSConnectionClosedError extends KafkaJSConnectionError {}
export class KafkaJSRequestTimeoutError extends KafkaJSError {}
export class KafkaJSMetadataNotLoaded extends KafkaJSError {}
export class KafkaJSTopicMetadataNotLoaded extends KafkaJSMetadataNotLoaded { readonly topic: string }
export class KafkaJSStaleTopicMetadataAssignment extends KafkaJSError { readonly topic: string }
export class KafkaJSServerDoesNotSupportApiKey extends KafkaJSNonRetriableError { readonly apiKey: number; readonly apiName: string }
export class KafkaJSDeleteGroupsError extends KafkaJSError { readonly groups: DeleteGroupsResult[] }
export class KafkaJSDeleteTopicRecordsError extends KafkaJSError {
  readonly topic: string
  readonly partitions: { partition: number, offset: string, error: KafkaJSError }[]
}
export class KafkaJSBrokerNotFound extends KafkaJSError {}
export class KafkaJSPartialMessageError extends KafkaJSError {}
export class KafkaJSSASLAuthenticationError extends KafkaJSError {}
export class KafkaJSGroupCoordinatorNotFound extends KafkaJSError {}
export class KafkaJSNotImplemented extends KafkaJSNonRetriableError {}
export class KafkaJSTimeout extends KafkaJSError {}
export class KafkaJSLockTimeout extends KafkaJSTimeout {}
export class KafkaJSUnsupportedMagicByteInMessageSet extends KafkaJSNonRetriableError {}
export class KafkaJSInvariantViolation extends KafkaJSNonRetriableError {}
export class KafkaJSInvalidVarIntError extends KafkaJSNonRetriableError {}
export class KafkaJSInvalidLongError extends KafkaJSNonRetriableError {}
export class KafkaJSFetcherRebalanceError extends KafkaJSError {}
export class KafkaJSNoBrokerAvailableError extends KafkaJSError {}
