// The same with viem and a chain of which it is not told that there are preconfirmations.
// usage: node stock_viem.mjs RPC_URL CHAIN_ID PRIVATE_KEY PROBE_JSON
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import assert from 'node:assert/strict'

const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
const { createPublicClient, createWalletClient, defineChain, getContract, http, parseEther, webSocket, BaseError } = require('viem')
const { generatePrivateKey, privateKeyToAccount } = require('viem/accounts')

const [url, id, key, file] = process.argv.slice(2)
const { abi, bytecode } = JSON.parse(readFileSync(file))
const chain = defineChain({
  id: Number(id),
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [url] } },
})
const reader = createPublicClient({ chain, transport: http(), pollingInterval: 100 })
const account = privateKeyToAccount(key)
const wallet = createWalletClient({ account, chain, transport: http() })
const mined = async (hash) => reader.waitForTransactionReceipt({ hash })

const { contractAddress: address } = await mined(await wallet.deployContract({ abi, bytecode }))
const probe = getContract({ abi, address, client: { public: reader, wallet } })
assert.equal(await probe.read.count(), 0n)
for (let round = 1n; round <= 3n; round++) {
  const receipt = await mined(await probe.write.increment())
  assert.equal(receipt.status, 'success')
  assert.equal(await probe.read.count(), round)
  assert.equal(await probe.read.count({ blockNumber: receipt.blockNumber }), round)
  assert.equal((await reader.getBlock({ blockNumber: receipt.blockNumber })).number, receipt.blockNumber)
  assert.equal((await reader.getLogs({ address, fromBlock: 0n })).length, Number(round))
}
const fresh = privateKeyToAccount(generatePrivateKey())
await mined(await wallet.sendTransaction({ to: fresh.address, value: parseEther('1') }))
await mined(await wallet.sendTransaction({ account: fresh, to: account.address, value: parseEther('0.5') }))
assert.ok(await reader.getBalance({ address: fresh.address }) < parseEther('0.5'))

const refused = await mined(await probe.write.refuse([7n], { gas: 200_000n }))
assert.equal(refused.status, 'reverted')
const reason = await reader
  .simulateContract({ abi, address, functionName: 'refuse', args: [7n], account, blockNumber: refused.blockNumber })
  .then(() => null, (error) => error)
assert.ok(reason instanceof BaseError && reason.message.includes('Refused'), reason?.message)

const socket = createPublicClient({ chain, transport: webSocket(url.replace('http', 'ws')) })
const seen = new Promise((resolve) => socket.watchEvent({ address, onLogs: resolve }))
await new Promise((resolve) => setTimeout(resolve, 300))
const last = await probe.write.increment()
assert.equal((await seen)[0].transactionHash, last)
await mined(last)
console.log(JSON.stringify({ count: Number(await probe.read.count()) }))
process.exit(0)
