// A user's script: send ether with viem and wait for the receipt, preconfirmed and then sealed.
// usage: node preconfirmation.mjs RPC_URL CHAIN_ID PRIVATE_KEY SEALED_RPC_URL
import { createRequire } from 'node:module'

const require = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')
const { createPublicClient, createWalletClient, defineChain, http, parseEther } = require('viem')
const { privateKeyToAccount } = require('viem/accounts')

const [url, id, key, sealedUrl] = process.argv.slice(2)
const chain = defineChain({
  id: Number(id),
  name: 'devnet',
  nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [url] } },
  experimental_preconfirmationTime: 200,
})
const reader = createPublicClient({ chain, transport: http() })
const wallet = createWalletClient({ account: privateKeyToAccount(key), chain, transport: http() })
const to = '0x00000000000000000000000000000000000f1a54'

for (let round = 0; round < 3; round++) {
  const started = performance.now()
  const hash = await wallet.sendTransaction({ to, value: parseEther('0.001') })
  const receipt = await reader.waitForTransactionReceipt({ hash })
  const waited = performance.now() - started
  const sealed = await createPublicClient({ transport: http(sealedUrl) }).request({ method: 'eth_blockNumber' })
  const balance = await reader.getBalance({ address: to })
  console.log(JSON.stringify({
    hash,
    status: receipt.status,
    block: Number(receipt.blockNumber),
    latest: Number(sealed),
    balance: balance.toString(),
    waited_ms: Math.round(waited),
  }))
}
