// An application on viem, with the preconfirmation time of its chain definitions for Flashblocks.
import { chainId, count, eventually, expect, expectText, GWEI, key, probe, REASON, refusal, require, rpc, sealed, story, ws } from './steps.mjs'

const { createPublicClient, createWalletClient, defineChain, getAddress, http, parseEther, webSocket } = require('viem')
const { generatePrivateKey, privateKeyToAccount } = require('viem/accounts')

const chain = defineChain({
  id: chainId,
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [rpc], webSocket: [ws] } },
  experimental_preconfirmationTime: 200,
})
const { abi, bytecode } = probe
const client = createPublicClient({ chain, transport: http() })
const wallet = createWalletClient({ chain, account: privateKeyToAccount(key), transport: http() })
const wait = async (hash) => count(await client.waitForTransactionReceipt({ hash }))
let address

await story({
  async deploy() {
    expect('chain id', await client.getChainId(), chainId)
    const receipt = await wait(await wallet.deployContract({ abi, bytecode }))
    expect('status', receipt.status, 'success')
    address = getAddress(receipt.contractAddress)
  },

  async 'use at once'() {
    const read = () => client.readContract({ abi, address, functionName: 'count' })
    expect('code', await client.getCode({ address }), probe.deployedBytecode)
    expect('count()', await read(), 0n)
    for (const expected of [1n, 2n]) {
      const { request, result } = await client.simulateContract(
        { abi, address, functionName: 'increment', account: wallet.account })
      expect('simulated increment()', result, expected)
      const receipt = await wait(await wallet.writeContract(request))
      expect('status', receipt.status, 'success')
      expect('count()', await read(), expected)
      const block = await client.getBlock({ blockNumber: receipt.blockNumber })
      expect('block of the receipt by its number', block.number, receipt.blockNumber)
      const logs = await client.getContractEvents({ abi, address, eventName: 'Counted', fromBlock: receipt.blockNumber })
      expect('Counted in getContractEvents', logs.at(-1)?.args.value, expected)
    }
  },

  async 'spend what was just preconfirmed'() {
    const fresh = privateKeyToAccount(generatePrivateKey())
    const last = privateKeyToAccount(generatePrivateKey()).address
    await wait(await wallet.sendTransaction({ to: fresh.address, value: parseEther('1') }))
    expect('balance of the fresh account', await client.getBalance({ address: fresh.address }), parseEther('1'))
    const spender = createWalletClient({ chain, account: fresh, transport: http() })
    const receipt = await wait(await spender.sendTransaction({ to: last, value: parseEther('0.25') }))
    expect('status', receipt.status, 'success')
    expect('balance of who was paid', await client.getBalance({ address: last }), parseEther('0.25'))
    expect('nonce of the fresh account', await client.getTransactionCount({ address: fresh.address }), 1)
  },

  async 'revert reason of a preconfirmed transaction'() {
    const call = { abi, address, functionName: 'refuseWithText', args: [REASON], account: wallet.account }
    const hash = await wallet.writeContract({ ...call, gas: 200_000n })
    const receipt = await wait(hash)
    expect('status', receipt.status, 'reverted')
    const again = await refusal('the call again at its block',
      client.simulateContract({ ...call, blockNumber: receipt.blockNumber }))
    expectText('reason', again.shortMessage, REASON)
    const sent = await client.getTransaction({ hash })
    expect('block of the transaction', sent.blockNumber, receipt.blockNumber)
    const custom = await refusal('estimating a custom error',
      client.estimateContractGas({ ...call, functionName: 'refuse', args: [7n] }))
    expectText('custom error', custom.message, 'Refused(uint256 code, string reason)')
  },

  async subscriptions() {
    const live = createPublicClient({ chain, transport: webSocket() })
    const [blocks, values, pending, errors] = [[], [], [], []]
    const onError = (error) => errors.push(error.message)
    live.watchBlocks({ onBlock: (block) => blocks.push(block.number), onError })
    live.watchPendingTransactions({ onTransactions: (hashes) => pending.push(...hashes), onError })
    live.watchContractEvent({
      abi, address, eventName: 'Counted', onLogs: (logs) => values.push(...logs.map((log) => log.args.value)), onError,
    })
    await live.getBlockNumber()
    await new Promise((resolve) => setTimeout(resolve, 300))
    const hash = await wallet.writeContract({ abi, address, functionName: 'increment' })
    const receipt = await wait(hash)
    expect('errors of subscriptions', errors.join('; '), '')
    await eventually('hashes of pending transactions', hash, pending)
    await eventually('values of Counted', 3n, values)
    await eventually('numbers of blocks', receipt.blockNumber, blocks)
  },

  async replacement() {
    const to = wallet.account.address
    const nonce = await client.getTransactionCount({ address: to, blockTag: 'pending' })
    const fees = (tip) => ({ maxFeePerGas: 20n * GWEI, maxPriorityFeePerGas: tip * GWEI, gas: 21_000n })
    const first = await wallet.sendTransaction({ to, value: 1n, nonce: nonce + 1, ...fees(1n) })
    const cheap = await refusal('a replacement at the same price',
      wallet.sendTransaction({ to, value: 2n, nonce: nonce + 1, ...fees(1n) }))
    expectText('message', cheap.details, 'replacement transaction underpriced')
    const replaced = []
    // it looks through each block once, when its number is new: that must be one to which nothing is added
    const reader = createPublicClient({ chain, transport: http(sealed) })
    const waiting = reader.waitForTransactionReceipt(
      { hash: first, onReplaced: ({ reason, transaction }) => replaced.push(reason, transaction.hash) })
    // it looks the transaction up before it is replaced, or could not know later what became of it
    await new Promise((resolve) => setTimeout(resolve, 2000))
    const second = await wallet.sendTransaction(
      { to, value: 1n, nonce: nonce + 1, ...fees(2n), maxFeePerGas: 40n * GWEI })
    await wallet.sendTransaction({ to, value: 4n, nonce, ...fees(1n) })
    expect('status', (await wait(second)).status, 'success')
    const receipt = await waiting
    expect('receipt of what was replaced', receipt.transactionHash, second)
    expect('onReplaced', replaced.join(' '), `repriced ${second}`)
  },
})
