// Section "Encoding". A scanner for the rules, then cborg for the values; encoding again must give the same bytes.

import { decode as cborgDecode, encode as cborgEncode } from 'cborg'

export class Refusal extends Error {
  constructor (code) {
    super(code)
    this.code = code
  }
}

export function refuse (code) {
  throw new Refusal(code)
}

export function check (held, code) {
  if (!held) refuse(code)
}

const DEPTH_MAX = 8
const ITEMS_MAX = 65_536
const WIDTHS = { 24: 1, 25: 2, 26: 4, 27: 8 }
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function decode (bytes, sizeMax) {
  check(bytes.length <= sizeMax, 'cbor-too-large')
  const end = scan(bytes)
  check(end === bytes.length, 'cbor-trailing-bytes')
  const value = cborgDecode(bytes, { useMaps: true, strict: true, rejectDuplicateMapKeys: true, allowIndefinite: false, allowUndefined: false })
  if (!equal(encode(value), bytes)) throw new Error('what was accepted does not encode to the same bytes')
  return value
}

export function encode (value) {
  return cborgEncode(value, { mapSorter: (a, b) => byLengthThenBytes(keyBytes(a[0].value), keyBytes(b[0].value)) })
}

// By hand: cborg's encoder must not be entered again while it encodes.
function keyBytes (key) {
  if (typeof key === 'string') {
    const bytes = ascii(key)
    return join(headBytes(3, BigInt(bytes.length)), bytes)
  }
  const number = BigInt(key)
  return number < 0n ? headBytes(1, -1n - number) : headBytes(0, number)
}

function headBytes (major, argument) {
  if (argument < 24n) return big((major << 5) | Number(argument), 1)
  const info = [24, 25, 26, 27].find((info) => argument < 1n << BigInt(8 * WIDTHS[info]))
  return join(big((major << 5) | info, 1), big(argument, WIDTHS[info]))
}

function scan (bytes) {
  let items = 0
  function value (at, depth) {
    check(++items <= ITEMS_MAX, 'cbor-too-many-items')
    const head = readHead(bytes, at)
    let { major, argument, next } = head
    if (major === 2 || major === 3) {
      check(argument <= BigInt(bytes.length - next), 'cbor-truncated')
      const end = next + Number(argument)
      if (major === 3) text(bytes.subarray(next, end))
      return end
    }
    if (major === 4 || major === 5) {
      check(depth < DEPTH_MAX, 'cbor-too-deep')
      let before = null
      for (let left = argument; left > 0n; left--) {
        if (major === 5) {
          check(next < bytes.length, 'cbor-truncated')
          check([0, 1, 3].includes(bytes[next] >> 5), 'cbor-forbidden-type')
          const end = value(next, depth + 1)
          const key = bytes.subarray(next, end)
          check(before === null || byLengthThenBytes(before, key) < 0, 'cbor-not-canonical')
          before = key
          next = end
        }
        next = value(next, depth + 1)
      }
    }
    return next
  }
  return value(0, 0)
}

function readHead (bytes, at) {
  check(at < bytes.length, 'cbor-truncated')
  const major = bytes[at] >> 5
  const info = bytes[at] & 31
  if (major === 7) check(info >= 20 && info <= 22, 'cbor-forbidden-type')
  check(major !== 6, 'cbor-forbidden-type')
  if (info < 24) return { major, argument: BigInt(info), next: at + 1 }
  const width = WIDTHS[info]
  check(width !== undefined, 'cbor-forbidden-type')
  check(at + 1 + width <= bytes.length, 'cbor-truncated')
  const argument = integer(bytes.subarray(at + 1, at + 1 + width))
  check(width === 1 ? argument > 23n : argument >= 1n << BigInt(4 * width), 'cbor-not-canonical')
  return { major, argument, next: at + 1 + width }
}

function text (bytes) {
  try {
    UTF8.decode(bytes)
  } catch {
    refuse('cbor-bad-utf8')
  }
}

// --- bytes ---

export const hex = (bytes) => Buffer.from(bytes).toString('hex')
export const raw = (text) => new Uint8Array(Buffer.from(text, 'hex'))
export const ascii = (text) => new TextEncoder().encode(text)
export const join = (...parts) => new Uint8Array(Buffer.concat(parts))
export const equal = (one, other) => Buffer.compare(one, other) === 0
export const isBytes = (value, length) => value instanceof Uint8Array && (length === undefined || value.length === length)

export function byLengthThenBytes (one, other) {
  return one.length - other.length || Buffer.compare(one, other)
}

export function integer (bytes) {
  return BigInt('0x' + (hex(bytes) || '0'))
}

export function big (value, length) {
  return raw(BigInt.asUintN(8 * length, BigInt(value)).toString(16).padStart(2 * length, '0'))
}

export function isInteger (value, low, high) {
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isInteger(value))) return false
  return BigInt(value) >= BigInt(low) && BigInt(value) <= BigInt(high)
}

// The form of values in the vectors' JSON.
export function plain (value) {
  if (value instanceof Uint8Array) return { hex: hex(value) }
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isSafeInteger(value))) {
    return BigInt(value) < 2n ** 53n && BigInt(value) > -(2n ** 53n) ? Number(value) : { int: String(value) }
  }
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) {
    const rows = [...value].sort((a, b) => byLengthThenBytes(encode(a[0]), encode(b[0])))
    return { map: rows.map(([key, item]) => [plain(key), plain(item)]) }
  }
  return value
}
