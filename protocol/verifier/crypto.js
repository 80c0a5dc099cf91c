// Sections "Hashes" and "Signatures", and the primitives of "Entries" and "Epochs".

import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { blake2b } from '@noble/hashes/blake2.js'
import { expand, extract } from '@noble/hashes/hkdf.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { sha3_256, shake128 } from '@noble/hashes/sha3.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { ascii, big, check, equal, integer, join, raw, refuse } from './encoding.js'

export { sha256, shake128 }

const Point = ed25519.Point
const GROUP_ORDER = Point.Fn.ORDER

function personal (tag) {
  const padded = new Uint8Array(16)
  padded.set(ascii(tag))
  return padded
}

export function hash (tag, ...parts) {
  return blake2b(join(...parts), { dkLen: 32, personalization: personal(tag) })
}

export function keyed (tag, key, ...parts) {
  return blake2b(join(...parts), { dkLen: 32, key, personalization: personal(tag) })
}

export function nonceOf (key, bytes) {
  return blake2b(bytes, { dkLen: 24, key })
}

// --- signatures ---

const signedBytes = (tag, message) => join(ascii('meshnode/1 ' + tag), new Uint8Array(1), message)

export function sign (seed, tag, message) {
  return ed25519.sign(signedBytes(tag, message), seed)
}

export const publicOf = (seed) => ed25519.getPublicKey(seed)

export function verify (publicKey, tag, message, signature) {
  check(isRight(publicKey, signedBytes(tag, message), signature), 'bad-signature')
}

function isRight (publicKey, message, signature) {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  const halves = [signature.subarray(0, 32), signature.subarray(32)]
  const s = integer(halves[1].slice().reverse())
  if (s >= GROUP_ORDER) return false
  let a, r
  try {
    a = Point.fromBytes(publicKey)
    r = Point.fromBytes(halves[0])
  } catch {
    return false
  }
  if (a.isSmallOrder() || r.isSmallOrder()) return false
  if (!equal(a.toBytes(), publicKey) || !equal(r.toBytes(), halves[0])) return false
  const h = integer(sha512(join(halves[0], publicKey, message)).reverse()) % GROUP_ORDER
  return Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(h)).equals(r)
}

// --- sealing ---

export function aeadSeal (key, nonce, associated, plain) {
  return xchacha20poly1305(key, nonce, associated).encrypt(plain)
}

export function aeadOpen (key, nonce, associated, sealed) {
  try {
    return xchacha20poly1305(key, nonce, associated).decrypt(sealed)
  } catch {
    return null
  }
}

// --- prekeys and boxes ---

export const x25519Public = (secret) => x25519.getPublicKey(secret)

export function x25519Shared (secret, point, code) {
  try {
    return x25519.getSharedSecret(secret, point)
  } catch {
    return refuse(code) // a product of zero: the point is of small order
  }
}

export const mlkemPublic = (seed) => ml_kem768.keygen(seed).publicKey

export function isMlkemKey (publicKey) {
  try {
    ml_kem768.encapsulate(publicKey)
    return true
  } catch {
    return false
  }
}

const SUITE = join(ascii('HPKE'), raw('647a00010003'))
const KEM_LABEL = raw('5c2e2f2f5e5c')
const NOTHING = new Uint8Array(0)

function labeledExtract (salt, label, ikm) {
  return extract(sha256, join(ascii('HPKE-v1'), SUITE, ascii(label), ikm), salt)
}

function labeledExpand (prk, label, info, length) {
  return expand(sha256, prk, join(big(length, 2), ascii('HPKE-v1'), SUITE, ascii(label), info), length)
}

// The plaintext of a box, or null.
export function openBox (privatePart, info, box) {
  const [ours, seed] = [privatePart.subarray(0, 32), privatePart.subarray(32)]
  const [mlkemPart, x25519Part, sealed] = [box.subarray(0, 1088), box.subarray(1088, 1120), box.subarray(1120)]
  const mlkemSecret = ml_kem768.decapsulate(mlkemPart, ml_kem768.keygen(seed).secretKey)
  const x25519Secret = x25519Shared(ours, x25519Part, 'package-wrong-key')
  const secret = sha3_256(join(mlkemSecret, x25519Secret, x25519Part, x25519Public(ours), KEM_LABEL))
  const hashes = [labeledExtract(NOTHING, 'psk_id_hash', NOTHING), labeledExtract(NOTHING, 'info_hash', info)]
  const context = join(new Uint8Array(1), ...hashes)
  const scheduled = labeledExtract(secret, 'secret', NOTHING)
  const key = labeledExpand(scheduled, 'key', context, 32)
  const nonce = labeledExpand(scheduled, 'base_nonce', context, 12)
  try {
    return chacha20poly1305(key, nonce, NOTHING).decrypt(sealed)
  } catch {
    return null
  }
}
