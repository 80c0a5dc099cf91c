// Sections "Content", "Operations", "Geometry", "Epochs" (packages and bodies).

import { hash, keyed, openBox, x25519Public, x25519Shared } from './crypto.js'
import { ascii, byLengthThenBytes, check, decode, encode, hex, isBytes, isInteger, join, plain, raw } from './encoding.js'

const CONTENT_MAX = 65_535

function content (given) {
  const fields = decode(raw(given.content), CONTENT_MAX)
  const fits = (held) => check(held, 'content-malformed')
  fits(fields instanceof Map)
  const [parents, operations, acts] = [fields.get(0) ?? [], fields.get(3) ?? [], fields.get(4) ?? []]
  for (const key of [0, 3, 4]) fits(!fields.has(key) || Array.isArray(fields.get(key)))
  fits(parents.length <= 16 && parents.every((parent) => isBytes(parent, 32)))
  fits(new Set(parents.map(hex)).size === parents.length)
  fits(isInteger(fields.get(1), 0, 2n ** 53n - 1n))
  fits(typeof fields.get(2) === 'string' && ascii(fields.get(2)).length <= 192)
  fits(operations.length <= 256)
  const opening = fields.get(5) ?? null
  fits(opening === null || (Array.isArray(opening) && opening.length === 2 && opening.every((part) => isBytes(part))))
  return {
    parents: parents.map(hex),
    time_ms: fields.get(1),
    operator: fields.get(2),
    operations: operations.length,
    acts: acts.length,
    opening: opening === null ? null : opening.map(hex),
    epoch: (fields.get(6) ?? null) !== null
  }
}

// --- operations ---

const NAME = /^[a-z0-9._-]{1,64}$/
const name = (value) => check(typeof value === 'string' && NAME.test(value), 'operation-bad-name')
const object = (value) => check(isBytes(value, 16), 'operation-bad-object')

export function compareDots (one, other) {
  return Buffer.compare(one[0], other[0]) || one[1] - other[1] || one[2] - other[2]
}

function dots (value) {
  const fits = (held) => check(held, 'operation-bad-dots')
  fits(Array.isArray(value) && value.length <= 256)
  value.forEach((dot, at) => {
    fits(Array.isArray(dot) && dot.length === 3 && isBytes(dot[0], 32))
    fits(isInteger(dot[1], 1, 2 ** 32 - 1) && isInteger(dot[2], 0, 65_535))
    fits(at === 0 || compareDots(value[at - 1], dot) < 0)
  })
}

function isValue (value, depth) {
  if (value === null || typeof value === 'boolean' || typeof value === 'string' || isBytes(value)) return true
  if (Array.isArray(value)) return depth < 4 && value.every((item) => isValue(item, depth + 1))
  if (value instanceof Map) {
    return depth < 4 && [...value].every(([key, item]) => typeof key === 'string' && isValue(item, depth + 1))
  }
  return isInteger(value, -(2n ** 63n), 2n ** 63n - 1n)
}

const value = (item) => check(isValue(item, 0) && encode(item).length <= 49_152, 'operation-bad-value')

function record (item) {
  check(item instanceof Map, 'operation-bad-record')
  value(item)
}

const index = (item) => check(isInteger(item, 0, 65_535), 'operation-bad-chunk')
const piece = (item) => check(isBytes(item) && item.length >= 1 && item.length <= 32_768, 'operation-bad-chunk')

const OPERATIONS = {
  1: [name, object, name, value, dots],
  2: [name, object, name, value],
  3: [name, object, name, dots],
  4: [name, object],
  5: [name, object, dots],
  6: [record],
  7: [object, index, piece]
}

export function readOperation (items) {
  check(Array.isArray(items) && items.length > 0, 'operation-bad-form')
  const [code, ...rest] = items
  check(isInteger(code, 1, 2 ** 32 - 1), 'operation-bad-code')
  const types = OPERATIONS[code]
  if (types === undefined) return { code, known: false, items: rest, extra: [] }
  check(rest.length >= types.length, 'operation-bad-form')
  types.forEach((check, at) => check(rest[at]))
  return { code, known: true, items: rest.slice(0, types.length), extra: rest.slice(types.length) }
}

function operation (given) {
  const { code, known, items, extra } = readOperation(decode(raw(given.operation), CONTENT_MAX))
  return { code, known, items: plain(items), extra: plain(extra) }
}

// --- geometry ---

const TYPES = { 1: 'Point', 2: 'MultiPoint', 3: 'LineString', 4: 'MultiLineString', 5: 'Polygon', 6: 'MultiPolygon', 7: 'GeometryCollection' }
const LEAST = { 1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4 }

// How many positions a geometry has; NaN when it is none.
function countPositions (mesh, inside) {
  if (!Array.isArray(mesh) || mesh.length < 3) return NaN
  const [code, dimensions, ...parts] = mesh
  if (!(code in TYPES) || typeof code !== 'number' || (inside && code === 7)) return NaN
  if (code === 7) return dimensions === 0 ? sum(parts.map((part) => countPositions(part, true))) : NaN
  if (dimensions !== 2 && dimensions !== 3) return NaN
  if (code <= 3 && parts.length !== 1) return NaN
  if (code < 6) return sum(parts.map((part) => countLine(part, code, dimensions)))
  return sum(parts.map((rings) => Array.isArray(rings) && rings.length ? sum(rings.map((ring) => countLine(ring, code, dimensions))) : NaN))
}

function countLine (flat, code, dimensions) {
  if (!Array.isArray(flat) || flat.length % dimensions) return NaN
  const count = flat.length / dimensions
  if (count < LEAST[code] || (code === 1 && count !== 1)) return NaN
  const bounds = [1_800_000_000, 900_000_000, 100_000_000]
  if (!flat.every((number, at) => isInteger(number, -bounds[at % dimensions], bounds[at % dimensions]))) return NaN
  const closes = Array.from({ length: dimensions }, (_, at) => flat[at] === flat[flat.length - dimensions + at]).every(Boolean)
  return (code === 5 || code === 6) && !closes ? NaN : count
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0)

function geometry (given) {
  const mesh = decode(raw(given.geometry), CONTENT_MAX)
  return countPositions(mesh, false) <= 2000 ? { geometry: true, type: TYPES[mesh[0]] } : { geometry: false }
}

// --- epochs ---

const BUCKETS = [4, 8, 16, 32, 64, 96, 128, 192, 256, 320, 400]
const SHORT = (value) => value.subarray(0, 16)
const tagOf = (shared, incident, keyId) => SHORT(keyed('mn-box-tag', shared, incident, keyId))

function boxTag (given) {
  const secret = raw(given.ephemeral_private)
  const shared = x25519Shared(secret, raw(given.recipient_x25519), 'package-malformed')
  return { ephemeral_public: hex(x25519Public(secret)), tag: hex(tagOf(shared, raw(given.incident), raw(given.key_id))) }
}

function openPackage (given) {
  const fields = decode(raw(given.package), 524_288)
  const fits = (held) => check(held, 'package-malformed')
  fits(Array.isArray(fields) && fields.length === 3 && fields[0] === 1 && isBytes(fields[1], 32))
  const [, ephemeral, rows] = fields
  fits(Array.isArray(rows) && BUCKETS.includes(rows.length))
  rows.forEach((row, at) => {
    fits(Array.isArray(row) && row.length === 2 && isBytes(row[0], 16) && isBytes(row[1], 1168))
    fits(at === 0 || Buffer.compare(rows[at - 1][0], row[0]) < 0)
  })
  const [incident, keyId] = [raw(given.incident), raw(given.key_id)]
  const info = join(ascii('meshnode/1 epoch box'), incident, keyId)
  let wrong = false
  for (const secret of given.privates.map(raw)) {
    const tag = tagOf(x25519Shared(secret.subarray(0, 32), ephemeral, 'package-malformed'), incident, keyId)
    const row = rows.find(([other]) => hex(other) === hex(tag))
    if (row === undefined) continue
    const opened = openBox(secret, info, row[1])
    if (opened !== null && opened.length === 32 && hex(hash('mn-key-id', opened)) === hex(keyId)) return { epoch_key: hex(opened) }
    wrong = true
  }
  check(!wrong, 'package-wrong-key')
  return { epoch_key: null }
}

export function readBody (plainBody) {
  const fits = (held) => check(held, 'body-malformed')
  fits(Array.isArray(plainBody) && plainBody.length === 3 && plainBody[0] === 1)
  const [, recipients, parents] = plainBody
  fits(Array.isArray(recipients) && recipients.length >= 1 && recipients.length <= 400)
  fits(Array.isArray(parents) && parents.length <= 256)
  recipients.forEach((row, at) => {
    fits(Array.isArray(row) && row.length === 2 && isBytes(row[0], 32) && isInteger(row[1], 0, 2n ** 63n - 1n))
    fits(at === 0 || Buffer.compare(recipients[at - 1][0], row[0]) < 0)
  })
  fits(parents.every((key) => isBytes(key, 32)))
  const ids = parents.map((key) => hash('mn-key-id', key))
  ids.forEach((id, at) => fits(at === 0 || byLengthThenBytes(ids[at - 1], id) < 0))
  return { recipients, parents: ids.map((id, at) => [hex(id), hex(parents[at])]) }
}

function epochBody (given) {
  const { recipients, parents } = readBody(decode(raw(given.body), CONTENT_MAX))
  return { recipients: recipients.map(([device, serial]) => [hex(device), plain(serial)]), parents }
}

export const checks = { content, operation, geometry, 'box-tag': boxTag, package: openPackage, 'epoch-body': epochBody }
