'use strict'

module.exports = {
  Kafka: require('./lib/kafka.cjs').Kafka,
  ...require('./lib/enums.cjs'),
  ...require('./lib/errors.cjs'),
  ...require('./lib/partitioners.cjs'),
}
