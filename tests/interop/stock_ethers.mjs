// A developer's script with ethers, which knows nothing of preconfirmations: deploy, use at once, spend what has
// just come, ask why a transaction failed, follow. Prints one JSON object.
// usage: node stock_ethers.mjs RPC_URL PRIVATE_KEY PROBE_JSON json|browser
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'

const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
const { ethers } = require('ethers')

const [url, key, file, kind] = process.argv.slice(2)
const { abi, bytecode } = JSON.parse(readFileSync(file))
// ethers remembers answers for 250 ms, longer than a flashblock takes: a nonce, say, that has been used since.
const options = { cacheTimeout: -1 }
const direct = new ethers.JsonRpcProvider(url, undefined, options)
const wallet1193 = { request: ({ method, params }) => direct.send(method, params ?? []) }
const provider = kind === 'browser' ? new ethers.BrowserProvider(wallet1193, undefined, options) : direct
provider.pollingInterval = direct.pollingInterval = 100
const wallet = new ethers.Wallet(key, provider)

// deploy, use at once
const probe = await new ethers.ContractFactory(abi, bytecode, wallet).deploy()
await probe.waitForDeployment()
assert.equal(await probe.count(), 0n)
for (let round = 1n; round <= 3n; round++) {
  const receipt = await (await probe.increment()).wait()
  assert.equal(receipt.status, 1)
  assert.equal(await probe.count(), round)
  assert.equal(await probe.count({ blockTag: receipt.blockNumber }), round)
  assert.ok(await provider.getBlockNumber() >= receipt.blockNumber)
  assert.equal((await provider.getBlock(receipt.blockNumber)).number, receipt.blockNumber)
  assert.equal((await probe.queryFilter('*', 0)).length, Number(round))
}
// the nonce is that of the block which `latest` is, and of the state
const [latest, pending] = await Promise.all(['latest', 'pending'].map((tag) => wallet.getNonce(tag)))
assert.equal(latest, pending)

// a fresh account spends what it has just been given
const fresh = ethers.Wallet.createRandom().connect(provider)
await (await wallet.sendTransaction({ to: fresh.address, value: ethers.parseEther('1') })).wait()
await (await fresh.sendTransaction({ to: wallet.address, value: ethers.parseEther('0.5') })).wait()
assert.ok(await provider.getBalance(fresh.address) < ethers.parseEther('0.5'))

// why a transaction failed
const failing = await probe.getFunction('refuse').populateTransaction(7)
const sent = await wallet.sendTransaction({ ...failing, gasLimit: 200_000 })
const failure = await sent.wait().then(() => null, (error) => error)
assert.equal(failure?.code, 'CALL_EXCEPTION')
assert.equal(failure.receipt.status, 0)
const blockTag = failure.receipt.blockNumber
const reason = await provider.call({ ...failing, from: wallet.address, blockTag }).then(() => null, (error) => error)
assert.equal(probe.interface.parseError(reason.data).name, 'Refused')

// subscriptions
const socket = new ethers.WebSocketProvider(url.replace('http', 'ws'))
const block = new Promise((resolve) => socket.once('block', resolve))
const log = new Promise((resolve) => socket.once({ address: probe.target }, resolve))
await socket.getNetwork()
await new Promise((resolve) => setTimeout(resolve, 300))
const last = await probe.increment()
assert.equal((await log).transactionHash, last.hash)
assert.ok(await block > 0)
await last.wait()
await socket.destroy()
console.log(JSON.stringify({ count: Number(await probe.count()) }))
process.exit(0)
