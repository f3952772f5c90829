// A machine that has much else to do, for the tests (`npm test -- --stalls=SEED`): loaded into every Node that a test file is
// or starts, and into their threads.
//
// From the seed, at moments of their own, each of them stands still for a while, or what it reads from its sockets and pipes is
// late, or what it writes, or its file system is. It is what happens by itself on such a machine, more often: no timer is early
// or overtakes another, streams and calls keep their order, and nothing takes as long as the leases and heartbeats that the
// product promises to keep.
import { ChildProcess } from 'node:child_process'
import { access, promises } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { Socket } from 'node:net'
import { setImmediate, setTimeout } from 'node:timers'
import { threadId } from 'node:worker_threads'

const BETWEEN_MS = [5, 250]
const SHORT_MS = [5, 60]
const LONG_MS = [200, 1_500]
const LONG_SHARE = 0.1

const { RINGFS_STALLS, NODE_OPTIONS } = process.env
const random = randomFrom(Number(RINGFS_STALLS) + process.pid * 0x9e3779b1 + threadId * 0x85ebca6b)

/** Mulberry32. */
function randomFrom(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const between = ([least, most]) => least + random() * (most - least)
const oneOf = (things) => things[Math.floor(random() * things.length)]
const someTime = () => between(random() < LONG_SHARE ? LONG_MS : SHORT_MS)

const nothing = new Int32Array(new SharedArrayBuffer(4))

/** Costs no processor. */
function standStill(ms) {
  Atomics.wait(nothing, 0, 0, ms)
}

/** In a turn of the event loop: amid the timers, after what was read, amid it. */
const PLACES = [(work) => work(), (work) => setImmediate(work).unref(), (work) => access('/', work)]

function stall() {
  oneOf(PLACES)(() => standStill(someTime()))
}

/** Again and again, with hardly a turn of the event loop between. */
function stumble(times = 3 + Math.floor(random() * 4)) {
  standStill(between(SHORT_MS))
  if (times > 1) setTimeout(stumble, between([1, 10]), times - 1).unref()
}

/** What Node's sockets and pipes are made of (lib/net.js). */
const LibuvStream = Object.getPrototypeOf(process.binding('tcp_wrap').TCP.prototype)
const { readStart, readStop } = LibuvStream
/** Whether its owner wants to read. */
const streams = new Map()
const held = new Set()

function watchStreams() {
  LibuvStream.readStart = function () {
    streams.set(this, true)
    return held.has(this) ? 0 : readStart.call(this)
  }
  LibuvStream.readStop = function () {
    streams.set(this, false)
    return held.has(this) ? 0 : readStop.call(this)
  }
}

/** What comes stays in the kernel meanwhile. */
function readLate() {
  for (const [stream, isReading] of streams) {
    if (stream.fd < 0) streams.delete(stream)
    else if (isReading && !held.has(stream) && random() < 0.5) hold(stream)
  }
}

function hold(stream) {
  held.add(stream)
  readStop.call(stream)
  const timer = setTimeout(() => {
    held.delete(stream)
    if (streams.get(stream)) readStart.call(stream)
  }, someTime())
  // One that is not read does not keep the process; the timer does in its place.
  if (!stream.hasRef()) timer.unref()
}

/** What is written stays in the socket meanwhile; but what is written to stdout is there, also if the process ends. */
function writeLate() {
  const sockets = process._getActiveHandles().filter((handle) => handle instanceof Socket && !handle._isStdio)
  for (const socket of sockets) {
    if (random() < 0.5) continue
    socket.cork()
    setTimeout(() => socket.uncork(), someTime())
  }
}

/** While the file system is busy: fulfilled when it is not any more. */
let busy = null
const HANDLE_CALLS = ['read', 'write', 'writev', 'stat', 'truncate', 'datasync', 'sync', 'close']

async function watchFiles() {
  const handle = await promises.open('/dev/null')
  const calls = Object.keys(promises).filter((name) => typeof promises[name] === 'function' && name !== 'watch')
  delay(promises, calls)
  delay(Object.getPrototypeOf(handle), HANDLE_CALLS)
  syncBuiltinESMExports()
  await handle.close()
}

function delay(object, names) {
  for (const name of names) {
    const call = object[name]
    object[name] = function (...args) {
      return busy === null ? call.apply(this, args) : busy.then(() => call.apply(this, args))
    }
  }
}

function filesLate() {
  busy ??= new Promise((resolve) => {
    const end = () => {
      busy = null
      resolve()
    }
    setTimeout(end, someTime())
  })
}

/** Also those with an environment of their own. */
function watchChildren() {
  const { spawn } = ChildProcess.prototype
  ChildProcess.prototype.spawn = function (options) {
    const has = options.envPairs.some((pair) => pair.startsWith('NODE_OPTIONS='))
    if (!has) options.envPairs.push(`RINGFS_STALLS=${RINGFS_STALLS}`, `NODE_OPTIONS=${NODE_OPTIONS}`)
    return spawn.call(this, options)
  }
}

const TROUBLES = [stall, stall, stall, stall, stumble, readLate, readLate, writeLate, writeLate, filesLate, filesLate]

function trouble() {
  oneOf(TROUBLES)()
  setTimeout(trouble, between(BETWEEN_MS)).unref()
}

watchChildren()
watchStreams()
await watchFiles()
trouble()
