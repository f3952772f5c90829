/** Reading replies of Redis without trusting their shape: a wrong shape is an error with the command's name in it. */
import { RingfsError } from '../base/errors.js'
import type { RedisValue } from './contract.js'

export function isArray(value: RedisValue | undefined): value is readonly RedisValue[] {
  return typeof value === 'object' && value !== null && !Buffer.isBuffer(value)
}

function wrong(what: string, wanted: string): RingfsError {
  return new RingfsError('INTERNAL', `Redis answered ${what} with something else than ${wanted}`)
}

export function arrayOf(value: RedisValue | undefined, what: string): readonly RedisValue[] {
  if (!isArray(value)) throw wrong(what, 'a list')
  return value
}

export function textOf(value: RedisValue | undefined, what: string): string {
  if (Buffer.isBuffer(value)) return value.toString()
  if (typeof value === 'number') return String(value)
  throw wrong(what, 'a text')
}

/** Integers, and numbers that came as text, as Lua must send what is not an integer. */
export function numberOf(value: RedisValue | undefined, what: string): number {
  const number = Buffer.isBuffer(value) && value.length > 0 ? Number(value.toString()) : value
  if (typeof number !== 'number' || Number.isNaN(number)) throw wrong(what, 'a number')
  return number
}

/** [name, value, name, value, …], as HGETALL answers. */
export function mapOf(value: RedisValue | undefined, what: string): Map<string, RedisValue> {
  const list = arrayOf(value, what)
  const map = new Map<string, RedisValue>()
  for (let i = 0; i + 1 < list.length; i += 2) map.set(textOf(list[i], what), list[i + 1] ?? null)
  return map
}
