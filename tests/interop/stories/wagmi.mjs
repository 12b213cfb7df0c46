// An application on wagmi core: actions on a config; its connector signs with a key as a wallet would.
import { chainId, count, eventually, expect, expectText, GWEI, key, probe, REASON, refusal, require, rpc, sealed, story, ws } from './steps.mjs'
import { pathToFileURL } from 'node:url'

const { defineChain, getAddress, http, parseEther, webSocket } = require('viem')
const { generatePrivateKey, privateKeyToAccount } = require('viem/accounts')
const entry = (name) => pathToFileURL(`${process.env.FLASHCTL_NODE_MODULES}/@wagmi/core/dist/esm/exports/${name}.js`)
const wagmi = await import(entry('index'))

const chain = defineChain({
  id: chainId,
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [rpc], webSocket: [ws] } },
  experimental_preconfirmationTime: 200,
})
const account = privateKeyToAccount(key)
const config = wagmi.createConfig({ chains: [chain], transports: { [chainId]: http() }, storage: null })
const { abi, bytecode } = probe
const wait = async (hash) => count(await wagmi.waitForTransactionReceipt(config, { hash }))

/** A local account signs, so no connector is asked. */
const signed = (parameters) => wagmi.sendTransaction(config, { account, ...parameters })
let address

await story({
  async deploy() {
    const receipt = await wait(await wagmi.deployContract(config, { abi, bytecode, account }))
    expect('status', receipt.status, 'success')
    address = getAddress(receipt.contractAddress)
  },

  async 'use at once'() {
    const read = () => wagmi.readContract(config, { abi, address, functionName: 'count' })
    expect('code', await wagmi.getBytecode(config, { address }), probe.deployedBytecode)
    expect('count()', await read(), 0n)
    for (const expected of [1n, 2n]) {
      const { request, result } = await wagmi.simulateContract(
        config, { abi, address, functionName: 'increment', account })
      expect('simulated increment()', result, expected)
      const receipt = await wait(await wagmi.writeContract(config, { ...request, account }))
      expect('status', receipt.status, 'success')
      expect('count()', await read(), expected)
      const logs = await wagmi.getContractEvents(
        config, { abi, address, eventName: 'Counted', fromBlock: receipt.blockNumber })
      expect('Counted in getContractEvents', logs.at(-1)?.args.value, expected)
    }
  },

  async 'spend what was just preconfirmed'() {
    const fresh = privateKeyToAccount(generatePrivateKey())
    const last = privateKeyToAccount(generatePrivateKey()).address
    await wait(await signed({ to: fresh.address, value: parseEther('1') }))
    const balance = async (of) => (await wagmi.getBalance(config, { address: of })).value
    expect('balance of the fresh account', await balance(fresh.address), parseEther('1'))
    const receipt = await wait(await signed({ account: fresh, to: last, value: parseEther('0.25') }))
    expect('status', receipt.status, 'success')
    expect('balance of who was paid', await balance(last), parseEther('0.25'))
    expect('nonce of the fresh account', await wagmi.getTransactionCount(config, { address: fresh.address }), 1)
  },

  async 'revert reason of a preconfirmed transaction'() {
    const hash = await wagmi.writeContract(
      config, { abi, address, functionName: 'refuseWithText', args: [REASON], account, gas: 200_000n })
    const failure = await refusal('waitForTransactionReceipt of a transaction that reverts', wait(hash))
    expectText('reason', failure.message, REASON)
    expect('status', count(await wagmi.getTransactionReceipt(config, { hash })).status, 'reverted')
  },

  async subscriptions() {
    const live = wagmi.createConfig({ chains: [chain], transports: { [chainId]: webSocket() }, storage: null })
    const [blocks, values, pending, errors] = [[], [], [], []]
    const onError = (error) => errors.push(error.message)
    wagmi.watchBlocks(live, { onBlock: (block) => blocks.push(block.number), onError })
    wagmi.watchPendingTransactions(live, { onTransactions: (hashes) => pending.push(...hashes), onError })
    wagmi.watchContractEvent(live, {
      abi, address, eventName: 'Counted', onLogs: (logs) => values.push(...logs.map((log) => log.args.value)), onError,
    })
    await wagmi.getBlockNumber(live)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const hash = await wagmi.writeContract(config, { abi, address, functionName: 'increment', account })
    const receipt = await wait(hash)
    expect('errors of subscriptions', errors.join('; '), '')
    await eventually('hashes of pending transactions', hash, pending)
    await eventually('values of Counted', 3n, values)
    await eventually('numbers of blocks', receipt.blockNumber, blocks)
  },

  async replacement() {
    const to = account.address
    const nonce = await wagmi.getTransactionCount(config, { address: to, blockTag: 'pending' })
    const fees = (tip) => ({ maxFeePerGas: 20n * GWEI, maxPriorityFeePerGas: tip * GWEI, gas: 21_000n })
    const first = await signed({ to, value: 1n, nonce: nonce + 1, ...fees(1n) })
    const cheap = await refusal('a replacement at the same price',
      signed({ to, value: 2n, nonce: nonce + 1, ...fees(1n) }))
    expectText('message', cheap.message, 'replacement transaction underpriced')
    const replaced = []
    // it looks through each block once, when its number is new: that must be one to which nothing is added
    const reader = wagmi.createConfig({ chains: [chain], transports: { [chainId]: http(sealed) }, storage: null })
    const waiting = wagmi.waitForTransactionReceipt(reader, {
      hash: first, onReplaced: ({ reason, transaction }) => replaced.push(reason, transaction.hash),
    })
    // it looks the transaction up before it is replaced, or could not know later what became of it
    await new Promise((resolve) => setTimeout(resolve, 2000))
    const second = await signed({ to, value: 1n, nonce: nonce + 1, ...fees(2n), maxFeePerGas: 40n * GWEI })
    await signed({ to, value: 4n, nonce, ...fees(1n) })
    expect('status', (await wait(second)).status, 'success')
    const receipt = await waiting
    expect('receipt of what was replaced', receipt.transactionHash, second)
    expect('onReplaced', replaced.join(' '), `repriced ${second}`)
  },
})
