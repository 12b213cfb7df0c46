// A user's script: a transaction that reverts, and what its receipt leads to with viem.
// usage: node revert_reason.mjs RPC_URL CHAIN_ID PRIVATE_KEY
import { createRequire } from 'node:module'

const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
const { createPublicClient, createWalletClient, defineChain, http } = require('viem')
const { privateKeyToAccount } = require('viem/accounts')

const [url, id, key] = process.argv.slice(2)
const chain = defineChain({
  id: Number(id),
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [url] } },
  experimental_preconfirmationTime: 200,
})
const reader = createPublicClient({ chain, transport: http() })
const wallet = createWalletClient({ account: privateKeyToAccount(key), chain, transport: http() })
// Deploys what reverts with the word 0xaa.
const created = await wallet.sendTransaction({ data: '0x6760aa5f5260205ffd5f5260086018f3' })
const { contractAddress: to } = await reader.waitForTransactionReceipt({ hash: created })

for (let round = 0; round < 3; round++) {
  const hash = await wallet.sendTransaction({ to, gas: 100_000n })
  const receipt = await reader.waitForTransactionReceipt({ hash })
  const { blockNumber } = receipt
  const block = await reader.getBlock({ blockNumber })
  let data
  try {
    await reader.call({ to, account: wallet.account, blockNumber })
  } catch (error) {
    error.walk((cause) => { data ??= typeof cause.data === 'string' ? cause.data : cause.data?.data })
  }
  console.log(JSON.stringify({
    status: receipt.status,
    isInBlock: block.transactions.includes(hash),
    isThere: (await reader.getCode({ address: to, blockNumber })).length > 2,
    data,
  }))
}
