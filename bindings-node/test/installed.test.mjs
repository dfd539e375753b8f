// The package as npm's users have it: packed, installed in an empty directory, required and imported there.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory } from './helpers.mjs'

const source = dirname(dirname(fileURLToPath(import.meta.url)))
const home = join(directory, 'app')

/** Runs a program in the user's directory; gives what it writes. */
function run (program, args, cwd = home) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: 100_000 })
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${error ?? ''}\n${stdout}\n${stderr}`)
  return stdout
}

before(() => {
  mkdirSync(home)
  run('npm', ['pack', '--silent', '--pack-destination', directory], source)
  const [tarball] = readdirSync(directory).filter((name) => name.endsWith('.tgz'))
  writeFileSync(join(home, 'package.json'), '{ "name": "app", "private": true }')
  run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--silent', join(directory, tarball)])
})

test('CommonJS writes and ES modules read', () => {
  const place = JSON.stringify(`file://${directory}/installed`)
  writeFileSync(join(home, 'write.js'), `
    const { Kafka, CompressionTypes } = require('ottla')
    async function main () {
      const producer = new Kafka({ brokers: [${place}] }).producer()
      await producer.connect()
      const [{ baseOffset }] = await producer.send({ topic: 't', compression: CompressionTypes.ZSTD, messages: [{ key: 'k', value: 'hello' }] })
      await producer.disconnect()
      console.log(baseOffset)
    }
    main()`)
  assert.equal(run(process.execPath, ['write.js']), '0\n')
  writeFileSync(join(home, 'read.mjs'), `
    import ottla, { Kafka } from 'ottla'
    import { createRequire } from 'node:module'
    const required = createRequire(import.meta.url)('ottla')
    console.log(required === ottla, ottla.Kafka === Kafka)
    const consumer = new Kafka({ brokers: [${place}] }).consumer({ groupId: 'g' })
    await consumer.connect()
    await consumer.subscribe({ topic: 't', fromBeginning: true })
    await new Promise((resolve) => {
      consumer.run({ eachMessage: async ({ message }) => { console.log(String(message.key), String(message.value)); resolve() } })
    })
    await consumer.disconnect()`)
  assert.equal(run(process.execPath, ['read.mjs']), 'true true\nk hello\n')
})

test('the types are found from both kinds of modules', () => {
  const require = createRequire(import.meta.url)
  mkdirSync(join(home, 'node_modules/@types'))
  symlinkSync(dirname(require.resolve('@types/node/package.json')), join(home, 'node_modules/@types/node'))
  const lines = (imported) => `${imported}
    const kafka: ottla.Kafka = new ottla.Kafka({ brokers: ['memory:'] })
    export const sent: Promise<ottla.RecordMetadata[]> = kafka.producer().send({ topic: 't', messages: [{ value: 'x' }] })\n`
  writeFileSync(join(home, 'a.cts'), lines("import ottla = require('ottla')"))
  writeFileSync(join(home, 'b.mts'), lines("import * as ottla from 'ottla'"))
  writeFileSync(join(home, 'c.mts'), "import ottla, { Kafka } from 'ottla'\nexport const same: typeof Kafka = ottla.Kafka\n")
  const compiler = require.resolve('typescript/bin/tsc')
  run(process.execPath, [compiler, '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', 'a.cts', 'b.mts', 'c.mts'])
  // The older way of finding modules.
  run(process.execPath, [compiler, '--noEmit', '--strict', '--module', 'commonjs', '--moduleResolution', 'node10', '--ignoreDeprecations', '5.0', 'a.cts'])
})

test('a program without the native library is told which one is missing', () => {
  const program = `
    const { Kafka } = require('ottla')
    require.cache[require.resolve('./node_modules/ottla/ottla.node')] = undefined
    const Module = require('node:module')
    const load = Module._extensions['.node']
    Module._extensions['.node'] = () => { throw new Error('wrong ELF class') }
    new Kafka({ brokers: ['memory:'] }).producer().connect().catch(({ name, message }) => { console.log(name, message); Module._extensions['.node'] = load })`
  assert.match(run(process.execPath, ['-e', program]), /^KafkaJSNonRetriableError ottla has no native library for linux-\w+: wrong ELF class/)
})
