// Checks every vector: node verify.js [folder]. Exits 0 only when all of them give what they expect.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checks as contentChecks } from './content.js'
import { Refusal } from './encoding.js'
import { checks as entryChecks } from './entries.js'
import { checks as identityChecks } from './identity.js'
import { checks as stateChecks } from './state.js'

const CHECKS = { ...entryChecks, ...identityChecks, ...contentChecks, ...stateChecks }

function outcome (vector) {
  const check = CHECKS[vector.kind]
  if (check === undefined) throw new Error(`no check for vectors of kind ${vector.kind}`)
  try {
    return { ok: check(vector.input) }
  } catch (error) {
    if (error instanceof Refusal) return { refusal: error.code }
    throw error
  }
}

const folder = process.argv[2] ?? fileURLToPath(new URL('../vectors', import.meta.url))
const failures = []
const counts = {}
for (const entry of readdirSync(folder, { withFileTypes: true }).filter((item) => item.isDirectory())) {
  for (const file of readdirSync(join(folder, entry.name)).filter((name) => name.endsWith('.json'))) {
    const vector = JSON.parse(readFileSync(join(folder, entry.name, file), 'utf8'))
    counts[vector.kind] = (counts[vector.kind] ?? 0) + 1
    try {
      assert.deepEqual(outcome(vector), vector.expect)
    } catch (error) {
      failures.push(`${entry.name}/${file}: ${vector.about}\n${error.message}`)
    }
  }
}
for (const failure of failures) console.error(failure)
const total = Object.values(counts).reduce((sum, count) => sum + count, 0)
console.log(JSON.stringify({ vectors: total, failed: failures.length, kinds: counts }))
process.exitCode = total === 0 || failures.length > 0 ? 1 : 0
