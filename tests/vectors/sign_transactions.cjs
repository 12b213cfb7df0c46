// Signs transactions with ethers and with viem, and writes OP deposits with viem; refuses to answer when the two differ.
// Input, on stdin: one JSON object a line, {kind: "signed", key, tx} or {kind: "deposit", tx}; one answer a line.
const { Transaction, Wallet, authorizationify, SigningKey, hashAuthorization } = require('ethers')
const { keccak256, serializeTransaction, parseTransaction } = require('viem')
const { privateKeyToAccount } = require('viem/accounts')
const opStack = require('viem/op-stack')

const big = (value) => BigInt(value)
const VIEM_TYPES = { 0: 'legacy', 1: 'eip2930', 2: 'eip1559', 3: 'eip4844', 4: 'eip7702' }

function forEthers(tx) {
  const given = { ...tx }
  for (const name of ['value', 'gasLimit', 'gasPrice', 'maxFeePerGas', 'maxPriorityFeePerGas', 'maxFeePerBlobGas', 'chainId'])
    if (given[name] !== undefined) given[name] = big(given[name])
  if (given.authorizationList)
    given.authorizationList = given.authorizationList.map(({ key, chainId, address, nonce }) => {
      const request = { chainId: big(chainId), address, nonce: big(nonce) }
      const signature = new SigningKey(key).sign(hashAuthorization(request))
      return authorizationify({ ...request, signature })
    })
  return Transaction.from(given)
}

async function withEthers({ key, tx }) {
  const made = forEthers(tx)
  const unsigned = made.unsignedSerialized
  made.signature = new SigningKey(key).sign(made.unsignedHash)
  return { signed: made.serialized, unsigned, hash: made.hash, from: new Wallet(key).address.toLowerCase() }
}

async function withViem({ key, tx }) {
  const account = privateKeyToAccount(key)
  const given = { type: VIEM_TYPES[tx.type], nonce: tx.nonce, to: tx.to ?? undefined, data: tx.data }
  given.gas = big(tx.gasLimit)
  for (const name of ['value', 'gasPrice', 'maxFeePerGas', 'maxPriorityFeePerGas', 'maxFeePerBlobGas'])
    if (tx[name] !== undefined) given[name] = big(tx[name])
  if (tx.chainId !== undefined) given.chainId = Number(tx.chainId)
  if (tx.accessList) given.accessList = tx.accessList.map(([address, storageKeys]) => ({ address, storageKeys }))
  if (tx.blobVersionedHashes) given.blobVersionedHashes = tx.blobVersionedHashes
  if (tx.authorizationList)
    given.authorizationList = await Promise.all(
      tx.authorizationList.map(({ key, chainId, address, nonce }) =>
        privateKeyToAccount(key).signAuthorization({ chainId: Number(chainId), address, nonce: Number(nonce) })),
    )
  const signed = await account.signTransaction(given)
  return { signed, unsigned: serializeTransaction(given), hash: keccak256(signed), from: account.address.toLowerCase() }
}

function deposit(tx) {
  const raw = opStack.serializeTransaction({
    type: 'deposit', sourceHash: tx.sourceHash, from: tx.from, to: tx.to ?? undefined, mint: big(tx.mint),
    value: big(tx.value), gas: big(tx.gas), isSystemTx: tx.isSystemTx, data: tx.data,
  })
  return { signed: raw, hash: keccak256(raw), from: tx.from }
}

function sourceHash({ domain, l1BlockHash, index }) {
  const given = { domain, l1BlockHash }
  given[domain === 'userDeposit' ? 'l1LogIndex' : 'sequenceNumber'] = domain === 'userDeposit' ? index : BigInt(index)
  return { sourceHash: opStack.getSourceHash(given) }
}

async function answer(request) {
  if (request.kind === 'deposit') return deposit(request.tx)
  if (request.kind === 'source') return sourceHash(request)
  const [first, second] = [await withEthers(request), await withViem(request)]
  for (const name of Object.keys(first))
    if (first[name] !== second[name]) throw new Error(`${name}: ethers ${first[name]}, viem ${second[name]}`)
  return first
}

async function main() {
  for (const line of require('fs').readFileSync(0, 'utf8').split('\n').filter(Boolean))
    console.log(JSON.stringify(await answer(JSON.parse(line))))
}

main().catch((error) => {
  console.error(String(error.stack))
  process.exit(1)
})
