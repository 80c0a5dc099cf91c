// Sections "Certificates", "Hello", "Prekeys", "Links" (frames).

import { check, decode, equal, hex, isBytes, isInteger, plain, raw, refuse } from './encoding.js'
import { hash, isMlkemKey, mlkemPublic, sha256, verify, x25519Public, x25519Shared } from './crypto.js'

const NOC = /^[A-Z][A-Z0-9]{1,7}$/
const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/
const SLACK_S = 24 * 3600
const TIME_S_MAX = 2 ** 40

function signed (bytes, sizeMax) {
  const value = decode(bytes, sizeMax)
  check(Array.isArray(value) && value.length === 2 && value.every((part) => isBytes(part)), 'certificate-malformed')
  return value
}

function payload (bytes, length) {
  const fields = decode(bytes, 4096)
  check(Array.isArray(fields) && fields.length > 0, 'certificate-malformed')
  check(fields[0] === 1, 'certificate-version')
  check(fields.length === length, 'certificate-malformed')
  return fields
}

const isNoc = (value) => typeof value === 'string' && NOC.test(value)
const isName = (value) => typeof value === 'string' && NAME.test(value)
const areDates = (start, end) => isInteger(start, 0, TIME_S_MAX) && isInteger(end, 0, TIME_S_MAX) && start < end

export function verifyBundle (bytes, network) {
  const [nocSigned, deviceSigned] = signed(bytes, 4096)
  const [nocPayload, nocSignature] = signed(nocSigned, 4096)
  const [, nocNetwork, noc, nocRoot, nocStart, nocEnd] = payload(nocPayload, 6)
  check(isBytes(nocNetwork, 32) && isNoc(noc) && isBytes(nocRoot, 32) && areDates(nocStart, nocEnd), 'certificate-malformed')
  check(equal(nocNetwork, network), 'certificate-foreign-network')
  verify(network, 'noc-certificate', nocPayload, nocSignature)
  const [devicePayload, deviceSignature] = signed(deviceSigned, 4096)
  const [, deviceNetwork, deviceNoc, name, device, relay, start, end, serial] = payload(devicePayload, 9)
  check(isBytes(deviceNetwork, 32) && isNoc(deviceNoc) && isName(name) && isBytes(device, 32), 'certificate-malformed')
  check(typeof relay === 'boolean' && areDates(start, end) && isInteger(serial, 0, 2n ** 64n - 1n), 'certificate-malformed')
  check(equal(deviceNetwork, network), 'certificate-foreign-network')
  verify(nocRoot, 'device-certificate', devicePayload, deviceSignature)
  check(noc === deviceNoc, 'certificate-wrong-noc')
  return { device, noc, name, relay, start: Math.max(start, nocStart), end: Math.min(end, nocEnd) }
}

function checkDates (certificate, nowS) {
  check(nowS >= certificate.start - SLACK_S, 'certificate-not-yet-valid')
  check(nowS <= certificate.end + SLACK_S, 'certificate-expired')
}

function bundle (given) {
  const found = verifyBundle(raw(given.bundle), raw(given.network))
  checkDates(found, given.now_s)
  const { device, noc, name, relay, start, end } = found
  return { device: hex(device), noc, name, relay, not_before_s: start, not_after_s: end }
}

function nocRequest (given) {
  const [bytes, signature] = signed(raw(given.request), 1024)
  const [, noc, key] = payload(bytes, 3)
  check(isNoc(noc) && isBytes(key, 32), 'certificate-malformed')
  verify(key, 'noc-request', bytes, signature)
  return { noc, noc_root: hex(key) }
}

function deviceRequest (given) {
  const [bytes, signature] = signed(raw(given.request), 1024)
  const [, noc, name, key] = payload(bytes, 4)
  check(isNoc(noc) && isName(name) && isBytes(key, 32), 'certificate-malformed')
  verify(key, 'device-request', bytes, signature)
  return { noc, name, device: hex(key) }
}

function hello (given) {
  const value = decode(raw(given.hello), 8188)
  check(Array.isArray(value) && value.length === 3 && value.every((part) => isBytes(part)), 'hello-malformed')
  const [bytes, signature, shown] = value
  const fields = decode(bytes, 8188)
  check(Array.isArray(fields) && isInteger(fields[0], -(2n ** 64n), 2n ** 64n), 'hello-malformed')
  check(fields[0] === 1, 'hello-version')
  const [, senderTls, receiverTls, dialled, relay, bundleHash] = fields
  check(fields.length === 6 && isBytes(senderTls, 32) && isBytes(receiverTls, 32), 'hello-malformed')
  check(typeof dialled === 'boolean' && typeof relay === 'boolean' && isBytes(bundleHash), 'hello-malformed')
  const [local, remote] = [raw(given.local_tls), raw(given.remote_tls)]
  check(!(equal(senderTls, local) && equal(receiverTls, remote) && dialled === given.dialed), 'hello-reflected')
  check(equal(senderTls, remote) && equal(receiverTls, local), 'hello-other-link')
  check(dialled !== given.dialed, 'hello-wrong-role')
  check(equal(bundleHash, hash('bundle', shown)), 'hello-other-certificate')
  const certificate = verifyBundle(shown, raw(given.network))
  check(!given.revoked.includes(hex(certificate.device)), 'device-revoked')
  checkDates(certificate, given.now_s)
  verify(certificate.device, 'hello', bytes, signature)
  check(!relay || certificate.relay, 'hello-relay-not-allowed')
  return { device: hex(certificate.device), noc: certificate.noc, name: certificate.name, relay }
}

function verifyPrekey (record) {
  const outer = decode(record, 2048)
  check(Array.isArray(outer) && outer.length === 2 && outer.every((part) => isBytes(part)), 'prekey-malformed')
  const [bytes, signature] = outer
  const fields = decode(bytes, 2048)
  check(Array.isArray(fields) && isInteger(fields[0], -(2n ** 64n), 2n ** 64n), 'prekey-malformed')
  check(fields[0] === 1, 'prekey-version')
  const [, device, bundleHash, serial, created, x25519, mlkem] = fields
  check(fields.length === 7 && isBytes(device, 32) && isBytes(bundleHash, 32) && isBytes(signature, 64), 'prekey-malformed')
  check(isInteger(serial, 0, 2n ** 63n - 1n) && isInteger(created, 0, 2n ** 53n - 1n), 'prekey-malformed')
  check(isBytes(x25519, 32) && isBytes(mlkem, 1184), 'prekey-malformed')
  verify(device, 'prekey', bytes, signature)
  x25519Shared(new Uint8Array(32).fill(0x55), x25519, 'prekey-weak')
  check(isMlkemKey(mlkem), 'prekey-weak')
  return { device, bundleHash, serial, created, x25519, mlkem }
}

function prekey (given) {
  const { device, bundleHash, serial, created, x25519, mlkem } = verifyPrekey(raw(given.record))
  const keys = { x25519: hex(x25519), mlkem_sha256: hex(sha256(mlkem)) }
  return { device: hex(device), bundle_hash: hex(bundleHash), serial: plain(serial), created_ms: created, ...keys }
}

// Of each device the highest serial; of that the lowest hash counts, and the next is kept beside it.
function enrolment (given) {
  const held = new Map()
  for (const [bundle, record] of given.pairs.map((pair) => pair.map(raw))) {
    const { device, bundleHash, serial } = verifyPrekey(record)
    check(equal(bundleHash, hash('bundle', bundle)), 'prekey-other-certificate')
    const certificate = verifyBundle(bundle, raw(given.network))
    check(equal(certificate.device, device), 'prekey-wrong-device')
    const row = { noc: certificate.noc, serial: BigInt(serial), hash: hex(hash('mn-prekey', record)) }
    const others = (held.get(hex(device)) ?? []).filter((other) => other.hash !== row.hash)
    const highest = [row, ...others].reduce((most, one) => (one.serial > most ? one.serial : most), 0n)
    const twins = [row, ...others].filter((one) => one.serial === highest).sort((a, b) => (a.hash < b.hash ? -1 : 1))
    held.set(hex(device), twins.slice(0, 2))
  }
  const rows = [...held.keys()].sort().flatMap((device) => held.get(device).map((one) => [device, one]))
  return { rows: rows.map(([device, { noc, serial, hash: of }]) => [device, noc, plain(serial), of]) }
}

function prekeyHalves (given) {
  const secret = raw(given.private)
  return { x25519: hex(x25519Public(secret.subarray(0, 32))), mlkem_sha256: hex(sha256(mlkemPublic(secret.subarray(32)))) }
}

function fingerprint (given) {
  const text = hex(hash('fingerprint', raw(given.key)).subarray(0, 16))
  return { text: text.match(/.{4}/g).join(' ') }
}

function frames (given) {
  let rest = Buffer.from(given.stream, 'hex')
  const whole = []
  while (rest.length >= 4) {
    const length = rest.readUInt32BE()
    if (length === 0) refuse('frame-empty')
    if (length > given.frame_bytes_max) refuse('frame-too-large')
    if (rest.length < 4 + length) break
    whole.push(hex(rest.subarray(4, 4 + length)))
    rest = rest.subarray(4 + length)
  }
  return { frames: whole, unfinished_bytes: rest.length }
}

export const checks = {
  bundle, 'noc-request': nocRequest, 'device-request': deviceRequest, hello, prekey, enrolment, 'prekey-halves': prekeyHalves, fingerprint, frames
}
