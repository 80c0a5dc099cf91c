// Sections "Order", "Acts", "Epochs" (validity), "Which epoch to write under", "Document", "State digest".

import { readBody, readOperation } from './content.js'
import { hash, shake128 } from './crypto.js'
import { ascii, big, decode, encode, hex, integer, isBytes, isInteger, join, raw } from './encoding.js'

const TICKS = 65_536n
const TIME_MS_MAX = 1n << 46n
const LEAD = 15n * 60n * 1000n * TICKS
const greatest = (...numbers) => numbers.reduce((a, b) => (a > b ? a : b))
const least = (...numbers) => numbers.reduce((a, b) => (a < b ? a : b))

// --- the graph: for each entry the indices of everything it covers, itself included ---

function graphOf (entries) {
  const at = new Map()
  return entries.map((entry, index) => {
    at.set(`${entry.log}.${entry.seq}`, index)
    const before = entry.seq > 1 ? [[entry.log, entry.seq - 1]] : []
    const named = [...before, ...entry.parents].map(([log, seq]) => at.get(`${log}.${seq}`)).filter((found) => found !== undefined)
    return { named, covers: new Set([index]) }
  }).map((node, index, nodes) => {
    for (const named of node.named) for (const other of nodes[named].covers) node.covers.add(other)
    return node
  })
}

function order (given) {
  const graph = graphOf(given.entries)
  const times = []
  given.entries.forEach((entry, index) => {
    const before = graph[index].named.map((named) => times[named])
    const own = least(BigInt(entry.time_ms), TIME_MS_MAX) * TICKS
    const high = before.length ? greatest(...before) : null
    times.push(high === null ? own : least(greatest(own, high + 1n), high + LEAD))
  })
  const rows = given.entries.map((entry, index) => [times[index], entry.log, entry.seq])
  rows.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : a[2] - b[2]))
  return { order_times: times.map(String), shown: rows.map(([, log, seq]) => [log, seq]) }
}

// --- acts ---

const ROLES = { 1: 'reader', 2: 'writer', 3: 'manager' }
const NOC = /^[!-~]{1,32}$/

const isLine = (row) => Array.isArray(row) && row.length === 3 && isBytes(row[0], 32) && typeof row[1] === 'string' &&
  isInteger(row[2], -(2n ** 64n), 2n ** 64n) && NOC.test(row[1])

function compareGrants (a, b) {
  return a.depth - b.depth || a.order - b.order || (a.log < b.log ? -1 : a.log > b.log ? 1 : a.seq - b.seq)
}

function fold (standings, grant) {
  const known = standings.get(grant.device)
  if (known === undefined) standings.set(grant.device, { grant, role: grant.role })
  else {
    standings.set(grant.device, {
      grant: compareGrants(grant, known.grant) < 0 ? grant : known.grant,
      role: Math.max(known.role, grant.role)
    })
  }
}

function judgeAct (act, author, incident, place, standings) {
  if (!Array.isArray(act) || ![1, 2, 3].includes(act[0])) return 'act-unknown'
  if (act[0] === 3) {
    const [, attempt, keys] = act
    if (act.length !== 3 || !isInteger(attempt, 1n, 8n) || !Array.isArray(keys) || keys.length < 1 || keys.length > 16) return 'act-malformed'
    if (!keys.every((key) => isBytes(key, 32))) return 'act-malformed'
    return standings.has(author) ? [] : 'act-not-entitled'
  }
  const creates = act[0] === 1
  const rows = act[act.length - 1]
  if (act.length !== (creates ? 3 : 2) || !Array.isArray(rows) || rows.length === 0 || !rows.every(isLine)) return 'act-malformed'
  if (new Set(rows.map(([device]) => hex(device))).size !== rows.length) return 'act-malformed'
  if (!rows.every(([, , role]) => role in ROLES)) return 'act-unknown'
  let depth = 0
  if (creates) {
    if (!isBytes(act[1], 16)) return 'act-malformed'
    if (hex(hash('mn-incident', raw(author), act[1]).subarray(0, 16)) !== incident) return 'act-wrong-handle'
    if (hex(rows[0][0]) !== author || rows[0][2] !== 3) return 'act-malformed'
    if (standings.size > 0) return 'act-created-again'
  } else {
    const standing = standings.get(author)
    if (standing === undefined || standing.role < 3) return 'act-not-entitled'
    depth = standing.grant.depth + 1
  }
  const added = rows.filter(([device]) => !standings.has(hex(device))).length
  if (standings.size + added > 400) return 'act-group-too-large'
  return rows.map(([device, noc, role], at) => ({ ...place, depth, order: creates ? at : 0, device: hex(device), noc, role }))
}

// --- epochs ---

function group (given) {
  const graph = graphOf(given.entries)
  const grants = given.entries.map(() => [])
  const epochs = new Map() // index of the entry -> epoch
  const verdicts = given.entries.map((entry, index) => {
    const past = [...graph[index].covers].filter((other) => other !== index)
    const standings = new Map()
    for (const other of past) for (const grant of grants[other]) fold(standings, grant)
    const place = { log: entry.log, seq: entry.seq }
    const codes = decode(raw(entry.acts), 65_535).map((act) => {
      const judged = judgeAct(act, entry.author, given.incident, place, standings)
      if (typeof judged === 'string') return judged
      for (const grant of judged) fold(standings, grant)
      grants[index].push(...judged)
      return ''
    })
    if (entry.epoch === null) return codes
    const body = readBody(decode(raw(entry.epoch), 65_535))
    const recipients = body.recipients.map(([device]) => hex(device))
    const epoch = { index, keyId: entry.key_id, recipients, parents: body.parents.map(([id]) => id), author: entry.author }
    const before = past.filter((other) => epochs.has(other)).map((other) => epochs.get(other))
    epoch.reach = new Set([index])
    for (const other of before) {
      if (!other.reseals && [epoch.keyId, ...epoch.parents].includes(other.keyId)) for (const reached of other.reach) epoch.reach.add(reached)
    }
    epoch.reseals = before.some((other) => other.keyId === epoch.keyId)
    const code = judgeEpoch(epoch, before, standings)
    epoch.valid = code === '' && !epoch.reseals
    epoch.reseals &&= code === ''
    epochs.set(index, epoch)
    return [...codes, code]
  })
  const standings = new Map()
  for (const grant of grants.flat()) fold(standings, grant)
  return { verdicts, ...current([...epochs.values()], standings, graph) }
}

function judgeEpoch (epoch, before, standings) {
  if (!standings.has(epoch.author)) return 'epoch-not-entitled'
  if (epoch.reseals) return epoch.recipients.every((device) => standings.has(device)) ? '' : 'epoch-key-reused'
  if (standings.get(epoch.author).role < 2) return 'epoch-not-entitled'
  if (epoch.recipients.length !== standings.size || !epoch.recipients.every((device) => standings.has(device))) return 'epoch-wrong-recipients'
  return before.every((other) => other.reseals || epoch.reach.has(other.index)) ? '' : 'epoch-past-unreachable'
}

function current (epochs, standings, graph) {
  const tainted = new Set()
  const waiting = epochs.filter((epoch) => !epoch.recipients.every((device) => standings.has(device))).map((epoch) => epoch.keyId)
  while (waiting.length) {
    const keyId = waiting.pop()
    if (tainted.has(keyId)) continue
    tainted.add(keyId)
    for (const epoch of epochs) if (epoch.keyId === keyId) waiting.push(...epoch.parents)
  }
  const isExact = (epoch) => epoch.recipients.length === standings.size && epoch.recipients.every((device) => standings.has(device))
  const usable = epochs.filter((epoch) => epoch.valid && standings.has(epoch.author) && !tainted.has(epoch.keyId))
  const maximal = usable.filter((epoch) => !usable.some((other) => other !== epoch && graph[other.index].covers.has(epoch.index)))
  maximal.sort((a, b) => isExact(b) - isExact(a) || (a.keyId < b.keyId ? -1 : 1))
  const exact = usable.filter(isExact)
  const holdsAll = (epoch) => [...standings.keys()].every((device) => epoch.recipients.includes(device))
  const lost = epochs.some((epoch) => !epoch.reseals && !holdsAll(epoch) && !exact.some((other) => other.reach.has(epoch.index)))
  const needed = exact.length === 0 || lost
  const ranked = [...standings].sort(([a, one], [b, other]) =>
    one.grant.depth - other.grant.depth || one.grant.order - other.grant.order || (a < b ? -1 : 1))
  const reached = new Set()
  const parentKeys = new Set()
  for (const epoch of epochs.toReversed()) {
    if (epoch.reseals || reached.has(epoch.index)) continue
    for (const other of epoch.reach) reached.add(other)
    parentKeys.add(epoch.keyId)
  }
  return {
    members: ranked.map(([device, { grant, role }]) => [device, grant.noc, ROLES[role]]),
    write_key: maximal.length ? maximal[0].keyId : null,
    repair: Object.fromEntries(ranked.map(([device, { role }]) => [device, role >= 2 && needed])),
    parent_keys: [...parentKeys].slice(0, 256).sort()
  }
}

// --- the document ---

const ROOT = '00'.repeat(16)
const head = (kind, dot, code) => join(ascii(kind), dot[0], big(dot[1], 4), big(dot[2], 2), big(code, 4))
const name = (dot) => `${hex(dot[0])}.${dot[1]}.${dot[2]}`

// Where the dots stand that an operation names.
const NAMES = { 1: 4, 3: 3, 5: 2 }

// Does the entry show that its author had seen all that its operations name? `seen`: log -> log -> highest position.
function stands (entry, operations, seen) {
  const reached = seen.get(entry.log) ?? new Map()
  seen.set(entry.log, reached)
  for (const [log, seq] of entry.parents) reached.set(log, Math.max(seq, reached.get(log) ?? 0))
  return operations.every(({ code, known, items }, index) => !known || !(code in NAMES) ||
    items[NAMES[code]].every(([log, seq, op]) => hex(log) === entry.log
      ? seq < entry.seq || (seq === entry.seq && op < index)
      : seq <= (reached.get(hex(log)) ?? 0)))
}

class State {
  constructor () {
    this.facts = new Map() // hex of a fact, so that none is in it twice
    this.objects = new Map()
    this.values = new Map()
    this.records = 0
    this.unknown = 0
  }

  hold (fact) { this.facts.set(hex(fact), fact) }
  drop (fact) { this.facts.delete(hex(fact)) }

  object (collection, id) {
    const key = `${collection} ${id}`
    if (!this.objects.has(key)) this.objects.set(key, { collection, id, exists: false, deletes: 0 })
    return this.objects.get(key)
  }

  apply (dot, operation, entry) {
    const written = (code, ...items) =>
      join(head('o', dot, code), big(entry.time_ms, 9), encode(entry.operator), ...items.map((item) => encode(item)))
    const { code, known, items, extra } = operation
    if (!known) {
      this.unknown++
      this.hold(written(code, items))
      return
    }
    if (code === 1 || code === 2 || code === 4) {
      const [collection, id, field, value] = [items[0], items[1], items[2] ?? '', items[3] ?? null]
      const object = this.object(collection, hex(id))
      object.exists = true
      this.hold(join(ascii('e'), id, encode(collection)))
      if (code === 1) this.end(items[4], collection, hex(id), field)
      const fact = written(code, collection, id, field, value)
      this.hold(fact)
      this.values.set(name(dot), { dot, code, collection, id: hex(id), field, value, fact, marked: false })
    } else if (code === 3) {
      this.end(items[3], items[0], hex(items[1]), items[2])
    } else if (code === 5) {
      this.hold(written(5, items[0], items[1], items[2]))
      this.mark(items[2], items[0], hex(items[1]))
    } else {
      if (code === 6) this.records++
      this.hold(written(code, ...items))
    }
    if (extra.length) this.hold(join(head('x', dot, 0), encode(extra)))
  }

  end (dots, collection, id, field) {
    for (const dot of dots) {
      const value = this.values.get(name(dot))
      if (value !== undefined && value.collection === collection && value.id === id && value.field === field && value.code !== 4) {
        this.values.delete(name(dot))
        this.drop(value.fact)
      }
    }
  }

  mark (dots, collection, id) {
    if (collection === 'incident' && id === ROOT) return
    this.object(collection, id).deletes++
    for (const dot of dots) {
      const value = this.values.get(name(dot))
      if (value !== undefined && value.collection === collection && value.id === id) value.marked = true
    }
  }

  sum () {
    const modulus = 1n << 2048n
    let total = 0n
    for (const fact of this.facts.values()) total = (total + integer(shake128(fact, { dkLen: 256 }))) % modulus
    return big(total, 256)
  }

  view (object) {
    const values = [...this.values.values()].filter((value) => value.collection === object.collection && value.id === object.id)
    const fields = {}
    for (const value of values) if (value.code !== 4) (fields[value.field] ??= []).push(value)
    const deleted = object.deletes > 0 && values.every((value) => value.marked)
    const conflicts = Object.keys(fields).filter((field) =>
      new Set(fields[field].filter((value) => value.code === 1).map((value) => hex(encode(value.value)))).size > 1)
    return { ...object, deleted, fields, conflicts: deleted ? [] : conflicts.sort() }
  }
}

function document (given) {
  const state = new State()
  const heads = new Map()
  const seen = new Map()
  const empty = []
  for (const entry of given.entries) {
    const operations = entry.operations.map((operation) => readOperation(decode(raw(operation), 65_535)))
    if (stands(entry, operations, seen)) {
      operations.forEach((operation, op) => state.apply([raw(entry.log), entry.seq, op], operation, entry))
    } else empty.push([entry.log, entry.seq])
    heads.set(entry.log, [raw(entry.log), entry.seq, raw(entry.hash)])
  }
  const ascending = [...heads.keys()].sort().map((log) => heads.get(log))
  const root = state.view(state.object('incident', ROOT))
  const others = [...state.objects.values()].filter((object) => object.exists && !(object.collection === 'incident' && object.id === ROOT))
  others.sort((a, b) => (a.collection < b.collection ? -1 : a.collection > b.collection ? 1 : a.id < b.id ? -1 : 1))
  const views = [root, ...others.map((object) => state.view(object))]
  const sum = state.sum()
  return {
    facts_sum: hex(sum),
    state_digest: hex(hash('meshnode state', sum, encode(ascending))),
    objects: views.map(({ collection, id, deleted, fields }) => ({
      collection: id === ROOT ? 'incident' : collection,
      id: id === ROOT ? '' : id,
      deleted,
      fields: Object.fromEntries(Object.entries(fields).map(([field, values]) => [field, values.map((value) => name(value.dot)).sort()]))
    })),
    conflicts: views.flatMap(({ collection, id, conflicts }) => conflicts.map((field) => [collection, id, field])),
    log_records: state.records,
    unknown_operations: state.unknown,
    void: empty
  }
}

export const checks = { order, group, document }
