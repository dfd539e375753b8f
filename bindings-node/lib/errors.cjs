'use strict'

// KafkaJS's error classes.

class KafkaJSError extends Error {
  constructor (error, { retriable = true, cause } = {}) {
    super(error instanceof Error ? error.message : String(error))
    this.name = this.constructor.name
    this.retriable = retriable
    const reason = cause ?? (error instanceof Error ? error : undefined)
    if (reason !== undefined) this.cause = reason
  }
}

class KafkaJSNonRetriableError extends KafkaJSError {
  constructor (error, metadata = {}) {
    super(error, { ...metadata, retriable: false })
  }
}

class KafkaJSProtocolError extends KafkaJSError {
  constructor (error, { retriable = error?.retriable } = {}) {
    super(error?.message ?? error, { retriable: Boolean(retriable) })
    this.type = error?.type
    this.code = error?.code
  }
}

class KafkaJSOffsetOutOfRange extends KafkaJSProtocolError {
  constructor (error, { topic, partition } = {}) {
    super(error)
    this.topic = topic
    this.partition = partition
  }
}

class KafkaJSMemberIdRequired extends KafkaJSProtocolError {}

class KafkaJSCreateTopicError extends KafkaJSProtocolError {
  constructor (error, topic) {
    super(error)
    this.topic = topic
  }
}

class KafkaJSAlterPartitionReassignmentsError extends KafkaJSProtocolError {
  constructor (error, topic, partition) {
    super(error)
    this.topic = topic
    this.partition = partition
  }
}

class KafkaJSAggregateError extends Error {
  constructor (message, errors) {
    super(message instanceof Error ? message.message : message)
    this.name = this.constructor.name
    this.errors = errors
  }
}

class KafkaJSNumberOfRetriesExceeded extends KafkaJSNonRetriableError {
  constructor (error, { retryCount, retryTime } = {}) {
    super(error)
    this.retryCount = retryCount
    this.retryTime = retryTime
  }
}

class KafkaJSConnectionError extends KafkaJSError {
  constructor (error, { broker, code } = {}) {
    super(error)
    this.broker = broker
    this.code = code
  }
}

class KafkaJSConnectionClosedError extends KafkaJSConnectionError {}

class KafkaJSRequestTimeoutError extends KafkaJSError {
  constructor (error, metadata = {}) {
    super(error)
    Object.assign(this, metadata)
  }
}

class KafkaJSMetadataNotLoaded extends KafkaJSError {}

class KafkaJSTopicMetadataNotLoaded extends KafkaJSMetadataNotLoaded {
  constructor (error, { topic } = {}) {
    super(error)
    this.topic = topic
  }
}

class KafkaJSStaleTopicMetadataAssignment extends KafkaJSError {
  constructor (error, { topic, unknownPartitions } = {}) {
    super(error)
    this.topic = topic
    this.unknownPartitions = unknownPartitions
  }
}

class KafkaJSServerDoesNotSupportApiKey extends KafkaJSNonRetriableError {
  constructor (error, { apiKey, apiName } = {}) {
    super(error)
    this.apiKey = apiKey
    this.apiName = apiName
  }
}

class KafkaJSDeleteGroupsError extends KafkaJSError {
  constructor (error, groups = []) {
    super(error)
    this.groups = groups
  }
}

class KafkaJSDeleteTopicRecordsError extends KafkaJSError {
  constructor ({ topic, partitions } = {}) {
    super('Error while deleting records', { retriable: false })
    this.topic = topic
    this.partitions = partitions
  }
}

class KafkaJSBrokerNotFound extends KafkaJSError {}
class KafkaJSPartialMessageError extends KafkaJSError {}
class KafkaJSSASLAuthenticationError extends KafkaJSError {}
class KafkaJSGroupCoordinatorNotFound extends KafkaJSError {}
class KafkaJSNotImplemented extends KafkaJSNonRetriableError {}
class KafkaJSTimeout extends KafkaJSError {}
class KafkaJSLockTimeout extends KafkaJSTimeout {}
class KafkaJSUnsupportedMagicByteInMessageSet extends KafkaJSNonRetriableError {}
class KafkaJSInvariantViolation extends KafkaJSNonRetriableError {}
class KafkaJSInvalidVarIntError extends KafkaJSNonRetriableError {}
class KafkaJSInvalidLongError extends KafkaJSNonRetriableError {}
class KafkaJSFetcherRebalanceError extends KafkaJSError {}
class KafkaJSNoBrokerAvailableError extends KafkaJSError {}

/** The error for what the native side tells: {code, name, message, retriable, fatal}. Codes from -1 up are the broker's. */
function fromNative (native) {
  const { code, name, message, retriable } = native
  if (code >= -1) return new KafkaJSProtocolError({ message, type: name, code, retriable })
  let error
  if (name === '_MSG_TIMED_OUT' || name === '_TIMED_OUT') error = new KafkaJSRequestTimeoutError(message)
  else if (name === '_CONFLICT' || name === '_FS') error = Object.assign(new KafkaJSConnectionError(message), { retriable: false })
  else error = new KafkaJSError(message, { retriable })
  error.code = name
  return error
}

module.exports = {
  KafkaJSError, KafkaJSNonRetriableError, KafkaJSPartialMessageError, KafkaJSBrokerNotFound, KafkaJSProtocolError,
  KafkaJSConnectionError, KafkaJSConnectionClosedError, KafkaJSRequestTimeoutError, KafkaJSSASLAuthenticationError,
  KafkaJSNumberOfRetriesExceeded, KafkaJSOffsetOutOfRange, KafkaJSMemberIdRequired, KafkaJSGroupCoordinatorNotFound,
  KafkaJSNotImplemented, KafkaJSMetadataNotLoaded, KafkaJSTopicMetadataNotLoaded, KafkaJSStaleTopicMetadataAssignment,
  KafkaJSDeleteGroupsError, KafkaJSTimeout, KafkaJSLockTimeout, KafkaJSServerDoesNotSupportApiKey,
  KafkaJSUnsupportedMagicByteInMessageSet, KafkaJSDeleteTopicRecordsError, KafkaJSInvariantViolation,
  KafkaJSInvalidVarIntError, KafkaJSInvalidLongError, KafkaJSCreateTopicError, KafkaJSAggregateError,
  KafkaJSFetcherRebalanceError, KafkaJSNoBrokerAvailableError, KafkaJSAlterPartitionReassignmentsError,
}
// For the other files of this package only.
Object.defineProperty(module.exports, 'fromNative', { value: fromNative, enumerable: false })
