// An application on ethers: wait() and the errors of its own kinds are what it knows of a chain.
import { chainId, count, eventually, expect, GWEI, key, probe, REASON, refusal, require, rpc, story, ws } from './steps.mjs'

const { Contract, ContractFactory, JsonRpcProvider, parseEther, Wallet, WebSocketProvider } = require('ethers')

// It remembers answers for 250 ms, longer than a flashblock takes: a nonce, say, that has been used since.
const provider = new JsonRpcProvider(rpc, undefined, { cacheTimeout: -1 })
provider.pollingInterval = 250
const wallet = new Wallet(key, provider)
let contract

await story({
  async deploy() {
    expect('chain id', (await provider.getNetwork()).chainId, BigInt(chainId))
    contract = await new ContractFactory(probe.abi, probe.bytecode, wallet).deploy()
    await contract.waitForDeployment()
    const receipt = count(await contract.deploymentTransaction().wait())
    expect('status', receipt.status, 1)
    expect('contract address', receipt.contractAddress, await contract.getAddress())
  },

  async 'use at once'() {
    expect('code', await provider.getCode(await contract.getAddress()), probe.deployedBytecode)
    expect('count()', await contract.count(), 0n)
    for (const expected of [1n, 2n]) {
      const receipt = count(await (await contract.increment()).wait())
      expect('status', receipt.status, 1)
      expect('logs', receipt.logs.length, 1)
      expect('count()', await contract.count(), expected)
      const seen = await contract.queryFilter('Counted', receipt.blockNumber)
      expect('Counted in queryFilter', seen.at(-1)?.args.value, expected)
    }
  },

  async 'spend what was just preconfirmed'() {
    const fresh = Wallet.createRandom(provider)
    const last = Wallet.createRandom().address
    count(await (await wallet.sendTransaction({ to: fresh.address, value: parseEther('1') })).wait())
    expect('balance of the fresh account', await provider.getBalance(fresh.address), parseEther('1'))
    const receipt = count(await (await fresh.sendTransaction({ to: last, value: parseEther('0.25') })).wait())
    expect('status', receipt.status, 1)
    expect('balance of who was paid', await provider.getBalance(last), parseEther('0.25'))
    expect('nonce of the fresh account', await provider.getTransactionCount(fresh.address), 1)
  },

  async 'revert reason of a preconfirmed transaction'() {
    const sent = await contract.refuseWithText.send(REASON, { gasLimit: 200_000 })
    const failure = await refusal('wait() for a transaction that reverts', sent.wait())
    expect('code', failure.code, 'CALL_EXCEPTION')
    expect('status', failure.receipt?.status, 0)
    count(failure.receipt)
    const { to, from, data } = sent
    const again = await refusal('the call again at its block',
      provider.call({ to, from, data, blockTag: failure.receipt.blockNumber }))
    expect('reason', again.reason, REASON)
    const estimated = await refusal('estimating it', contract.refuse.estimateGas(7))
    expect('custom error', contract.interface.parseError(estimated.data)?.args[0], 7n)
  },

  async subscriptions() {
    const live = new WebSocketProvider(ws)
    const [blocks, values, pending] = [[], [], []]
    await live.on('block', (number) => blocks.push(number))
    await live.on('pending', (hash) => pending.push(hash))
    const listening = new Contract(await contract.getAddress(), probe.abi, live)
    await listening.on('Counted', (by, value) => values.push(value))
    // eth_subscribe is sent behind on(): one answer more, and it is there
    await live.getBlockNumber()
    const sent = await contract.increment()
    const receipt = count(await sent.wait())
    await eventually('hashes of pending transactions', sent.hash, pending)
    await eventually('values of Counted', 3n, values)
    await eventually('numbers of blocks', receipt.blockNumber, blocks)
    await live.destroy()
  },

  async replacement() {
    const nonce = await wallet.getNonce('pending')
    const to = wallet.address
    const fees = (tip) => ({ maxFeePerGas: 20n * GWEI, maxPriorityFeePerGas: tip * GWEI, gasLimit: 21_000 })
    const first = await wallet.sendTransaction({ to, value: 1, nonce: nonce + 1, ...fees(1n) })
    const cheap = await refusal('a replacement at the same price',
      wallet.sendTransaction({ to, value: 2, nonce: nonce + 1, ...fees(1n) }))
    expect('code', cheap.code, 'REPLACEMENT_UNDERPRICED')
    const second = await wallet.sendTransaction(
      { to, value: 3, nonce: nonce + 1, ...fees(2n), maxFeePerGas: 40n * GWEI })
    const waiting = refusal('wait() for what was replaced', first.wait())
    await wallet.sendTransaction({ to, value: 4, nonce, ...fees(1n) })
    expect('status', count(await second.wait()).status, 1)
    const replaced = await waiting
    expect('code', replaced.code, 'TRANSACTION_REPLACED')
    expect('hash of the replacement', replaced.replacement.hash, second.hash)
    expect('receipt of what was replaced', await provider.getTransactionReceipt(first.hash), null)
  },
})
