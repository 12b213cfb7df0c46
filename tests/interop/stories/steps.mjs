// How a story in JavaScript tells its steps: one line of JSON for each that passed, and for the one that did not
// its name, what was expected and what was seen.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

export const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
export const { STORY_RPC: rpc, STORY_WS: ws, STORY_SEALED: sealed, STORY_KEY: key } = process.env
export const chainId = Number(process.env.STORY_CHAIN_ID)
export const probe = JSON.parse(readFileSync(process.env.STORY_PROBE, 'utf8'))
export const GWEI = 10n ** 9n
export const REASON = 'not today'

const ZERO_HASH = '0x' + '00'.repeat(32)
let preconfirmed = 0

/** Count a receipt of a block that is not sealed yet: its hash is not known. */
export function count(receipt) {
  if (receipt.blockHash === ZERO_HASH) preconfirmed++
  return receipt
}

class Unexpected extends Error {}

/** Enough of a value; code is long. */
function shown(value) {
  const text = typeof value === 'bigint' ? String(value) : JSON.stringify(value) ?? String(value)
  return text.length <= 200 ? text : text.slice(0, 200) + '...'
}

export function expect(what, seen, expected) {
  if (seen !== expected) {
    throw new Unexpected(`${what}: expected ${shown(expected)}, saw ${shown(seen)}`)
  }
}

export function expectText(what, seen, part) {
  if (!String(seen).includes(part)) throw new Unexpected(`${what}: expected '${part}' in it, saw ${shown(seen)}`)
}

/** What a promise is refused with. */
export async function refusal(what, promise) {
  let value
  try {
    value = await promise
  } catch (error) {
    return error
  }
  throw new Unexpected(`${what}: expected an error, saw ${shown(value)}`)
}

/** Wait until `seen` holds `expected`, asked often, for 30 s. */
export async function eventually(what, expected, seen) {
  const deadline = Date.now() + 30_000
  while (!seen.includes(expected)) {
    if (Date.now() > deadline) {
      throw new Unexpected(`${what}: expected ${shown(expected)} within 30 s, saw [${seen.map(shown)}]`)
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Run the steps, an object of functions, in their order. */
export async function story(steps) {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step()
    } catch (error) {
      console.error(error instanceof Unexpected ? `step ${name}: ${error.message}` : `step ${name}: ${error.stack}`)
      process.exit(1)
    }
    console.log(JSON.stringify({ step: name, preconfirmed }))
  }
  process.exit(0)
}
