// Sections "Identifiers", "Entries", "Runs", "Digests", and the first part of "Messages".

import { aeadOpen, aeadSeal, hash, keyed, nonceOf, publicOf, sign, verify } from './crypto.js'
import { big, check, decode, encode, equal, hex, isBytes, isInteger, join, plain, raw, refuse } from './encoding.js'
import { verifyBundle } from './identity.js'

const SEQ_MAX = 2 ** 32 - 1
const NONE = new Uint8Array(32)

function clearPart ({ incident, log, seq, previous, key_id: keyId, package: packed }) {
  const packageHash = packed === null ? NONE : hash('mn-package', raw(packed))
  return join(raw(incident), raw(log), big(seq, 8), raw(previous), raw(keyId), packageHash)
}

const entryHashOf = (clear, sealed) => hash('mn-entry', clear, hash('mn-sealed', sealed))

function keysOf (given) {
  const data = keyed('mn-data', raw(given.epoch_key), raw(given.incident), raw(given.log))
  return { data, nonce: keyed('mn-nonce', data) }
}

function bucket (size) {
  const step = size <= 1024 ? 64 : 2 ** ((size - 1).toString(2).length - 4)
  return Math.ceil(size / step) * step
}

function sealing (given) {
  const [clear, keys, content] = [clearPart(given), keysOf(given), raw(given.content)]
  const padded = new Uint8Array(bucket(content.length + 1))
  padded.set(content)
  padded[content.length] = 0x80
  const nonce = nonceOf(keys.nonce, join(clear, padded))
  return { sealed: hex(join(nonce, aeadSeal(keys.data, nonce, clear, padded))) }
}

function unsealing (given) {
  const [clear, keys, sealed] = [clearPart(given), keysOf(given), raw(given.sealed)]
  check(hex(hash('mn-key-id', raw(given.epoch_key))) === given.key_id, 'entry-unreadable')
  check(sealed.length > 40 && sealed.length <= 65_576, 'entry-unreadable')
  const padded = aeadOpen(keys.data, sealed.subarray(0, 24), clear, sealed.subarray(24)) ?? refuse('entry-unreadable')
  let end = padded.length
  while (end > 0 && padded[end - 1] === 0) end--
  check(end > 0 && padded[end - 1] === 0x80, 'entry-unreadable')
  return { content: hex(padded.subarray(0, end - 1)) }
}

function opening (given) {
  const certificate = verifyBundle(raw(given.bundle), raw(given.network))
  verify(certificate.device, 'log opening', join(raw(given.incident), raw(given.log)), raw(given.signature))
  return { device: hex(certificate.device), noc: certificate.noc, name: certificate.name }
}

// --- messages ---

const bytesOf = (length) => (value) => isBytes(value, length)
const bytesTo = (length) => (value) => isBytes(value) && value.length <= length
const between = (low, high) => (value) => isInteger(value, low, high)
const flag = (value) => typeof value === 'boolean'
const list = (low, high, item) => (value) => Array.isArray(value) && value.length >= low && value.length <= high && value.every(item)
const row = (...columns) => (value) => Array.isArray(value) && value.length === columns.length && columns.every((is, at) => is(value[at]))
const either = (...types) => (value) => types.some((is) => is(value))

const [incident, key, digest] = [bytesOf(16), bytesOf(32), bytesOf(32)]
const [position, height] = [between(1, SEQ_MAX), between(0, SEQ_MAX)]
const isAddress = (value) => typeof value === 'string' &&
  /^([A-Za-z0-9._-]{1,240}|\[[0-9a-fA-F:.%]{2,60}\]):[0-9]{1,5}$/.test(value)
const runRow = row(between(0, 255), bytesTo(65_576), either(bytesTo(524_288), (value) => value === null))

const MESSAGES = {
  1: [digest, digest],
  2: [list(0, 1000, row(incident, digest)), flag],
  3: [incident, list(0, 1000, row(key, height)), flag, flag],
  4: [incident, key, position, position],
  5: [incident, key, position, key, list(1, 256, key), list(1, 256, runRow), bytesOf(64)],
  6: [incident, key, position],
  7: [list(1, 1000, row(incident, key, position))],
  8: [incident, key],
  9: [incident, key, height],
  10: [list(0, 1000, row(key, between(0, 2n ** 63n - 1n), key)), flag],
  11: [list(1, 100, key)],
  12: [list(1, 100, row(bytesTo(6144), bytesTo(6144)))],
  13: [list(0, 1000, row(key, isAddress))],
  14: [incident, between(0, 2n ** 32n - 1n)],
  15: [incident, list(1, 16, row(key, bytesTo(524_288))), between(0, 2n ** 32n - 1n)]
}

function readMessage (frame) {
  const items = decode(frame, 1_048_576)
  check(Array.isArray(items) && isInteger(items[0], -(2n ** 64n), 2n ** 64n), 'message-malformed')
  const types = MESSAGES[items[0]] ?? refuse('message-unknown')
  const fields = items.slice(1, 1 + types.length)
  check(fields.length === types.length && types.every((is, at) => is(fields[at])), 'message-malformed')
  if (items[0] === 5) {
    const [, , first, , keyIds, rows] = fields
    check(rows.every(([index]) => index < keyIds.length) && first + rows.length - 1 <= SEQ_MAX, 'message-malformed')
  }
  return { number: items[0], fields }
}

function message (given) {
  const { number, fields } = readMessage(raw(given.frame))
  return { number, fields: plain(fields) }
}

function run (given) {
  const { fields } = readMessage(raw(given.frame))
  const [incidentId, log, first, start, keyIds, rows, seal] = fields
  const [held, head] = [given.held[0], raw(given.held[1])]
  const last = first + rows.length - 1
  if (first > held + 1) return { fit: 'gap', new: [] }
  if (last < held) return { fit: 'known', new: [] }
  let previous = start
  const hashes = rows.map(([index, sealed, packed], at) => {
    const packageHash = packed === null ? NONE : hash('mn-package', packed)
    const clear = join(incidentId, log, big(first + at, 8), previous, keyIds[index], packageHash)
    previous = entryHashOf(clear, sealed)
    return previous
  })
  verify(log, 'seal', previous, seal)
  const at = first === held + 1 ? start : hashes[held - first]
  check(equal(at, head), 'log-forked')
  if (last === held) return { fit: 'known', new: [] }
  const fresh = hashes.map((identity, index) => [first + index, hex(identity)]).filter(([seq]) => seq > held)
  return { fit: 'new', new: fresh }
}

function heads (given) {
  const rows = given.incidents.map(([id, logs]) => {
    const ascending = logs.toSorted((a, b) => (a[0] < b[0] ? -1 : 1))
    const joined = ascending.map(([log, held, head]) => join(raw(log), big(held, 8), raw(head)))
    return [id, hex(hash('mn-heads', ...joined))]
  }).sort((a, b) => (a[0] < b[0] ? -1 : 1))
  return { incidents: rows, holdings: hex(hash('mn-holdings', ...rows.flat().map(raw))) }
}

export const checks = {
  cbor: (given) => ({ value: plain(decode(raw(given.bytes), given.size_max)) }),
  hash: (given) => ({ digest: hex(hash(given.tag, ...given.parts.map(raw))) }),
  derive: (given) => ({ key: hex(keyed(given.tag, raw(given.secret), ...given.context.map(raw))) }),
  sign: (given) => ({ public: hex(publicOf(raw(given.seed))), signature: hex(sign(raw(given.seed), given.tag, raw(given.message))) }),
  signature: (given) => verify(raw(given.public), given.tag, raw(given.message), raw(given.signature)) ?? {},
  'incident-id': (given) => ({ incident: hex(hash('mn-incident', raw(given.author), raw(given.nonce)).subarray(0, 16)) }),
  'key-id': (given) => ({ key_id: hex(hash('mn-key-id', raw(given.epoch_key))) }),
  'log-keys': (given) => ({ data: hex(keysOf(given).data), nonce: hex(keysOf(given).nonce) }),
  'entry-hash': (given) => ({ clear: hex(clearPart(given)), hash: hex(entryHashOf(clearPart(given), raw(given.sealed))) }),
  seal: (given) => verify(raw(given.log), 'seal', raw(given.hash), raw(given.seal)) ?? {},
  padding: (given) => ({ padded: given.sizes.map(bucket) }),
  sealing,
  unsealing,
  opening,
  message,
  run,
  heads,
  roster: (given) => ({ digest: hex(hash('mn-roster', encode(given.rows.map(([device, serial, of]) => [raw(device), serial, raw(of)])))) })
}
