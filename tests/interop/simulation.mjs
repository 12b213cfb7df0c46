// A wallet's script: before signing, show with viem what calls upon the preconfirmed state would do.
// usage: node simulation.mjs RPC_URL CHAIN_ID PRIVATE_KEY TOKEN_INIT_CODE SEALED_RPC_URL
import { createRequire } from 'node:module'

const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
const { createPublicClient, createWalletClient, defineChain, http, parseAbi, parseEther } = require('viem')
const { generatePrivateKey, privateKeyToAccount, privateKeyToAddress } = require('viem/accounts')

const [url, id, key, token, sealedUrl] = process.argv.slice(2)
const chain = defineChain({
  id: Number(id),
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [url] } },
  experimental_preconfirmationTime: 200,
})
const reader = createPublicClient({ chain, transport: http() })
const strict = createPublicClient({ chain, transport: http(sealedUrl) })
const account = privateKeyToAccount(key)
const wallet = createWalletClient({ account, chain, transport: http() })
const abi = parseAbi([
  'function transfer(address to, uint256 value) returns (bool)',
  'function balanceOf(address) view returns (uint256)',
])

const deployment = await wallet.sendTransaction({ data: token })
const { contractAddress } = await reader.waitForTransactionReceipt({ hash: deployment })

for (let round = 0; round < 3; round++) {
  const stranger = privateKeyToAddress(generatePrivateKey())
  const hash = await wallet.sendTransaction({ to: stranger, value: parseEther('1') })
  const receipt = await reader.waitForTransactionReceipt({ hash })
  const spend = { account: stranger, to: account.address, value: parseEther('0.25') }
  const spent = (client, blockTag) =>
    client.simulateBlocks({ blocks: [{ calls: [spend] }], blockTag, traceTransfers: true }).then(
      ([block]) => ({ status: block.calls[0].status, number: Number(block.number), logs: block.calls[0].logs }),
      (error) => ({ status: error.name })
    )
  const [pending, latest] = await Promise.all([spent(reader, 'pending'), spent(strict, 'latest')])
  const sealed = await strict.getBlockNumber({ cacheTime: 0 })
  const { assetChanges, results } = await reader.simulateCalls({
    account: account.address,
    blockTag: 'pending',
    traceAssetChanges: true,
    calls: [
      { to: contractAddress, abi, functionName: 'transfer', args: [stranger, 7n] },
      { to: contractAddress, abi, functionName: 'balanceOf', args: [stranger] },
      { to: stranger, value: parseEther('2') },
    ],
  })
  console.log(JSON.stringify({
    block: Number(receipt.blockNumber),
    sealed: Number(sealed),
    pending,
    latest,
    statuses: results.map((result) => result.status),
    received: String(results[1].result),
    changes: assetChanges.map(({ token, value }) => [token.address, String(value.diff)]),
    token: contractAddress,
  }, (_, value) => (typeof value === 'bigint' ? String(value) : value)))
}
