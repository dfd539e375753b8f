// The same from CommonJS.
import ottla = require('ottla')

const admin: ottla.Admin = new ottla.Kafka({ kafkaJS: { brokers: async () => ['memory:'] } }).admin()
export const topics: Promise<string[]> = admin.listTopics()
